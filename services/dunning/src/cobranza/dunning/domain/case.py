"""`evaluate`: from policy, facts and date to a decision, and nothing else.

An event or a date is only a reason to call it again, so repeats, re-ordering and outages change nothing.
Source: docs of the product, semantics D1, D2, D3, D7, D8, D17, D18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from uuid import UUID

from cobranza.contracts.calendar import BusinessCalendar
from cobranza.contracts.money import to_decimal
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.decision import (
    Candidate,
    CaseState,
    Contact,
    Decision,
    Finding,
    Gate,
    ItemDecision,
    ItemState,
    Line,
    Outcome,
)
from cobranza.dunning.domain.facts import AccountFacts, Item, Stop
from cobranza.dunning.domain.policy import EXPIRES_AFTER_DAYS, HARDNESS, TONES, Policy, Step, Tone

#: A notice lists at most so many receivables, so that its event stays readable; those that move come first.
MOST_LINES: Final = 400
_DAY: Final = timedelta(days=1)


def evaluate(policy: Policy | None, facts: AccountFacts, as_of: date, calendar: BusinessCalendar) -> Decision:
    """Decide for one account on one day.

    Args:
        policy: the version the case is pinned to, or that a new case would take; None: no policy applies.
        facts: what is known; their order does not matter.
        as_of: the company's local date.
        calendar: the creditor's business days.
    """
    if not facts.items:
        return _nothing_open()
    if policy is None:
        return _without_policy(facts, as_of)
    return _Evaluation(policy, facts, as_of, calendar).decide()


def _nothing_open() -> Decision:
    return Decision(
        outcome="stopped",
        reasons=(Finding(Reason.SETTLED),),
        items=(),
        gates=(),
        next_check_on=None,
        case_state="closed",
        is_in_window=False,
    )


def _without_policy(facts: AccountFacts, as_of: date) -> Decision:
    items = sorted(facts.items, key=_order)
    return Decision(
        outcome="stopped",
        reasons=(Finding(Reason.NO_POLICY, {"currency": facts.currency}),),
        items=tuple(
            ItemDecision(item.receivable_id, item.number, "dunnable" if as_of > item.due_on else "not_due")
            for item in items
        ),
        gates=(Gate("policy", "1", "0", ok=False),),
        next_check_on=None,
        case_state="waiting",
        is_in_window=items[0].due_on < as_of,
    )


@dataclass(slots=True)
class _Plan:
    """One item on its way through the evaluation."""

    item: Item
    state: ItemState
    stop: Stop | None = None
    step: Step | None = None
    skipped: tuple[tuple[Step, Reason], ...] = ()
    candidates: tuple[Candidate, ...] = ()
    finding: Finding | None = None
    is_through: bool = False
    has_ended: bool = False
    resumes_on: date | None = None

    def decided(self) -> ItemDecision:
        return ItemDecision(
            self.item.receivable_id,
            self.item.number,
            self.state,
            self.candidates,
            self.step,
            self.skipped,
            self.finding,
            self.has_ended,
        )


class _Evaluation:
    """One call of `evaluate`."""

    def __init__(self, policy: Policy, facts: AccountFacts, as_of: date, calendar: BusinessCalendar) -> None:
        self._policy = policy
        self._facts = facts
        self._as_of = as_of
        self._today = as_of.isoformat()
        self._calendar = calendar
        self._dates: list[date] = []
        self._gates: list[Gate] = []
        self._plans = [self._planned(item) for item in sorted(facts.items, key=_order)]

    def decide(self) -> Decision:
        self._cover()
        for plan in self._plans:
            if plan.state in ("not_due", "grace", "dunnable"):
                self._choose(plan)
                if plan.is_through:
                    self._see_end(plan)
        moving = [plan for plan in self._plans if plan.step is not None]
        contact: Contact | None = None
        held_back = self._held_back(moving)
        if held_back is not None:
            outcome, reasons = held_back
            for plan in self._plans:
                # What is held back is chosen anew at the next evaluation; nothing was skipped for it.
                plan.step, plan.skipped = None, ()
        elif moving:
            outcome, reasons, contact = self._act(moving)
        else:
            outcome, reasons = self._without_move()
        in_window = self._is_in_window()
        return Decision(
            outcome=outcome,
            reasons=reasons,
            items=tuple(plan.decided() for plan in self._plans),
            gates=tuple(self._gates),
            next_check_on=min((on for on in self._dates if on > self._as_of), default=None),
            case_state=self._case_state(in_window),
            is_in_window=in_window,
            contact=contact,
        )

    # What each item may do.

    def _planned(self, item: Item) -> _Plan:
        as_of, due = self._as_of, item.due_on
        dunnable_from = due + (self._policy.grace_days + 1) * _DAY
        state: ItemState
        if as_of >= dunnable_from:
            state = "dunnable"
        else:
            state = "grace" if as_of > due else "not_due"
            # Each of these days may change what is listed, covered or worth a contact.
            self._dates += (due + _DAY, dunnable_from)
        plan = _Plan(item, state)
        for stop in self._facts.stops:
            if not stop.covers(item.receivable_id):
                continue
            if stop.is_in_force(as_of):
                if plan.stop is None or _later(stop.until_on, plan.stop.until_on):
                    plan.stop = stop
            elif stop.until_on is not None and stop.from_on <= stop.until_on < as_of:
                resumes_on = stop.until_on + _DAY
                plan.resumes_on = resumes_on if plan.resumes_on is None else max(plan.resumes_on, resumes_on)
        if plan.stop is not None:
            plan.state = "held"
            until = plan.stop.until_on
            values = {"invoice": item.number, "kind": plan.stop.kind}
            if until is not None:
                self._dates.append(until + _DAY)
                values["until"] = until.isoformat()
            plan.finding = Finding(plan.stop.reason, values)
        return plan

    def _cover(self) -> None:
        """Unapplied credit is consumed once, oldest item first; what it covers wholly is not claimed (D7)."""
        left = self._facts.unapplied
        for plan in self._plans:
            if plan.state != "dunnable":
                continue
            if left < plan.item.open:
                break
            left -= plan.item.open
            plan.state = "covered"
            plan.finding = Finding(
                Reason.COVERED_BY_CREDIT,
                {
                    "invoice": plan.item.number,
                    "open": self._amount(plan.item.open),
                    "unapplied": self._amount(self._facts.unapplied),
                },
            )

    def _choose(self, plan: _Plan) -> None:
        """Choose the step an item takes today, by the policy's catch-up rule (D2, D3)."""
        item, as_of = plan.item, self._as_of
        due: list[tuple[Step, date]] = []
        skipped: list[tuple[Step, Reason]] = []
        candidates: list[Candidate] = []
        mode = self._policy.catch_up.mode
        stale_after = self._policy.catch_up.stale_after_days
        ahead: tuple[Step, date, Reason] | None = None
        for step in self._policy.steps[item.passed :]:
            on, why, gates = self._date(step, plan)
            candidates.append(Candidate(step.id, on, gates))
            if on > as_of:
                ahead = (step, on, why)
                self._dates.append(on)
                break
            if step.offset <= 0 and as_of > max(item.due_on, self._rolled_base(step, item)):
                # What is said before or on the due date makes no sense after it.
                skipped.append((step, Reason.STALE))
            elif mode == "none" and (as_of - on).days > stale_after:
                skipped.append((step, Reason.STALE))
            else:
                due.append((step, on))
                if mode == "none":
                    # Held back for another reason it may grow stale: that day changes the outcome too.
                    self._dates.append(on + (stale_after + 1) * _DAY)
        plan.candidates = tuple(candidates)
        if due:
            chosen = self._chosen([step for step, _ in due], plan)
            plan.step = chosen
            skipped += [(step, Reason.CATCH_UP) for step, _ in due if step.position < chosen.position]
        plan.skipped = tuple(skipped)
        if plan.step is not None:
            return
        if ahead is not None:
            step, on, why = ahead
            plan.finding = Finding(why, {"invoice": item.number, "step": step.id, "on": on.isoformat()})
        else:
            plan.is_through = True

    def _chosen(self, due: Sequence[Step], plan: _Plan) -> Step:
        # After a stop that covered a missed date the ladder goes on one step at a time.
        if self._policy.catch_up.mode != "collapse" or self._missed_by_stop(due, plan):
            return due[0]
        first_max = self._policy.catch_up.first_contact_max
        if plan.item.level == 0 and first_max is not None:
            allowed = [step for step in due if step.position <= first_max]
            return allowed[-1] if allowed else due[0]
        return due[-1]

    def _missed_by_stop(self, due: Sequence[Step], plan: _Plan) -> bool:
        dates = [plan.item.due_on + step.offset * _DAY for step in due]
        return any(
            stop.covers(plan.item.receivable_id)
            and stop.until_on is not None
            and any(stop.from_on <= on <= stop.until_on for on in dates)
            for stop in self._facts.stops
        )

    def _date(self, step: Step, plan: _Plan) -> tuple[date, Reason, tuple[Gate, ...]]:
        """The day from which a step may be taken, what decides it, and its gates (D2, D18)."""
        as_of, due = self._as_of, plan.item.due_on
        base = due + step.offset * _DAY
        raw, why = base, Reason.NOT_DUE
        gates = [Gate("date", base.isoformat(), self._today, as_of >= base)]
        if step.offset > 0 and self._policy.grace_days:
            floor = due + (self._policy.grace_days + 1) * _DAY
            gates.append(Gate("grace", floor.isoformat(), self._today, as_of >= floor))
            if floor > raw:
                raw, why = floor, Reason.IN_GRACE
        if self._facts.last_contact_on is not None:
            # Never two contacts of a case on one day, whatever the policy says.
            gap = self._facts.last_contact_on + max(1, step.min_gap_days) * _DAY
            gates.append(Gate("min_gap", gap.isoformat(), self._today, as_of >= gap))
            if gap > raw:
                raw, why = gap, Reason.MIN_GAP
        if plan.resumes_on is not None and plan.resumes_on > raw:
            raw, why = plan.resumes_on, Reason.ON_HOLD
        convention = step.roll
        if convention == "preceding" and raw >= due:
            convention = "following"
        on = self._calendar.roll(raw, convention)
        if on <= as_of and convention != "none":
            # Late, on a day that is not worked: the next worked day.
            today = self._calendar.roll(as_of, "following")
            on = today if today > as_of else on
        if on != raw:
            gates.append(Gate("business_day", on.isoformat(), self._today, as_of >= on))
            if raw <= as_of:
                why = Reason.ROLLED
        return on, why, tuple(gates)

    def _rolled_base(self, step: Step, item: Item) -> date:
        return self._calendar.roll(item.due_on + step.offset * _DAY, step.roll)

    def _see_end(self, plan: _Plan) -> None:
        """All steps of an item are behind it: after the end's days a person decides."""
        last = self._policy.steps[-1]
        reached = plan.item.due_on + last.offset * _DAY
        if plan.item.level and plan.item.last_notice_on is not None:
            reached = max(reached, plan.item.last_notice_on)
        end_on = reached + self._policy.end.after_days * _DAY
        values = {"invoice": plan.item.number, "on": end_on.isoformat()}
        if self._as_of >= end_on:
            plan.has_ended = True
            plan.finding = Finding(Reason.END_REACHED, values)
        else:
            self._dates.append(end_on)
            plan.finding = Finding(Reason.NOT_DUE, {**values, "step": "end"})

    # What the case does.

    def _without_move(self) -> tuple[Outcome, tuple[Finding, ...]]:
        findings = _findings(self._plans)
        live = [plan for plan in self._plans if not plan.has_ended]
        if not live:
            return "ended", findings
        if all(plan.state in ("held", "covered") for plan in live):
            return "stopped", findings
        if any(plan.skipped for plan in live):
            return "skipped", findings
        return "wait", findings

    def _held_back(self, moving: Sequence[_Plan]) -> tuple[Outcome, tuple[Finding, ...]] | None:
        """Why the case may not be contacted whatever its items would do; None when it may."""
        facts, as_of = self._facts, self._as_of
        if facts.start_on is not None:
            self._gates.append(Gate("start", facts.start_on.isoformat(), self._today, as_of >= facts.start_on))
            if as_of < facts.start_on:
                self._dates.append(facts.start_on)
                return "wait", (Finding(Reason.BEFORE_START, {"on": facts.start_on.isoformat()}),)
        if facts.open_run is not None:
            run = facts.open_run
            self._dates.append(max(as_of, run.expires_on) + _DAY)
            self._gates.append(Gate("run", "0", f"{run.step}#{run.run}", ok=False))
            values = {"step": run.step, "run": str(run.run), "until": run.expires_on.isoformat()}
            return "wait", (Finding(Reason.RUN_OPEN, values),)
        return self._blocked(moving) if moving else None

    def _blocked(self, moving: Sequence[_Plan]) -> tuple[Outcome, tuple[Finding, ...]] | None:
        """Why the items that would move may not; None when they may."""
        facts, as_of = self._facts, self._as_of
        small = self._below_case(moving)
        if small is not None:
            return "stopped", (small, *_findings(self._plans))
        cash_through = self._cash_through()
        if cash_through is not None and facts.cash is not None:
            known = facts.cash.known_through
            is_fresh = known is not None and known >= cash_through
            self._gates.append(Gate("cash", cash_through.isoformat(), _or_dash(known), is_fresh))
            if not is_fresh:
                self._dates.append(as_of + _DAY)
                values = {"needed": cash_through.isoformat(), "found": _or_dash(known)}
                return "wait", (Finding(Reason.CASH_STALE, values),)
        top = _highest(moving)
        refused = next((run for run in facts.refused if run.step == top.id), None)
        if refused is not None and as_of < refused.retry_on and refused.facts_hash == facts.digest():
            self._dates.append(refused.retry_on)
            self._gates.append(Gate("retry", refused.retry_on.isoformat(), self._today, ok=False))
            return "wait", (Finding(refused.reason, {"step": top.id, "on": refused.retry_on.isoformat()}),)
        return None

    def _below_case(self, moving: Sequence[_Plan]) -> Finding | None:
        """Case materiality on the net amount; its percent is of all that is open."""
        wanted = self._policy.case_materiality
        claimed = {plan.item.receivable_id: plan.item.open for plan in (*self._dunnable(), *moving)}
        covered = sum(plan.item.open for plan in self._plans if plan.state == "covered")
        net = sum(claimed.values()) - max(0, self._facts.unapplied - covered)
        total = sum(plan.item.open for plan in self._plans)
        needed = max(wanted.amount, 1)
        is_enough = net >= needed and net * 100 >= total * wanted.percent
        self._gates.append(
            Gate("materiality", f"{self._amount(needed)}, {wanted.percent} %", self._amount(net), is_enough)
        )
        if is_enough:
            return None
        return Finding(
            Reason.BELOW_CASE,
            {"needed": self._amount(needed), "percent": str(wanted.percent), "found": self._amount(net)},
        )

    def _act(self, moving: Sequence[_Plan]) -> tuple[Outcome, tuple[Finding, ...], Contact]:
        step = _highest(moving)
        for plan in moving[MOST_LINES:]:
            plan.step, plan.skipped = None, ()
        kept = moving[:MOST_LINES]
        listed = [
            plan
            for plan in self._plans
            if plan.step is None and plan.state in ("grace", "dunnable") and plan not in moving
        ]
        chosen = {plan.item.receivable_id for plan in (*kept, *listed[: MOST_LINES - len(kept)])}
        contact = Contact(
            step=step,
            tone=_not_softer(step.tone, self._facts.heard_tone),
            lines=tuple(
                Line(plan.item.receivable_id, plan.step, plan.item.last_notice_on)
                for plan in self._plans
                if plan.item.receivable_id in chosen
            ),
            cash_through=self._cash_through(),
        )
        self._dates = [self._as_of + (EXPIRES_AFTER_DAYS + 1) * _DAY]
        left = self._facts.unapplied - sum(plan.item.open for plan in self._plans if plan.state == "covered")
        reasons = (Finding(Reason.PART_COVERED, {"unapplied": self._amount(left)}),) if left > 0 else ()
        return "act", reasons, contact

    def _dunnable(self) -> list[_Plan]:
        return [plan for plan in self._plans if plan.state == "dunnable"]

    def _cash_through(self) -> date | None:
        """Through which day cash must be known: the previous banking day (D8)."""
        return None if self._facts.cash is None else self._calendar.add(self._as_of, -1)

    def _is_in_window(self) -> bool:
        """Whether an item is overdue, moves, or has reached its first step; or a stop was recorded."""
        return any(
            plan.state not in ("not_due",) or plan.step is not None or self._first_step_came(plan)
            for plan in self._plans
        )

    def _first_step_came(self, plan: _Plan) -> bool:
        first = self._policy.steps[0]
        on = self._date(first, plan)[0]
        self._dates.append(on)
        return on <= self._as_of

    def _case_state(self, in_window: bool) -> CaseState:  # noqa: FBT001 - private, one caller
        if not in_window:
            return "closed"
        states = {plan.state for plan in self._plans}
        if all(plan.has_ended for plan in self._plans):
            return "ended"
        if states == {"held"}:
            return "held"
        if "dunnable" in states:
            return "active"
        return "waiting" if states & {"held", "covered"} else "preventive"

    def _amount(self, minor: int) -> str:
        return f"{to_decimal(minor, self._facts.currency):f} {self._facts.currency}"


def _order(item: Item) -> tuple[date, UUID]:
    return item.due_on, item.receivable_id


def _highest(moving: Sequence[_Plan]) -> Step:
    return max((plan.step for plan in moving if plan.step is not None), key=lambda step: step.position)


def _not_softer(tone: Tone, heard: str | None) -> Tone:
    """The step's tone, or the hardest one already heard."""
    return TONES[max(HARDNESS[tone], HARDNESS.get(heard or "", 0))]


def _later(on: date | None, than: date | None) -> bool:
    return on is None or (than is not None and on > than)


def _or_dash(on: date | None) -> str:
    return "-" if on is None else on.isoformat()


def _findings(plans: Sequence[_Plan]) -> tuple[Finding, ...]:
    return tuple(plan.finding for plan in plans if plan.finding is not None)
