"""Payments' refusals.

PaymentsError
├── UnknownCompanyError        this deployment does not collect for the company
├── PaymentConflictError       the payment was accepted with other content
├── ReversalConflictError      the payment was already reversed, otherwise
├── MixedCurrenciesError       two currencies in one payment, or in one permit request
├── ControlTotalConflictError  the control total was accepted with other content
├── ControlTotalRefusedError   a control total cannot be compared as it stands
├── FiscalReceiptUnknownError  a fiscal receipt is answered that was never asked for
├── FiscalReceiptRefusedError  an answer to a fiscal receipt says neither issued nor rejected
├── FiscalReceiptConflictError an answer to a fiscal receipt contradicts the one before
├── PermitConflictError        the notice and attempt belong to another request
├── WebhookUnknownError        no such account at a payment provider
├── WebhookRefusedError        a webhook is not signed as it must be, or not in time
├── ProviderUnavailableError   the payment provider gives no answer that can be trusted
├── RateMissingError           no rate was published for a day that bears interest
├── StatementError             a bank file is wrong, and refused as a whole
├── BankImportRefusedError     an import cannot be made or undone as it stands
├── BankImportUnknownError     there is no such import, or no such mapping
├── MatchUnknownError          there is no such receipt, suggestion or receivable
├── MatchRefusedError          money cannot be applied or taken back as asked
├── RulesMissingError          no late charge rules are in force for a debt
├── RulesRefusedError          charge rules or rates contradict what is kept, or their file is wrong
├── DecisionUnknownError       there is no such charge, receivable, receipt or waiting decision
└── DecisionRefusedError       a waiver, write-off, refund or approval cannot be made as asked
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import ClassVar, Final

#: Longest text of a file that a fault repeats.
_LONGEST_FOUND: Final = 200


class PaymentsError(Exception):
    """An input is refused; `facts` say with which values."""

    code: ClassVar[str] = "payments_refused"
    status: ClassVar[int] = 422

    def __init__(self, detail: str, *, pointer: str | None = None, **facts: str) -> None:
        self.detail = detail
        self.pointer = pointer
        self.facts = facts
        super().__init__(detail)

    @property
    def is_conflict(self) -> bool:
        """Whether it contradicts what was accepted under the same identity."""
        return self.status == 409  # noqa: PLR2004 - HTTP's word for it


class UnknownCompanyError(PaymentsError):
    """This deployment does not collect for the company."""

    code = "company_unknown"


class PaymentConflictError(PaymentsError):
    """The payment was accepted with other content: reverse it and send a new one."""

    code = "payment_conflict"
    status = 409


class ReversalConflictError(PaymentsError):
    """The payment was already reversed with another date or reason."""

    code = "reversal_conflict"
    status = 409


class MixedCurrenciesError(PaymentsError):
    """Two currencies meet where one is meant; there is no implicit exchange."""

    code = "mixed_currencies"


class ControlTotalConflictError(PaymentsError):
    """The control total of that date was accepted with other figures; a correction needs a run_id of its own."""

    code = "control_total_conflict"
    status = 409


class ControlTotalRefusedError(PaymentsError):
    """A control total is of a day to come, or names a customer twice in one run."""

    code = "control_total_refused"


class FiscalReceiptUnknownError(PaymentsError):
    """No such fiscal receipt was asked for."""

    code = "fiscal_receipt_unknown"


class FiscalReceiptRefusedError(PaymentsError):
    """The answer to a fiscal receipt says neither that it was issued nor that it was rejected."""

    code = "fiscal_receipt_refused"


class FiscalReceiptConflictError(PaymentsError):
    """The answer contradicts the one before, or names another customer."""

    code = "fiscal_receipt_conflict"
    status = 409


class PermitConflictError(PaymentsError):
    """The notice and attempt were asked for another company or customer."""

    code = "permit_conflict"
    status = 409


class WebhookUnknownError(PaymentsError):
    """There is no such account at a payment provider."""

    code = "webhook_unknown"
    status = 404


class WebhookRefusedError(PaymentsError):
    """A webhook is not signed with the account's secret, or not in time."""

    code = "webhook_refused"
    status = 401


class ProviderUnavailableError(PaymentsError):
    """The payment provider gives no answer that can be trusted; it delivers the webhook again."""

    code = "provider_unavailable"
    status = 503


class RateMissingError(PaymentsError):
    """Interest is not computed for days without a published rate."""

    code = "rate_required"

    def __init__(self, *, series_id: str, day: date) -> None:
        super().__init__(
            f"rate series {series_id!r} has no rate for {day}; add the published rate, it is never extrapolated",
            series=series_id,
            day=day.isoformat(),
        )


class StatementError(PaymentsError):
    """A bank file is refused as a whole; says where, what was expected and what was found.

    Attributes:
        line: from 1, in the file as a text editor counts; 0 when the fault is of the whole file.
        template: what was expected, with the names of `values` in braces: so it can be told in any language.
        others: further faults of the same file, where a reader could go on.
    """

    code = "bank_file_refused"

    def __init__(
        self,
        *,
        line: int,
        name: str,
        expected: str,
        found: object,
        values: Mapping[str, object] = MappingProxyType({}),
        file: str = "",
        others: tuple[StatementError, ...] = (),
    ) -> None:
        self.line, self.name, self.template, self.file, self.others = line, name, expected, file, others
        self.values = values
        self.found = found if isinstance(found, str) else repr(found)
        self.found = self.found if len(self.found) <= _LONGEST_FOUND else self.found[:_LONGEST_FOUND] + "…"
        where = f"{file or 'bank file'}, line {line}" if line else file or "bank file"
        super().__init__(f"{where}, {name}: expected {self.expected}; found {self.found}")

    @property
    def expected(self) -> str:
        """What was expected, in English."""
        return self.in_words(self.template)

    def in_words(self, template: str) -> str:
        """What was expected, in the language of the template."""
        return template.format(**self.values)

    def beside(self, others: Sequence[StatementError]) -> StatementError:
        """The same fault with those that were found after it."""
        return self._again(others=tuple(others))

    def of_file(self, file: str) -> StatementError:
        """The same fault with the file's name."""
        return self._again(file=file, others=tuple(other.of_file(file) for other in self.others))

    def _again(self, *, file: str = "", others: tuple[StatementError, ...]) -> StatementError:
        return StatementError(
            line=self.line,
            name=self.name,
            expected=self.template,
            values=self.values,
            found=self.found,
            file=file,
            others=others,
        )

    def as_values(self) -> dict[str, object]:
        """For JSON."""
        return {
            "file": self.file,
            "line": self.line,
            "field": self.name,
            "expected": self.expected,
            "found": self.found,
        }

    def all(self) -> Iterator[StatementError]:
        """This fault and the others."""
        yield self
        yield from self.others


class BankImportRefusedError(PaymentsError):
    """An import cannot be made or undone as it stands; the text says what stands in the way."""

    code = "bank_import_refused"
    status = 409


class BankImportUnknownError(PaymentsError):
    """There is no such import or mapping for this company."""

    code = "bank_import_unknown"
    status = 404


class MatchUnknownError(PaymentsError):
    """There is no such receipt, suggestion or receivable of this company."""

    code = "match_unknown"
    status = 404


class MatchRefusedError(PaymentsError):
    """Money cannot be applied or taken back as asked; the text says what stands in the way."""

    code = "match_refused"
    status = 409


class RulesMissingError(PaymentsError):
    """No late charge rules are in force for the debt, or not those that the policy names."""

    code = "rules_required"


class RulesRefusedError(PaymentsError):
    """Charge rules or rates contradict what is kept, or their file is wrong; nothing of it was taken."""

    code = "charge_rules_refused"
    status = 409


class DecisionUnknownError(PaymentsError):
    """There is no such charge, receivable, receipt or waiting decision of this company."""

    code = "decision_unknown"
    status = 404


class DecisionRefusedError(PaymentsError):
    """A waiver, write-off, refund or approval cannot be made as asked; the text says why."""

    code = "decision_refused"
    status = 409
