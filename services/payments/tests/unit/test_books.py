"""Books in memory: each step balances, versions rise once, a reversal is exact."""

from datetime import date
from typing import Any
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from cobranza.payments.domain.ledger import Books, Receipt, Receivable

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
