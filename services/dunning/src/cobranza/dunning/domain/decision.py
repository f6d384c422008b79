"""The result of an evaluation: what is done, or why nothing is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Literal
from uuid import UUID

from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.policy import Step, Tone

Outcome = Literal["act", "wait", "stopped", "skipped", "ended"]
CaseState = Literal["preventive", "active", "waiting", "held", "ended", "closed"]
ItemState = Literal["not_due", "grace", "dunnable", "held", "covered"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason with the values it was found with."""

    code: str
    values: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a step: what it needs and what was found."""

    name: str
    needed: str
    found: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step that an item could take next, and from which day."""

    step: str
    on: date
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class ItemDecision:
    """What was found for one receivable.

    Args:
        step: the step it moves to today; None when it does not move.
        skipped: the steps it passes over for good, with the reason.
    """

    receivable_id: UUID
    number: str
    state: ItemState
    candidates: tuple[Candidate, ...] = ()
    step: Step | None = None
    skipped: tuple[tuple[Step, Reason], ...] = ()
    finding: Finding | None = None
    has_ended: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A receivable that the notice is about; `step` is None when it is listed without moving."""

    receivable_id: UUID
    step: Step | None
    last_notice_on: date | None


@dataclass(frozen=True, slots=True)
class Contact:
    """The one notice of a decision."""

    step: Step
    tone: Tone
    lines: tuple[Line, ...]
    cash_through: date | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one evaluation decided.

    Args:
        next_check_on: the first day on which a date alone may change the outcome; None when only
            a fact or a person can.
        is_in_window: whether there is something to collect or about to be, so that a case is open.
        gates: of the whole case.
    """

    outcome: Outcome
    reasons: tuple[Finding, ...]
    items: tuple[ItemDecision, ...]
    gates: tuple[Gate, ...]
    next_check_on: date | None
    case_state: CaseState
    is_in_window: bool
    contact: Contact | None = None

    @property
    def reason(self) -> str | None:
        """The first reason's code: what the account waits for."""
        return self.reasons[0].code if self.reasons else None

    @property
    def ended_items(self) -> tuple[UUID, ...]:
        """Receivables for which the ladder has ended."""
        return tuple(item.receivable_id for item in self.items if item.has_ended)
