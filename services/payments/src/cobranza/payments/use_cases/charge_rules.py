"""Rules of late charges as files: what law or contract grants, with its published rates and their sources."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from importlib import resources
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cobranza.contracts.payloads import Country, Currency, Line, Ordinal, Prose, Slug
from cobranza.payments.domain.errors import RateMissingError
from cobranza.payments.domain.late_charges import (
    Bracket,
    DayCount,
    FeeCap,
    FixedRate,
    LateChargeRule,
    RatePeriod,
    RateQuote,
    RateSelection,
    RateSeries,
    ReferenceRate,
    RoundingAt,
    Tier,
    in_minor,
)

PRESETS: Final = ("cl", "co", "es", "mx", "uk")

Percent = Annotated[Decimal, Field(ge=-100, le=1000, max_digits=9, decimal_places=6)]
Whole = Annotated[Decimal, Field(ge=0, lt=10**12)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Part):
    """One published rate; both days inclusive."""

    from_on: Annotated[date, Field(alias="from")]
    to_on: Annotated[date, Field(alias="to")]
    percent: Annotated[Decimal, Field(ge=-100, max_digits=15, decimal_places=6)]
    published: Line

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.to_on < self.from_on:
            raise ValueError(f"expected 'to' on or after 'from', got {self.from_on} to {self.to_on}")
        return self


class Series(_Part):
    """Published rates, oldest first; gaps are days without a rate."""

    id: Slug
    title: Line
    rates: tuple[Rate, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for earlier, later in zip(self.rates, self.rates[1:], strict=False):
            if later.from_on <= earlier.to_on:
                raise ValueError(f"{self.id}: {later.from_on} begins before {earlier.to_on} has ended")
        return self


class _RateOf(_Part):
    percent: Percent | None = None
    series: Slug | None = None
    margin: Percent = Decimal(0)
    multiple: Annotated[Decimal, Field(gt=0, le=10)] = Decimal(1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.percent is None) == (self.series is None):
            raise ValueError("expected either percent or series")
        return self


class _Tier(_Part):
    from_amount: Annotated[Whole, Field(alias="from")]
    amount: Whole


class _Compensation(_Part):
    tiers: tuple[_Tier, ...] = ()
    percent: Percent | None = None


class _Bracket(_Part):
    up_to: Whole | None = None
    percent: Percent


class _FeeCap(_Part):
    unit: Slug | None = None
    brackets: Annotated[tuple[_Bracket, ...], Field(min_length=1)]
    first_day_late: Ordinal = 1
    reduction: Whole = Decimal(0)


class ChargeRules(_Part):
    """One version of the rules of a country or a contract, as its file states them."""

    rules: Slug
    version: Ordinal
    country: Country | None = None
    currency: Currency
    reviewed_on: date
    sources: Annotated[tuple[Line, ...], Field(min_length=1)]
    notes: Prose = ""
    rate: _RateOf
    selection: RateSelection = "split_by_period"
    quote: RateQuote = "nominal_simple"
    day_count: DayCount
    rounding_at: RoundingAt
    grace_days: Annotated[int, Field(ge=0, le=60)] = 0
    minimum: Whole = Decimal(0)
    compensation: _Compensation = _Compensation()
    fee_cap: _FeeCap | None = None
    series: tuple[Series, ...] = ()

    @model_validator(mode="after")
    def _series_exist(self) -> Self:
        known = {series.id for series in self.series}
        named = {self.rate.series, None if self.fee_cap is None else self.fee_cap.unit} - {None}
        if missing := named - known:
            raise ValueError(f"no series {', '.join(sorted(map(str, missing)))} in this file")
        return self

    def rule(self, published: Mapping[str, Sequence[Rate]] | None = None) -> LateChargeRule:
        """The rule as the domain computes with it; `published` adds rates loaded since, by series."""
        rate = self.rate
        return LateChargeRule(
            rule_id=self.rules,
            version=self.version,
            rate=FixedRate(percent=rate.percent)
            if rate.percent is not None
            else ReferenceRate(series=self._series(rate.series, published), margin=rate.margin, multiple=rate.multiple),
            selection=self.selection,
            quote=self.quote,
            day_count=self.day_count,
            rounding_at=self.rounding_at,
            grace_days=self.grace_days,
            tiers=tuple(
                Tier(
                    from_amount=in_minor(tier.from_amount, self.currency),
                    compensation=in_minor(tier.amount, self.currency),
                )
                for tier in self.compensation.tiers
            ),
            compensation_percent=self.compensation.percent,
            minimum=in_minor(self.minimum, self.currency),
        )

    def cap(self, on: date, published: Mapping[str, Sequence[Rate]] | None = None) -> FeeCap | None:
        """The cap of fees in money of a day: limits stated in units of account are converted at that day's value.

        Raises:
            RateMissingError: the unit has no published value for that day.
        """
        stated = self.fee_cap
        if stated is None:
            return None
        value = Decimal(1) if stated.unit is None else self._series(stated.unit, published).period_of(on).percent
        return FeeCap(
            brackets=tuple(
                Bracket(
                    up_to=None if part.up_to is None else in_minor(part.up_to * value, self.currency),
                    percent=part.percent,
                )
                for part in stated.brackets
            ),
            first_day_late=stated.first_day_late,
            reduction=in_minor(stated.reduction * value, self.currency),
        )

    def _series(self, series_id: str | None, published: Mapping[str, Sequence[Rate]] | None) -> RateSeries:
        stated = next(series for series in self.series if series.id == series_id)
        rates = sorted((*stated.rates, *(published or {}).get(stated.id, ())), key=lambda rate: rate.from_on)
        return RateSeries(
            series_id=stated.id,
            periods=tuple(
                RatePeriod(valid_from=rate.from_on, valid_to=rate.to_on, percent=rate.percent) for rate in rates
            ),
        )


def read_rules(document: bytes) -> ChargeRules:
    """Charge rules from a YAML file.

    Raises:
        ValidationError: a key is missing, unknown or out of its range; each fault names its place.
        yaml.YAMLError: the document is not YAML.
    """
    return ChargeRules.model_validate(yaml.safe_load(document))


def preset(name: str) -> ChargeRules:
    """The rules shipped for a country: one of `PRESETS`."""
    return read_rules(_preset_file(name))


def preset_digest(name: str) -> str:
    """sha-256 of a shipped file, as `charge-rules-activated` tells it."""
    return hashlib.sha256(_preset_file(name)).hexdigest()


def _preset_file(name: str) -> bytes:
    return (resources.files("cobranza.payments") / "presets" / "late_charges" / f"{name}.yaml").read_bytes()


def uncovered(rules: ChargeRules, *, first_on: date, last_on: date) -> date | None:
    """The first day of a span for which the rules have no rate, or None: what an operator must load before."""
    rule = rules.rule()
    if isinstance(rule.rate, FixedRate):
        return None
    day = first_on
    while day <= last_on:
        try:
            period = rule.rate.series.period_of(day)
        except RateMissingError:
            return day
        day = period.valid_to + timedelta(days=1)
    return None
