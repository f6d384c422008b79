"""What is known of one debtor's account when it is evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from cobranza.contracts.money import to_decimal
from cobranza.contracts.reasons import Reason

RunState = Literal["proposed", "approved", "requested", "undelivered", "sent", "failed", "suppressed", "skipped"]
Verdict = Literal["matched", "mismatch", "missing"]
PromiseVerdict = Literal["open", "kept", "broken", "withdrawn"]

#: Runs that are under way: their receivables take no other step.
UNDER_WAY: Final = frozenset({"proposed", "approved", "requested", "undelivered"})


@dataclass(frozen=True, slots=True)
class Issued:
    """A step that was issued for a receivable: the last time, how often, and when it was delivered."""

    on: date
    times: int = 1
    delivered_on: date | None = None


@dataclass(frozen=True, slots=True)
class PartPayment:
    """A payment that left something open; amounts in minor units."""

    on: date
    paid: int
    before: int


_NOTHING_ISSUED: Final[Mapping[str, Issued]] = MappingProxyType({})
_NO_AMOUNTS: Final[Mapping[UUID, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Item:
    """One receivable with something open; amounts in minor units.

    Args:
        level: position of the last step issued for it; 0 when none was.
        passed: position up to which steps were issued or skipped; at least `level`.
        history: what was issued for it, by step id.
        allocated: paid so far.
        reopened_on: when a reversal last reopened it.
        told_reversal: whether the debtor was told of that.
    """

    receivable_id: UUID
    number: str
    due_on: date
    issued: int
    open: int
    level: int = 0
    passed: int = 0
    last_notice_on: date | None = None
    issued_on: date | None = None
    invoice_id: UUID | None = None
    allocated: int = 0
    history: Mapping[str, Issued] = field(default_factory=lambda: _NOTHING_ISSUED)
    payments: tuple[PartPayment, ...] = ()
    reopened_on: date | None = None
    told_reversal: bool = True
    product_line: str | None = None
    acknowledged: bool | None = None

    def __post_init__(self) -> None:
        if self.open <= 0:
            raise ValueError(f"expected an open amount above zero, got {self.open}")
        if not 0 <= self.level <= self.passed:
            raise ValueError(f"expected 0 <= level <= passed, got {self.level} and {self.passed}")


@dataclass(frozen=True, slots=True)
class Stop:
    """Something that suspends contact over whole days: a hold, dispute, promise or plan.

    Args:
        until_on: last day, inclusive; None: until somebody ends it.
        receivable_ids: what it stops; empty: the whole account, or what `amounts` names.
        amounts: the part of each receivable it stops, in minor units.
        stop_id: identity of the hold, dispute, promise or plan.
        deadline_on: of a dispute, the day by which somebody must have decided it.
    """

    reason: Reason
    kind: str
    from_on: date
    until_on: date | None
    receivable_ids: frozenset[UUID] = frozenset()
    amounts: Mapping[UUID, int] = field(default_factory=lambda: _NO_AMOUNTS)
    stop_id: UUID | None = None
    deadline_on: date | None = None

    def covers(self, receivable_id: UUID) -> bool:
        """Whether it stops contact about the receivable, or about a part of it."""
        if self.amounts:
            return receivable_id in self.amounts
        return not self.receivable_ids or receivable_id in self.receivable_ids

    def is_in_force(self, on: date) -> bool:
        """Whether it stops contact on the day."""
        return self.from_on <= on and (self.until_on is None or on <= self.until_on)

    def stopped(self, item: Item) -> int:
        """The part of an item it stops, in minor units, at most what is open."""
        if self.amounts:
            return min(item.open, self.amounts.get(item.receivable_id, 0))
        return item.open if self.covers(item.receivable_id) else 0


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise to pay, or an instalment of a plan, and what was paid since; amounts in minor units.

    Args:
        limit_on: last value date that keeps it.
        amounts: what was promised of each receivable.
        paid: value date and amount of what was paid on its receivables, of a plan on all of the plan's; negative:
            taken back.
        verdict: how it was judged last, on `judged_on`.
    """

    promise_id: UUID
    made_on: date
    limit_on: date
    amounts: Mapping[UUID, int]
    plan_id: UUID | None = None
    paid: tuple[tuple[date, int], ...] = ()
    verdict: PromiseVerdict = "open"
    judged_on: date | None = None

    @property
    def amount(self) -> int:
        """What was promised."""
        return sum(self.amounts.values())


class Run(NamedTuple):
    """The last execution of a step for the case, and how it stands.

    Args:
        notice: step and number of the notice that carries it.
        expires_on: last day on which it may still be executed or decided.
        has_risen: whether it went to a supervisor, being late.
        attempts: calls made so far.
    """

    step: str
    number: int
    state: RunState
    receivable_ids: frozenset[UUID]
    kind: str = "notice"
    notice: tuple[str, int] | None = None
    tone: str | None = None
    expires_on: date | None = None
    answered_on: date | None = None
    reason: str | None = None
    facts_hash: str = ""
    has_risen: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class EffectInForce:
    """An effect that was done and can be taken back."""

    step: str
    run: int
    effect: str
    receivable_ids: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Correction:
    """The debtor was told something that turned out wrong and is to be told so."""

    reason: Literal["paid_before", "replaced", "cancelled"]
    receivable_id: UUID
    on: date


@dataclass(frozen=True, slots=True)
class CashNeed:
    """Cash must be known before a step that the debtor sees: through which day it is (D8)."""

    known_through: date | None


@dataclass(frozen=True, slots=True)
class Debtor:
    """What conditions ask of the customer; None: not known.

    Args:
        since: customer since that day.
        broken_promises: in the last 12 months, beside those the account knows of.
        revision: of the customer's data; a new address is a changed fact.
    """

    segment: str | None = None
    risk: str | None = None
    country: str | None = None
    language: str | None = None
    tags: frozenset[str] = frozenset()
    protected_party: str | None = None
    since: date | None = None
    broken_promises: int = 0
    reachable: bool | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Brake:
    """The company's notices of the day are more than usual: they wait until a person releases them (DUN8)."""

    limit: int
    requested: int


class AccountFacts(NamedTuple):
    """All that one evaluation reads: one debtor of one company in one currency.

    Args:
        items: open receivables only, in any order.
        unapplied: the customer's unapplied credit in the currency, minor units.
        heard_tone: the hardest tone the open case has heard.
        contacts: days of the contacts in the last two years.
        runs: the last run of each step of the open case.
        cash: None where the company states no cash watermark.
        control: what the last control totals came to, the worst of all systems; None: none was ever stated or due.
        brake: what holds the company's notices; None: nothing does.
        handed_over: receivables that an agency or lawyer collects.
        unidentified: amounts of receipts whose payer is not known, minor units.
        evidence: documents at hand for a hand-over.
        evaluated_on: the last evaluation before this one.
        promised_on: the day for which that evaluation asked to be checked again.
        caught_up_on: the last day on which it was looked at again after nobody had in time.
    """

    currency: str
    items: tuple[Item, ...]
    unapplied: int = 0
    last_contact_on: date | None = None
    heard_tone: str | None = None
    contacts: tuple[date, ...] = ()
    stops: tuple[Stop, ...] = ()
    promises: tuple[Promise, ...] = ()
    runs: tuple[Run, ...] = ()
    effects: tuple[EffectInForce, ...] = ()
    corrections: tuple[Correction, ...] = ()
    cash: CashNeed | None = None
    control: Verdict | None = None
    brake: Brake | None = None
    start_on: date | None = None
    debtor: Debtor = Debtor()
    handed_over: frozenset[UUID] = frozenset()
    unidentified: frozenset[int] = frozenset()
    evidence: frozenset[str] = frozenset()
    evaluated_on: date | None = None
    promised_on: date | None = None
    caught_up_on: date | None = None

    def catches_up_on(self, as_of: date) -> date | None:
        """The last day on which the account was new, or its promised check had not been made in time: today or before."""
        if self.evaluated_on is None or (self.promised_on is not None and self.promised_on < as_of):
            return as_of
        return self.caught_up_on

    def digest(self) -> str:
        """SHA-256 of what a contact would depend on, the same in whatever order it is known.

        What was skipped, and the runs themselves, are results and no facts.
        """
        items = sorted(
            f"{item.receivable_id}|{item.due_on}|{item.issued}|{item.open}|{item.level}|{item.last_notice_on}"
            f"|{item.reopened_on}|{item.product_line}|{item.acknowledged}|{len(item.payments)}"
            for item in self.items
        )
        stops = sorted(
            f"{stop.reason}|{stop.kind}|{stop.from_on}|{stop.until_on}|{sorted(map(str, stop.receivable_ids))}"
            f"|{sorted((str(receivable), amount) for receivable, amount in stop.amounts.items())}"
            for stop in self.stops
        )
        known = self.debtor
        rest = "|".join(
            str(value)
            for value in (
                self.unapplied, self.last_contact_on, self.heard_tone, self.start_on, known.revision, known.segment,
                known.risk, known.language, sorted(known.tags), known.protected_party, known.broken_promises,
                known.reachable, self.control, sorted(map(str, self.handed_over)), sorted(self.unidentified),
                sorted(self.evidence),
            )
        )  # fmt: skip
        promises = sorted(f"{promise.promise_id}|{promise.verdict}" for promise in self.promises)
        return hashlib.sha256("\n".join((self.currency, rest, *items, "-", *stops, *promises)).encode()).hexdigest()

    def as_values(self) -> Mapping[str, object]:
        """The facts as the decision record keeps them."""
        return {
            "unapplied": self._amount(self.unapplied),
            "last_contact_on": _text(self.last_contact_on),
            "heard_tone": self.heard_tone,
            "cash_known_through": _text(self.cash.known_through) if self.cash is not None else None,
            "control": self.control,
            "start_on": _text(self.start_on),
            "debtor": {
                "segment": self.debtor.segment,
                "risk": self.debtor.risk,
                "country": self.debtor.country,
                "language": self.debtor.language,
                "tags": sorted(self.debtor.tags),
                "protected_party": self.debtor.protected_party,
                "broken_promises": self.debtor.broken_promises,
                "reachable": self.debtor.reachable,
            },
            "items": [self._item_values(item) for item in self.items],
            "stops": [self._stop_values(stop) for stop in self.stops],
            **self._agreed_values(),
        }

    def _agreed_values(self) -> dict[str, Any]:
        """What most accounts have none of is left out."""
        values: dict[str, Any] = {}
        if self.promises:
            values["promises"] = [
                {
                    "promise_id": str(promise.promise_id),
                    "amount": self._amount(promise.amount),
                    "limit_on": promise.limit_on.isoformat(),
                    "verdict": promise.verdict,
                }
                for promise in self.promises
            ]
        if self.effects:
            values["effects"] = [f"{effect.step}#{effect.run}" for effect in self.effects]
        if self.handed_over:
            values["handed_over"] = sorted(map(str, self.handed_over))
        return values

    def _item_values(self, item: Item) -> dict[str, Any]:
        values: dict[str, Any] = {
            "receivable_id": str(item.receivable_id),
            "number": item.number,
            "due_on": item.due_on.isoformat(),
            "issued": self._amount(item.issued),
            "open": self._amount(item.open),
            "level": item.level,
            "last_notice_on": _text(item.last_notice_on),
        }
        if item.reopened_on is not None:
            values["reopened_on"] = item.reopened_on.isoformat()
        if item.history:
            values["issued_steps"] = {step: done.on.isoformat() for step, done in item.history.items()}
        return values

    def _stop_values(self, stop: Stop) -> dict[str, Any]:
        values: dict[str, Any] = {
            "reason": stop.reason.value,
            "kind": stop.kind,
            "from_on": stop.from_on.isoformat(),
            "until_on": _text(stop.until_on),
            "receivable_ids": sorted(map(str, stop.receivable_ids)),
        }
        if stop.amounts:
            values["amounts"] = {str(receivable): self._amount(minor) for receivable, minor in stop.amounts.items()}
        return values

    def _amount(self, minor: int) -> str:
        return format(to_decimal(minor, self.currency), "f")


def _text(on: date | None) -> str | None:
    return None if on is None else on.isoformat()
