"""What people decide about debts and money: charges forgiven, debts given up, money given back; large ones by two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Transaction
from cobranza.contracts import payments
from cobranza.contracts.identifiers import Company, Customer, ExternalId, PaymentId, ReceivableId, System
from cobranza.contracts.money import Money, to_minor
from cobranza.contracts.payloads import External
from cobranza.payments import repository
from cobranza.payments.domain.errors import DecisionRefusedError, DecisionUnknownError
from cobranza.payments.domain.ledger import Receipt, Receivable
from cobranza.payments.repository import Facts, Needs
from cobranza.payments.use_cases.bookkeeping import Desk
from cobranza.payments.use_cases.late_charges import give_back

Verb = Literal["waive", "write_off", "refund"]
State = Literal["waiting", "done", "refused"]

#: Verbs that a second person must approve above the company's limit.
_LIMITED: Final = {"waive": "waiver", "write_off": "write_off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asks for; `amount` in minor units, None: all that is possible."""

    verb: Verb
    company: str
    subject_id: UUID
    action_id: UUID
    reason: str
    note: str
    by: str
    amount: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of it; `waiting` until a second person approves. Amount in minor units."""

    action_id: UUID
    verb: Verb
    subject_id: UUID
    state: State
    amount: int
    currency: str
    is_repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What a decision is about, under its customer's lock."""

    facts: Facts
    debt: Receivable | None = None
    charge: Any | None = None
    receipt: Receipt | None = None

    @property
    def currency(self) -> str:
        found = self.debt or self.receipt
        assert found is not None  # one of both, always
        return found.currency

    @property
    def possible(self) -> int:
        """The most that can be decided about, in minor units."""
        return self.receipt.unapplied if self.receipt is not None else self.debt.open if self.debt is not None else 0


@dataclass(frozen=True, slots=True)
class Decider:
    """Carries decisions out, each once."""

    companies: Companies

    async def ask(self, tx: Transaction, asked: Asked) -> Decision:
        """Waive a charge, write a debt off or refund money: at once, or when a second person has approved it.

        Raises:
            DecisionUnknownError: no such charge, receivable or receipt of the company.
            DecisionRefusedError: not so much is open or unapplied, the currency differs, or the id belongs to another
                action.
        """
        subject = await self._open(tx, asked.verb, company=asked.company, subject_id=asked.subject_id)
        known = await repository.ledger_action(tx, company=asked.company, action_id=asked.action_id)
        if known is not None:
            if (known.verb, known.subject_id) != (asked.verb, asked.subject_id) or asked.amount not in (
                None,
                known.amount,
            ):
                raise DecisionRefusedError(
                    "this action_id was used for another action; make a new one", pointer="/action_id", why="id_used"
                )
            return _decision(known, is_repeat=True)
        amount = self._amount(subject, asked)
        waits = asked.verb in _LIMITED and amount > self._limit(asked.company, subject.currency, asked.verb)
        is_kept = await repository.keep_ledger_action(
            tx,
            action_id=asked.action_id,
            company=asked.company,
            verb=asked.verb,
            subject_id=asked.subject_id,
            currency=subject.currency,
            amount=amount,
            reason=asked.reason,
            note=asked.note,
            asked_by=asked.by,
            state="waiting" if waits else "done",
        )
        if not is_kept:
            raise DecisionRefusedError(
                "this action_id was used before; make a new one", pointer="/action_id", why="id_used"
            )
        if not waits:
            await self._carry_out(
                tx, subject, asked.verb, action_id=asked.action_id, amount=amount, reason=asked.reason, by=asked.by
            )
        return Decision(
            action_id=asked.action_id,
            verb=asked.verb,
            subject_id=asked.subject_id,
            state="waiting" if waits else "done",
            amount=amount,
            currency=subject.currency,
        )

    async def answer(
        self,
        tx: Transaction,
        *,
        company: str,
        action_id: UUID,
        approve: Literal["approve", "refuse"],
        by: str,
        note: str,
    ) -> Decision:
        """A second person approves, and it is carried out, or refuses.

        Raises:
            DecisionUnknownError: nothing was asked under this id.
            DecisionRefusedError: who asked cannot approve, it was decided otherwise, or less is open by now.
        """
        peeked = await repository.peek_ledger_action(tx, company=company, action_id=action_id)
        if peeked is None:
            raise DecisionUnknownError(f"nothing was asked under {action_id} in {company}")
        # The customer is locked before the action, as whoever asks locks them.
        subject = await self._open(tx, peeked.verb, company=company, subject_id=peeked.subject_id)
        known = await repository.ledger_action(tx, company=company, action_id=action_id)
        assert known is not None  # an action is never removed
        wanted: State = "done" if approve == "approve" else "refused"
        if known.state != "waiting":
            if known.state == wanted:
                return _decision(known, is_repeat=True)
            by_whom = known.decided_by or known.asked_by
            raise DecisionRefusedError(f"it is {known.state} already, decided by {by_whom}", why="decided", by=by_whom)
        if wanted == "done":
            if by == known.asked_by:
                raise DecisionRefusedError(
                    f"{by} asked for it; a second person must approve it", why="second_person", by=by
                )
            if known.amount > subject.possible:
                wanted_, left = (
                    str(Money.from_minor(minor, known.currency)) for minor in (known.amount, subject.possible)
                )
                raise DecisionRefusedError(
                    f"{wanted_} were asked for, {left} are left by now; refuse it and ask again",
                    why="less_left",
                    asked=wanted_,
                    left=left,
                )
            await self._carry_out(
                tx,
                subject,
                known.verb,
                action_id=action_id,
                amount=known.amount,
                reason=known.reason,
                by=known.asked_by,
                approved_by=by,
            )
        await repository.decide_ledger_action(tx, action_id=action_id, state=wanted, by=by, note=note)
        return Decision(
            action_id=action_id,
            verb=known.verb,
            subject_id=known.subject_id,
            state=wanted,
            amount=known.amount,
            currency=known.currency,
        )

    # ------------------------------------------------------------------

    async def _open(self, tx: Transaction, verb: Verb, *, company: str, subject_id: UUID) -> _Subject:
        if verb == "refund":
            facts = await repository.open_books(tx, Needs(receipts={(company, subject_id)}))
            receipt = facts.books.receipts.get(subject_id)
            if receipt is None:
                raise DecisionUnknownError(f"no receipt {subject_id} of {company}")
            return _Subject(facts=facts, receipt=receipt)
        facts = await repository.open_books(tx, Needs(receivables={(company, subject_id)}))
        debt = facts.books.receivables.get(subject_id)
        charge = None
        if verb == "waive":
            charge = await repository.one_charge(tx.connection, company=company, receivable_id=subject_id)
        if debt is None or (verb == "waive" and charge is None):
            what = "late charge" if verb == "waive" else "receivable"
            raise DecisionUnknownError(f"no {what} {subject_id} of {company}")
        return _Subject(facts=facts, debt=debt, charge=charge)

    def _amount(self, subject: _Subject, asked: Asked) -> int:
        if asked.currency not in (None, subject.currency):
            raise DecisionRefusedError(
                f"it is in {subject.currency}, the amount in {asked.currency}",
                pointer="/amount/currency",
                why="currency",
                currency=subject.currency,
            )
        amount = subject.possible if asked.amount is None else asked.amount
        if not 0 < amount <= subject.possible:
            left = str(Money.from_minor(subject.possible, subject.currency))
            what = "unapplied" if asked.verb == "refund" else "open"
            raise DecisionRefusedError(
                f"{left} are {what}; ask for more than nothing and at most that",
                pointer="/amount",
                why="not_so_much",
                left=left,
            )
        return amount

    def _limit(self, company: str, currency: str, verb: str) -> int:
        """Up to which amount one person decides alone, in minor units; without a stated limit none."""
        profile = self.companies.get(company)
        limits = None if profile is None else profile.approval_above.get(currency)
        return 0 if limits is None else to_minor(getattr(limits, _LIMITED[verb]), currency)

    def _today(self, tx: Transaction, company: str) -> date:
        profile = self.companies.get(company)
        assert profile is not None  # a company without profile has no ledger
        return tx.now.astimezone(profile.zone).date()

    async def _carry_out(
        self,
        tx: Transaction,
        subject: _Subject,
        verb: Verb,
        *,
        action_id: UUID,
        amount: int,
        reason: str,
        by: str,
        approved_by: str | None = None,
    ) -> None:
        desk = Desk(subject.facts, self.companies, tx.now)
        match verb:
            case "waive":
                assert subject.charge is not None
                await give_back(
                    tx,
                    desk,
                    subject.charge,
                    kind="waiver",
                    amount=amount,
                    reason=reason,
                    by=by,
                    on=self._today(tx, subject.charge.company),
                    cause=tx.cause,
                    credit_id=action_id,
                    approved_by=approved_by,
                )
            case "write_off":
                assert subject.debt is not None
                self._write_off(
                    tx, desk, subject.debt, action_id, amount=amount, reason=reason, approved_by=approved_by
                )
            case "refund":
                assert subject.receipt is not None
                self._refund(tx, desk, subject.receipt, action_id, amount=amount, reason=reason)
                # What was suggested for it was about more money.
                await repository.enqueue_matching(
                    tx, receipts=[(subject.receipt.company, subject.receipt.receipt_id)], customers=()
                )
        await repository.save(tx, subject.facts)
        await desk.publish(tx)

    def _write_off(
        self,
        tx: Transaction,
        desk: Desk,
        debt: Receivable,
        action_id: UUID,
        *,
        amount: int,
        reason: str,
        approved_by: str | None,
    ) -> None:
        on = max(self._today(tx, debt.company), debt.issued_on)
        posting = desk.books.posting(company=debt.company, cause_id=action_id, kind="written-off", effective_on=on)
        posting.write_off(debt.receivable_id, amount, of=action_id)
        desk.tell_posted(tx.cause, posting.close())
        after = desk.books.receivables[debt.receivable_id]
        tx.publish(
            payments.WrittenOff(
                company=Company(debt.company),
                receivable_id=ReceivableId(debt.receivable_id),
                customer=Customer(debt.customer),
                amount=Money.from_minor(after.written_off, debt.currency),
                reason=reason,
                approved_by=approved_by,
                effective_on=on,
            ),
            sequence=after.version,
        )

    def _refund(
        self, tx: Transaction, desk: Desk, receipt: Receipt, action_id: UUID, *, amount: int, reason: str
    ) -> None:
        on = max(self._today(tx, receipt.company), receipt.value_on)
        posting = desk.books.posting(
            company=receipt.company, cause_id=action_id, kind="payment-refunded", effective_on=on
        )
        posting.refund(receipt.receipt_id, amount, of=action_id)
        if not desk.books.receipts[receipt.receipt_id].unapplied:
            posting.explain(receipt.receipt_id, None)
        desk.tell_posted(tx.cause, posting.close())
        after = desk.books.receipts[receipt.receipt_id]
        if receipt.kind == "cash":
            tx.publish(
                payments.PaymentRefunded(
                    company=Company(receipt.company),
                    payment_id=PaymentId(receipt.receipt_id),
                    external=External(system=System(receipt.system), id=ExternalId(receipt.external_id)),
                    customer=None if receipt.told_customer is None else Customer(receipt.told_customer),
                    amount=Money.from_minor(receipt.amount, receipt.currency),
                    refunded=Money.from_minor(after.refunded, receipt.currency),
                    reason=reason,
                    effective_on=on,
                ),
                sequence=after.version,
            )


def typed_amount(text: str, currency: str) -> int | None:
    """The amount a person typed, in minor units; nothing typed means all.

    Raises:
        DecisionRefusedError: it is no amount of the currency.
    """
    if not text.strip():
        return None
    try:
        return to_minor(Decimal(text.strip()), currency)
    except (ArithmeticError, ValueError) as error:
        raise DecisionRefusedError(
            f"{text!r} is no amount in {currency}: write it as 1234.50", why="no_amount", found=text, currency=currency
        ) from error


def _decision(known: Any, *, is_repeat: bool) -> Decision:
    return Decision(
        action_id=known.action_id,
        verb=known.verb,
        subject_id=known.subject_id,
        state=known.state,
        amount=known.amount,
        currency=known.currency,
        is_repeat=is_repeat,
    )
