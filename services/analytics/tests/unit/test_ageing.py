"""Balances over value dates and the buckets they fall in."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.analytics.domain import ageing
from cobranza.analytics.domain.ageing import Ageing, Balance, Bucket, Movement, Show, balance_at, balances, bucket_of

FIRST = date(2026, 1, 1)
days = st.integers(0, 400).map(lambda n: FIRST + timedelta(days=n))
amounts = st.integers(-(10**12), 10**12)
movements = st.lists(st.builds(Movement, effective_on=days, recorded_on=days, amount=amounts), max_size=12)


@pytest.mark.parametrize(
    ("days_past_due", "bucket"),
    [
        (-400, Bucket.CURRENT), (0, Bucket.CURRENT), (1, Bucket.DAYS_1_30), (30, Bucket.DAYS_1_30),
        (31, Bucket.DAYS_31_60), (60, Bucket.DAYS_31_60), (61, Bucket.DAYS_61_90), (90, Bucket.DAYS_61_90),
        (91, Bucket.OVER_90), (4000, Bucket.OVER_90),
    ],
)  # fmt: skip
def test_a_bucket_begins_and_ends_on_the_day_it_is_named_for(days_past_due: int, bucket: Bucket) -> None:
    assert bucket_of(FIRST, as_of=FIRST + timedelta(days=days_past_due)) is bucket


@given(due_on=days, as_of=days)
def test_time_moves_a_debt_only_to_older_buckets(due_on: date, as_of: date) -> None:
    order = list(Bucket)

    today, tomorrow = (order.index(bucket_of(due_on, as_of=on)) for on in (as_of, as_of + timedelta(days=1)))

    assert tomorrow - today in (0, 1)


@given(movements, days)
def test_the_balance_of_a_day_is_the_sum_of_all_movements_up_to_it(moved: list[Movement], as_of: date) -> None:
    assert balance_at(balances(moved), as_of) == sum(m.amount for m in moved if m.effective_on <= as_of)


@given(movements.flatmap(lambda moved: st.tuples(st.just(moved), st.permutations(moved))))
def test_the_order_of_recording_does_not_matter(both: tuple[list[Movement], list[Movement]]) -> None:
    moved, shuffled = both

    assert balances(shuffled) == balances(moved)


@given(movements)
def test_stretches_never_overlap_nor_hold_nothing_nor_repeat_what_went_before(moved: list[Movement]) -> None:
    stretches = balances(moved)

    for stretch in stretches:
        assert stretch.from_on < stretch.until_on
        assert stretch.amount != 0
    for before, after in pairwise(stretches):
        assert before.until_on <= after.from_on
        assert before.until_on < after.from_on or before.amount != after.amount


def test_a_payment_recorded_late_counts_from_its_value_date() -> None:
    issued = Movement(date(2026, 1, 1), date(2026, 1, 1), 1000)
    paid = Movement(date(2026, 1, 10), date(2026, 2, 20), -400)

    stretches = balances([issued, paid])

    assert stretches == (
        Balance(date(2026, 1, 1), date(2026, 1, 10), 1000),
        Balance(date(2026, 1, 10), ageing.FOREVER, 600),
    )


debts = st.lists(st.tuples(st.sampled_from("ABC"), days, st.integers(1, 10**10)), max_size=30)


def _aged(found: list[tuple[str, date, int]], *, as_of: date) -> list[Ageing]:
    by_customer: dict[str, Ageing] = {}
    for customer, due_on, amount in found:
        entry = by_customer.setdefault(customer, Ageing("MXN", customer, f"Name {customer}"))
        entry.amounts[bucket_of(due_on, as_of=as_of)] += amount
        entry.counts[bucket_of(due_on, as_of=as_of)] += 1
    return list(by_customer.values())


@given(debts, days)
def test_buckets_part_what_is_open_without_losing_or_doubling(found: list[tuple[str, date, int]], as_of: date) -> None:
    whole = ageing.total(_aged(found, as_of=as_of), currency="MXN")

    assert whole.open == sum(amount for _, _, amount in found)
    assert whole.overdue == sum(amount for _, due_on, amount in found if due_on < as_of)
    assert whole.open_count == len(found)
    assert whole.customers == len({customer for customer, _, _ in found})
    assert whole.customers_overdue == len({customer for customer, due_on, _ in found if due_on < as_of})


def test_customers_are_chosen_by_what_they_owe_and_by_a_part_of_their_name() -> None:
    late, due, rich = Ageing("MXN", "C-1", "Núñez"), Ageing("MXN", "C-2", "Ortega"), Ageing("MXN", "C-3")
    late.amounts[Bucket.OVER_90], late.counts[Bucket.OVER_90] = 100, 1
    due.amounts[Bucket.CURRENT], due.counts[Bucket.CURRENT] = 50, 1
    rich.unapplied = 7
    every = [late, due, rich]

    def chosen(show: Show = Show.ALL, bucket: Bucket | None = None, words: str = "") -> list[Ageing]:
        return ageing.chosen(every, show=show, bucket=bucket, words=words)

    assert chosen() == every
    assert chosen(Show.OVERDUE) == [late]
    assert chosen(Show.UNAPPLIED) == [rich]
    assert chosen(bucket=Bucket.CURRENT) == [due]
    assert chosen(words="nÚÑ") == [late]
    assert chosen(words="c-3") == [rich]
