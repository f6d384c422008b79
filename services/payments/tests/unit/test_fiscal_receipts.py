"""Receipts the law asks for: numbered, chained to the cent, cancelled and owed anew as money is taken back."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.payments.domain.fiscal_receipts import (
    MOST_LINES,
    FiscalBooks,
    Paid,
    Payment,
    alert_of,
    deadline_of,
    is_owed,
    next_alert_on,
)

MARCH = date(2027, 3, 10)


@pytest.mark.parametrize(
    ("received_on", "deadline"),
    [
        (date(2027, 3, 10), date(2027, 4, 5)),
        (date(2027, 4, 28), date(2027, 5, 5)),
        (date(2027, 8, 29), date(2027, 9, 5)),  # a Sunday: calendar days
        (date(2027, 12, 31), date(2028, 1, 5)),
        (date(2027, 1, 31), date(2027, 2, 5)),
    ],
)
def test_the_deadline_is_the_fifth_of_the_next_month(received_on: date, deadline: date) -> None:
    assert deadline_of(received_on) == deadline


def test_alerts_come_three_days_before_the_day_before_on_the_day_and_after_it() -> None:
    deadline = date(2027, 4, 5)
    alerts = [alert_of(deadline, date(2027, 4, day)) for day in range(1, 8)]

    assert alerts == [None, "d3", "d3", "d1", "d0", "overdue", "overdue"]
    assert [next_alert_on(deadline, date(2027, 4, day)) for day in (1, 2, 3, 4, 5, 6)] == [
        date(2027, 4, 2), date(2027, 4, 4), date(2027, 4, 4), date(2027, 4, 5), date(2027, 4, 6), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "unsaid", "owed"),
    [("PPD", False, True), ("ppd", True, True), ("PUE", True, False), (None, True, True), (None, False, False)],
)
def test_an_invoice_paid_at_once_needs_none(code: str | None, unsaid: bool, owed: bool) -> None:  # noqa: FBT001
    assert is_owed(code, unsaid=unsaid) == owed


class World:
    """Invoices of 10,000 and payments of them, as the ledger would have them."""

    def __init__(self, grouping: Any = "per_payment") -> None:
        self.books = FiscalBooks([], numbers={})
        self.grouping = grouping
        self.open: dict[UUID, int] = defaultdict(lambda: 10_000)
        self.live: dict[UUID, tuple[UUID, int]] = {}
        self.ids = count(1)

    def pay(self, *parts: tuple[int, int], on: date = MARCH, today: date = MARCH) -> list[UUID]:
        """One payment of (invoice, amount); a part counts up to what is open. Returns its allocations."""
        payment = UUID(int=10_000 + next(self.ids))
        paid = []
        made: list[UUID] = []
        for number, amount in dict(parts).items():
            invoice = UUID(int=number)
            share = min(amount, self.open[invoice])
            # Odd amounts pay two instalments of the invoice.
            parts_of = [share] if share % 2 == 0 or share == 1 else [1, share - 1]
            shares = {UUID(int=20_000 + next(self.ids)): part for part in parts_of}
            if share:
                paid.append(
                    Paid(
                        invoice_id=invoice, receivable_id=invoice, fiscal_id=None, previous=self.open[invoice],
                        shares=shares,
                    )
                )  # fmt: skip
                self.open[invoice] -= share
                self.live |= {allocation: (invoice, part) for allocation, part in shares.items()}
                made += shares
        header = Payment(
            company="acme-mx", customer="C1", currency="MXN", payment_id=payment, method="transfer", received_on=on
        )
        self.books.pay(header, paid, grouping=self.grouping, today=today)
        return made

    def undo(self, allocation: UUID, today: date = MARCH) -> None:
        invoice, share = self.live.pop(allocation)
        self.open[invoice] += share
        self.books.undo(allocation, invoice_id=invoice, today=today)

    def answer(self, number: int = -1) -> Any:
        receipt = list(self.books.receipts.values())[number]
        receipt.state = "answered"
        return receipt

    def told(self) -> list[Any]:
        return [
            (r.state, [(line.part_number, line.previous, line.paid, line.remaining) for line in r.shown])
            for r in self.books.receipts.values()
        ]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("pay"),
            st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4_000)), min_size=1, max_size=3),
            st.integers(0, 60),
        ),
        st.tuples(st.just("undo"), st.integers(0, 20), st.just(0)),
        st.tuples(st.sampled_from(["answer", "reject", "close"]), st.integers(0, 20), st.just(0)),
    ),
    max_size=14,
)


@given(STEPS, st.sampled_from(["per_payment", "monthly"]))
def test_whatever_happens_every_peso_applied_is_on_one_receipt_that_counts(steps: Any, grouping: str) -> None:
    world = World(grouping)
    today = MARCH
    issued_any = False
    for what, argument, days in steps:
        receipts = list(world.books.receipts.values())
        match what:
            case "pay":
                today += timedelta(days=days)
                world.pay(*argument, on=today - timedelta(days=argument[0][1] % 40), today=today)
            case "undo":
                if world.live:
                    world.undo(sorted(world.live)[argument % len(world.live)], today)
            case _:
                if receipts and (one := receipts[argument % len(receipts)]).state in ("gathering", "due", "rejected"):
                    if not one.shown:
                        continue
                    if one.state == "gathering":
                        one.state = "due"
                    elif what != "close":
                        one.state = "answered" if what == "answer" else "rejected"
        live = [line for r in world.books.receipts.values() for line in r.lines if line.state == "live"]
        # previous - applied = remaining, and no balance is below nothing
        assert all(line.previous - line.paid == line.remaining >= 0 < line.paid for line in live)
        # Sum of what is not cancelled = what is applied, by invoice and by allocation.
        assert {a: (line.invoice_id, share) for line in live for a, share in line.shares.items()} == world.live
        assert all(sum(line.shares.values()) == line.paid for line in live)
        for receipt in world.books.receipts.values():
            assert receipt.state != "cancelled" or not any(line.state == "live" for line in receipt.lines)
            assert receipt.state == "gathering" or receipt.shown
            assert len(receipt.lines) <= MOST_LINES
        issued_any = issued_any or any(r.state == "answered" for r in world.books.receipts.values())
        if not issued_any:
            # While nobody issued any, receipts read as if what was taken back had never been.
            for invoice in {line.invoice_id for line in live}:
                chain = sorted((line for line in live if line.invoice_id == invoice), key=lambda line: line.place)
                assert [line.part_number for line in chain] == list(range(1, len(chain) + 1))
                assert chain[0].previous == 10_000
                assert all(a.remaining == b.previous for a, b in pairwise(chain))
                assert chain[-1].remaining == world.open[invoice]


def test_a_reversal_cancels_and_receipts_nobody_issued_are_numbered_anew() -> None:
    world = World()
    (first,) = world.pay((1, 3_000))
    world.pay((1, 2_000))
    world.undo(first)

    assert world.told() == [("cancelled", [(1, 10_000, 3_000, 7_000)]), ("due", [(1, 10_000, 2_000, 8_000)])]


def test_an_issued_receipt_keeps_its_number_and_the_next_counts_those_that_are_not_cancelled() -> None:
    world = World()
    (first,) = world.pay((1, 3_000))
    world.answer()
    world.pay((1, 2_000))
    world.answer()
    world.undo(first)
    world.pay((1, 1_000))

    assert world.told() == [
        ("cancelled", [(1, 10_000, 3_000, 7_000)]),
        ("answered", [(2, 7_000, 2_000, 5_000)]),
        ("due", [(2, 8_000, 1_000, 7_000)]),
    ]


def test_an_issued_receipt_of_two_invoices_is_cancelled_and_the_rest_owed_anew() -> None:
    world = World()
    first, _ = world.pay((1, 3_000), (2, 4_000))
    issued = world.answer()
    world.undo(first)
    rest = list(world.books.receipts.values())[-1]

    assert world.told() == [
        ("cancelled", [(1, 10_000, 3_000, 7_000), (1, 10_000, 4_000, 6_000)]),
        ("due", [(1, 10_000, 4_000, 6_000)]),
    ]
    assert (rest.replaces, rest.deadline_on) == (issued.fiscal_receipt_id, issued.deadline_on)
    assert rest.fiscal_receipt_id != issued.fiscal_receipt_id


def test_the_payments_of_a_month_are_one_receipt_and_a_late_one_is_its_own() -> None:
    world = World("monthly")
    world.pay((1, 3_000))
    world.pay((1, 2_000), (2, 500), on=MARCH + timedelta(days=1))
    (month,) = world.books.receipts.values()
    world.pay((2, 500), on=MARCH, today=date(2027, 4, 2))
    late = list(world.books.receipts.values())[-1]

    assert (month.state, month.deadline_on, month.received_on) == ("gathering", date(2027, 4, 5), date(2027, 3, 11))
    assert [(line.part_number, line.remaining) for line in month.lines] == [(1, 7_000), (2, 5_000), (1, 9_500)]
    assert (late.state, late.deadline_on, late.alert) == ("due", date(2027, 4, 5), "d3")
    assert [(line.part_number, line.previous) for line in late.lines] == [(2, 9_500)]


def test_a_receipt_never_grows_beyond_what_an_event_may_be() -> None:
    world = World()
    world.pay(*((number, 10) for number in range(1, 2 * MOST_LINES + 2)))

    assert [len(receipt.lines) for receipt in world.books.receipts.values()] == [MOST_LINES, MOST_LINES, 1]
    assert len({receipt.fiscal_receipt_id for receipt in world.books.receipts.values()}) == 3
