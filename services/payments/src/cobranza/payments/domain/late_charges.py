"""What lateness costs: interest on dated balances by dated rates, fixed compensation, and fees under their caps.

Everything here is a pure function of rules, rates and dates. A rate that is not published for a day is a refusal,
never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal, NamedTuple, assert_never

from cobranza.contracts.money import exponent
from cobranza.payments.domain.errors import RateMissingError

DayCount = Literal["ACT/365F", "ACT/360", "30/360", "ACT/ACT"]
RateSelection = Literal["split_by_period", "fixed_at_default", "rate_at_payment"]
RateQuote = Literal["nominal_simple", "effective_annual"]
RoundingAt = Literal["total", "segment"]

_PERCENT: Final = Fraction(1, 100)
_A_DAY: Final = timedelta(days=1)
#: Enough for a root of a fifteen-digit amount to be exact to the cent.
_PRECISE: Final = Context(prec=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePeriod:
    """One published rate in per cent a year; both days inclusive."""

    valid_from: date
    valid_to: date
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSeries:
    """Published rates, oldest first, that do not overlap; between and outside of them there is no rate."""

    series_id: str
    periods: tuple[RatePeriod, ...]

    def period_of(self, day: date) -> RatePeriod:
        """The period a day falls into.

        Raises:
            RateMissingError: none was published for that day; a rate is never extrapolated.
        """
        for period in self.periods:
            if period.valid_from <= day <= period.valid_to:
                return period
        raise RateMissingError(series_id=self.series_id, day=day)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRate:
    """A rate that law or contract states, in per cent a year."""

    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRate:
    """A published rate times `multiple`, plus `margin` percentage points."""

    series: RateSeries
    margin: Decimal = Decimal(0)
    multiple: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A fixed compensation for debts of at least so much; minor units of the rule's currency."""

    from_amount: int
    compensation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LateChargeRule:
    """How the lateness of one kind of debt is charged.

    Args:
        grace_days: days after the due date without interest.
        tiers: fixed compensation by the amount of the invoice, smallest first.
        compensation_percent: fixed compensation in per cent of the open amount instead.
        minimum: an interest charge below it is not worth posting; minor units.
    """

    rule_id: str
    version: int
    rate: FixedRate | ReferenceRate
    selection: RateSelection = "split_by_period"
    quote: RateQuote = "nominal_simple"
    day_count: DayCount = "ACT/365F"
    rounding_at: RoundingAt = "total"
    grace_days: int = 0
    tiers: tuple[Tier, ...] = ()
    compensation_percent: Decimal | None = None
    minimum: int = 0

    @property
    def name(self) -> str:
        """Rule and version, as charges carry it."""
        return f"{self.rule_id}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPrincipal:
    """What was open from a day on, until the next; minor units.

    Money received on a day lowers the principal from the day after: the day of receipt still bears interest.
    """

    from_on: date
    amount: int


def principal_of(*, issued: int, issued_on: date, movements: Iterable[tuple[date, int]]) -> tuple[OpenPrincipal, ...]:
    """The dated balance of a debt from what was issued and what moved it since.

    Args:
        issued: in minor units.
        movements: from which day on the balance is higher or lower by how many minor units, in any order.
    """
    by_day: dict[date, int] = {issued_on: issued}
    for day, amount in movements:
        by_day[max(day, issued_on)] = by_day.get(max(day, issued_on), 0) + amount
    balance = 0
    found = []
    for day in sorted(by_day):
        balance += by_day[day]
        found.append(OpenPrincipal(from_on=day, amount=balance))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of days, both inclusive, with one principal and one rate; `interest` is not rounded."""

    first_on: date
    last_on: date
    days: int
    principal: int
    percent: Decimal
    interest: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrual:
    """Interest of one debt through a day: `interest` in minor units, and the segments it is made of."""

    segments: tuple[Segment, ...]
    interest: int

    @property
    def days(self) -> int:
        """Days that bore interest."""
        return sum(segment.days for segment in self.segments)


def accrue(rule: LateChargeRule, principal: Sequence[OpenPrincipal], *, due_on: date, through_on: date) -> Accrual:
    """Late interest of one debt.

    I = sum over segments of P * r * days / basis; for a rate quoted as effective annual
    P * ((1 + r)^(days / 365) - 1). Nothing is compounded across segments. Rounded half-up, once on the total or on
    each segment as the rule says.

    Args:
        principal: the open amount including tax, by the day it came into force; the first entry is in force from
            the beginning. Zero and negative amounts bear nothing.
        due_on: last day without interest (exclusive); the rule's grace days follow it.
        through_on: day the money was received, or the day it is computed for (inclusive).

    Returns:
        Zero when `through_on` is on or before the due date. 1,160.00 EUR due 2026-03-01 and received 2026-03-31 at
        10.15 % by ACT/365F is 30 days and 9.68 EUR.

    Raises:
        RateMissingError: some day has no published rate.

    Source: Directive 2011/7/EU art. 2 and 3; Ley 3/2004 (ES) art. 5 and 7; Late Payment of Commercial Debts
    (Interest) Act 1998 (UK) s. 4; Código de Comercio (MX) art. 362, (CO) art. 884; Ley 19.983 (CL) art. 2 bis.
    """
    first_on = due_on + _A_DAY + timedelta(days=rule.grace_days)
    stretches = [
        _Stretch(start, end, owed, _percent_on(rule, start, first_late_on=due_on + _A_DAY, received_on=through_on))
        for start, end in _constant(rule, principal, first_on, through_on)
        if (owed := _principal_on(principal, start)) > 0
    ]
    segments = tuple(_segment(rule, stretch) for stretch in _merged(stretches))
    return Accrual(segments=segments, interest=_rounded(rule, segments))


def posted_difference(accrual: Accrual, *, posted: int, rule: LateChargeRule) -> int:
    """What a charge posts: the accrual beyond what was posted before (D13), in minor units.

    Never negative: what was posted too much is withdrawn by a credit, not by a negative charge. Zero below the
    rule's minimum.
    """
    difference = accrual.interest - posted
    return difference if difference >= max(1, rule.minimum) else 0


def compensation(rule: LateChargeRule, *, invoiced: int, open_amount: int) -> int:
    """The fixed sum that law grants for the trouble of collecting one invoice, in minor units.

    Args:
        invoiced: amount of the invoice including tax; decides the tier.
        open_amount: what is unpaid; the base of a percentage.

    Source: Directive 2011/7/EU art. 6; Ley 3/2004 (ES) art. 8; 1998 Act (UK) s. 5A; Ley 19.983 (CL) art. 2 ter.
    """
    if open_amount <= 0:
        return 0
    if rule.compensation_percent is not None:
        return _half_up(Fraction(rule.compensation_percent) * _PERCENT * open_amount)
    return max((tier.compensation for tier in rule.tiers if invoiced >= tier.from_amount), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """A part of the overdue debt, up to `up_to` minor units (None: the rest), and the most a fee may be of it."""

    up_to: int | None
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeCap:
    """The most a collection fee may be, and the first day it may be charged.

    `brackets` are progressive: each percentage applies to its part of the debt. `reduction` is taken off the cap
    when the notice the law asks for was missed.
    """

    brackets: tuple[Bracket, ...]
    first_day_late: int = 1
    reduction: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """A fee of the policy: a fixed amount in minor units, or per cent of the base, with its own ceiling."""

    code: str
    amount: int | None = None
    percent: Decimal | None = None
    most: int | None = None


def fee_due(fee: Fee, *, base: int, cap: FeeCap | None, days_late: int, notice_was_missed: bool = False) -> int:
    """What may be charged under `fee` on `base`, in minor units: the policy's wish within the legal cap.

    Args:
        base: the overdue amount the fee is on.
        days_late: days since the due date; before the cap's first day nothing may be charged.
        notice_was_missed: the useful notice the law asks for was not given in time.

    Source: Ley 19.496 (CL) art. 37: 9 % to 10 UF, 6 % of the part to 50 UF, 3 % beyond, after 20 days, less 0.2 UF
    without a useful notice within 15 days.
    """
    if base <= 0:
        return 0
    wish = fee.amount if fee.amount is not None else _half_up(Fraction(fee.percent or 0) * _PERCENT * base)
    if fee.most is not None:
        wish = min(wish, fee.most)
    if cap is None:
        return wish
    if days_late < cap.first_day_late:
        return 0
    return max(0, min(wish, _most_by_law(cap, base) - (cap.reduction if notice_was_missed else 0)))


def _most_by_law(cap: FeeCap, base: int) -> int:
    total = Fraction(0)
    below = 0
    for bracket in cap.brackets:
        top = base if bracket.up_to is None else min(base, bracket.up_to)
        total += Fraction(bracket.percent) * _PERCENT * max(0, top - below)
        below = top
    # A cap is not exceeded by rounding up.
    return int(total)


class _Stretch(NamedTuple):
    """Days, both inclusive, with one principal and one rate."""

    first_on: date
    last_on: date
    principal: int
    percent: Decimal


def _constant(
    rule: LateChargeRule, principal: Sequence[OpenPrincipal], first_on: date, last_on: date
) -> Iterable[tuple[date, date]]:
    """The days from `first_on` to `last_on`, cut wherever the principal or the rate may change."""
    starts = {first_on, *(entry.from_on for entry in principal)}
    if isinstance(rule.rate, ReferenceRate) and rule.selection == "split_by_period":
        for period in rule.rate.series.periods:
            starts |= {period.valid_from, min(period.valid_to, last_on) + _A_DAY}
    cuts = [*sorted(day for day in starts if first_on <= day <= last_on), last_on + _A_DAY]
    for start, following in pairwise(cuts):
        yield start, following - _A_DAY


def _merged(stretches: Iterable[_Stretch]) -> Iterable[_Stretch]:
    """As few stretches as there are, because a day count may round within each."""
    open_: _Stretch | None = None
    for stretch in stretches:
        if open_ is not None and (open_.last_on + _A_DAY, *open_[2:]) == (stretch.first_on, *stretch[2:]):
            open_ = open_._replace(last_on=stretch.last_on)
        else:
            if open_ is not None:
                yield open_
            open_ = stretch
    if open_ is not None:
        yield open_


def _principal_on(principal: Sequence[OpenPrincipal], day: date) -> int:
    in_force = principal[0].amount if principal else 0
    for entry in principal:
        if entry.from_on <= day:
            in_force = entry.amount
    return in_force


def _percent_on(rule: LateChargeRule, day: date, *, first_late_on: date, received_on: date) -> Decimal:
    match rule.rate:
        case FixedRate(percent=percent):
            return percent
        case ReferenceRate(series=series, margin=margin, multiple=multiple):
            match rule.selection:
                case "split_by_period":
                    decides = day
                case "fixed_at_default":
                    decides = first_late_on
                case "rate_at_payment":
                    decides = received_on
                case _:
                    assert_never(rule.selection)
            return series.period_of(decides).percent * multiple + margin
        case _:
            assert_never(rule.rate)


def _segment(rule: LateChargeRule, stretch: _Stretch) -> Segment:
    first_on, last_on, principal, percent = stretch
    days = (last_on - first_on).days + 1
    if rule.quote == "effective_annual":
        interest = principal * _effective(percent, days=days)
    else:
        interest = principal * Fraction(percent) * _PERCENT * _years(rule.day_count, first_on, last_on)
    return Segment(
        first_on=first_on, last_on=last_on, days=days, principal=principal, percent=percent, interest=interest
    )


def _effective(percent: Decimal, *, days: int) -> Fraction:
    """Growth of one unit in so many days at an effective annual rate: (1 + r)^(days / 365) - 1."""
    with localcontext(_PRECISE):
        return Fraction((1 + percent / 100) ** (Decimal(days) / 365) - 1)


def _years(day_count: DayCount, first_on: date, last_on: date) -> Fraction:
    """Years from the beginning of `first_on` to the end of `last_on`."""
    days = (last_on - first_on).days + 1
    match day_count:
        case "ACT/365F":
            return Fraction(days, 365)
        case "ACT/360":
            return Fraction(days, 360)
        case "30/360":
            return Fraction(_months_of_thirty(first_on - _A_DAY, last_on), 360)
        case "ACT/ACT":
            return sum(
                (
                    Fraction(
                        (min(last_on, date(year, 12, 31)) - max(first_on, date(year, 1, 1))).days + 1,
                        date(year, 12, 31).timetuple().tm_yday,
                    )
                    for year in range(first_on.year, last_on.year + 1)
                ),
                start=Fraction(0),
            )
        case _:
            assert_never(day_count)


def _months_of_thirty(start: date, end: date) -> int:
    """Days between two dates when every month has thirty (30E/360)."""
    return 360 * (end.year - start.year) + 30 * (end.month - start.month) + min(end.day, 30) - min(start.day, 30)


def _rounded(rule: LateChargeRule, segments: Sequence[Segment]) -> int:
    if rule.rounding_at == "segment":
        return sum(_half_up(segment.interest) for segment in segments)
    return _half_up(sum((segment.interest for segment in segments), start=Fraction(0)))


def _half_up(amount: Fraction) -> int:
    """Half away from zero, as invoices round."""
    with localcontext(_PRECISE):
        return int((Decimal(amount.numerator) / Decimal(amount.denominator)).quantize(Decimal(1), ROUND_HALF_UP))


def in_minor(amount: Decimal, currency: str) -> int:
    """Minor units of a limit that a rule states in whole units, rounded half-up."""
    return _half_up(Fraction(amount) * 10 ** exponent(currency))
