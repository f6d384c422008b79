"""Rules of late charges: what law or contract grants as files, put into force, with published rates and their sources."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from importlib import resources
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Transaction
from cobranza.contracts import payments
from cobranza.contracts.payloads import Country, Currency, Line, Ordinal, Prose, Slug
from cobranza.payments import repository
from cobranza.payments.domain.errors import RateMissingError, RulesRefusedError, UnknownCompanyError
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
    #: Days after the due date within which a notice must have gone out, or the reduction applies.
    notice_within_days: Annotated[int, Field(ge=1, le=365)] | None = None


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

    @property
    def is_in_one_currency(self) -> bool:
        """Whether it states amounts, so that it cannot serve debts of another currency."""
        return bool(self.minimum or self.compensation.tiers or self.fee_cap)

    @property
    def named_series(self) -> frozenset[str]:
        """The series its rate and its cap are taken from."""
        cap = None if self.fee_cap is None else self.fee_cap.unit
        return frozenset(name for name in (self.rate.series, cap) if name is not None)

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
        # A rate that the file states may have been loaded too; it is the same one.
        by_day = {rate.from_on: rate for rate in (*(published or {}).get(stated.id, ()), *stated.rates)}
        rates = [by_day[day] for day in sorted(by_day)]
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


def uncovered(
    rules: ChargeRules, *, first_on: date, last_on: date, published: Mapping[str, Sequence[Rate]] | None = None
) -> date | None:
    """The first day of a span for which the rules have no rate, or None: what an operator must load before."""
    rule = rules.rule(published)
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


# What is in force


@dataclass(frozen=True, slots=True)
class Published:
    """One published rate of a series, and the line of the file that states it."""

    series: str
    rate: Rate
    line: int = 0


@dataclass(frozen=True, slots=True)
class InForce:
    """Rules that a company has in force on a day, with every rate that was published."""

    rules: ChargeRules
    published: Mapping[str, Sequence[Rate]]

    @property
    def rule(self) -> LateChargeRule:
        """As the domain computes with it."""
        return self.rules.rule(self.published)

    def cap(self, on: date) -> FeeCap | None:
        """The cap of fees in money of a day."""
        return self.rules.cap(on, self.published)


@dataclass(frozen=True, slots=True)
class RuleKeeper:
    """Puts charge rules into force, and takes published rates in."""

    companies: Companies

    async def activate(
        self, tx: Transaction, document: bytes, *, company: str, effective_from: date | None, by: str
    ) -> tuple[ChargeRules, bool]:
        """Put a version of rules into force for a company; the same again has no effect.

        Args:
            effective_from: first day of steps that follow it; None: the company's today.

        Returns:
            The rules, and whether they are new.

        Raises:
            RulesRefusedError: the file is wrong, the version does not grow, was activated with other content, or one
                of its rates contradicts a published one.
        """
        profile = self.companies.get(company)
        if profile is None:
            raise UnknownCompanyError(f"no company {company!r} here; deploy/companies.yaml lists them")
        rules = _checked(document)
        if rules.is_in_one_currency and rules.currency not in profile.currencies:
            raise RulesRefusedError(f"{rules.rules} is in {rules.currency}, which is no currency of {company}")
        today = tx.now.astimezone(profile.zone).date()
        newest = await repository.newest_rules_version(tx, company=company, rules=rules.rules)
        told = rules.model_dump_json(by_alias=True)
        digest = hashlib.sha256(document).hexdigest()
        if newest > rules.version:
            raise RulesRefusedError(
                f"{rules.rules}: version {newest} is in force, version {rules.version} is older; give the file a higher one"
            )
        await self.load(
            tx,
            [Published(series.id, rate) for series in rules.series for rate in series.rates],
            by=by,
            file=rules.rules,
        )
        kept = await repository.keep_charge_rules(
            tx,
            company=company,
            rules=rules.rules,
            version=rules.version,
            sha256=digest,
            currency=rules.currency,
            effective_from=effective_from or today,
            document=told,
            by=by,
        )
        if kept == digest:
            return rules, False
        if kept is not None:
            raise RulesRefusedError(
                f"{rules.rules} version {rules.version} was activated with other content; give the file a higher version"
            )
        tx.publish(
            payments.ChargeRulesActivated(
                company=profile.company,
                rules=rules.rules,
                version=rules.version,
                sha256=digest,
                country=rules.country,
                effective_from=effective_from or today,
                activated_on=today,
                first_fee_day=None if rules.fee_cap is None else rules.fee_cap.first_day_late,
                most_fee_percent=None
                if rules.fee_cap is None
                else max(part.percent for part in rules.fee_cap.brackets),
            ),
            sequence=rules.version,
        )
        await repository.try_charges_again(tx)
        return rules, True

    async def load(self, tx: Transaction, told: Sequence[Published], *, by: str, file: str) -> int:
        """Take published rates in: all of them or none; the same again has no effect.

        Returns:
            How many were new.

        Raises:
            RulesRefusedError: a period has another value already, or overlaps another period; nothing is overwritten.
        """
        await repository.lock_rates(tx)
        kept = await repository.rates(tx.connection, sorted({one.series for one in told}))
        known = {(row.series, row.from_on): (row.to_on, row.percent) for row in kept}
        new = []
        for one in sorted(told, key=lambda one: (one.series, one.rate.from_on)):
            rate = one.rate
            if known.get((one.series, rate.from_on)) == (rate.to_on, rate.percent):
                continue
            for (series, from_on), (to_on, percent) in known.items():
                if series == one.series and from_on <= rate.to_on and rate.from_on <= to_on:
                    where = f"{file}, line {one.line}" if one.line else file
                    raise RulesRefusedError(
                        f"{where}: {series} from {rate.from_on} to {rate.to_on} is {rate.percent}, but"
                        f" {percent.normalize():f} was published from {from_on} to {to_on}; a rate is never overwritten",
                        series=series,
                    )
            known[one.series, rate.from_on] = (rate.to_on, rate.percent)
            new.append(
                {
                    "series": one.series,
                    "from_on": rate.from_on,
                    "to_on": rate.to_on,
                    "percent": rate.percent,
                    "published": rate.published,
                }
            )
        if new:
            await repository.add_rates(tx, new, by=by)
            await repository.try_charges_again(tx)
        return len(new)


_COLUMNS: Final = ("series", "from", "to", "percent", "published")


def read_rates(document: bytes, *, name: str) -> list[Published]:
    """Published rates from a CSV file with the columns series, from, to, percent, published.

    Raises:
        RulesRefusedError: naming file, line and column of the first fault, what was expected and what was found.
    """
    try:
        lines = document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RulesRefusedError(f"{name}: expected UTF-8, found byte {document[error.start]:#04x}") from error
    reader = csv.DictReader(io.StringIO(lines), strict=True)
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        found = ",".join(reader.fieldnames or ()) or "nothing"
        raise RulesRefusedError(f"{name}, line 1: expected the columns {','.join(_COLUMNS)}; found {found[:100]!r}")
    return list(_rates_in(reader, name))


def _rates_in(reader: csv.DictReader[str], name: str) -> Iterator[Published]:
    try:
        for row in reader:
            if None in row or None in row.values():
                raise RulesRefusedError(f"{name}, line {reader.line_num}: expected {len(_COLUMNS)} columns")
            series = str(row.pop("series"))
            try:
                known = Series.model_validate({"id": series, "title": series, "rates": [row]})
            except ValidationError as error:
                fault = error.errors()[0]
                column = next((str(part) for part in reversed(fault["loc"]) if isinstance(part, str)), "line")
                column = "series" if column == "id" else column
                found = series if column == "series" else row.get(column, "")
                raise RulesRefusedError(
                    f"{name}, line {reader.line_num}, {column}: {fault['msg']}; found {str(found)[:60]!r}"
                ) from error
            yield Published(known.id, known.rates[0], reader.line_num)
    except csv.Error as error:
        raise RulesRefusedError(f"{name}, line {reader.line_num}: not CSV: {error}") from error


def preset_document(name: str) -> bytes:
    """A shipped file as it is.

    Raises:
        RulesRefusedError: there is none of that name.
    """
    if name not in PRESETS:
        raise RulesRefusedError(f"no preset {name!r}; shipped are {', '.join(PRESETS)}")
    return _preset_file(name)


def _checked(document: bytes) -> ChargeRules:
    try:
        return read_rules(document)
    except yaml.YAMLError as error:
        raise RulesRefusedError(f"the rules are not YAML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5])
        raise RulesRefusedError(f"the rules are wrong: {faults}") from error


async def in_force(connection: AsyncConnection, *, company: str, on: date) -> dict[str, InForce]:
    """Every rules that a company has in force on a day, by their name."""
    return await _with_rates(
        connection, [row.document for row in await repository.rules_in_force(connection, company=company, on=on)]
    )


async def as_activated(connection: AsyncConnection, *, company: str, name: str) -> InForce | None:
    """The rules that a charge names, such as mx-ccom-362@2."""
    rules, _, version = name.partition("@")
    document = await repository.rules_of_version(connection, company=company, rules=rules, version=int(version))
    if document is None:
        return None
    return (await _with_rates(connection, [document]))[rules]


async def published_for(connection: AsyncConnection, *rules: ChargeRules) -> dict[str, list[Rate]]:
    """Every rate that was published for the series that rules name."""
    published: dict[str, list[Rate]] = {}
    for row in await repository.rates(connection, sorted({name for found in rules for name in found.named_series})):
        rate = Rate(**{"from": row.from_on, "to": row.to_on, "percent": row.percent, "published": row.published})
        published.setdefault(row.series, []).append(rate)
    return published


async def _with_rates(connection: AsyncConnection, documents: Sequence[Mapping[str, object]]) -> dict[str, InForce]:
    found = [ChargeRules.model_validate(document) for document in documents]
    published = await published_for(connection, *found)
    return {rules.rules: InForce(rules, published) for rules in found}
