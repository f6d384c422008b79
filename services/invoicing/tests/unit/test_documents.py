"""What an invoice must be, what may change, and when its due date is told."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts import ingress
from cobranza.contracts.money import Money
from cobranza.invoicing.domain.due_dates import marks, next_mark
from cobranza.invoicing.domain.errors import (
    CreditExceedsError,
    CurrencyMismatchError,
    InstalmentsMismatchError,
    RevisionConflictError,
)
from cobranza.invoicing.domain.invoice import check_change, check_credit_note, check_invoice

DUE = date(2027, 1, 31)
OFFSETS = (-7, -3, 0, 1)


def _invoice(*parts: str, payable: str = "1160.00", currency: str = "MXN", **other: Any) -> ingress.InvoiceIssued:
    data: dict[str, Any] = {
        "company": "acme-mx",
        "external": {"system": "sap", "id": "1"},
        "customer": "C1",
        "number": "F-1",
        "issued_on": "2027-01-01",
        "payable": {"amount": payable, "currency": "MXN"},
        "instalments": [
            {"number": n, "due_on": str(DUE), "amount": {"amount": amount, "currency": currency}}
            for n, amount in enumerate(parts, start=1)
        ],
    }
    return ingress.InvoiceIssued.model_validate({**data, **other})


def test_instalments_that_do_not_sum_are_refused_with_both_sums() -> None:
    with pytest.raises(InstalmentsMismatchError, match=r"1159\.99.*1160\.00") as caught:
        check_invoice(_invoice("1000.00", "159.99"))

    assert caught.value.facts == {"instalments_sum": "1159.99", "payable": "1160.00"}


def test_an_instalment_in_another_currency_is_refused() -> None:
    with pytest.raises(CurrencyMismatchError):
        check_invoice(_invoice("1160.00", currency="USD"))


@given(total=st.integers(1, 10**12), parts=st.integers(1, 24))
def test_any_split_without_loss_is_accepted(total: int, parts: int) -> None:
    payable = Money.from_minor(total, "MXN")
    shares = [share for share in payable.split(parts) if share.minor > 0]

    check_invoice(_invoice(*(str(share.amount) for share in shares), payable=str(payable.amount)))


@pytest.mark.parametrize(
    "change",
    [
        {"customer": "C2"},
        {"payable": "1161.00"},
        {"instalments": [{"number": 2, "due_on": str(DUE), "amount": {"amount": "1160.00", "currency": "MXN"}}]},
    ],
)
def test_a_revision_that_changes_what_is_owed_is_a_conflict(change: dict[str, Any]) -> None:
    with pytest.raises(RevisionConflictError, match="credit note or a replacement"):
        check_change(_invoice("1160.00"), _invoice("1160.00", **change))


def test_a_revision_may_change_dates_and_texts() -> None:
    later = [{"number": 1, "due_on": "2027-02-28", "amount": {"amount": "1160.00", "currency": "MXN"}}]

    check_change(_invoice("1160.00"), _invoice("1160.00", instalments=later, concept="repaired"))


def test_a_credit_note_cannot_give_more_than_it_has() -> None:
    note = ingress.CreditNoteIssued.model_validate(
        {
            "company": "acme-mx",
            "external": {"system": "sap", "id": "1"},
            "customer": "C1",
            "issued_on": "2027-01-05",
            "amount": {"amount": "100.00", "currency": "MXN"},
            "applies_to": [{"invoice_external_id": "1", "amount": {"amount": "100.01", "currency": "MXN"}}],
        }
    )
    with pytest.raises(CreditExceedsError, match=r"100\.01.*100\.00"):
        check_credit_note(note)


def test_due_dates_are_told_in_order_with_their_phase() -> None:
    assert [(m.offset_days, m.phase) for m in marks(DUE, OFFSETS)] == [
        (-7, "approaching"),
        (-3, "approaching"),
        (0, "reached"),
        (1, "passed"),
    ]


def test_an_invoice_that_arrives_overdue_tells_once_that_it_is() -> None:
    mark = next_mark(DUE, OFFSETS, told_until=None, as_of=DUE + timedelta(days=40))

    assert mark is not None
    assert mark.offset_days == 1
    assert next_mark(DUE, OFFSETS, told_until=1, as_of=DUE + timedelta(days=40)) is None


def test_what_was_told_is_not_told_again_and_what_was_missed_is_made_up() -> None:
    missed = next_mark(DUE, OFFSETS, told_until=-7, as_of=DUE)

    assert missed is not None
    assert missed.offset_days == -3


@given(started=st.integers(-60, 60), stops=st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_looking_every_day_or_seldom_tells_the_same_marks(started: int, stops: list[int]) -> None:
    """A day run twice adds none; a day missed loses none."""
    first = DUE + timedelta(days=started)
    looks = [first]
    for stop in stops:
        looks.append(looks[-1] + timedelta(days=stop))
    daily = [first + timedelta(days=n) for n in range((looks[-1] - first).days + 1)]

    assert _told(looks) == _told(daily)


def _told(looks: list[date]) -> list[int]:
    told: list[int] = []
    for as_of in [*looks, looks[-1]]:
        while True:
            mark = next_mark(DUE, OFFSETS, told_until=told[-1] if told else None, as_of=min(as_of, looks[0]))
            if mark is None or mark.on > as_of:
                break
            told.append(mark.offset_days)
    return told
