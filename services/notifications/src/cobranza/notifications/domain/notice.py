"""The life of a notice: its states, what a permit's answer means for it, and when to try again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from cobranza.contracts.dunning import NoticeLine
from cobranza.contracts.payloads import PURPOSES_WITH_PERMIT, Purpose
from cobranza.contracts.payments import NoticePermitAnswer, PermitRefusal
from cobranza.contracts.reasons import Reason

_FIRST_WAIT_SECONDS: Final = 0.25
_LONGEST_WAIT_SECONDS: Final = 60.0
_WITHOUT_PERMIT: Final = frozenset(Purpose) - PURPOSES_WITH_PERMIT


class State(StrEnum):
    """Where a notice stands.

    Holding a permit is no state of its own: it lives seconds, and after a crash it is asked anew.
    """

    QUEUED = "queued"  # waits for its turn or for a reason to pass
    SENDING = "sending"  # the intent is kept; the hand-over is under way
    SENT = "sent"  # the provider accepted it, or is assumed to have
    FAILED = "failed"  # it could not be sent on this channel
    UNKNOWN = "unknown"  # nobody can tell whether it was sent
    SUPPRESSED = "suppressed"  # it was not sent, for a reason, and will not be
    EXPIRED = "expired"  # its time went by before it could be sent


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.QUEUED: frozenset({State.QUEUED, State.SENDING, State.FAILED, State.SUPPRESSED, State.EXPIRED}),
    # Back to queued only when it is certain that nothing left.
    State.SENDING: frozenset({State.QUEUED, State.SENT, State.FAILED, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.QUEUED, State.SENT, State.FAILED}),
    State.SENT: frozenset(),
    State.FAILED: frozenset(),
    State.SUPPRESSED: frozenset(),
    State.EXPIRED: frozenset(),
}


def may_become(before: State, after: State) -> bool:
    """Whether a notice in `before` may go to `after`."""
    return after in TRANSITIONS[before]


def needs_permit(purpose: str) -> bool:
    """Whether a notice asks for money; a purpose nobody knows is taken to."""
    return purpose not in _WITHOUT_PERMIT


def back_off_seconds(attempt: int) -> float:
    """Real seconds to wait after the `attempt`-th try, from 1: 0.25 s doubling up to a minute."""
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * (1 << min(attempt - 1, 16)))


@dataclass(frozen=True, slots=True)
class Granted:
    """The notice may claim the permit's lines."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: the reason may pass."""

    reason: str


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Not this notice, ever."""

    reason: str


Verdict = Granted | Deferred | Suppressed


def judge(answer: NoticePermitAnswer, *, step: str | None, lines: Sequence[NoticeLine]) -> Verdict:
    """What the ledger's answer means for a notice of `step` about `lines`.

    Lines refused for good drop out. A notice of which no line of its own step is left says another
    thing than dunning decided, so it is suppressed as a whole (D20).
    """
    own = {line.receivable_id for line in lines if line.step == step}
    if answer.granted:
        if not own or any(line.receivable_id in own for line in answer.lines):
            return Granted()
        waiting = [refusal for refusal in answer.refusals if refusal.receivable_id in own and refusal.is_transient]
        return Deferred(waiting[0].reason) if waiting else Suppressed(Reason.FACTS_CHANGED)
    waiting = [refusal for refusal in answer.refusals if refusal.is_transient]
    if waiting:
        return Deferred(waiting[0].reason)
    return Suppressed(_main_reason(answer.refusals, own=own))


def _main_reason(refusals: Sequence[PermitRefusal], *, own: AbstractSet[UUID]) -> str:
    """The reason of the notice's own lines before that of the lines merely listed."""
    ordered = sorted(refusals, key=lambda refusal: refusal.receivable_id not in own)
    return ordered[0].reason if ordered else Reason.SETTLED
