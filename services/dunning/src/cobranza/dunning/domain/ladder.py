"""A policy made ready to be evaluated many times: defaults filled in, dates as differences, days rolled once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import cache, partial
from typing import Final

from cobranza.contracts.calendar import BusinessCalendar, Roll
from cobranza.dunning.domain.condition import Always, Condition
from cobranza.dunning.domain.decision import GateValues, Minor, shown
from cobranza.dunning.domain.policy import CONTACTS, IRREVERSIBLE, Policy, Step

DAY: Final = timedelta(days=1)
_NO_TIME: Final = timedelta(0)
#: Business days for a person to do what a step without `task` asks.
_DUE_BUSINESS_DAYS: Final = 2


class Rung:
    """One step with everything an evaluation asks of it."""

    __slots__ = (
        "asks", "base", "business_days", "case_least", "case_materiality", "case_percent", "condition",
        "counts_from_due", "delta", "due_business_days", "early", "evidence", "is_contact", "is_effect", "item_least",
        "item_percent", "min_gap", "must_be_delivered", "needs_delivered_notice", "position", "required",
        "required_position", "requires_gate", "roll", "step", "suspends_service", "term", "waits_for_grace",
    )  # fmt: skip

    def __init__(self, policy: Policy, step: Step) -> None:
        materiality = step.materiality or policy.materiality
        requires = step.requires
        self.step = step
        self.position = step.position
        self.base = step.base
        self.delta = step.offset * DAY
        self.business_days = step.offset if step.unit == "business" else None
        self.counts_from_due = step.base == "due" and step.unit != "business"
        self.is_contact = step.kind in CONTACTS
        self.is_effect = step.kind == "effect"
        # What is said up to the due date makes no sense after it.
        self.early = step.base == "issue" or (step.base == "due" and step.offset <= 0)
        self.waits_for_grace = step.base == "due" and step.offset > 0 and policy.grace_days > 0
        gap = policy.min_gap_days if step.min_gap_days is None else step.min_gap_days
        # Never two contacts of a case on one day, whatever the policy says.
        self.min_gap = max(1, gap) * DAY if self.is_contact else _NO_TIME
        self.roll: Roll = policy.roll if step.roll is None else step.roll
        self.item_least = materiality.item.amount
        self.item_percent = materiality.item.percent
        self.case_least = max(1, materiality.case.amount)
        self.case_percent = materiality.case.percent
        self.case_materiality = f"{shown(Minor(self.case_least, policy.currency))}, {self.case_percent} %"
        self.condition: Condition | None = None if isinstance(step.when, Always) else step.when
        self.asks = tuple(sorted(step.when.fields()))
        self.required = None if requires is None else requires.issued
        self.required_position = None if self.required is None else policy.position_of(self.required)
        self.requires_gate: GateValues = ("requires", self.required, "-", False)
        self.term = _NO_TIME if requires is None else ((requires.term_days or 0) + 1) * DAY
        self.must_be_delivered = requires is not None and requires.delivered
        self.evidence = frozenset() if requires is None else frozenset(requires.evidence)
        self.suspends_service = step.effect == "suspend_service"
        self.needs_delivered_notice = step.effect in IRREVERSIBLE
        self.due_business_days = _DUE_BUSINESS_DAYS if step.task is None else step.task.due_business_days


class Ladder:
    """A policy and the creditor's business days."""

    __slots__ = ("by_id", "calendar", "first_contact_max", "following", "grace", "policy", "preceding", "rungs")

    #: The day, or the next that is worked; the day, or the last before it that is worked.
    following: Callable[[date], date]
    preceding: Callable[[date], date]

    def __init__(self, policy: Policy, calendar: BusinessCalendar) -> None:
        self.policy = policy
        self.calendar = calendar
        self.rungs = tuple(Rung(policy, step) for step in policy.steps)
        self.by_id = {rung.step.id: rung for rung in self.rungs}
        self.first_contact_max = policy.position_of(policy.catch_up.first_contact_max)
        self.grace = (policy.grace_days + 1) * DAY
        # Asked for every step of every receivable, of the same few days.
        self.following = cache(partial(calendar.roll, convention="following"))
        self.preceding = cache(partial(calendar.roll, convention="preceding"))

    def before_a_worked_day(self, day: date) -> date:
        """The first worked day from `day` on that another worked day follows."""
        day = self.following(day)
        while self.following(day + DAY) != day + DAY:
            day = self.following(day + DAY)
        return day
