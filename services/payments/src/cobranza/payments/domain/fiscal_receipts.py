"""Which fiscal receipts the law asks for: an invoice paid later or in parts needs one of every payment, in time.

Source: Código Fiscal de la Federación 29-A fr. VII b); Resolución Miscelánea Fiscal 2026, rules 2.7.1.32 and 2.7.1.35.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final, Literal
from uuid import UUID

from cobranza.contracts import identifiers

Grouping = Literal["per_payment", "monthly"]
#: gathering: of a month that is not over, and told to nobody yet.
State = Literal["gathering", "due", "answered", "rejected", "cancelled"]
#: live: counts; dropped: taken out of a receipt that goes on; cancelled: with its receipt.
LineState = Literal["live", "dropped", "cancelled"]
Alert = Literal["d3", "d1", "d0", "overdue"]

#: The last day is this one of the next month; a calendar day, worked or not.
LAST_DAY: Final = 5
#: So that a receipt is never larger than an event may be.
MOST_LINES: Final = 100
#: What may still change: nobody has issued it.
UNANSWERED: Final = frozenset[State]({"gathering", "due", "rejected"})
#: From how many days after the deadline which alert holds, the last first.
_ALERTS: Final[tuple[tuple[int, Alert], ...]] = ((1, "overdue"), (0, "d0"), (-1, "d1"), (-3, "d3"))


def deadline_of(received_on: date) -> date:
    """Last day for the receipt of a payment: 2027-03-10 gives 2027-04-05."""
    return next_month(received_on).replace(day=LAST_DAY)


def next_month(day: date) -> date:
    """The first day of the month after."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def alert_of(deadline: date, today: date) -> Alert | None:
    """How near, or how far past, a deadline is."""
    return next((alert for days, alert in _ALERTS if (today - deadline).days >= days), None)


def next_alert_on(deadline: date, today: date) -> date | None:
    """The next day on which the alert changes, or None when it was the last."""
    days = [deadline + timedelta(days=days) for days, _ in _ALERTS]
    return min((day for day in days if day > today), default=None)


def is_owed(payment_method_code: str | None, *, unsaid: bool) -> bool:
    """Whether payments of an invoice need receipts.

    Args:
        payment_method_code: what the invoice says: PPD, PUE or nothing.
        unsaid: what holds for an invoice that says nothing.
    """
    return unsaid if payment_method_code is None else payment_method_code.upper() == "PPD"


@dataclass(slots=True, kw_only=True)
class Line:
    """One payment's part of one invoice; amounts in minor units.

    Args:
        place: its place among all lines the invoice ever had, the same in a receipt that replaces another.
        shares: what each allocation gave of `paid`.
    """

    invoice_id: UUID
    receivable_id: UUID
    payment_id: UUID
    fiscal_id: str | None
    place: int
    part_number: int
    previous: int
    paid: int
    state: LineState = "live"
    shares: dict[UUID, int] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        """Open of the invoice after it."""
        return self.previous - self.paid


@dataclass(slots=True, kw_only=True)
class FiscalReceipt:
    """A receipt that is owed, and its lines in their order; `issued_as` and `code` are what the ERP answered."""

    fiscal_receipt_id: UUID
    company: str
    customer: str
    currency: str
    grouping: Grouping
    period: str
    number: int
    method: str
    received_on: date
    deadline_on: date
    state: State
    version: int = 0
    alert: Alert | None = None
    replaces: UUID | None = None
    issued_as: str | None = None
    code: str | None = None
    lines: list[Line] = field(default_factory=list)

    @property
    def shown(self) -> list[Line]:
        """What it is for; of a cancelled one, what it was for."""
        return [line for line in self.lines if line.state == ("cancelled" if self.state == "cancelled" else "live")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What a receipt says of the money."""

    company: str
    customer: str
    currency: str
    payment_id: UUID
    method: str
    received_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What a payment gave one invoice at once; amounts in minor units.

    Args:
        previous: open of the whole invoice before.
        shares: by allocation.
    """

    invoice_id: UUID
    receivable_id: UUID
    fiscal_id: str | None
    previous: int
    shares: Mapping[UUID, int]


class FiscalBooks:
    """The receipts of the invoices at hand, and what one transaction changes of them."""

    def __init__(self, receipts: Iterable[FiscalReceipt], *, numbers: Mapping[tuple[str, str, str], int]) -> None:
        """Args: `receipts` with every line of the invoices at hand; `numbers` the last of (company, customer, period)."""
        self.receipts: dict[UUID, FiscalReceipt] = {receipt.fiscal_receipt_id: receipt for receipt in receipts}
        self._numbers = dict(numbers)
        self.changed: dict[UUID, None] = {}

    def pay(self, payment: Payment, paid: Sequence[Paid], *, grouping: Grouping, today: date) -> None:
        """A payment was applied to invoices that need receipts.

        A month that is over takes nothing more: what comes late is a receipt of its own.
        """
        is_gathering = grouping == "monthly" and next_month(payment.received_on) > today
        period = payment.received_on.strftime(f"%Y-%m/{payment.currency}") if is_gathering else str(payment.payment_id)
        receipt: FiscalReceipt | None = None
        if is_gathering:
            receipt = self._gathering(payment, period)
        for one in paid:
            if receipt is None or len(receipt.lines) >= MOST_LINES:
                receipt = self._open(payment, period, grouping, "gathering" if is_gathering else "due", today)
            before = self.lines_of(one.invoice_id)
            receipt.lines.append(
                Line(
                    invoice_id=one.invoice_id,
                    receivable_id=one.receivable_id,
                    payment_id=payment.payment_id,
                    fiscal_id=one.fiscal_id,
                    place=max((line.place for _, line in before), default=0) + 1,
                    part_number=sum(line.state == "live" for _, line in before) + 1,
                    previous=one.previous,
                    paid=sum(one.shares.values()),
                    shares=dict(one.shares),
                )
            )
            receipt.received_on = max(receipt.received_on, payment.received_on)
            if receipt.method != payment.method:
                receipt.method = "other"
            self.changed[receipt.fiscal_receipt_id] = None

    def undo(self, allocation_id: UUID, *, invoice_id: UUID, today: date) -> None:
        """An allocation was taken back: as if it had never been, as far as nobody issued a receipt of it.

        A receipt that was issued is cancelled, and what is left of it is owed anew. Receipts issued
        later keep the numbers they were issued with.
        """
        found = next(
            (
                (receipt, line)
                for receipt, line in self.lines_of(invoice_id)
                if line.state == "live" and allocation_id in line.shares
            ),
            None,
        )
        if found is None:
            return
        receipt, line = found
        amount, is_gone = line.shares[allocation_id], len(line.shares) == 1
        if receipt.state == "answered":
            self._cancel(receipt, allocation_id, today)
        elif is_gone:
            line.state = "dropped"
            if receipt.state != "gathering" and not receipt.shown:
                line.state = receipt.state = "cancelled"
                receipt.alert = None
        else:
            _take_out(line, allocation_id)
        self.changed[receipt.fiscal_receipt_id] = None
        for other, later in self.lines_of(invoice_id):
            if later.place > line.place and later.state == "live" and other.state in UNANSWERED:
                later.previous += amount
                later.part_number -= is_gone
                self.changed[other.fiscal_receipt_id] = None

    def lines_of(self, invoice_id: UUID) -> list[tuple[FiscalReceipt, Line]]:
        """Every line an invoice ever had."""
        return [
            (receipt, line)
            for receipt in self.receipts.values()
            for line in receipt.lines
            if line.invoice_id == invoice_id
        ]

    def _cancel(self, issued: FiscalReceipt, undone: UUID, today: date) -> None:
        """Cancel an issued receipt; what is left of it without an allocation is owed anew."""
        rest = []
        for line in issued.shown:
            copy = replace(line, shares=dict(line.shares))
            line.state = "cancelled"
            if undone in copy.shares:
                _take_out(copy, undone)
            if copy.shares:
                rest.append(copy)
        issued.state, issued.alert = "cancelled", None
        if rest:
            payment = Payment(
                company=issued.company,
                customer=issued.customer,
                currency=issued.currency,
                payment_id=rest[0].payment_id,
                method=issued.method,
                received_on=issued.received_on,
            )
            made = self._open(payment, issued.period, issued.grouping, "due", today)
            made.replaces, made.lines = issued.fiscal_receipt_id, rest

    def _gathering(self, payment: Payment, period: str) -> FiscalReceipt | None:
        key = (payment.company, payment.customer, period)
        return next(
            (
                receipt
                for receipt in self.receipts.values()
                if receipt.state == "gathering"
                and (receipt.company, receipt.customer, receipt.period) == key
                and len(receipt.lines) < MOST_LINES
            ),
            None,
        )

    def _open(self, payment: Payment, period: str, grouping: Grouping, state: State, today: date) -> FiscalReceipt:
        key = (payment.company, payment.customer, period)
        number = self._numbers[key] = self._numbers.get(key, 0) + 1
        deadline_on = deadline_of(payment.received_on)
        receipt = FiscalReceipt(
            fiscal_receipt_id=identifiers.fiscal_receipt_id(
                company=payment.company,
                customer=payment.customer,
                period=period if number == 1 else f"{period}/{number}",
            ),
            company=payment.company,
            customer=payment.customer,
            currency=payment.currency,
            grouping=grouping,
            period=period,
            number=number,
            method=payment.method,
            received_on=payment.received_on,
            deadline_on=deadline_on,
            state=state,
            alert=alert_of(deadline_on, today) if state == "due" else None,
        )
        self.receipts[receipt.fiscal_receipt_id] = receipt
        self.changed[receipt.fiscal_receipt_id] = None
        return receipt


def _take_out(line: Line, allocation_id: UUID) -> None:
    line.paid -= line.shares.pop(allocation_id)
