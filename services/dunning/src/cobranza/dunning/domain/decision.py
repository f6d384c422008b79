"""The result of an evaluation: what is done, or why nothing is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Literal, NamedTuple
from uuid import UUID

from cobranza.contracts.money import to_decimal
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.facts import Correction, EffectInForce, Item, Promise, PromiseVerdict, Run
from cobranza.dunning.domain.policy import Step, Tone

Outcome = Literal["act", "wait", "stopped", "skipped", "ended"]
CaseState = Literal["preventive", "active", "waiting", "held", "ended", "handed_over", "closed"]
ItemState = Literal[
    "not_due", "grace", "dunnable", "held", "disputed", "planned", "promised", "covered", "suspended", "handed_over"
]

PlanOutcome = Literal["completed", "defaulted", "cancelled"]

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Minor(NamedTuple):
    """An amount among the values of a reason or a gate."""

    amount: int
    currency: str


class Found(NamedTuple):
    """What a condition asked about and found."""

    values: tuple[tuple[str, object], ...]


def shown(value: object) -> str:
    """A value of a reason or gate as the decision record keeps it."""
    match value:
        case date():
            return value.isoformat()
        case Minor(amount, currency):
            return f"{to_decimal(amount, currency):f} {currency}"
        case Found(values):
            return ", ".join(f"{name} {shown(found)}" for name, found in values)
        case frozenset():
            return "/".join(sorted(map(str, value))) or "-"
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case _:
            return str(value)


class Finding(NamedTuple):
    """A reason with the values it was found with."""

    code: str
    values: Mapping[str, object] = _NOTHING

    def as_values(self) -> dict[str, str]:
        """The values as text."""
        return {name: shown(value) for name, value in self.values.items()}


#: A gate as it is noted while an item is looked at: name, needed, found, whether it is met.
GateValues = tuple[str, object, object, bool]


class Gate(NamedTuple):
    """One condition of a step: what it needs and what was found."""

    name: str
    needed: object
    found: object
    ok: bool

    def as_values(self) -> list[object]:
        """The gate as the decision record keeps it."""
        return [self.name, shown(self.needed), shown(self.found), self.ok]


class Candidate(NamedTuple):
    """A step that an item could take next, and from which day; None: no day alone brings it."""

    step: str
    on: date | None
    gates: tuple[Gate, ...]


@dataclass(slots=True)
class ItemDecision:
    """What was found for one receivable.

    Args:
        claimable: open less what is disputed, planned and promised, in minor units.
        looked_at: the values of its `candidates`, which are made when somebody reads them: most never are.
        step: the step it moves to today; None when it does not move.
        skipped: the steps it passes over for good, with the reason.
        busy: the run it is in, until that is answered.
    """

    item: Item
    state: ItemState
    claimable: int
    looked_at: list[tuple[str, date | None, tuple[GateValues, ...]]] = field(default_factory=list)
    step: Step | None = None
    skipped: tuple[tuple[Step, Reason], ...] = ()
    finding: Finding | None = None
    has_ended: bool = False
    busy: Run | None = None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The steps that it could take next."""
        return tuple(Candidate(step, on, tuple(map(Gate._make, gates))) for step, on, gates in self.looked_at)

    @property
    def receivable_id(self) -> UUID:
        """The receivable."""
        return self.item.receivable_id

    @property
    def number(self) -> str:
        """The invoice's number."""
        return self.item.number


class Line(NamedTuple):
    """A receivable that an action is about; `step` is None when it is listed without moving."""

    receivable_id: UUID
    step: Step | None
    last_notice_on: date | None


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """Who must agree, and until when."""

    role: str
    on_expiry: Literal["task", "skip"]


class Action(NamedTuple):
    """What is done today: a notice, a call, a task or an effect.

    Args:
        lines: what it is about; of a notice also what is listed without moving.
        claimed: what its moving and listed receivables are asked for, less credit, in minor units.
        approval: it is proposed to a person first; None: it is executed.
        approved_run: number of the run that a person approved.
        expires_on: last day on which it is of use.
        charges_interest: interest is charged with it.
    """

    step: Step
    lines: tuple[Line, ...]
    claimed: int
    expires_on: date
    tone: Tone | None = None
    cash_through: date | None = None
    approval: ApprovalAsked | None = None
    approved_run: int | None = None
    charges_interest: bool = False

    @property
    def moving(self) -> dict[Step, list[UUID]]:
        """The receivables that move, by the step each moves to."""
        moved: dict[Step, list[UUID]] = {}
        for line in self.lines:
            if line.step is not None:
                moved.setdefault(line.step, []).append(line.receivable_id)
        return moved


@dataclass(frozen=True, slots=True)
class Closing:
    """A run that is over without having been executed, or that rises to a supervisor."""

    run: Run
    reason: Reason
    rises: bool = False
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Undoing:
    """An effect that is taken back, at once and without a gate."""

    effect: EffectInForce
    by: str
    reason: Literal["settled", "below_materiality"]


@dataclass(frozen=True, slots=True)
class Telling:
    """A notice outside the ladder: the debtor is told of a reversal, or that we were wrong."""

    purpose: Literal["reversal", "correction"]
    receivable_ids: tuple[UUID, ...]
    corrections: tuple[Correction, ...] = ()


class Judging(NamedTuple):
    """A promise and what becomes of it; `paid` is what was paid towards it in time, minor units."""

    promise: Promise
    verdict: PromiseVerdict
    paid: int


class PlanEnding(NamedTuple):
    """A payment plan that is over; `paid` in minor units."""

    plan_id: UUID
    outcome: PlanOutcome
    paid: int


@dataclass(frozen=True, slots=True)
class Asking:
    """Something a person is asked to do; the same is asked once per case and `about`."""

    kind: str
    role: str
    due_business_days: int
    reason: Reason
    receivable_ids: tuple[UUID, ...] = ()
    about: str = ""


class Decision(NamedTuple):
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
    actions: tuple[Action, ...] = ()
    closings: tuple[Closing, ...] = ()
    undoings: tuple[Undoing, ...] = ()
    tellings: tuple[Telling, ...] = ()
    askings: tuple[Asking, ...] = ()
    judgings: tuple[Judging, ...] = ()
    plan_endings: tuple[PlanEnding, ...] = ()

    @property
    def reason(self) -> str | None:
        """The first reason's code: what the account waits for."""
        return self.reasons[0].code if self.reasons else None

    @property
    def contact(self) -> Action | None:
        """The notice that is requested."""
        return next(
            (action for action in self.actions if action.step.kind == "notice" and action.approval is None), None
        )

    @property
    def changes_facts(self) -> bool:
        """Whether applying it changes what the next evaluation reads."""
        return bool(
            self.actions
            or self.closings
            or self.undoings
            or self.tellings
            or self.judgings
            or self.plan_endings
            or any(item.skipped for item in self.items)
        )

    @property
    def ended_items(self) -> tuple[UUID, ...]:
        """Receivables for which the ladder has ended."""
        return tuple(item.receivable_id for item in self.items if item.has_ended)
