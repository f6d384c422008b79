"""Late interest, compensation and fees against figures computed by hand, and by rules that hold for all of them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts.money import to_decimal
from cobranza.payments.domain.errors import RateMissingError
from cobranza.payments.domain.late_charges import (
    Accrual,
    DayCount,
    Fee,
    FixedRate,
    LateChargeRule,
    OpenPrincipal,
    RatePeriod,
    RateSeries,
    ReferenceRate,
    accrue,
    compensation,
    fee_due,
    posted_difference,
    principal_of,
)
from cobranza.payments.use_cases.charge_rules import PRESETS, Rate, preset, uncovered

ES, UK, MX = preset("es").rule(), preset("uk").rule(), preset("mx").rule()
START = date(2020, 1, 1)


def _owed(amount: int) -> list[OpenPrincipal]:
    return [OpenPrincipal(from_on=START, amount=amount)]


def _published(percent: str, *, first: date = date(2026, 1, 1), last: date = date(2027, 12, 31)) -> Rate:
    return Rate.model_validate({"from": first, "to": last, "percent": percent, "published": "illustrative"})


def _interest(accrual: Accrual, currency: str) -> Decimal:
    return to_decimal(accrual.interest, currency)


# Golden figures


def test_spain_splits_by_semester_and_rounds_once_at_the_end() -> None:
    accrual = accrue(ES, _owed(1_000_000), due_on=date(2024, 12, 15), through_on=date(2025, 7, 20))

    assert [(s.days, s.percent) for s in accrual.segments] == [
        (16, Decimal("12.25")),
        (181, Decimal("11.15")),
        (20, Decimal("10.15")),
    ]
    assert [round(float(s.interest) / 100, 2) for s in accrual.segments] == [53.70, 552.92, 55.62]
    assert _interest(accrual, "EUR") == Decimal("662.23")
    by_segment = accrue(
        replace(ES, rounding_at="segment"), _owed(1_000_000), due_on=date(2024, 12, 15), through_on=date(2025, 7, 20)
    )
    assert _interest(by_segment, "EUR") == Decimal("662.24")
    assert compensation(ES, invoiced=1_000_000, open_amount=1_000_000) == 40_00


def test_spain_thirty_days_in_march() -> None:
    accrual = accrue(ES, _owed(1_160_00), due_on=date(2026, 3, 1), through_on=date(2026, 3, 31))

    assert (accrual.days, _interest(accrual, "EUR")) == (30, Decimal("9.68"))


def test_the_united_kingdom_keeps_the_rate_of_the_day_of_default() -> None:
    accrual = accrue(UK, _owed(5_000_00), due_on=date(2025, 6, 20), through_on=date(2025, 9, 29))

    assert [(s.days, s.percent) for s in accrual.segments] == [(101, Decimal("12.75"))]
    assert _interest(accrual, "GBP") == Decimal("176.40")
    assert compensation(UK, invoiced=5_000_00, open_amount=5_000_00) == 70_00


@pytest.mark.parametrize(
    ("invoiced", "owed"), [(999_99, 40_00), (1_000_00, 70_00), (9_999_99, 70_00), (10_000_00, 100_00)]
)
def test_the_united_kingdom_compensates_by_the_size_of_the_debt(invoiced: int, owed: int) -> None:
    assert compensation(UK, invoiced=invoiced, open_amount=1) == owed


@pytest.mark.parametrize(("day_count", "expected"), [("ACT/360", "435.00"), ("ACT/365F", "429.04")])
def test_mexico_by_both_day_counts(day_count: DayCount, expected: str) -> None:
    rule = replace(MX, day_count=day_count)

    accrual = accrue(rule, _owed(58_000_00), due_on=date(2027, 1, 11), through_on=date(2027, 2, 25))

    assert (accrual.days, _interest(accrual, "MXN")) == (45, Decimal(expected))


def test_chile_has_no_cents_and_a_commission_of_one_per_cent() -> None:
    rule = preset("cl").rule({"cl-corriente-90-days": [_published("12.00")]})

    accrual = accrue(rule, _owed(1_190_000), due_on=date(2026, 3, 1), through_on=date(2026, 4, 10))

    assert (accrual.days, accrual.interest) == (40, 15_867)
    assert compensation(rule, invoiced=1_190_000, open_amount=1_190_000) == 11_900


def test_colombia_compounds_an_effective_annual_rate() -> None:
    # 16.88 % certified, one and a half times: 25.32 %.
    rule = preset("co").rule({"co-ibc": [_published("16.88")]})

    accrual = accrue(rule, _owed(10_000_000_00), due_on=date(2026, 3, 1), through_on=date(2026, 3, 31))

    assert [s.percent for s in accrual.segments] == [Decimal("25.32")]
    assert _interest(accrual, "COP") == Decimal("187238.41")
    nominal = accrue(
        replace(rule, quote="nominal_simple"),
        _owed(10_000_000_00),
        due_on=date(2026, 3, 1),
        through_on=date(2026, 3, 31),
    )
    assert _interest(nominal, "COP") == Decimal("208109.59")


@pytest.mark.parametrize(("debt_uf", "cap_uf"), [("5", "0.45"), ("10", "0.90"), ("50", "3.30"), ("100", "4.80")])
def test_chile_caps_collection_fees_by_brackets_of_uf(debt_uf: str, cap_uf: str) -> None:
    uf = Decimal(39_000)
    cap = preset("cl").cap(date(2026, 3, 1), {"cl-uf": [_published("39000")]})
    greedy = Fee(code="gestion", percent=Decimal(50))
    debt = int(Decimal(debt_uf) * uf)

    assert fee_due(greedy, base=debt, cap=cap, days_late=21) == int(Decimal(cap_uf) * uf)
    assert fee_due(greedy, base=debt, cap=cap, days_late=20) == 0
    assert fee_due(greedy, base=debt, cap=cap, days_late=21, notice_was_missed=True) == int(
        (Decimal(cap_uf) - Decimal("0.2")) * uf
    )


def test_a_contract_may_take_the_rate_of_the_day_of_receipt_for_all_days() -> None:
    rule = replace(ES, selection="rate_at_payment")

    accrual = accrue(rule, _owed(10_000_00), due_on=date(2024, 12, 15), through_on=date(2025, 7, 20))

    assert [(s.days, s.percent) for s in accrual.segments] == [(217, Decimal("10.15"))]
    assert _interest(accrual, "EUR") == Decimal("603.44")


def test_compensation_of_a_percentage_rounds_half_up_and_ends_with_the_debt() -> None:
    rule = preset("cl").rule()

    assert compensation(rule, invoiced=1_000, open_amount=150) == 2
    assert compensation(rule, invoiced=1_000, open_amount=149) == 1
    assert [compensation(each, invoiced=1_000_00, open_amount=0) for each in (rule, ES, UK, MX)] == [0, 0, 0, 0]


# D13


def test_d13_a_charge_posts_the_difference_to_what_was_posted_before() -> None:
    def through(day: date) -> Accrual:
        return accrue(MX, _owed(58_000_00), due_on=date(2027, 1, 11), through_on=day)

    shown, charged, final = (through(day) for day in (date(2027, 1, 21), date(2027, 2, 2), date(2027, 2, 10)))

    assert [_interest(a, "MXN") for a in (shown, charged, final)] == [
        Decimal("96.67"),
        Decimal("212.67"),
        Decimal("290.00"),
    ]
    assert posted_difference(charged, posted=0, rule=MX) == 212_67
    assert posted_difference(final, posted=212_67, rule=MX) == 77_33
    assert posted_difference(final, posted=290_00, rule=MX) == 0
    assert posted_difference(shown, posted=212_67, rule=MX) == 0


# Edge cases


def test_a_payment_on_the_due_date_bears_nothing() -> None:
    accrual = accrue(ES, _owed(100_00), due_on=date(2026, 3, 1), through_on=date(2026, 3, 1))

    assert (accrual.segments, accrual.interest) == ((), 0)


def test_grace_days_bear_nothing_for_good() -> None:
    rule = replace(MX, grace_days=5)

    accrual = accrue(rule, _owed(58_000_00), due_on=date(2027, 1, 11), through_on=date(2027, 1, 17))

    assert [(s.first_on, s.days) for s in accrual.segments] == [(date(2027, 1, 17), 1)]


def test_a_partial_payment_makes_a_segment_and_its_day_still_bears_the_whole() -> None:
    owed = [*_owed(58_000_00), OpenPrincipal(from_on=date(2027, 1, 22), amount=38_000_00)]

    accrual = accrue(MX, owed, due_on=date(2027, 1, 11), through_on=date(2027, 1, 31))

    assert [(s.first_on, s.last_on, s.principal) for s in accrual.segments] == [
        (date(2027, 1, 12), date(2027, 1, 21), 58_000_00),
        (date(2027, 1, 22), date(2027, 1, 31), 38_000_00),
    ]
    assert _interest(accrual, "MXN") == Decimal("160.00")  # 96.67 and 63.33


def test_a_back_dated_credit_note_lowers_interest_from_its_effective_day() -> None:
    told_late = [
        OpenPrincipal(from_on=START, amount=58_000_00),
        OpenPrincipal(from_on=date(2027, 1, 12), amount=29_000_00),
    ]

    accrual = accrue(MX, told_late, due_on=date(2027, 1, 11), through_on=date(2027, 1, 21))

    assert accrual.interest * 2 == pytest.approx(96_67, abs=1)


def test_a_settled_debt_and_a_credit_bear_nothing() -> None:
    owed = [
        *_owed(100_00),
        OpenPrincipal(from_on=date(2026, 3, 5), amount=0),
        OpenPrincipal(from_on=date(2026, 3, 9), amount=-5),
    ]

    accrual = accrue(ES, owed, due_on=date(2026, 3, 1), through_on=date(2026, 3, 31))

    assert [(s.first_on, s.last_on) for s in accrual.segments] == [(date(2026, 3, 2), date(2026, 3, 4))]


def test_a_reopened_debt_bears_again_from_the_day_it_reopened() -> None:
    owed = [
        *_owed(100_00),
        OpenPrincipal(from_on=date(2026, 3, 5), amount=0),
        OpenPrincipal(from_on=date(2026, 3, 20), amount=100_00),
    ]

    accrual = accrue(ES, owed, due_on=date(2026, 3, 1), through_on=date(2026, 3, 21))

    assert [(s.first_on, s.days) for s in accrual.segments] == [(date(2026, 3, 2), 3), (date(2026, 3, 20), 2)]


def test_fixed_365_ignores_the_leap_day_and_actual_counts_it() -> None:
    fixed = replace(MX, day_count="ACT/365F")
    actual = replace(MX, day_count="ACT/ACT")

    def year_2028(rule: LateChargeRule) -> int:
        return accrue(rule, _owed(36_600_00), due_on=date(2027, 12, 31), through_on=date(2028, 12, 31)).interest

    assert year_2028(actual) == 2_196_00
    assert year_2028(fixed) == 2_202_02


def test_thirty_360_counts_a_month_as_thirty_days() -> None:
    rule = replace(MX, day_count="30/360")

    accrual = accrue(rule, _owed(12_000_00), due_on=date(2027, 1, 31), through_on=date(2027, 2, 28))
    whole_year = accrue(rule, _owed(12_000_00), due_on=date(2027, 1, 15), through_on=date(2028, 1, 15))

    assert accrual.interest == round(12_000_00 * 0.06 * 28 / 360)
    assert whole_year.interest == 720_00


@pytest.mark.parametrize("percent", ["0", "-0.5"])
def test_a_zero_or_negative_reference_is_a_rate_like_any_other(percent: str) -> None:
    series = RateSeries(
        series_id="s", periods=(RatePeriod(valid_from=START, valid_to=date(2030, 1, 1), percent=Decimal(percent)),)
    )
    rule = replace(ES, rate=ReferenceRate(series=series, margin=Decimal(8)))

    accrual = accrue(rule, _owed(365_00), due_on=date(2026, 3, 1), through_on=date(2026, 3, 11))

    assert accrual.interest == round(1000 * (8 + float(percent)) / 100)


@pytest.mark.parametrize(
    ("name", "due_on", "missing"),
    [
        ("es", date(2026, 6, 20), date(2026, 7, 1)),
        ("co", date(2026, 1, 1), date(2026, 1, 2)),
        ("es", date(2019, 1, 1), date(2019, 1, 2)),
    ],
)
def test_a_missing_rate_is_a_refusal_that_names_series_and_day(name: str, due_on: date, missing: date) -> None:
    rule = preset(name).rule()

    with pytest.raises(RateMissingError) as caught:
        accrue(rule, _owed(100_00), due_on=due_on, through_on=date(2026, 7, 20))

    assert caught.value.code == "rate_required"
    assert caught.value.facts["day"] == missing.isoformat()
    assert uncovered(preset(name), first_on=due_on + timedelta(days=1), last_on=date(2026, 7, 20)) == missing


def test_interest_below_the_minimum_is_not_posted() -> None:
    rule = replace(MX, minimum=50_00)
    accrual = accrue(rule, _owed(58_000_00), due_on=date(2027, 1, 11), through_on=date(2027, 1, 13))

    assert accrual.interest == 19_33
    assert posted_difference(accrual, posted=0, rule=rule) == 0


def test_fees_without_a_cap_follow_the_policy() -> None:
    assert fee_due(Fee(code="g", amount=250_00), base=58_000_00, cap=None, days_late=1) == 250_00
    assert fee_due(Fee(code="g", percent=Decimal("2.5"), most=500_00), base=58_000_00, cap=None, days_late=1) == 500_00
    assert fee_due(Fee(code="g", amount=250_00), base=0, cap=None, days_late=1) == 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_its_sources_and_when_it_was_reviewed(name: str) -> None:
    rules = preset(name)

    assert rules.sources
    assert rules.reviewed_on >= date(2026, 1, 1)
    assert rules.rule().name == f"{rules.rules}@1"


# Rules that always hold

AMOUNTS = st.integers(1, 10**12)
DAYS = st.integers(0, 500)


@given(amount=AMOUNTS, days=DAYS, more=DAYS)
def test_interest_never_falls_with_time(amount: int, days: int, more: int) -> None:
    due = date(2024, 1, 1)
    earlier = accrue(MX, _owed(amount), due_on=due, through_on=due + timedelta(days=days))
    later = accrue(MX, _owed(amount), due_on=due, through_on=due + timedelta(days=days + more))

    assert 0 <= earlier.interest <= later.interest
    assert earlier.days == days


@given(amount=AMOUNTS, days=st.integers(1, 700))
def test_rate_changes_that_change_nothing_change_no_interest(amount: int, days: int) -> None:
    due = date(2024, 1, 1)
    whole = replace(MX, rate=FixedRate(percent=Decimal("10.5")), day_count="ACT/365F")
    cut = RateSeries(
        series_id="s",
        periods=tuple(
            RatePeriod(
                valid_from=due + timedelta(days=30 * n),
                valid_to=due + timedelta(days=30 * n + 29),
                percent=Decimal("2.5"),
            )
            for n in range(25)
        ),
    )
    split = replace(whole, rate=ReferenceRate(series=cut, margin=Decimal(8)))
    last = due + timedelta(days=days)

    assert accrue(whole, _owed(amount), due_on=due, through_on=last) == accrue(
        split, _owed(amount), due_on=due, through_on=last
    )


@given(amount=st.integers(2, 10**10), part=st.integers(1, 10**10), days=st.integers(2, 300), paid=st.integers(1, 300))
def test_paying_a_part_never_raises_interest(amount: int, part: int, days: int, paid: int) -> None:
    due = date(2024, 1, 1)
    last = due + timedelta(days=days)
    rest = OpenPrincipal(from_on=due + timedelta(days=paid), amount=max(0, amount - part))

    whole = accrue(ES, _owed(amount), due_on=due, through_on=last)

    assert accrue(ES, [*_owed(amount), rest], due_on=due, through_on=last).interest <= whole.interest


@given(posts=st.lists(st.integers(0, 400), min_size=1, max_size=12), amount=AMOUNTS)
def test_posted_differences_sum_to_the_last_accrual(posts: list[int], amount: int) -> None:
    due = date(2024, 1, 1)
    posted = 0
    for days in sorted(posts):
        accrual = accrue(MX, _owed(amount), due_on=due, through_on=due + timedelta(days=days))
        posted += posted_difference(accrual, posted=posted, rule=MX)

    assert posted == accrual.interest


@given(base=st.integers(0, 10**9), percent=st.integers(0, 100), days=st.integers(0, 60))
def test_a_fee_never_exceeds_the_legal_cap(base: int, percent: int, days: int) -> None:
    cap = preset("cl").cap(date(2026, 3, 1), {"cl-uf": [_published("39000")]})

    due = fee_due(Fee(code="g", percent=Decimal(percent)), base=base, cap=cap, days_late=days)

    assert 0 <= due <= base * 0.09
    assert due == 0 or days >= 21


@given(
    moves=st.lists(st.tuples(st.integers(-40, 80), st.integers(-60_00, 60_00)), max_size=5),
    periods=st.lists(st.tuples(st.integers(1, 25), st.sampled_from(["4", "4", "6.5", "0", "-1"])), max_size=6),
    day_count=st.sampled_from(["ACT/365F", "ACT/360", "ACT/ACT"]),
    through=st.integers(-5, 90),
)
def test_interest_is_the_sum_of_its_days(
    moves: list[tuple[int, int]], periods: list[tuple[int, str]], day_count: DayCount, through: int
) -> None:
    due_on = date(2027, 12, 1)
    published, start = [], date(2027, 11, 25)
    for length, percent in periods:
        end = start + timedelta(days=length)
        published.append(RatePeriod(valid_from=start, valid_to=end, percent=Decimal(percent)))
        start = end + timedelta(days=1)
    series = RateSeries(series_id="x", periods=tuple(published))
    rule = LateChargeRule(rule_id="r", version=1, rate=ReferenceRate(series=series), day_count=day_count)
    owed = principal_of(
        issued=100_00,
        issued_on=due_on - timedelta(days=60),
        movements=[(due_on + timedelta(days=day), amount) for day, amount in moves],
    )

    def by_days() -> Fraction:
        total, day = Fraction(0), due_on + timedelta(days=1)
        while day <= due_on + timedelta(days=through):
            amount = next((entry.amount for entry in reversed(owed) if entry.from_on <= day), owed[0].amount)
            if amount > 0:
                years = {
                    "ACT/365F": Fraction(1, 365),
                    "ACT/360": Fraction(1, 360),
                    "ACT/ACT": Fraction(1, date(day.year, 12, 31).timetuple().tm_yday),
                }[day_count]
                total += amount * Fraction(series.period_of(day).percent) / 100 * years
            day += timedelta(days=1)
        return total

    try:
        expected: Fraction | RateMissingError = by_days()
    except RateMissingError as missing:
        expected = missing
    if isinstance(expected, RateMissingError):
        with pytest.raises(RateMissingError) as caught:
            accrue(rule, owed, due_on=due_on, through_on=due_on + timedelta(days=through))
        assert caught.value.facts == expected.facts
    else:
        found = accrue(rule, owed, due_on=due_on, through_on=due_on + timedelta(days=through))
        assert sum((segment.interest for segment in found.segments), start=Fraction(0)) == expected
        for one, other in itertools.pairwise(found.segments):
            assert one.last_on < other.first_on
            assert (one.principal, one.percent) != (other.principal, other.percent) or one.last_on < (
                other.first_on - timedelta(days=1)
            )
