"""Asking the ERP for the fiscal receipts that the law wants of payments, and hearing what became of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final, Literal
from uuid import UUID

from cobranza.chassis import timers
from cobranza.chassis.clock import evaluation_instant
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Transaction
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.timers import Timer
from cobranza.contracts import ingress, payments
from cobranza.contracts.identifiers import Company, Customer, FiscalReceiptId, InvoiceId, PaymentId, ReceivableId
from cobranza.contracts.money import Money
from cobranza.payments import metrics, repository
from cobranza.payments.domain.errors import (
    FiscalReceiptConflictError,
    FiscalReceiptRefusedError,
    FiscalReceiptUnknownError,
)
from cobranza.payments.domain.fiscal_receipts import (
    UNANSWERED,
    FiscalBooks,
    FiscalReceipt,
    Grouping,
    Paid,
    Payment,
    alert_of,
    is_owed,
    next_alert_on,
    next_month,
)
from cobranza.payments.domain.ledger import Allocation, Books, Posted

#: Timers of this kind end a month, or tell that a deadline is near.
REMIND: Final = "fiscal-receipt"


@dataclass(frozen=True, slots=True)
class Applied:
    """What one posting allocated or took back, and what the invoices at hand could still be paid right after it.

    What was given up counts: the law knows no write-off, and its recovery needs a receipt too.
    """

    cause: Cause
    allocations: tuple[Allocation, ...]
    payable: Mapping[UUID, int]

    @classmethod
    def of(cls, books: Books, cause: Cause, posted: Posted) -> Applied:
        """A posting as the books are when it is closed."""
        invoices = {books.receivables[a.receivable_id].invoice_id for a in posted.allocations}
        return cls(
            cause,
            posted.allocations,
            {
                r.receivable_id: r.payable
                for i in invoices
                if i is not None
                for r in books.of_invoice(i)
                if r.kind == "invoice"
            },
        )


def grouping_of(profile: CompanyProfile) -> Grouping | None:
    """How the company's receipts are grouped; None where it owes none."""
    setting = profile.fiscal_receipts or ("per_payment" if profile.country == "MX" else "none")
    return None if setting == "none" else setting


@dataclass(frozen=True, slots=True)
class FiscalDesk:
    """Owes, cancels and tells fiscal receipts for the companies of this deployment."""

    companies: Companies

    async def follow(self, tx: Transaction, books: Books, applied: Sequence[Applied]) -> None:
        """Owe receipts of what was allocated, and take back what was undone; call it after the ledger is saved.

        The customers' locks are held, so that nobody else moves the same invoices.
        """
        relevant = [
            replace(one, allocations=kept)
            for one in applied
            if (kept := tuple(a for a in one.allocations if self._concerns(books, a)))
        ]
        if not relevant:
            return
        allocations = [a for one in relevant for a in one.allocations]
        invoices = {(a.company, _invoice_of(books, a)) for a in allocations}
        facts = await repository.fiscal_facts(tx, invoices)
        paying = {
            (a.company, a.receipt_id)
            for a in allocations
            if a.amount > 0 and self._is_owed(a.company, facts.get(_invoice_of(books, a)))
        }
        if not paying and all(a.reverses is None for a in allocations):
            return
        receipts = [books.receipts[receipt_id] for _, receipt_id in paying]
        customers = {(a.receipt_id, books.receivables[a.receivable_id].customer) for a in allocations}
        fiscal = await repository.open_fiscal_books(
            tx,
            invoices=invoices,
            periods=sorted(
                {
                    (receipt.company, customer, period)
                    for receipt in receipts
                    for receipt_id, customer in customers
                    if receipt_id == receipt.receipt_id
                    for period in (str(receipt.receipt_id), receipt.value_on.strftime(f"%Y-%m/{receipt.currency}"))
                }
            ),
        )
        methods = await repository.methods_of(tx, paying) if paying else {}
        beside = await repository.payable_beside(
            tx, invoices, known=sorted({i for one in relevant for i in one.payable})
        ) if paying else {}  # fmt: skip
        changed: dict[UUID, FiscalReceipt] = {}
        for one in relevant:
            fiscal.changed.clear()
            self._book(tx, books, fiscal, one, facts=facts, methods=methods, beside=beside)
            for receipt_id in sorted(fiscal.changed):
                receipt = changed[receipt_id] = fiscal.receipts[receipt_id]
                receipt.version += 1
                if receipt.state != "gathering":
                    _tell(tx, receipt, cause=one.cause)
        if changed:
            await repository.save_fiscal_receipts(tx, list(changed.values()))
            await self._arm(tx, list(changed.values()))

    def _concerns(self, books: Books, allocation: Allocation) -> bool:
        """Only money of an invoice's own debt counts: a credit note is a document of its own, a charge needs another."""
        profile = self.companies.get(allocation.company)
        receivable = books.receivables[allocation.receivable_id]
        return (
            profile is not None
            # What was owed once is taken back whatever the company has switched since.
            and (allocation.reverses is not None or grouping_of(profile) is not None)
            and books.receipts[allocation.receipt_id].kind == "cash"
            and receivable.kind == "invoice"
            and receivable.invoice_id is not None
        )

    def _is_owed(self, company: str, fact: tuple[str | None, str | None] | None) -> bool:
        profile = self.companies.get(company)
        assert profile is not None  # it was looked at before
        code = None if fact is None else fact[1]
        return is_owed(code, unsaid=profile.fiscal_receipts is not None)

    def _book(
        self,
        tx: Transaction,
        books: Books,
        fiscal: FiscalBooks,
        applied: Applied,
        *,
        facts: Mapping[UUID, tuple[str | None, str | None]],
        methods: Mapping[UUID, str],
        beside: Mapping[UUID, int],
    ) -> None:
        """One posting: first what it takes back, then what it gives."""
        previous: dict[UUID, int] = {}
        given: dict[tuple[UUID, str], dict[UUID, list[Allocation]]] = defaultdict(lambda: defaultdict(list))
        for allocation in applied.allocations:
            invoice_id = _invoice_of(books, allocation)
            today = self._today(tx, allocation.company)
            if allocation.reverses is not None:
                fiscal.undo(allocation.reverses, invoice_id=invoice_id, today=today)
            elif self._is_owed(allocation.company, facts.get(invoice_id)):
                customer = books.receivables[allocation.receivable_id].customer
                given[allocation.receipt_id, customer][invoice_id].append(allocation)
                if invoice_id not in previous:
                    previous[invoice_id] = beside.get(invoice_id, 0) + sum(
                        payable
                        for receivable_id, payable in applied.payable.items()
                        if books.receivables[receivable_id].invoice_id == invoice_id
                    )
                # Back to what was payable before the posting gave anything.
                previous[invoice_id] += _given(allocation)
        for (receipt_id, customer), of_invoice in given.items():
            receipt = books.receipts[receipt_id]
            profile = self.companies.get(receipt.company)
            assert profile is not None  # it was looked at before
            paid = []
            for invoice_id, allocations in of_invoice.items():
                shares = {a.allocation_id: a.amount for a in allocations}
                fact = facts.get(invoice_id)
                paid.append(
                    Paid(
                        invoice_id=invoice_id,
                        receivable_id=allocations[0].receivable_id,
                        fiscal_id=None if fact is None else fact[0],
                        previous=previous[invoice_id],
                        shares=shares,
                    )
                )
                previous[invoice_id] -= sum(map(_given, allocations))
            fiscal.pay(
                Payment(
                    company=receipt.company,
                    customer=customer,
                    currency=receipt.currency,
                    payment_id=receipt_id,
                    method=methods.get(receipt_id, "other"),
                    received_on=receipt.value_on,
                ),
                paid,
                grouping=grouping_of(profile) or "per_payment",
                today=self._today(tx, receipt.company),
            )

    async def _arm(self, tx: Transaction, receipts: Sequence[FiscalReceipt]) -> None:
        rows = []
        for receipt in receipts:
            due_at = self._next(tx, receipt)
            if due_at is None:
                await timers.cancel(tx, key=_timer_key(receipt.fiscal_receipt_id))
            else:
                rows.append(
                    {
                        "key": _timer_key(receipt.fiscal_receipt_id),
                        "kind": REMIND,
                        "company": receipt.company,
                        "subject_id": receipt.fiscal_receipt_id,
                        "due_at": due_at,
                    }
                )
        await timers.arm_many(tx, sorted(rows, key=lambda row: str(row["key"])))

    def _next(self, tx: Transaction, receipt: FiscalReceipt) -> datetime | None:
        """When to look at a receipt again."""
        profile = self.companies.get(receipt.company)
        if profile is None or receipt.state not in UNANSWERED:
            return None
        on = (
            next_month(receipt.received_on)
            if receipt.state == "gathering"
            else next_alert_on(receipt.deadline_on, self._today(tx, receipt.company))
        )
        return None if on is None else evaluation_instant(on, profile.zone)

    async def remind(self, tx: Transaction, timer: Timer) -> datetime | None:
        """A month is over, or a deadline comes near: tell it."""
        found = await repository.lock_fiscal_receipt(tx, timer.subject_id)
        if found is None or timer.company not in self.companies or found[0].state not in UNANSWERED:
            return None
        receipt, _ = found
        today = self._today(tx, receipt.company)
        before = (receipt.state, receipt.alert)
        if receipt.state == "gathering":
            # A month whose payments were all taken back was never told.
            receipt.state = "due" if receipt.shown else "cancelled"
        receipt.alert = alert_of(receipt.deadline_on, today) if receipt.state != "cancelled" else None
        if (receipt.state, receipt.alert) != before:
            receipt.version += 1
            await repository.save_fiscal_receipts(tx, [receipt])
            if receipt.state != "cancelled":
                _tell(tx, receipt, cause=tx.cause)
            if receipt.alert is not None:
                metrics.FISCAL_ALERTS.labels(bucket=receipt.alert).inc()
                logger().warning(
                    "a fiscal receipt is not issued",
                    company=receipt.company,
                    fiscal_receipt_id=str(receipt.fiscal_receipt_id),
                    deadline_on=receipt.deadline_on.isoformat(),
                    alert=receipt.alert,
                )
        return self._next(tx, receipt)

    async def answer(
        self, tx: Transaction, told: ingress.FiscalReceiptAnswered, cause: Cause
    ) -> Literal["accepted", "duplicate"]:
        """The ERP issued a receipt, or could not; one that was rejected may be issued later.

        Raises:
            FiscalReceiptUnknownError: it was never asked for.
            FiscalReceiptRefusedError: the outcome is neither issued nor rejected.
            FiscalReceiptConflictError: it is another customer's, or contradicts the answer before.
        """
        found = await repository.lock_fiscal_receipt(tx, told.fiscal_receipt_id)
        if found is None or found[0].company != told.company or found[0].state == "gathering":
            raise FiscalReceiptUnknownError(
                f"no fiscal receipt {told.fiscal_receipt_id} was asked for; answer with the id of fiscal-receipt-due",
                pointer="/fiscal_receipt_id",
            )
        receipt, kept = found
        if told.outcome not in ("issued", "rejected"):
            raise FiscalReceiptRefusedError(
                f"expected the outcome issued or rejected, found {told.outcome!r}", pointer="/outcome"
            )
        if told.customer != receipt.customer:
            raise FiscalReceiptConflictError(
                f"the receipt is of customer {receipt.customer!r}, not {told.customer!r}", pointer="/customer"
            )
        before = None if kept is None else ingress.FiscalReceiptAnswered.model_validate(kept)
        if before == told:
            return "duplicate"
        if before is not None and before.outcome == "issued":
            raise FiscalReceiptConflictError(
                f"the receipt was answered as issued{f' with {before.fiscal_id}' if before.fiscal_id else ''}"
                f" on {before.answered_on}; an issued receipt is not answered otherwise",
                pointer="/fiscal_id" if told.outcome == "issued" else "/outcome",
            )
        await repository.keep_fiscal_answer(
            tx, fiscal_receipt_id=receipt.fiscal_receipt_id, told=told.model_dump_json()
        )
        # One that was cancelled meanwhile stays so: now the ERP has one more to cancel.
        if receipt.state != "cancelled":
            receipt.state = "answered" if told.outcome == "issued" else "rejected"
            receipt.alert = (
                None if told.outcome == "issued" else alert_of(receipt.deadline_on, self._today(tx, receipt.company))
            )
        receipt.version += 1
        await repository.save_fiscal_receipts(tx, [receipt])
        await self._arm(tx, [receipt])
        receipt.issued_as, receipt.code = told.fiscal_id, told.code
        _tell(tx, receipt, cause=cause)
        return "accepted"

    def _today(self, tx: Transaction, company: str) -> date:
        profile = self.companies.get(company)
        assert profile is not None  # it was looked at before
        return tx.now.astimezone(profile.zone).date()


def _given(allocation: Allocation) -> int:
    """By how much an allocation lowered what is payable; a recovery lowers what was given up before."""
    return allocation.amount + allocation.discount + max(0, allocation.written_off)


def _invoice_of(books: Books, allocation: Allocation) -> UUID:
    invoice_id = books.receivables[allocation.receivable_id].invoice_id
    assert invoice_id is not None  # charges without an invoice were left out
    return invoice_id


def _timer_key(fiscal_receipt_id: UUID) -> str:
    return f"{REMIND}/{fiscal_receipt_id}"


def _tell(tx: Transaction, receipt: FiscalReceipt, *, cause: Cause) -> None:
    def money(minor: int) -> Money:
        return Money.from_minor(minor, receipt.currency)

    lines = receipt.shown
    tx.publish(
        payments.FiscalReceiptDue(
            company=Company(receipt.company),
            fiscal_receipt_id=FiscalReceiptId(receipt.fiscal_receipt_id),
            customer=Customer(receipt.customer),
            grouping=receipt.grouping,
            payment_ids=tuple(dict.fromkeys(PaymentId(line.payment_id) for line in lines)),
            amount=money(sum(line.paid for line in lines)),
            method=receipt.method,
            received_on=receipt.received_on,
            deadline_on=receipt.deadline_on,
            state=receipt.state,
            alert=receipt.alert,
            replaces=None if receipt.replaces is None else FiscalReceiptId(receipt.replaces),
            fiscal_id=receipt.issued_as,
            code=receipt.code,
            lines=tuple(
                payments.FiscalReceiptLine(
                    invoice_id=InvoiceId(line.invoice_id),
                    receivable_id=ReceivableId(line.receivable_id),
                    payment_id=PaymentId(line.payment_id),
                    fiscal_id=line.fiscal_id,
                    part_number=line.part_number,
                    previous=money(line.previous),
                    paid=money(line.paid),
                    remaining=money(line.remaining),
                )
                for line in lines
            ),
        ),
        sequence=receipt.version,
        # Several changes of one cause tell an event each.
        cause=replace(cause, seed=None if cause.seed is None else f"{cause.seed}|{receipt.version}"),
    )
