"""The last gate before a notice that asks for money: what may be claimed now, or why nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal
from uuid import UUID

from cobranza.contracts.payloads import Purpose
from cobranza.contracts.reasons import Reason
from cobranza.payments.domain.ledger import Receivable, oldest_first

#: How long a permit lives, in real seconds from the start of the sender's request.
TTL_SECONDS: Final = 15
#: Holds older than this are not known well enough, in real seconds.
FRESH_SECONDS: Final = 60.0

StopKind = Literal["hold", "promise", "plan", "dispute"]

# A reminder of a promise or a plan passes the stop it belongs to.
_PASSES: Mapping[str, StopKind] = {Purpose.PROMISE_REMINDER: "promise", Purpose.PLAN_REMINDER: "plan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What dunning stopped: of one receivable or of all, an amount in minor units or all that is open."""

    kind: StopKind
    receivable_id: UUID | None
    amount: int | None
    reason: str
    until_on: date | None

    def is_in_force(self, on: date) -> bool:
        """Whether it stops on that day; its last day is inclusive."""
        return self.until_on is None or on <= self.until_on

    def concerns(self, receivable_id: UUID) -> bool:
        """Whether it stops that receivable."""
        return self.receivable_id is None or self.receivable_id == receivable_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """A receivable and what of it may be asked for, in minor units."""

    receivable: Receivable
    disputed: int
    promised: int
    planned: int

    @property
    def amount(self) -> int:
        """Open less disputed, promised and planned."""
        return self.receivable.open - self.disputed - self.promised - self.planned


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a receivable, or without one the whole notice, is refused."""

    reason: Reason
    receivable_id: UUID | None = None
    hold: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What notifications asks, with everything the ledger knows about it.

    Args:
        unapplied: the customer's credit in the receivables' currency, in minor units.
        proposed: the most that an open suggestion would apply to a receivable, in minor units.
        doubts: why facts are not fresh or not trusted.
    """

    purpose: str
    receivable_ids: Sequence[UUID]
    receivables: Mapping[UUID, Receivable]
    stops: Sequence[Stop]
    unapplied: int
    credit_stops: bool
    proposed: Mapping[UUID, int]
    doubts: frozenset[Reason]
    on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer: granted when a line is left and nothing is in doubt."""

    lines: tuple[Claimable, ...]
    refusals: tuple[Refusal, ...]
    credit: int
    granted: bool

    @property
    def claimed(self) -> int:
        """What the notice claims: the lines less the credit, in minor units."""
        return sum(line.amount for line in self.lines) - self.credit


def judge(question: Question) -> Verdict:
    """Run the gates in their order.

    Refusals that are final for a receivable come first: where they leave nothing, no fresher fact
    can make the notice right. A doubt refuses the notice as a whole, for the moment.
    """
    refusals: list[Refusal] = []
    lines: list[Claimable] = []
    unknown = False
    for receivable_id in dict.fromkeys(question.receivable_ids):
        receivable = question.receivables.get(receivable_id)
        if receivable is None:
            refusals.append(Refusal(Reason.UNKNOWN_RECEIVABLE, receivable_id))
            unknown = True
        elif receivable.open == 0:
            refusals.append(Refusal(Reason.SETTLED, receivable_id))
        else:
            line, stop = _claimable(receivable, question)
            if stop is not None:
                refusals.append(Refusal(Reason.ON_HOLD, receivable_id, stop))
            else:
                lines.append(line)
    # Money that is there and may close it: a person says first whether it does.
    pending = [line for line in lines if line.amount <= question.proposed.get(line.receivable.receivable_id, 0)]
    refusals += [Refusal(Reason.COVERED_BY_CREDIT, line.receivable.receivable_id) for line in pending]
    lines = [line for line in lines if line not in pending]
    covered, credit = _covered(lines, question)
    refusals += [Refusal(Reason.COVERED_BY_CREDIT, line.receivable.receivable_id) for line in covered]
    lines = [line for line in lines if line not in covered]
    if lines or unknown:
        refusals += [Refusal(reason) for reason in sorted(question.doubts)]
    granted = bool(lines) and not unknown and not question.doubts
    return Verdict(
        lines=tuple(lines) if granted else (),
        refusals=tuple(refusals),
        credit=credit if granted else 0,
        granted=granted,
    )


def _claimable(receivable: Receivable, question: Question) -> tuple[Claimable, str | None]:
    """What may be asked for of an open receivable, and what stops all of it, if anything does."""
    passes = _PASSES.get(question.purpose)
    stops = [
        stop
        for stop in question.stops
        if stop.kind != passes and stop.concerns(receivable.receivable_id) and stop.is_in_force(question.on)
    ]
    left = receivable.open
    amounts: dict[StopKind, int] = {}
    for kind in ("dispute", "promise", "plan"):
        amounts[kind] = min(left, _sum(stops, kind))
        left -= amounts[kind]
    line = Claimable(
        receivable=receivable, disputed=amounts["dispute"], promised=amounts["promise"], planned=amounts["plan"]
    )
    hold = next((stop.reason for stop in stops if stop.amount is None), None)
    if hold is None and line.amount == 0:
        hold = next(kind for kind, amount in amounts.items() if amount)
    return line, hold


def _sum(stops: Iterable[Stop], kind: StopKind) -> int:
    return sum(stop.amount or 0 for stop in stops if stop.kind == kind)


def _covered(lines: Sequence[Claimable], question: Question) -> tuple[list[Claimable], int]:
    """Lines the customer's credit covers whole, oldest first, and the credit that is left."""
    if question.credit_stops and question.unapplied:
        return list(lines), 0
    by_id = {line.receivable.receivable_id: line for line in lines}
    covered: list[Claimable] = []
    credit = question.unapplied
    for receivable in oldest_first(line.receivable for line in lines):
        line = by_id[receivable.receivable_id]
        if line.amount > credit:
            break
        covered.append(line)
        credit -= line.amount
    return covered, credit
