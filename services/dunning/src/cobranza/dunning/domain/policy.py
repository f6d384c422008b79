"""A dunning policy: the ladder of steps and the rules that decide when each is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from cobranza.contracts.calendar import Roll

Tone = Literal["friendly", "neutral", "firm", "formal", "legal"]
CatchUpMode = Literal["collapse", "next", "none"]

#: From soft to hard.
TONES: Final[tuple[Tone, ...]] = ("friendly", "neutral", "firm", "formal", "legal")
HARDNESS: Final[Mapping[str, int]] = MappingProxyType({tone: place for place, tone in enumerate(TONES)})

#: Days after which a notice that could not be sent is given up.
EXPIRES_AFTER_DAYS: Final = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One rung: a notice by e-mail, `offset` days from the due date."""

    id: str
    position: int
    offset: int
    tone: Tone
    template: str
    roll: Roll
    min_gap_days: int
    kind: Literal["notice"] = "notice"
    channel: Literal["email"] = "email"


@dataclass(frozen=True, slots=True)
class Materiality:
    """Least amount (minor units) and least percent worth a contact; both must be met."""

    amount: int = 0
    percent: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What happens when several unissued steps are due.

    Args:
        first_contact_max: position of the highest step that may be an item's first contact.
    """

    mode: CatchUpMode
    first_contact_max: int | None
    stale_after_days: int


@dataclass(frozen=True, slots=True)
class EndTask:
    """What a person is asked when nothing is left to do."""

    kind: str
    role: str
    due_business_days: int


@dataclass(frozen=True, slots=True)
class End:
    """The mandatory end of the ladder."""

    after_days: int
    task: EndTask


@dataclass(frozen=True, slots=True)
class Policy:
    """One immutable version of a policy; it serves one company and one currency."""

    policy: str
    version: int
    title: str
    company: str
    currency: str
    timezone: str
    calendar: str
    languages: tuple[str, ...]
    effective_from: date
    priority: int
    grace_days: int
    case_materiality: Materiality
    catch_up: CatchUp
    steps: tuple[Step, ...]
    end: End

    def position_of(self, step: str | None) -> int | None:
        """Place of a step from 1; None when this version does not have it."""
        return next((known.position for known in self.steps if known.id == step), None)

    def language_for(self, wanted: str | None) -> str:
        """The policy's language nearest to the one a customer wants; the first is the default."""
        if wanted in self.languages:
            return str(wanted)
        primary = (wanted or "").partition("-")[0]
        return next((tag for tag in self.languages if tag.partition("-")[0] == primary), self.languages[0])
