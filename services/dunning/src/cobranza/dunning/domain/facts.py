"""What is known of one debtor's account when it is evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from cobranza.contracts.money import to_decimal
from cobranza.contracts.reasons import Reason


@dataclass(frozen=True, slots=True)
class Item:
    """One open receivable; amounts in minor units.

    Args:
        level: position of the last step issued for it; 0 when none was.
        passed: position up to which steps were issued or skipped; at least `level`.
    """

    receivable_id: UUID
    number: str
    due_on: date
    issued: int
    open: int
    level: int = 0
    passed: int = 0
    last_notice_on: date | None = None

    def __post_init__(self) -> None:
        if self.open <= 0:
            raise ValueError(f"expected an open amount above zero, got {self.open}")
        if not 0 <= self.level <= self.passed:
            raise ValueError(f"expected 0 <= level <= passed, got {self.level} and {self.passed}")


@dataclass(frozen=True, slots=True)
class Stop:
    """Something that suspends contact over whole days, such as a hold.

    Args:
        until_on: last day, inclusive; None: until somebody ends it.
        receivable_ids: what it stops; empty: the whole account.
    """

    reason: Reason
    kind: str
    from_on: date
    until_on: date | None
    receivable_ids: frozenset[UUID] = frozenset()

    def covers(self, receivable_id: UUID) -> bool:
        """Whether it stops contact about the receivable."""
        return not self.receivable_ids or receivable_id in self.receivable_ids

    def is_in_force(self, on: date) -> bool:
        """Whether it stops contact on the day."""
        return self.from_on <= on and (self.until_on is None or on <= self.until_on)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A step run that was requested and is not answered yet."""

    step: str
    run: int
    expires_on: date


@dataclass(frozen=True, slots=True)
class RefusedRun:
    """The last run of a step that did not reach the debtor; the same facts ask again from `retry_on` only."""

    step: str
    reason: str
    retry_on: date
    facts_hash: str


@dataclass(frozen=True, slots=True)
class CashNeed:
    """Cash must be known before a step that the debtor sees: through which day it is (D8)."""

    known_through: date | None


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """All that one evaluation reads: one debtor of one company in one currency.

    Args:
        items: open receivables only, in any order.
        unapplied: the customer's unapplied credit in the currency, minor units.
        heard_tone: the hardest tone the open case has heard.
        cash: None where the company states no cash watermark.
        customer_revision: of the customer's data; a new address is a changed fact.
    """

    currency: str
    items: tuple[Item, ...]
    unapplied: int = 0
    last_contact_on: date | None = None
    heard_tone: str | None = None
    stops: tuple[Stop, ...] = ()
    open_run: OpenRun | None = None
    refused: tuple[RefusedRun, ...] = ()
    cash: CashNeed | None = None
    start_on: date | None = None
    customer_revision: int = 0

    def digest(self) -> str:
        """SHA-256 of what a contact would depend on, the same in whatever order it is known.

        What was skipped, and the runs themselves, are results and no facts.
        """
        items = sorted(
            f"{item.receivable_id}|{item.due_on}|{item.issued}|{item.open}|{item.level}|{item.last_notice_on}"
            for item in self.items
        )
        stops = sorted(
            f"{stop.reason}|{stop.kind}|{stop.from_on}|{stop.until_on}|{sorted(map(str, stop.receivable_ids))}"
            for stop in self.stops
        )
        rest = f"{self.unapplied}|{self.last_contact_on}|{self.heard_tone}|{self.start_on}|{self.customer_revision}"
        return hashlib.sha256("\n".join((self.currency, rest, *items, "-", *stops)).encode()).hexdigest()

    def as_values(self) -> Mapping[str, object]:
        """The facts as the decision record keeps them."""
        return {
            "unapplied": self._amount(self.unapplied),
            "last_contact_on": _text(self.last_contact_on),
            "heard_tone": self.heard_tone,
            "cash_known_through": _text(self.cash.known_through) if self.cash is not None else None,
            "start_on": _text(self.start_on),
            "items": [
                {
                    "receivable_id": str(item.receivable_id),
                    "number": item.number,
                    "due_on": item.due_on.isoformat(),
                    "issued": self._amount(item.issued),
                    "open": self._amount(item.open),
                    "level": item.level,
                    "last_notice_on": _text(item.last_notice_on),
                }
                for item in self.items
            ],
            "stops": [
                {
                    "reason": stop.reason.value,
                    "kind": stop.kind,
                    "from_on": stop.from_on.isoformat(),
                    "until_on": _text(stop.until_on),
                    "receivable_ids": sorted(map(str, stop.receivable_ids)),
                }
                for stop in self.stops
            ],
        }

    def _amount(self, minor: int) -> str:
        return format(to_decimal(minor, self.currency), "f")


def _text(on: date | None) -> str | None:
    return None if on is None else on.isoformat()
