"""Plays a policy over dated facts: what would be done each day, and why nothing is; pure.

It evaluates and folds as production does; only the answers of the outside world are assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

from cobranza.contracts import dunning, notifications, payments
from cobranza.contracts.money import to_decimal
from cobranza.contracts.payloads import Payload
from cobranza.dunning.domain.account import (
    Account,
    answer_delivered,
    answer_sent,
    answer_task,
    applied,
    at_hand,
    follow,
    follow_closed,
)
from cobranza.dunning.domain.agreements import subject_of
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.decision import Action, Decision
from cobranza.dunning.domain.errors import UnknownStepRunError
from cobranza.dunning.domain.facts import UNDER_WAY, AccountFacts, CashNeed, Item, Run
from cobranza.dunning.domain.ladder import DAY, Ladder

#: What is taken to happen to everything that is asked for: nothing, or the best, at once.
Assumption = Literal["nothing", "delivered_and_approved_same_day"]

_OUTCOMES: Final = (
    notifications.NoticeSent,
    notifications.NoticeDelivered,
    notifications.NoticeFailed,
    notifications.NoticeSuppressed,
    dunning.TaskCompleted,
    payments.LateChargeAssessed,
    payments.LateChargeRefused,
)
#: One day comes to rest after so many evaluations, whatever the policy says.
_MOST_A_DAY: Final = 60


@dataclass(frozen=True, slots=True)
class DatedFact:
    """A published event and the business date on which it is known."""

    on: date
    told: Payload


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One decision of a simulated day; `repeats` when no fact and no date could have changed it."""

    on: date
    customer: str
    decision: Decision
    currency: str
    repeats: bool = False

    def as_values(self) -> dict[str, Any]:
        """The decision as a program reads it."""
        items = {item.receivable_id: item for item in self.decision.items}
        return {
            "on": self.on.isoformat(),
            "customer": self.customer,
            "outcome": self.decision.outcome,
            "case_state": self.decision.case_state,
            "actions": [self._action(action, items) for action in self.decision.actions],
            "undone": [[undoing.by, undoing.reason] for undoing in self.decision.undoings],
            "told": [[telling.purpose, len(telling.receivable_ids)] for telling in self.decision.tellings],
            "skipped": [[item.number, step.id, str(why)] for item in self.decision.items for step, why in item.skipped],
            "closed": [[closing.run.step, str(closing.reason)] for closing in self.decision.closings],
            "asked": [asking.kind for asking in self.decision.askings],
            "reasons": [{"code": str(found.code), "values": found.as_values()} for found in self.decision.reasons],
            "next_check_on": None if self.decision.next_check_on is None else self.decision.next_check_on.isoformat(),
        }

    def _action(self, action: Action, items: Mapping[Any, Any]) -> dict[str, Any]:
        step = action.step
        return {
            "step": step.id,
            "kind": step.kind,
            "state": "requested" if action.approval is None else "proposed",
            "channels": [channel for channel in (step.channel, *step.also) if channel is not None],
            "effect": step.effect,
            "interest": action.charges_interest,
            "tone": action.tone,
            "items": [
                {
                    "number": items[line.receivable_id].number,
                    "step": None if line.step is None else line.step.id,
                    "amount": self._amount(items[line.receivable_id].claimable),
                }
                for line in action.lines
            ],
            "claimed": self._amount(action.claimed),
        }

    def _amount(self, minor: int) -> str:
        return f"{to_decimal(minor, self.currency):f} {self.currency}"


def simulate(
    ladder: Ladder, facts: Sequence[DatedFact], *, first: date, last: date, assume: Assumption
) -> list[Evaluated]:
    """Every evaluation from the first to the last day, inclusive, of every customer in the facts.

    Args:
        facts: in any order; those before the first day are known from the start.

    Raises:
        UnknownStepRunError: an outcome names a step run that was not requested by then.
    """
    run = _Run(ladder, assume, states_cash=any(isinstance(fact.told, payments.CashWatermark) for fact in facts))
    by_day: dict[date, list[Payload]] = {}
    for fact in facts:
        by_day.setdefault(max(fact.on, first), []).append(fact.told)
    # What was known before comes in the order of its own dates.
    by_day[first] = [fact.told for fact in sorted(facts, key=lambda fact: fact.on) if fact.on <= first]
    evaluated: list[Evaluated] = []
    day = first
    while day <= last:
        evaluated += run.day(day, by_day.get(day, ()))
        day += DAY
    return evaluated


def replay(
    ladder: Ladder, account: Account, customer: str, facts: Sequence[DatedFact], *, first: date, last: date
) -> list[Evaluated]:
    """Every evaluation of an account whose facts become known on their days; only those that change something.

    All that is asked for is taken to be delivered and approved the same day.

    Args:
        account: what is known before the first of the facts.
        facts: as `simulate` takes them, of this customer alone.
    """
    run = _Run(ladder, "delivered_and_approved_same_day", states_cash=False)
    run.know(customer, account)
    by_day: dict[date, list[Payload]] = {}
    for fact in sorted(facts, key=lambda fact: fact.on):
        by_day.setdefault(max(fact.on, first), []).append(fact.told)
    told_on = sorted(on for on in by_day if on <= last)
    evaluated: list[Evaluated] = []
    day: date | None = first
    while day is not None and day <= last:
        evaluated += [entry for entry in run.day(day, by_day.get(day, ())) if not entry.repeats]
        while told_on and told_on[0] <= day:
            told_on.pop(0)
        # Nothing can change between the days on which something is told and the next check.
        day = min((on for on in (*told_on[:1], run.next_check_of(customer)) if on is not None), default=None)
    return evaluated


def play(ladder: Ladder, account: Account, customer: str, *, first: date, last: date) -> list[Evaluated]:
    """Every evaluation of an account from the first to the last day, inclusive, when nothing else becomes known.

    All that is asked for is taken to be delivered and approved the same day. A receivable counts from
    the day it was issued.
    """
    run = _Run(ladder, "delivered_and_approved_same_day", states_cash=False)
    waiting = [item for item in account.facts.items if item.issued_on is not None and item.issued_on > first]
    known = tuple(item for item in account.facts.items if item not in waiting)
    run.know(customer, account.with_facts(items=known))
    evaluated: list[Evaluated] = []
    day = first
    while day <= last:
        evaluated += run.grown(customer, [item for item in waiting if item.issued_on == day], day)
        day += DAY
    return evaluated


def _is_of(outcome: Payload, runs: Sequence[Run]) -> bool:
    named = (getattr(outcome, "step", None), getattr(outcome, "run", None))
    return any(named in ((run.step, run.number), run.notice) for run in runs)


class _Run:
    def __init__(self, ladder: Ladder, assume: Assumption, *, states_cash: bool) -> None:
        self._ladder = ladder
        self._assume = assume
        evidence = frozenset[str]()
        if assume == "delivered_and_approved_same_day":
            evidence = frozenset().union(*(rung.evidence for rung in ladder.rungs))
        self._empty = Account(
            AccountFacts(
                currency=ladder.policy.currency,
                items=(),
                cash=CashNeed(None) if states_cash else None,
                evidence=evidence,
            )
        )
        self._of_company: list[Payload] = []
        self._accounts: dict[str, Account] = {}
        self._last: dict[str, Decision] = {}

    def know(self, customer: str, account: Account) -> None:
        """Start from what is known of an account."""
        self._accounts[customer] = account

    def next_check_of(self, customer: str) -> date | None:
        """The day on which an account is evaluated again if nothing becomes known."""
        return self._last[customer].next_check_on

    def grown(self, customer: str, issued: Sequence[Item], day: date) -> list[Evaluated]:
        """A day on which nothing becomes known but what was issued."""
        if issued:
            account = self._accounts[customer]
            self._accounts[customer] = account.with_facts(items=(*account.facts.items, *issued))
        return self._look({customer} if issued else set(), day)

    def day(self, day: date, told: Sequence[Payload]) -> list[Evaluated]:
        outcomes = [payload for payload in told if isinstance(payload, _OUTCOMES)]
        changed = self._follow([payload for payload in told if not isinstance(payload, _OUTCOMES)])
        evaluated = self._look(changed, day)
        if outcomes:
            # What became of a request is told after it is made, be it the same day.
            self._require_runs(outcomes, day)
            evaluated += [entry for entry in self._look(self._follow(outcomes), day) if not entry.repeats]
        return evaluated

    def _require_runs(self, outcomes: Sequence[Payload], day: date) -> None:
        for outcome in outcomes:
            step, run = getattr(outcome, "step", None), getattr(outcome, "run", None)
            account = self._accounts.get(getattr(outcome, "customer", None) or "")
            known = () if account is None else (*account.facts.runs, *account.closed_runs)
            if step is not None and not any((r.step, r.number) == (step, run) for r in known):
                raise UnknownStepRunError(f"{day}: no run {run} of step {step} was requested")

    def _look(self, changed: set[str], day: date) -> list[Evaluated]:
        evaluated: list[Evaluated] = []
        for customer in sorted(self._accounts):
            last = self._last.get(customer)
            if (
                last is not None
                and customer not in changed
                and (last.next_check_on is None or last.next_check_on > day)
            ):
                # No date can have changed it: that is what the next check means.
                evaluated.append(Evaluated(day, customer, last, self._ladder.policy.currency, repeats=True))
            else:
                evaluated += self._evaluate(customer, day)
        return evaluated

    def _follow(self, told: Sequence[Payload]) -> set[str]:
        changed: set[str] = set()
        for payload in told:
            if getattr(payload, "currency", self._ladder.policy.currency) != self._ladder.policy.currency:
                continue
            customer = getattr(payload, "customer", None)
            if customer is None:
                self._of_company.append(payload)
                concerned = list(self._accounts)
            else:
                concerned = [customer]
                if customer not in self._accounts:
                    account = self._empty
                    for known in self._of_company:
                        account = follow(account, known, self._ladder)
                    self._accounts[customer] = account
            for one in concerned:
                before = self._accounts[one]
                is_late = isinstance(payload, _OUTCOMES) and not _is_of(payload, before.facts.runs)
                fold = follow_closed if is_late and _is_of(payload, before.closed_runs) else follow
                self._accounts[one] = fold(before, payload, self._ladder)
                changed.add(one)
        return changed

    def _evaluate(self, customer: str, day: date) -> list[Evaluated]:
        evaluated: list[Evaluated] = []
        for _ in range(_MOST_A_DAY):
            account = self._accounts[customer]
            ladder = self._ladder_for(account, day)
            decision = evaluate(ladder, account.facts, day)
            account = applied(account, ladder, decision, day)
            if self._assume == "delivered_and_approved_same_day":
                for action in decision.actions:
                    account = self._answered(account, action, day)
            self._accounts[customer] = at_hand(account)
            self._last[customer] = decision._replace(actions=(), closings=(), undoings=(), tellings=(), askings=())
            if not evaluated or decision.changes_facts:
                evaluated.append(Evaluated(day, customer, decision, self._ladder.policy.currency))
            if not decision.actions or self._assume == "nothing":
                # As in production: what was decided is looked at again when it is answered, or on its date.
                break
        return evaluated

    def _ladder_for(self, account: Account, day: date) -> Ladder | None:
        """The policy, unless it is for others: a case to which nothing was issued yet asks anew whether it applies."""
        facts = account.facts
        if any(item.level for item in facts.items) or any(run.state in UNDER_WAY for run in facts.runs):
            return self._ladder
        subject = subject_of(facts.debtor, facts.promises, day)
        return self._ladder if self._ladder.policy.applies_to.holds(subject) else None

    def _answered(self, account: Account, action: Action, day: date) -> Account:
        """The outside world does the best, the same day."""
        step = action.step.id
        number = max(run.number for run in account.facts.runs if run.step == step)
        if action.approval is not None:
            return answer_task(account, self._ladder, step=step, run=number, disposition="approved", on=day)
        if action.step.kind == "notice":
            granted = frozenset(line.receivable_id for line in action.lines)
            account = answer_sent(account, self._ladder, step=step, run=number, granted=granted, on=day)
            return answer_delivered(account, self._ladder, step=step, run=number, on=day)
        return answer_task(account, self._ladder, step=step, run=number, disposition="done", on=day)
