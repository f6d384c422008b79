"""Judges promises and payment plans by what was paid, by value date and once cash is known (D10); pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final
from uuid import UUID

from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.condition import Subject
from cobranza.dunning.domain.decision import Judging, PlanEnding, PlanOutcome
from cobranza.dunning.domain.facts import AccountFacts, Debtor, Promise, PromiseVerdict, Stop
from cobranza.dunning.domain.ladder import DAY, Ladder
from cobranza.dunning.domain.policy import DefaultAfter

#: For so long a broken promise counts against the debtor.
BROKEN_COUNTS: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of an account's promises and plans.

    Args:
        check_on: days on which a date alone may change the verdicts.
    """

    judgings: tuple[Judging, ...] = ()
    endings: tuple[PlanEnding, ...] = ()
    check_on: tuple[date, ...] = ()


def judge(ladder: Ladder | None, facts: AccountFacts, as_of: date) -> Judged:
    """Judge promises whose verdict changes; one that was judged before is judged again when money moves."""
    tolerance = 0 if ladder is None else ladder.policy.promises.tolerance
    rule = DefaultAfter() if ladder is None else ladder.policy.plans.default_after
    is_open = {item.receivable_id for item in facts.items}
    verdicts: dict[UUID, PromiseVerdict] = {}
    for promise in facts.promises:
        paid = paid_towards(promise, facts.promises)
        due = max(1, promise.amount - tolerance)
        verdict: PromiseVerdict = promise.verdict
        if verdict == "withdrawn":
            pass
        elif paid >= due:
            verdict = "kept"
        elif verdict == "open" and not _may_be_paid(promise, facts.promises, is_open, due):
            # Credited, cancelled or written off: there is nothing left to keep it with.
            verdict = "withdrawn"
        elif as_of > promise.limit_on and _is_known(facts, promise.limit_on):
            verdict = "broken"
        verdicts[promise.promise_id] = verdict
    endings: list[PlanEnding] = []
    check_on: list[date] = []
    for stop in facts.stops:
        if stop.reason == Reason.PLANNED and stop.until_on is None and stop.stop_id is not None:
            siblings = [promise for promise in facts.promises if promise.plan_id == stop.stop_id]
            outcome, dates = _plan_outcome(siblings, verdicts, rule, tolerance, as_of)
            if outcome is None:
                check_on += dates
                continue
            total = sum(promise.amount for promise in siblings)
            paid = max(0, min(total, sum(amount for _, amount in siblings[0].paid)))
            endings.append(PlanEnding(stop.stop_id, outcome, paid))
            over: PromiseVerdict = "withdrawn"
            verdicts |= {p.promise_id: over for p in siblings if verdicts[p.promise_id] == "open"}
    judgings: list[Judging] = []
    for promise in facts.promises:
        verdict = verdicts[promise.promise_id]
        if verdict != promise.verdict:
            judgings.append(Judging(promise, verdict, paid_towards(promise, facts.promises)))
        if verdict == "broken":
            judged_on = promise.judged_on if promise.verdict == "broken" else None
            check_on.append((judged_on or as_of) + BROKEN_COUNTS)
        elif verdict == "open" or (
            # Kept before its limit and taken back: it may still be paid.
            verdict == "kept" and paid_towards(promise, facts.promises) < promise.amount - tolerance
        ):
            check_on.append(max(as_of, promise.limit_on) + DAY)
    return Judged(tuple(judgings), tuple(endings), tuple(check_on))


def judged(
    facts: AccountFacts, judgings: Sequence[Judging], endings: Sequence[PlanEnding], as_of: date
) -> AccountFacts:
    """The facts once promises were judged and plans have ended; their stops end the day before."""
    if not judgings and not endings:
        return facts
    verdicts = {judging.promise.promise_id: judging.verdict for judging in judgings}
    ended = {*verdicts, *(ending.plan_id for ending in endings)}
    return facts._replace(
        promises=tuple(
            replace(promise, verdict=verdicts[promise.promise_id], judged_on=as_of)
            if promise.promise_id in verdicts
            else promise
            for promise in facts.promises
        ),
        stops=tuple(ended_before(stop, as_of) if stop.stop_id in ended else stop for stop in facts.stops),
    )


def ended_before(stop: Stop, on: date) -> Stop:
    """The stop, over on the day before `on`."""
    return replace(stop, until_on=on - DAY if stop.until_on is None else min(stop.until_on, on - DAY))


def paid_towards(promise: Promise, promises: Sequence[Promise]) -> int:
    """What was paid towards a promise by its limit, minor units; a plan's money pays its instalments in order."""
    paid = sum(amount for on, amount in promise.paid if amount < 0 or on <= promise.limit_on)
    if promise.plan_id is not None:
        paid -= sum(
            other.amount
            for other in promises
            if other.plan_id == promise.plan_id
            and (other.limit_on, other.promise_id) < (promise.limit_on, promise.promise_id)
        )
    return max(0, min(promise.amount, paid))


def paid_on(facts: AccountFacts, receivable_id: UUID, on: date, paid: int) -> tuple[Promise, ...]:
    """The promises once money was applied to a receivable, or taken back from it.

    Args:
        on: value date.
        paid: minor units; negative: taken back.
    """
    plans = {promise.plan_id for promise in facts.promises if receivable_id in promise.amounts} - {None}
    return tuple(
        replace(promise, paid=(*promise.paid, (on, paid)))
        if receivable_id in promise.amounts or promise.plan_id in plans
        else promise
        for promise in facts.promises
    )


def broken_in_a_year(promises: Sequence[Promise], as_of: date) -> int:
    """How many promises were broken in the last twelve months."""
    return sum(
        promise.verdict == "broken" and promise.judged_on is not None and promise.judged_on + BROKEN_COUNTS > as_of
        for promise in promises
    )


def _is_known(facts: AccountFacts, through_on: date) -> bool:
    cash = facts.cash
    return cash is None or (cash.known_through is not None and cash.known_through >= through_on)


def _may_be_paid(promise: Promise, promises: Sequence[Promise], is_open: set[UUID], due: int) -> bool:
    named: set[UUID] = set(promise.amounts)
    if promise.plan_id is not None:
        named = {receivable for other in promises if other.plan_id == promise.plan_id for receivable in other.amounts}
    return not named.isdisjoint(is_open) or sum(amount for _, amount in promise.paid) >= due


def _plan_outcome(
    siblings: Sequence[Promise],
    verdicts: Mapping[UUID, str],
    rule: DefaultAfter,
    tolerance: int,
    as_of: date,
) -> tuple[PlanOutcome | None, list[date]]:
    """How a plan ends now; None: it goes on, and these days may end it."""
    if not siblings:
        return None, []
    found = {verdicts[promise.promise_id] for promise in siblings}
    total = sum(amount for _, amount in siblings[0].paid)
    if found == {"kept"} or total >= sum(promise.amount for promise in siblings) - tolerance:
        return "completed", []
    if found <= {"kept", "withdrawn"}:
        return "cancelled", []
    due = missed = 0
    dates: list[date] = []
    for promise in sorted(siblings, key=lambda promise: (promise.limit_on, promise.promise_id)):
        due += promise.amount
        if verdicts[promise.promise_id] != "broken" or total >= due - tolerance:
            continue
        late_on = promise.limit_on + rule.days * DAY
        if as_of > late_on:
            missed += 1
        else:
            dates.append(late_on + DAY)
    return ("defaulted" if missed >= rule.missed else None), dates


def subject_of(debtor: Debtor, promises: Sequence[Promise], as_of: date) -> Subject:
    """What conditions may ask of the customer alone, as the choice of a policy does."""
    return Subject(
        segment=debtor.segment,
        risk=debtor.risk,
        country=debtor.country,
        language=debtor.language,
        tag=debtor.tags,
        protected_party=debtor.protected_party,
        broken_promises=debtor.broken_promises + broken_in_a_year(promises, as_of),
        months_as_customer=None if debtor.since is None else _months(debtor.since, as_of),
        reachable=debtor.reachable,
    )


def _months(since: date, as_of: date) -> int:
    months = (as_of.year - since.year) * 12 + as_of.month - since.month
    return months - (as_of.day < since.day)
