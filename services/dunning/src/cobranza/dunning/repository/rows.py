"""Rows as they are read, and how values are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.dunning.domain.facts import Correction, Debtor, EffectInForce, Issued, PartPayment, Promise, Run, Stop

#: One timer per account: its next evaluation.
TIMER_KIND: Final = "case"

#: Where reading page by page begins; a condition that may be absent would read what is behind it on every page.
BEFORE_ALL: Final = UUID(int=0)
#: What `item_of` reads, of `receivable r`.
ITEM_COLUMNS: Final = (
    "r.receivable_id, r.number, r.due_on, r.issued, r.open, r.level, r.level_step, r.passed, r.last_notice_on, r.issued_on,"
    " r.invoice_id, r.allocated, r.history, r.payments, r.reopened_on, r.told_reversal, r.product_line, r.acknowledged"
)

#: Company, customer and currency.
AccountKey = tuple[str, str, str]
#: Company, policy and version.
PolicyKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class StoredCase:
    """An open case."""

    case_id: UUID
    state: str
    policy: str | None
    policy_version: int | None
    heard_tone: str | None
    opened_on: date
    version: int


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A receivable; the place of its level in a policy is found by the step's name."""

    receivable_id: UUID
    number: str
    due_on: date
    issued: int
    open: int
    level: int
    level_step: str | None
    passed: int
    last_notice_on: date | None
    issued_on: date
    invoice_id: UUID | None
    allocated: int
    history: Mapping[str, Issued]
    payments: tuple[PartPayment, ...]
    reopened_on: date | None
    told_reversal: bool
    product_line: str | None
    acknowledged: bool | None


@dataclass(frozen=True, slots=True)
class StoredHold:
    """A hold that may concern an account; `until_on` is its last day as things stand."""

    reason: str
    placed_on: date
    until_on: date | None
    receivable_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class StoredCustomer:
    """What conditions ask of a customer."""

    language: str
    segment: str
    country: str | None
    protected_party: str | None
    reachable: bool | None
    risk: str | None
    tags: Sequence[str]
    since: date | None
    revision: int

    @property
    def debtor(self) -> Debtor:
        """As the domain asks of it."""
        return Debtor(
            segment=self.segment,
            risk=self.risk,
            country=self.country,
            language=self.language,
            tags=frozenset(self.tags),
            protected_party=self.protected_party,
            since=self.since,
            reachable=self.reachable,
            revision=self.revision,
        )


@dataclass(slots=True)
class StoredAccount:
    """An account, locked, with everything an evaluation reads."""

    account_id: UUID
    company: str
    customer: str
    currency: str
    unapplied: int
    last_contact_on: date | None
    evaluated_on: date | None
    next_check_on: date | None
    caught_up_on: date | None
    decision_id: UUID | None
    decision_digest: str | None
    contacts: tuple[date, ...]
    corrections: tuple[Correction, ...]
    #: Of disputes, promises and plans; holds are kept apart.
    stops: tuple[Stop, ...]
    promises: tuple[Promise, ...]
    effects: tuple[EffectInForce, ...]
    handed_over: frozenset[UUID]
    evidence: frozenset[str]
    closed_tone: str | None
    case: StoredCase | None = None
    debtor: StoredCustomer | None = None
    items: list[StoredItem] = field(default_factory=list)
    holds: list[StoredHold] = field(default_factory=list)
    #: The last run of each step and all under way, by case: of the open one and of those that were asked for.
    runs: dict[UUID, list[Run]] = field(default_factory=dict)
    read_runs: dict[UUID, list[Run]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy version as it is chosen; the document is read apart."""

    company: str
    policy: str
    version: int
    currency: str
    priority: int
    effective_from: date
    state: str
    sha256: str


def timer_key(account_id: UUID) -> str:
    """The key of an account's one timer."""
    return f"{TIMER_KIND}|{account_id}"


def item_of(row: Sequence[Any]) -> StoredItem:
    """A receivable from its `ITEM_COLUMNS`."""
    history = {
        step: Issued(
            date.fromisoformat(done["on"]),
            done.get("times", 1),
            date.fromisoformat(done["delivered_on"]) if done.get("delivered_on") else None,
        )
        for step, done in row[12].items()
    }
    part_payments = tuple(PartPayment(date.fromisoformat(on), paid, before) for on, paid, before in row[13])
    return StoredItem(*(*row[:12], history, part_payments, *row[14:]))


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as a statement takes them for `jsonb_to_recordset`."""
    return json.dumps(list(rows), default=str, ensure_ascii=False)
