from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts.calendar import BusinessCalendar, Roll

MEXICO = BusinessCalendar(holidays=frozenset({date(2027, 1, 1), date(2027, 2, 1)}))
days = st.dates(min_value=date(2026, 1, 1), max_value=date(2028, 12, 31))


def test_weekends_and_holidays_are_not_worked() -> None:
    assert MEXICO.is_business_day(date(2027, 1, 29))
    assert not MEXICO.is_business_day(date(2027, 1, 30))
    assert not MEXICO.is_business_day(date(2027, 2, 1))


@pytest.mark.parametrize(
    ("day", "convention", "rolled"),
    [
        (date(2027, 1, 31), "none", date(2027, 1, 31)),
        (date(2027, 1, 31), "following", date(2027, 2, 2)),
        (date(2027, 1, 31), "preceding", date(2027, 1, 29)),
        (date(2027, 1, 29), "following", date(2027, 1, 29)),
        (date(2027, 1, 29), "preceding", date(2027, 1, 29)),
    ],
)
def test_a_day_off_rolls_to_a_business_day(day: date, convention: Roll, rolled: date) -> None:
    assert MEXICO.roll(day, convention) == rolled


@pytest.mark.parametrize(
    ("day", "business_days", "reached"),
    [
        (date(2027, 1, 15), 10, date(2027, 1, 29)),
        (date(2027, 1, 29), 1, date(2027, 2, 2)),
        (date(2027, 1, 29), 2, date(2027, 2, 3)),
        (date(2027, 1, 30), 1, date(2027, 2, 2)),
        (date(2027, 2, 2), -1, date(2027, 1, 29)),
        (date(2027, 1, 30), 0, date(2027, 1, 30)),
    ],
)
def test_business_days_are_counted_without_the_first_day(day: date, business_days: int, reached: date) -> None:
    assert MEXICO.add(day, business_days) == reached


@given(day=days, business_days=st.integers(min_value=1, max_value=40))
def test_adding_counts_exactly_the_business_days_between(day: date, business_days: int) -> None:
    reached = MEXICO.add(day, business_days)

    passed = [day + timedelta(days=n) for n in range(1, (reached - day).days + 1)]
    assert sum(MEXICO.is_business_day(each) for each in passed) == business_days
    assert MEXICO.is_business_day(reached)


@given(day=days, business_days=st.integers(min_value=1, max_value=40))
def test_counting_back_returns_to_a_business_day(day: date, business_days: int) -> None:
    start = MEXICO.roll(day, "following")
    assert MEXICO.add(MEXICO.add(start, business_days), -business_days) == start


@pytest.mark.parametrize("weekend", [range(7), [7], [-1]])
def test_a_week_without_a_business_day_is_refused(weekend: list[int]) -> None:
    with pytest.raises(ValueError, match="leaves one to work"):
        BusinessCalendar(weekend=frozenset(weekend))
