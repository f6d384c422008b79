"""Cash application by itself: whatever is paid and owed, no unit is lost, made or taken twice."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cobranza.payments.domain.allocation import Claim, Given, close_by_reference, share_by_reference, share_oldest_first
from cobranza.payments.domain.ledger import Receivable, oldest_first

DAY = date(2027, 1, 1)


def debt(number: int, open_: int, *, due: int = 0, kind: Any = "invoice") -> Receivable:
    return Receivable(
        company="acme-mx", receivable_id=UUID(int=number), customer="C1", invoice_id=UUID(int=number), instalment=1,
        number=str(number), kind=kind, currency="MXN", issued=open_ + 5, credited=5, issued_on=DAY,
        due_on=DAY + timedelta(days=due),
    )  # fmt: skip


DEBTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 5)), max_size=6).map(
    lambda drawn: [debt(number, open_, due=due) for number, (open_, due) in enumerate(drawn)]
)


@given(available=st.integers(0, 5000), debts=DEBTS, data=st.data())
def test_shares_are_bounded_by_the_money_the_debts_and_what_was_named(available: Any, debts: Any, data: Any) -> None:
    claims = [
        Claim(
            tuple(data.draw(st.lists(st.sampled_from(debts), unique=True))), data.draw(st.none() | st.integers(0, 900))
        )
        for _ in range(data.draw(st.integers(0, 4) if debts else st.just(0)))
    ]
    shares = share_by_reference(available, claims)
    by_id = {d.receivable_id: d for d in debts}
    assert sum(shares.values()) <= available
    assert all(0 < amount <= by_id[id_].open for id_, amount in shares.items())
    named = {d.receivable_id for claim in claims for d in claim.receivables}
    assert shares.keys() <= named
    if claims and all(claim.at_most is None for claim in claims):
        assert sum(shares.values()) == min(available, sum(by_id[id_].open for id_ in named))


@given(available=st.integers(0, 5000), debts=DEBTS)
def test_oldest_first_leaves_at_most_one_debt_half_paid_and_none_older_open(available: Any, debts: Any) -> None:
    shares = share_oldest_first(available, debts)
    assert sum(shares.values()) == min(available, sum(d.open for d in debts))
    left = [d.open - shares.get(d.receivable_id, 0) for d in oldest_first(debts)]
    first_open = next((place for place, amount in enumerate(left) if amount), len(left))
    assert all(
        debts_left == d.open for debts_left, d in list(zip(left, oldest_first(debts), strict=True))[first_open + 1 :]
    )


def test_charges_come_after_principal() -> None:
    charge, principal = debt(1, 500, due=0, kind="late_charge"), debt(2, 3000, due=9)
    assert share_oldest_first(3100, [charge, principal]) == {UUID(int=2): 3000, UUID(int=1): 100}


def test_two_lines_for_one_invoice_add_up() -> None:
    one = debt(1, 1000)
    assert share_by_reference(900, [Claim((one,), 300), Claim((one,), 400)]) == {UUID(int=1): 700}


@given(
    debts=st.lists(st.tuples(st.integers(1, 500), st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=4),
    available=st.integers(1, 2000),
    limit=st.integers(0, 30),
)
def test_what_is_given_closes_a_debt_and_never_more_than_it_owes(
    debts: list[tuple[int, int, int]], available: int, limit: int
) -> None:
    owed = [
        debt(n, amount)._replace(issued=amount + up + 5, written_off=up, given_up=up)
        for n, (amount, up, _) in enumerate(debts, 1)
    ]
    discounts = {
        r.receivable_id: min(given, r.open - 1)
        for r, (_, _, given) in zip(owed, debts, strict=True)
        if given and r.open > 1
    }
    shares, given_ = close_by_reference(
        available, [Claim((r,)) for r in owed], discounts=lambda _: discounts, is_small=lambda rest, _: rest <= limit
    )
    assert sum(shares.values()) <= available
    for r in owed:
        also = given_.get(r.receivable_id, Given())
        assert 0 <= shares.get(r.receivable_id, 0) + also.discount + also.written_off <= r.payable
        if also != Given():
            assert shares[r.receivable_id] + also.discount + also.written_off == r.open
            assert also.discount in (0, discounts.get(r.receivable_id))
            assert also.written_off <= limit


def closed(
    available: int, *claims: Claim, discount: dict[int, int] | None = None, most_missing: int = 0
) -> tuple[dict[int, int], dict[int, Given]]:
    asked: list[tuple[int, int]] = []

    def is_small(rest: int, owed: int) -> bool:
        asked.append((rest, owed))
        return rest <= most_missing

    shares, given_ = close_by_reference(
        available,
        claims,
        discounts=lambda debts: {
            d.receivable_id: (discount or {})[d.receivable_id.int]
            for d in debts
            if d.receivable_id.int in (discount or {})
        },
        is_small=is_small,
    )
    return {i.int: amount for i, amount in shares.items()}, {i.int: one for i, one in given_.items()}


def test_money_short_by_the_discounts_earned_closes_every_debt_with_its_own() -> None:
    whole = Claim((debt(1, 100), debt(2, 200)))

    assert closed(285, whole, discount={1: 5, 2: 10}) == (
        {1: 95, 2: 190},
        {1: Given(discount=5), 2: Given(discount=10)},
    )
    # One unit more or less is no discount.
    assert closed(284, whole, discount={1: 5, 2: 10}) == ({1: 100, 2: 184}, {})
    assert closed(286, whole, discount={1: 5, 2: 10}) == ({1: 100, 2: 186}, {})
    # Paid in full, nothing is given.
    assert closed(300, whole, discount={1: 5, 2: 10}) == ({1: 100, 2: 200}, {})


def test_a_limit_that_the_payer_states_must_leave_room_for_the_discounted_amount() -> None:
    assert closed(95, Claim((debt(1, 100),), 95), discount={1: 5}) == ({1: 95}, {1: Given(discount=5)})
    assert closed(95, Claim((debt(1, 100),), 94), discount={1: 5}) == ({1: 94}, {})


def test_a_small_rest_of_the_only_debt_left_is_given_up() -> None:
    assert closed(98, Claim((debt(1, 100),)), most_missing=2) == ({1: 98}, {1: Given(written_off=2)})
    assert closed(97, Claim((debt(1, 100),)), most_missing=2) == ({1: 97}, {})
    # Of two debts short nobody knows which; of one that got nothing nothing is given up.
    assert closed(2, Claim((debt(1, 2),)), Claim((debt(2, 1),)), most_missing=5) == ({1: 2}, {})
    assert closed(99, Claim((debt(1, 100),), 98), Claim((debt(2, 2),), 1), most_missing=5) == ({1: 98, 2: 1}, {})


def test_a_surplus_recovers_what_was_given_up_of_the_debts_named() -> None:
    lost = debt(1, 100)._replace(written_off=60, given_up=60)
    other = debt(2, 50)._replace(written_off=50, given_up=50)

    assert lost.open == 40
    assert closed(30, Claim((lost,))) == ({1: 30}, {})
    assert closed(70, Claim((lost,))) == ({1: 70}, {})
    assert closed(130, Claim((lost,))) == ({1: 100}, {})
    assert closed(130, Claim((lost,)), Claim((other,))) == ({1: 100, 2: 30}, {})
    assert closed(130, Claim((lost,), 70), Claim((other,))) == ({1: 70, 2: 50}, {})
