"""Books in memory: each step balances, versions rise once, a reversal is exact."""

from datetime import date
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts import identifiers
from cobranza.payments.domain.ledger import (
    Allocation,
    Books,
    Credit,
    CreditKind,
    Entry,
    Line,
    Receipt,
    Receivable,
    entry_id,
)

DAY = date(2027, 1, 1)


def receivable(number: int, issued: int) -> Receivable:
    return Receivable(
        company="acme-mx", receivable_id=UUID(int=number), customer="C1", invoice_id=UUID(int=number), instalment=1,
        number=str(number), kind="invoice", currency="MXN", issued=issued, issued_on=DAY, due_on=DAY,
    )  # fmt: skip


def receipt(amount: int) -> Receipt:
    return Receipt(
        company="acme-mx", receipt_id=UUID(int=99), customer="C1", told_customer="C1", kind="cash", currency="MXN",
        system="sap", external_id="P", sha256=b"", amount=amount, value_on=DAY,
    )  # fmt: skip


def posting(books: Books, number: int, kind: str = "any") -> Any:
    return books.posting(company="acme-mx", cause_id=UUID(int=1000 + number), kind=kind, effective_on=DAY)


@given(issued=st.lists(st.integers(1, 1000), min_size=1, max_size=4), parts=st.lists(st.integers(1, 1000), max_size=4))
def test_money_in_and_back_leaves_everything_as_it_was(issued: Any, parts: Any) -> None:
    books = Books()
    first = posting(books, 1)
    for number, amount in enumerate(issued):
        first.issue(receivable(number, amount))
    first.close()
    before = {key: (r.open, r.allocated) for key, r in books.receivables.items()}
    second = posting(books, 2)
    second.receive(receipt(sum(parts) + 1))
    for number, part in enumerate(parts[: len(issued)]):
        second.allocate(UUID(int=99), UUID(int=number), min(part, issued[number]), rule="x@1")
    told = second.close()
    assert sum(a.amount for a in told.allocations) == books.receipts[UUID(int=99)].allocated
    third = posting(books, 3)
    for allocation in books.live_of_receipt(UUID(int=99)):
        third.undo(allocation, rule="y@1")
    third.reverse(UUID(int=99))
    third.close()
    assert {key: (r.open, r.allocated) for key, r in books.receivables.items()} == before
    assert books.receipts[UUID(int=99)].unapplied == 0
    assert books.credits["acme-mx", "C1", "MXN"].unapplied == 0
    for entry in books.entries:
        assert sum(line.amount for line in entry.lines) == 0
    ids = [entry.entry_id for entry in books.entries]
    assert len(ids) == len(set(ids))


def test_a_version_rises_once_per_cause_however_many_steps() -> None:
    books = Books()
    first = posting(books, 1)
    first.issue(receivable(1, 100))
    first.credit(UUID(int=1), 10, kind="credit_note", of=uuid5(UUID(int=1), "note"))
    first.credit(UUID(int=1), 10, kind="credit_note", of=uuid5(UUID(int=1), "note"))
    (told,) = first.close().receivables
    assert (told.version, told.open) == (1, 80)


def test_nothing_is_told_of_what_did_not_change() -> None:
    books = Books(receivables=[receivable(1, 100)], receipts=[receipt(50)])
    step = posting(books, 1)
    step.move_due(UUID(int=1), DAY)
    step.explain(UUID(int=99), "reference_unknown")
    told = step.close()
    assert (told.receivables, told.credits, told.allocations) == ((), (), ())


# The journal, line by line

LATER = date(2027, 2, 5)
RECEIVABLE, RECEIPT, CAUSE = UUID(int=1), UUID(int=99), UUID(int=1001)


def entry(of: UUID, kind: str, *lines: Line, reverses: UUID | None = None, on: date = DAY) -> Entry:
    return Entry(
        entry_id=entry_id(of, kind),
        company="acme-mx",
        kind=kind,
        cause_event_id=CAUSE,
        effective_on=on,
        reverses=reverses,
        lines=list(lines),
    )


def debt(amount: int) -> Line:
    return Line("AR", amount, "MXN", receivable_id=RECEIVABLE)


def money(account: str, amount: int) -> Line:
    return Line(account, amount, "MXN", receipt_id=RECEIPT)


def test_an_entry_s_id_never_changes() -> None:
    assert entry_id(RECEIVABLE, "payment-received") == UUID("e75c404e-261e-544b-be3d-bfabc607c8dd")


def test_a_new_debt_is_told_once_and_known_by_its_invoice() -> None:
    books = Books()
    first = posting(books, 1, "invoice-issued")

    first.issue(receivable(1, 100))
    told = first.close()

    assert books.entries == [
        entry(RECEIVABLE, "invoice-issued", debt(100), Line("ADJUSTMENT:issued", -100, "MXN", receivable_id=RECEIVABLE))
    ]
    assert told.receivables == (receivable(1, 100)._replace(version=1),)
    assert (told.kind, told.effective_on) == ("invoice-issued", DAY)
    assert books.of_invoice(RECEIVABLE) == [receivable(1, 100)._replace(version=1)]
    assert books.of_invoice(UUID(int=2)) == []
    assert list(books.new_receivables) == list(books.changed_receivables) == [RECEIVABLE]


def test_a_charge_on_a_case_has_no_invoice_and_an_entry_of_its_own() -> None:
    books = Books()
    first = posting(books, 1)
    charge = receivable(1, 100)._replace(kind="late_charge", invoice_id=None, instalment=None)

    first.issue(charge)
    first.close()

    assert [e.entry_id for e in books.entries] == [entry_id(RECEIVABLE, "late-charge-assessed")]


@pytest.mark.parametrize(("customer", "account", "owner"), [("C1", "UNAPPLIED", "C1"), (None, "SUSPENSE", "-")])
def test_money_in_is_unapplied_or_in_suspense(customer: str | None, account: str, owner: str) -> None:
    books = Books()
    first = posting(books, 1)

    first.receive(receipt(60)._replace(customer=customer))
    told = first.close()

    assert books.entries == [entry(RECEIPT, "payment-received", money("CASH", 60), money(account, -60))]
    assert told.credits == (Credit(company="acme-mx", customer=owner, currency="MXN", unapplied=60, version=1),)
    assert told.receivables == ()
    assert list(books.new_receipts) == list(books.changed_receipts) == [RECEIPT]
    assert list(books.changed_credits) == [("acme-mx", owner, "MXN")]


def test_the_rest_of_a_credit_note_comes_from_its_adjustment() -> None:
    books = Books()
    first = posting(books, 1)

    first.receive(receipt(60)._replace(kind="credit"), source="ADJUSTMENT:credit_note")
    first.close()

    assert books.entries == [
        entry(RECEIPT, "credit-note-issued", money("ADJUSTMENT:credit_note", 60), money("UNAPPLIED", -60))
    ]


def test_an_allocation_moves_unapplied_money_to_the_debt() -> None:
    books = Books(receivables=[receivable(1, 100)], receipts=[receipt(60)])
    step = posting(books, 1, "payment-received")

    step.allocate(RECEIPT, RECEIVABLE, 40, rule="reference@1")
    told = step.close()

    assert books.entries == [entry(CAUSE, "payment-allocated", money("UNAPPLIED", 40), debt(-40))]
    (allocation,) = told.allocations
    assert allocation == Allocation(
        allocation_id=identifiers.allocation_id(cause=CAUSE, payment=RECEIPT, receivable=RECEIVABLE),
        company="acme-mx",
        receipt_id=RECEIPT,
        receivable_id=RECEIVABLE,
        currency="MXN",
        amount=40,
        rule="reference@1",
        cause_event_id=CAUSE,
        effective_on=DAY,
    )
    assert books.live_of_receipt(RECEIPT) == books.live_of_receivable(RECEIVABLE) == books.allocations == [allocation]
    assert (books.receipts[RECEIPT].allocated, books.receivables[RECEIVABLE].open) == (40, 60)
    assert told.credits[0].unapplied == -40  # of a credit that this batch did not load


def test_an_allocation_is_never_effective_before_its_debt_was_issued() -> None:
    young = receivable(1, 100)._replace(issued_on=LATER)
    books = Books(receivables=[young], receipts=[receipt(60)])
    step = posting(books, 1)

    step.allocate(RECEIPT, RECEIVABLE, 40, rule="reference@1")

    assert [a.effective_on for a in step.close().allocations] == [LATER]


def test_undoing_books_the_opposite_and_names_what_it_undoes() -> None:
    books = Books(receivables=[receivable(1, 100)], receipts=[receipt(60)])
    posting(books, 1).allocate(RECEIPT, RECEIVABLE, 40, rule="reference@1")
    (allocation,) = books.live_of_receipt(RECEIPT)
    books.entries.clear()
    step = books.posting(company="acme-mx", cause_id=CAUSE, kind="payment-reversed", effective_on=LATER)

    step.undo(allocation, rule="reversal@1")
    told = step.close()

    assert books.entries == [entry(CAUSE, "allocation-undone", money("UNAPPLIED", -40), debt(40), on=LATER)]
    (undone,) = told.allocations
    assert undone == allocation._replace(
        allocation_id=identifiers.allocation_id(
            cause=CAUSE, payment=RECEIPT, receivable=RECEIVABLE, reverses=allocation.allocation_id
        ),
        amount=-40,
        rule="reversal@1",
        effective_on=LATER,
        reverses=allocation.allocation_id,
    )
    assert books.live_of_receipt(RECEIPT) == books.live_of_receivable(RECEIVABLE) == []
    assert (books.receipts[RECEIPT].allocated, books.receivables[RECEIVABLE].open) == (0, 100)


@pytest.mark.parametrize(
    ("kind", "booked"),
    [
        ("credit_note", "credit-note-issued"),
        ("cancellation", "invoice-cancelled"),
        ("waiver", "late-charge-waived"),
    ],
)
def test_a_credit_takes_off_the_debt_without_money(kind: CreditKind, booked: str) -> None:
    books = Books(receivables=[receivable(1, 100)])
    note = UUID(int=7)
    step = posting(books, 1)

    step.credit(RECEIVABLE, 30, kind=kind, of=note)
    (told,) = step.close().receivables

    assert books.entries == [
        entry(note, booked, Line(f"ADJUSTMENT:{kind}", 30, "MXN", receivable_id=RECEIVABLE), debt(-30))
    ]
    assert (told.credited, told.open, told.version) == (30, 70, 1)


def adjusted(account: str, amount: int) -> Line:
    return Line(f"ADJUSTMENT:{account}", amount, "MXN", receivable_id=RECEIVABLE)


def test_giving_a_debt_up_closes_it_and_leaves_it_payable() -> None:
    books = Books(receivables=[receivable(1, 100)])
    decision = UUID(int=7)
    step = posting(books, 1)

    step.write_off(RECEIVABLE, 30, of=decision)
    step.write_off(RECEIVABLE, 20, of=decision)
    (told,) = step.close().receivables

    assert books.entries == [
        entry(
            decision,
            "receivable-written-off",
            adjusted("write_off", 30),
            debt(-30),
            adjusted("write_off", 20),
            debt(-20),
        )
    ]
    assert (told.written_off, told.given_up, told.open, told.payable, told.version) == (50, 50, 50, 100, 1)


def test_money_beyond_what_is_open_recovers_what_was_given_up_and_goes_back_exactly() -> None:
    books = Books(receivables=[receivable(1, 100)._replace(written_off=60, given_up=60)], receipts=[receipt(90)])
    step = posting(books, 1)

    step.allocate(RECEIPT, RECEIVABLE, 70, rule="reference@1")
    step.close()

    assert books.entries == [
        entry(CAUSE, "payment-allocated", money("UNAPPLIED", 70), debt(-70)),
        entry(CAUSE, "write-off-recovered", adjusted("write_off", -30), debt(30)),
    ]
    after = books.receivables[RECEIVABLE]
    assert (after.open, after.written_off, after.given_up, after.payable) == (0, 30, 30, 30)
    (allocation,) = books.live_of_receipt(RECEIPT)
    assert (allocation.written_off, allocation.is_recovery) == (-30, True)

    books.entries.clear()
    back = posting(books, 1)
    back.undo(allocation, rule="reversal@1")
    (undone,) = back.close().allocations

    assert books.entries == [
        entry(CAUSE, "allocation-undone", money("UNAPPLIED", -70), debt(70)),
        entry(CAUSE, "recovery-undone", adjusted("write_off", 30), debt(-30)),
    ]
    assert (undone.written_off, undone.is_recovery) == (30, True)
    again = books.receivables[RECEIVABLE]
    assert (again.open, again.written_off, again.given_up, again.allocated) == (40, 60, 60, 0)


def test_a_discount_and_a_small_rest_close_what_money_leaves_and_open_it_again() -> None:
    books = Books(receivables=[receivable(1, 100)], receipts=[receipt(90)])
    step = posting(books, 1)

    step.allocate(RECEIPT, RECEIVABLE, 90, rule="reference@1", discount=8, written_off=2)
    step.close()

    assert books.entries == [
        entry(CAUSE, "payment-allocated", money("UNAPPLIED", 90), debt(-90)),
        entry(CAUSE, "discount-taken", adjusted("discount", 8), debt(-8)),
        entry(CAUSE, "written-off", adjusted("write_off", 2), debt(-2)),
    ]
    after = books.receivables[RECEIVABLE]
    assert (after.allocated, after.credited, after.written_off, after.given_up, after.open) == (90, 8, 2, 0, 0)
    (allocation,) = books.live_of_receipt(RECEIPT)
    assert (allocation.discount, allocation.written_off, allocation.is_recovery) == (8, 2, False)

    books.entries.clear()
    back = posting(books, 1)
    back.undo(allocation, rule="reversal@1")
    (undone,) = back.close().allocations

    assert books.entries == [
        entry(CAUSE, "allocation-undone", money("UNAPPLIED", -90), debt(90)),
        entry(
            CAUSE,
            "difference-restored",
            adjusted("discount", -8),
            debt(8),
            adjusted("write_off", -2),
            debt(2),
        ),
    ]
    assert (undone.discount, undone.written_off, undone.is_recovery) == (-8, -2, False)
    assert books.receivables[RECEIVABLE].open == 100


def test_a_refund_gives_back_a_part_of_what_is_unapplied() -> None:
    books = Books(receipts=[receipt(60)])
    decision = UUID(int=7)
    step = posting(books, 1)

    step.refund(RECEIPT, 25, of=decision)
    told = step.close()

    assert books.entries == [entry(decision, "payment-refunded", money("UNAPPLIED", 25), money("CASH", -25))]
    after = books.receipts[RECEIPT]
    assert (after.refunded, after.unapplied, after.version) == (25, 35, 2)
    assert told.credits[0].unapplied == -25


def test_giving_back_reverses_the_entry_of_the_receipt() -> None:
    books = Books(receipts=[receipt(60)])
    step = posting(books, 1)

    step.reverse(RECEIPT)
    told = step.close()

    assert books.entries == [
        entry(
            RECEIPT,
            "payment-reversed",
            money("UNAPPLIED", 60),
            money("CASH", -60),
            reverses=entry_id(RECEIPT, "payment-received"),
        )
    ]
    after = books.receipts[RECEIPT]
    assert (after.reversed, after.unapplied, after.version) == (60, 0, 2)
    assert told.credits[0].unapplied == -60


def test_giving_back_nothing_books_nothing_but_is_noted() -> None:
    books = Books(receipts=[receipt(60)._replace(refunded=60)])
    step = posting(books, 1)

    step.reverse(RECEIPT)

    assert (step.close().credits, books.entries) == ((), [])
    assert books.receipts[RECEIPT].version == 2


def test_naming_the_payer_moves_the_credit_from_nobody_to_them() -> None:
    unknown = receipt(60)._replace(customer=None)
    nobody = Credit(company="acme-mx", customer="-", currency="MXN", unapplied=75, version=4)
    books = Books(receipts=[unknown], credits=[nobody])
    step = posting(books, 1)

    step.identify(RECEIPT, "C1")
    told = step.close()

    assert books.entries == [entry(RECEIPT, "payer-identified", money("SUSPENSE", 60), money("UNAPPLIED", -60))]
    assert set(told.credits) == {
        nobody._replace(unapplied=15, version=5),
        Credit(company="acme-mx", customer="C1", currency="MXN", unapplied=60, version=1),
    }


def test_naming_the_payer_of_applied_money_moves_no_credit() -> None:
    books = Books(receipts=[receipt(60)._replace(customer=None, allocated=60)])
    step = posting(books, 1)

    step.identify(RECEIPT, "C1")

    assert (step.close().credits, books.entries, books.receipts[RECEIPT].customer) == ((), [], "C1")


def test_a_due_date_moves_without_an_entry() -> None:
    books = Books(receivables=[receivable(1, 100)])
    step = posting(books, 1)

    step.move_due(RECEIVABLE, LATER)

    (told,) = step.close().receivables
    assert (told.due_on, told.version, books.entries) == (LATER, 1, [])


def test_open_debts_of_one_customer_come_oldest_first_and_charges_last() -> None:
    def due(number: int, day: int, **changes: Any) -> Receivable:
        return receivable(number, 100)._replace(due_on=date(2027, 1, day), **changes)

    wanted = [due(4, 1), due(2, 3), due(3, 3, instalment=2), due(1, 1, kind="late_charge")]
    others = [
        due(5, 1, customer="C2"),
        due(6, 1, currency="USD"),
        due(7, 1, company="other-mx"),
        due(8, 1, allocated=100),
    ]
    books = Books(receivables=[*reversed(wanted), *others])

    assert books.open_of("acme-mx", "C1", "MXN") == wanted


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["issue", "receive", "apply", "credit", "undo", "give back", "name", "give up", "refund"]),
        st.integers(1, 500),
    ),
    max_size=25,
)


@given(steps=STEPS)
def test_the_journal_alone_gives_every_balance(steps: list[tuple[str, int]]) -> None:
    books = Books()
    for number, (step, amount) in enumerate(steps):
        _play(books, number, step, amount)

    for one in books.entries:
        assert sum(line.amount for line in one.lines) == 0
        assert len({line.currency for line in one.lines}) == 1
    lines = [line for one in books.entries for line in one.lines]
    for key, known in books.receivables.items():
        assert known.open == sum(line.amount for line in lines if line.account == "AR" and line.receivable_id == key)
        assert 0 <= known.given_up <= known.written_off
        assert known.open >= 0
    for key, kept in books.receipts.items():
        held = [line for line in lines if line.account in {"UNAPPLIED", "SUSPENSE"} and line.receipt_id == key]
        assert kept.unapplied == -sum(line.amount for line in held)
        assert kept.amount == kept.allocated + kept.unapplied + kept.refunded + kept.reversed
    for (_, customer, _), credit in books.credits.items():
        assert credit.unapplied == sum(r.unapplied for r in books.receipts.values() if r.owner == customer)
    ids = [one.entry_id for one in books.entries]
    assert len(ids) == len(set(ids))


def _play(books: Books, number: int, step: str, amount: int) -> None:
    """One cause; what does not fit the books as they stand changes nothing."""
    now = posting(books, number)
    open_debts = [r for r in books.receivables.values() if r.open]
    unapplied = [r for r in books.receipts.values() if r.unapplied and not r.reversed]
    match step:
        case "issue":
            now.issue(receivable(5000 + number, amount))
        case "receive":
            customer = "C1" if amount % 3 else None
            now.receive(receipt(amount)._replace(receipt_id=UUID(int=9000 + number), customer=customer))
        case "apply" if open_debts and unapplied:
            most = min(amount, open_debts[0].payable, unapplied[-1].unapplied)
            now.allocate(unapplied[-1].receipt_id, open_debts[0].receivable_id, most, rule="x@1")
        case "credit" if open_debts:
            most = min(amount, open_debts[-1].open)
            now.credit(open_debts[-1].receivable_id, most, kind="credit_note", of=UUID(int=7000 + number))
        case "give up" if open_debts:
            now.write_off(open_debts[0].receivable_id, min(amount, open_debts[0].open), of=UUID(int=6000 + number))
        case "refund" if unapplied:
            now.refund(unapplied[0].receipt_id, min(amount, unapplied[0].unapplied), of=UUID(int=6000 + number))
        case "undo" if live := [a for r in books.receipts for a in books.live_of_receipt(r)]:
            now.undo(live[amount % len(live)], rule="y@1")
        case "give back" if unapplied:
            for allocation in books.live_of_receipt(unapplied[0].receipt_id):
                now.undo(allocation, rule="y@1")
            now.reverse(unapplied[0].receipt_id)
        case "name" if nameless := [r for r in unapplied if r.customer is None]:
            now.identify(nameless[0].receipt_id, "C1")
    now.close()
