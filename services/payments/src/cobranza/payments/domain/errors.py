"""Payments' refusals.

PaymentsError
├── UnknownCompanyError        this deployment does not collect for the company
├── PaymentConflictError       the payment was accepted with other content
├── ReversalConflictError      the payment was already reversed, otherwise
├── MixedCurrenciesError       two currencies in one payment, or in one permit request
├── ControlTotalConflictError  the control total was accepted with other content
├── PermitConflictError        the notice and attempt belong to another request
└── RateMissingError           no rate was published for a day that bears interest
"""

from __future__ import annotations

from datetime import date
from typing import ClassVar


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
    """The control total of that date was accepted with other figures."""

    code = "control_total_conflict"
    status = 409


class PermitConflictError(PaymentsError):
    """The notice and attempt were asked for another company or customer."""

    code = "permit_conflict"
    status = 409


class RateMissingError(PaymentsError):
    """Interest is not computed for days without a published rate."""

    code = "rate_required"

    def __init__(self, *, series_id: str, day: date) -> None:
        super().__init__(
            f"rate series {series_id!r} has no rate for {day}; add the published rate, it is never extrapolated",
            series=series_id,
            day=day.isoformat(),
        )
