"""Ageing: how open amounts lie over time, and in which bucket a due date falls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final

#: A balance that nothing has changed yet lasts until then; PostgreSQL stores it as `infinity`.
FOREVER: Final = date.max


class Bucket(StrEnum):
    """Days past due at a date: current is not due or due that day."""

    CURRENT = "current"
    DAYS_1_30 = "1-30"
    DAYS_31_60 = "31-60"
    DAYS_61_90 = "61-90"
    OVER_90 = "90+"


def bucket_of(due_on: date, *, as_of: date) -> Bucket:
    """The bucket of what is due on `due_on`, seen at the end of `as_of`.

    Source: the house definition; days past due = as_of - due_on, current ≤ 0, last bucket ≥ 91.
    """
    days = (as_of - due_on).days
    if days <= 0:
        return Bucket.CURRENT
    if days <= 30:  # noqa: PLR2004 - the bounds are the buckets' names
        return Bucket.DAYS_1_30
    if days <= 60:  # noqa: PLR2004
        return Bucket.DAYS_31_60
    if days <= 90:  # noqa: PLR2004
        return Bucket.DAYS_61_90
    return Bucket.OVER_90


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of a balance in minor units, by its value date and by the day it was recorded."""

    effective_on: date
    recorded_on: date
    amount: int


@dataclass(frozen=True, slots=True)
class Balance:
    """A balance in minor units from one day (inclusive) until another (exclusive)."""

    from_on: date
    until_on: date
    amount: int


def balances(movements: Iterable[Movement]) -> tuple[Balance, ...]:
    """How a balance lay over value dates: adjoining stretches, without those at zero.

    The order in which movements were recorded does not matter: one recorded late with an earlier
    value date counts from that date.
    """
    by_day: dict[date, int] = {}
    for movement in movements:
        by_day[movement.effective_on] = by_day.get(movement.effective_on, 0) + movement.amount
    days = sorted(by_day)
    stretches: list[Balance] = []
    amount = 0
    for index, day in enumerate(days):
        amount += by_day[day]
        until = days[index + 1] if index + 1 < len(days) else FOREVER
        if not amount:
            continue
        last = stretches[-1] if stretches else None
        if last is not None and last.until_on == day and last.amount == amount:
            stretches[-1] = Balance(last.from_on, until, amount)
        else:
            stretches.append(Balance(day, until, amount))
    return tuple(stretches)


def balance_at(stretches: Iterable[Balance], as_of: date) -> int:
    """The balance at the end of `as_of`, in minor units."""
    return sum(s.amount for s in stretches if s.from_on <= as_of < s.until_on)


class Show(StrEnum):
    """Which customers of a portfolio are looked at."""

    ALL = "all"
    OVERDUE = "overdue"
    UNAPPLIED = "unapplied"


@dataclass(slots=True)
class Ageing:
    """Open amounts of one currency (and customer) at the end of a day, in minor units."""

    currency: str
    customer: str | None = None
    name: str | None = None
    amounts: dict[Bucket, int] = field(default_factory=lambda: dict.fromkeys(Bucket, 0))
    counts: dict[Bucket, int] = field(default_factory=lambda: dict.fromkeys(Bucket, 0))
    customers: int = 0
    customers_overdue: int = 0
    unapplied: int = 0

    @property
    def open(self) -> int:
        """All that is open."""
        return sum(self.amounts.values())

    @property
    def overdue(self) -> int:
        """What is past due."""
        return self.open - self.amounts[Bucket.CURRENT]

    @property
    def open_count(self) -> int:
        """Receivables open."""
        return sum(self.counts.values())


def total(entries: Iterable[Ageing], *, currency: str) -> Ageing:
    """The entries of one currency as one; each entry is one customer."""
    whole = Ageing(currency)
    for entry in entries:
        for bucket in Bucket:
            whole.amounts[bucket] += entry.amounts[bucket]
            whole.counts[bucket] += entry.counts[bucket]
        whole.unapplied += entry.unapplied
        whole.customers += entry.open != 0
        whole.customers_overdue += entry.overdue != 0
    return whole


def chosen(entries: Iterable[Ageing], *, show: Show, bucket: Bucket | None, words: str) -> list[Ageing]:
    """Those customers that are looked at: by what they owe, and by a part of their name or code."""
    wanted = words.casefold().strip()
    return [
        entry
        for entry in entries
        if (show is not Show.OVERDUE or entry.overdue)
        and (show is not Show.UNAPPLIED or entry.unapplied)
        and (bucket is None or entry.counts[bucket])
        and (wanted in (entry.customer or "").casefold() or wanted in (entry.name or "").casefold())
    ]
