"""The ledger in memory: a batch books every step here, in balance, before it is saved as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final, Literal, NamedTuple
from uuid import UUID

from cobranza.contracts import identifiers

#: Stands for the customer of money whose payer is not known.
NOBODY: Final = identifiers.NO_CUSTOMER

AR: Final = "AR"
CASH: Final = "CASH"
UNAPPLIED: Final = "UNAPPLIED"
SUSPENSE: Final = "SUSPENSE"
#: The place of receipts that arrive with this batch: after all others.
NOT_YET: Final = 2**63 - 1
#: Which rule undid an allocation.
REVERSAL_RULE: Final = "reversal@1"
CANCELLATION_RULE: Final = "cancellation@1"

#: A person took an allocation back.
UNDONE_RULE: Final = "undone@1"

CreditKind = Literal["credit_note", "cancellation", "waiver"]
_CREDIT_ENTRIES: Final = {
    "credit_note": "credit-note-issued",
    "cancellation": "invoice-cancelled",
    "waiver": "late-charge-waived",
}


# Named tuples, because every step makes a new one: a frozen dataclass costs four times as much to change.
class Receivable(NamedTuple):
    """What a customer owes of one instalment; amounts in minor units of its currency."""

    company: str
    receivable_id: UUID
    customer: str
    invoice_id: UUID | None
    instalment: int | None
    number: str
    kind: Literal["invoice", "late_charge"]
    currency: str
    issued: int
    issued_on: date
    due_on: date
    allocated: int = 0
    credited: int = 0
    written_off: int = 0
    version: int = 0
    #: The part of `written_off` that a decision gave up: later money is a recovery of it.
    given_up: int = 0

    @property
    def open(self) -> int:
        """Still owed, in minor units."""
        return self.issued - self.allocated - self.credited - self.written_off

    @property
    def payable(self) -> int:
        """What money may still be applied to: open, and what was given up and can be recovered."""
        return self.open + self.given_up


class Receipt(NamedTuple):
    """Money (or the rest of a credit note) that came in; amounts in minor units.

    `told_customer` is the customer its events are keyed by for life; `reason` is what stood in the
    way of applying all of it; `arrived` is its place in the order of arrival.
    """

    company: str
    receipt_id: UUID
    customer: str | None
    told_customer: str | None
    kind: Literal["cash", "credit"]
    currency: str
    system: str
    external_id: str
    sha256: bytes
    amount: int
    value_on: date
    allocated: int = 0
    refunded: int = 0
    reversed: int = 0
    reason: str | None = None
    version: int = 1
    arrived: int = NOT_YET

    @property
    def unapplied(self) -> int:
        """Neither applied nor given back, in minor units."""
        return self.amount - self.allocated - self.refunded - self.reversed

    @property
    def owner(self) -> str:
        """Whose credit its unapplied part is."""
        return self.customer or NOBODY

    @property
    def account(self) -> str:
        """The account that carries its unapplied part."""
        return UNAPPLIED if self.customer else SUSPENSE


class Allocation(NamedTuple):
    """A part of a receipt applied to a receivable, or the undoing of one (negative).

    `discount` and `written_off` are what was given with it, and what its undoing takes back. `written_off` below
    zero on an application is what it recovered of a debt that was given up.
    """

    allocation_id: UUID
    company: str
    receipt_id: UUID
    receivable_id: UUID
    currency: str
    amount: int
    rule: str
    cause_event_id: UUID
    effective_on: date | None = None
    reverses: UUID | None = None
    confidence: Decimal = Decimal(1)
    discount: int = 0
    written_off: int = 0

    @property
    def is_recovery(self) -> bool:
        """Whether it recovers a debt that was given up, or undoes that."""
        return self.written_off * self.amount < 0


class Line(NamedTuple):
    """One line of a journal entry: debit above zero, credit below, in minor units."""

    account: str
    amount: int
    currency: str
    receivable_id: UUID | None = None
    receipt_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One balanced entry of the journal."""

    entry_id: UUID
    company: str
    kind: str
    cause_event_id: UUID
    effective_on: date
    reverses: UUID | None = None
    lines: list[Line] = field(default_factory=list)


class Credit(NamedTuple):
    """What is unapplied of a customer in one currency, in minor units."""

    company: str
    customer: str
    currency: str
    unapplied: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What one cause changed, each aggregate once and in its final state."""

    kind: str
    effective_on: date
    receivables: tuple[Receivable, ...]
    credits: tuple[Credit, ...]
    allocations: tuple[Allocation, ...]


def entry_id(of: UUID, kind: str) -> UUID:
    """Id of the entry that books `kind` of a document: it exists once, whatever repeats."""
    return identifiers.derived(of, "journal", kind)


class Books:
    """The part of the ledger that one batch works on, and what the batch added to it."""

    def __init__(
        self,
        *,
        receivables: Iterable[Receivable] = (),
        receipts: Iterable[Receipt] = (),
        allocations: Iterable[Allocation] = (),
        credits: Iterable[Credit] = (),  # noqa: A002 - the trade's word
    ) -> None:
        """Args: `allocations` are the live ones of what may be undone."""
        self.receivables: dict[UUID, Receivable] = {r.receivable_id: r for r in receivables}
        self.receipts: dict[UUID, Receipt] = {r.receipt_id: r for r in receipts}
        self.credits: dict[tuple[str, str, str], Credit] = {(c.company, c.customer, c.currency): c for c in credits}
        self._of_invoice: dict[UUID, set[UUID]] = defaultdict(set)
        self._live: dict[UUID, Allocation] = {}
        self._of_receipt: dict[UUID, list[UUID]] = defaultdict(list)
        self._of_receivable: dict[UUID, list[UUID]] = defaultdict(list)
        for receivable in self.receivables.values():
            self._know(receivable)
        for allocation in allocations:
            self._keep_live(allocation)
        self.new_receivables: dict[UUID, None] = {}
        self.new_receipts: dict[UUID, None] = {}
        self.changed_receivables: dict[UUID, None] = {}
        self.changed_receipts: dict[UUID, None] = {}
        self.changed_credits: dict[tuple[str, str, str], None] = {}
        self.allocations: list[Allocation] = []
        self.entries: list[Entry] = []

    def of_invoice(self, invoice_id: UUID) -> list[Receivable]:
        """The receivables of an invoice, in the order in which money is applied to them."""
        return oldest_first(self.receivables[i] for i in self._of_invoice.get(invoice_id, ()))

    def open_of(self, company: str, customer: str, currency: str) -> list[Receivable]:
        """The customer's open receivables in one currency, oldest due first and charges last."""
        return oldest_first(
            r
            for r in self.receivables.values()
            if r.open and (r.company, r.customer, r.currency) == (company, customer, currency)
        )

    def live_of_receipt(self, receipt_id: UUID) -> list[Allocation]:
        """Allocations of a receipt that nothing has undone."""
        return [self._live[i] for i in self._of_receipt[receipt_id] if i in self._live]

    def live_of_receivable(self, receivable_id: UUID) -> list[Allocation]:
        """Allocations to a receivable that nothing has undone."""
        return [self._live[i] for i in self._of_receivable[receivable_id] if i in self._live]

    def posting(self, *, company: str, cause_id: UUID, kind: str, effective_on: date) -> Posting:
        """Begin to book what one cause changes."""
        return Posting(self, company=company, cause_id=cause_id, kind=kind, effective_on=effective_on)

    def _know(self, receivable: Receivable) -> None:
        if receivable.invoice_id is not None:
            self._of_invoice[receivable.invoice_id].add(receivable.receivable_id)

    def _keep_live(self, allocation: Allocation) -> None:
        self._live[allocation.allocation_id] = allocation
        self._of_receipt[allocation.receipt_id].append(allocation.allocation_id)
        self._of_receivable[allocation.receivable_id].append(allocation.allocation_id)


class Posting:
    """What one cause changes. Each step changes a balance and books its journal lines together."""

    def __init__(self, books: Books, *, company: str, cause_id: UUID, kind: str, effective_on: date) -> None:
        self._books = books
        self._company = company
        self._cause_id = cause_id
        self._kind = kind
        self._effective_on = effective_on
        self._receivables_before: dict[UUID, Receivable | None] = {}
        self._receipts_before: dict[UUID, Receipt | None] = {}
        self._entries: dict[str, Entry] = {}
        self._allocations: list[Allocation] = []

    def issue(self, receivable: Receivable) -> None:
        """A new debt: of an invoice, or a late charge."""
        self._books.receivables[receivable.receivable_id] = receivable
        self._books._know(receivable)  # noqa: SLF001 - a posting is the books' own hand
        self._receivables_before[receivable.receivable_id] = None
        self._books.new_receivables[receivable.receivable_id] = None
        is_charge = receivable.kind == "late_charge"
        self._book(
            "late-charge-assessed" if is_charge else "invoice-issued",
            receivable.receivable_id if is_charge or receivable.invoice_id is None else receivable.invoice_id,
            Line(AR, receivable.issued, receivable.currency, receivable.receivable_id),
            Line("ADJUSTMENT:issued", -receivable.issued, receivable.currency, receivable.receivable_id),
        )

    def move_due(self, receivable_id: UUID, due_on: date) -> None:
        """The due date of a debt changed; no amount does."""
        self._change_receivable(self._books.receivables[receivable_id]._replace(due_on=due_on))

    def receive(self, receipt: Receipt, *, source: str = CASH) -> None:
        """Money came in; it is unapplied until it is allocated.

        Args:
            source: the account it comes from: cash, or the adjustment of a credit note.
        """
        self._receipts_before[receipt.receipt_id] = None
        self._books.receipts[receipt.receipt_id] = receipt
        self._books.new_receipts[receipt.receipt_id] = None
        self._book(
            "payment-received" if receipt.kind == "cash" else "credit-note-issued",
            receipt.receipt_id,
            Line(source, receipt.amount, receipt.currency, receipt_id=receipt.receipt_id),
            Line(receipt.account, -receipt.amount, receipt.currency, receipt_id=receipt.receipt_id),
        )

    def identify(self, receipt_id: UUID, customer: str) -> None:
        """It is now known whose money a receipt is."""
        before = self._books.receipts[receipt_id]
        after = before._replace(customer=customer)
        self._change_receipt(after)
        if before.unapplied:
            self._book(
                "payer-identified",
                receipt_id,
                Line(before.account, before.unapplied, before.currency, receipt_id=receipt_id),
                Line(after.account, -before.unapplied, before.currency, receipt_id=receipt_id),
            )

    def explain(self, receipt_id: UUID, reason: str | None) -> None:
        """Note what stands in the way of applying the rest of a receipt."""
        self._change_receipt(self._books.receipts[receipt_id]._replace(reason=reason))

    def allocate(
        self,
        receipt_id: UUID,
        receivable_id: UUID,
        amount: int,
        *,
        rule: str,
        confidence: Decimal = Decimal(1),
        discount: int = 0,
        written_off: int = 0,
    ) -> None:
        """Apply `amount` minor units of a receipt to a receivable of the same currency.

        What exceeds its open amount recovers what was given up of it: the write-off is reversed by so much.

        Args:
            discount: given with it and credited, in minor units.
            written_off: missing of it and given up, in minor units.
        """
        receipt = self._books.receipts[receipt_id]
        receivable = self._books.receivables[receivable_id]
        recovered = max(0, amount + discount + written_off - receivable.open)
        allocation = Allocation(
            allocation_id=identifiers.allocation_id(cause=self._cause_id, payment=receipt_id, receivable=receivable_id),
            company=self._company,
            receipt_id=receipt_id,
            receivable_id=receivable_id,
            currency=receipt.currency,
            amount=amount,
            rule=rule,
            cause_event_id=self._cause_id,
            effective_on=max(self._effective_on, receivable.issued_on),
            confidence=confidence,
            discount=discount,
            written_off=written_off - recovered,
        )
        self._move(allocation, receipt, receivable)
        self._books._keep_live(allocation)  # noqa: SLF001 - a posting is the books' own hand
        self._book("payment-allocated", self._cause_id, *self._application(allocation, receipt))
        self._give("discount-taken", allocation)

    def undo(self, allocation: Allocation, *, rule: str) -> None:
        """Take an allocation back exactly; the money is unapplied and the debt open again."""
        receipt = self._books.receipts[allocation.receipt_id]
        receivable = self._books.receivables[allocation.receivable_id]
        undone = Allocation(
            allocation_id=identifiers.allocation_id(
                cause=self._cause_id,
                payment=allocation.receipt_id,
                receivable=allocation.receivable_id,
                reverses=allocation.allocation_id,
            ),
            company=allocation.company,
            receipt_id=allocation.receipt_id,
            receivable_id=allocation.receivable_id,
            currency=allocation.currency,
            amount=-allocation.amount,
            reverses=allocation.allocation_id,
            rule=rule,
            cause_event_id=self._cause_id,
            effective_on=max(self._effective_on, receivable.issued_on),
            discount=-allocation.discount,
            written_off=-allocation.written_off,
        )
        self._move(undone, receipt, receivable)
        del self._books._live[allocation.allocation_id]  # noqa: SLF001 - a posting is the books' own hand
        self._book("allocation-undone", self._cause_id, *self._application(undone, receipt))
        self._give("difference-restored", undone)

    def credit(self, receivable_id: UUID, amount: int, *, kind: CreditKind, of: UUID) -> None:
        """Take `amount` minor units off a debt without money.

        Args:
            of: what gives it: the credit note, the cancelled invoice or the waiver.
        """
        receivable = self._books.receivables[receivable_id]
        self._change_receivable(receivable._replace(credited=receivable.credited + amount))
        self._book(
            _CREDIT_ENTRIES[kind],
            of,
            Line(f"ADJUSTMENT:{kind}", amount, receivable.currency, receivable_id),
            Line(AR, -amount, receivable.currency, receivable_id),
        )

    def write_off(self, receivable_id: UUID, amount: int, *, of: UUID) -> None:
        """Give up `amount` minor units of a debt; money that comes later recovers them.

        Args:
            of: the decision.
        """
        receivable = self._books.receivables[receivable_id]
        self._change_receivable(
            receivable._replace(
                written_off=receivable.written_off + amount,
                given_up=receivable.given_up + amount,
            )
        )
        self._book(
            "receivable-written-off",
            of,
            Line("ADJUSTMENT:write_off", amount, receivable.currency, receivable_id),
            Line(AR, -amount, receivable.currency, receivable_id),
        )

    def refund(self, receipt_id: UUID, amount: int, *, of: UUID) -> None:
        """Give `amount` minor units of what is unapplied of a receipt back to the payer.

        Args:
            of: the decision.
        """
        receipt = self._books.receipts[receipt_id]
        self._change_receipt(receipt._replace(refunded=receipt.refunded + amount, version=receipt.version + 1))
        self._book(
            "payment-refunded",
            of,
            Line(receipt.account, amount, receipt.currency, receipt_id=receipt_id),
            Line(CASH, -amount, receipt.currency, receipt_id=receipt_id),
        )

    def reverse(self, receipt_id: UUID) -> None:
        """Give back all that is unapplied of a receipt, whose allocations were undone before."""
        receipt = self._books.receipts[receipt_id]
        amount = receipt.unapplied
        self._change_receipt(receipt._replace(reversed=receipt.reversed + amount, version=receipt.version + 1))
        if amount:
            self._book(
                "payment-reversed",
                receipt_id,
                Line(receipt.account, amount, receipt.currency, receipt_id=receipt_id),
                Line(CASH, -amount, receipt.currency, receipt_id=receipt_id),
                reverses=entry_id(receipt_id, "payment-received"),
            )

    def close(self) -> Posted:
        """End the posting: versions rise once per aggregate, credits follow their receipts."""
        books = self._books
        receivables = []
        for receivable_id, before in self._receivables_before.items():
            if books.receivables[receivable_id] != before:
                after = books.receivables[receivable_id]._replace(version=books.receivables[receivable_id].version + 1)
                books.receivables[receivable_id] = after
                books.changed_receivables[receivable_id] = None
                receivables.append(after)
        books.changed_receipts.update(dict.fromkeys(self._receipts_before))
        books.allocations.extend(self._allocations)
        books.entries.extend(self._entries.values())
        return Posted(
            kind=self._kind,
            effective_on=self._effective_on,
            receivables=tuple(receivables),
            credits=tuple(self._follow_credits()),
            allocations=tuple(self._allocations),
        )

    def _follow_credits(self) -> Iterable[Credit]:
        moved: dict[tuple[str, str, str], int] = defaultdict(int)
        for receipt_id, before in self._receipts_before.items():
            after = self._books.receipts[receipt_id]
            if before is not None:
                moved[before.company, before.owner, before.currency] -= before.unapplied
            moved[after.company, after.owner, after.currency] += after.unapplied
        for key, amount in moved.items():
            if amount:
                company, customer, currency = key
                known = self._books.credits.get(key) or Credit(company=company, customer=customer, currency=currency)
                changed = known._replace(unapplied=known.unapplied + amount, version=known.version + 1)
                self._books.credits[key] = changed
                self._books.changed_credits[key] = None
                yield changed

    def _move(self, allocation: Allocation, receipt: Receipt, receivable: Receivable) -> None:
        self._change_receipt(receipt._replace(allocated=receipt.allocated + allocation.amount))
        self._change_receivable(receivable._replace(allocated=receivable.allocated + allocation.amount))
        self._allocations.append(allocation)

    def _give(self, kind: str, allocation: Allocation) -> None:
        """Close, or open again, what an application leaves of a debt: the discount earned and the small rest."""
        receivable = self._books.receivables[allocation.receivable_id]
        self._change_receivable(
            receivable._replace(
                credited=receivable.credited + allocation.discount,
                written_off=receivable.written_off + allocation.written_off,
                given_up=receivable.given_up + (allocation.written_off if allocation.is_recovery else 0),
            )
        )
        if allocation.is_recovery:
            written_off = "write-off-recovered" if allocation.amount > 0 else "recovery-undone"
        else:
            written_off = "written-off" if allocation.amount > 0 else kind
        for entry, account, amount in (
            (kind, "ADJUSTMENT:discount", allocation.discount),
            (written_off, "ADJUSTMENT:write_off", allocation.written_off),
        ):
            if amount:
                self._book(
                    entry,
                    self._cause_id,
                    Line(account, amount, allocation.currency, allocation.receivable_id),
                    Line(AR, -amount, allocation.currency, allocation.receivable_id),
                )

    def _change_receivable(self, after: Receivable) -> None:
        self._receivables_before.setdefault(after.receivable_id, self._books.receivables[after.receivable_id])
        self._books.receivables[after.receivable_id] = after

    def _change_receipt(self, after: Receipt) -> None:
        self._receipts_before.setdefault(after.receipt_id, self._books.receipts[after.receipt_id])
        self._books.receipts[after.receipt_id] = after

    def _application(self, allocation: Allocation, receipt: Receipt) -> tuple[Line, Line]:
        amount, currency = allocation.amount, allocation.currency
        return (
            Line(receipt.account, amount, currency, receipt_id=allocation.receipt_id),
            Line(AR, -amount, currency, allocation.receivable_id),
        )

    def _book(self, kind: str, of: UUID, *lines: Line, reverses: UUID | None = None) -> None:
        entry = self._entries.setdefault(
            kind,
            Entry(
                entry_id=entry_id(of, kind),
                company=self._company,
                kind=kind,
                cause_event_id=self._cause_id,
                effective_on=self._effective_on,
                reverses=reverses,
            ),
        )
        entry.lines.extend(lines)


def oldest_first(receivables: Iterable[Receivable]) -> list[Receivable]:
    """In the house order: principal before charges, by due date, then in a fixed order."""
    return sorted(receivables, key=lambda r: (r.kind == "late_charge", r.due_on, r.instalment or 0, r.receivable_id))
