"""`evaluate`: from policy, facts and date to a decision, and nothing else.

An event or a date is only a reason to call it again, so repeats, re-ordering and outages change nothing.
Source: docs of the product, semantics D1 to D8 and D15 to D20.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import Final
from uuid import UUID

from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.agreements import judge, judged, subject_of
from cobranza.dunning.domain.condition import Subject
from cobranza.dunning.domain.decision import (
    Action,
    ApprovalAsked,
    Asking,
    CaseState,
    Closing,
    Decision,
    Finding,
    Found,
    Gate,
    ItemDecision,
    Line,
    Minor,
    Outcome,
    Telling,
    Undoing,
)
from cobranza.dunning.domain.facts import UNDER_WAY, AccountFacts, Item, Run, Stop
from cobranza.dunning.domain.gates import CaseGates
from cobranza.dunning.domain.ladder import DAY, Ladder, Rung
from cobranza.dunning.domain.policy import HARDNESS, TONES, Step, Tone
from cobranza.dunning.domain.timing import Timing

#: A notice lists at most so many receivables, so that its event stays readable; those that move come first.
MOST_LINES: Final = 400
_CHOOSING: Final = frozenset({"not_due", "grace", "dunnable"})
_STOPPED: Final = frozenset({"held", "disputed", "planned", "promised", "covered", "suspended", "handed_over"})
#: For a supervisor to agree, where the policy releases every step by hand and the step names nobody.
_RELEASE_BUSINESS_DAYS: Final = 3
_UNDONE_BY: Final = {"credit_hold": "release_credit_hold"}


def evaluate(ladder: Ladder | None, facts: AccountFacts, as_of: date) -> Decision:
    """Decide for one account on one day.

    Args:
        ladder: the policy version the case is pinned to, or that a new case would take, with the
            creditor's business days; None: no policy applies.
        facts: what is known; their order does not matter.
        as_of: the company's local date.
    """
    if not facts.promises:
        return _decided(ladder, facts, as_of)
    found = judge(ladder, facts, as_of)
    decision = _decided(ladder, judged(facts, found.judgings, found.endings, as_of), as_of)
    broken = tuple(
        Asking(
            "broken_promise", "collector", 2, Reason.PROMISED, tuple(sorted(judging.promise.amounts)),
            str(judging.promise.promise_id),
        )
        for judging in found.judgings
        if judging.verdict == "broken"
    )  # fmt: skip
    dates = [*(on for on in found.check_on if on > as_of)]
    if decision.next_check_on is not None:
        dates.append(decision.next_check_on)
    return decision._replace(
        next_check_on=min(dates, default=None),
        judgings=found.judgings,
        plan_endings=found.endings,
        askings=(*decision.askings, *broken),
    )


def _decided(ladder: Ladder | None, facts: AccountFacts, as_of: date) -> Decision:
    if ladder is None and facts.items:
        return _without_policy(facts, as_of)
    return _Evaluation(ladder, facts, as_of).decide() if ladder is not None else _nothing_open(None, facts)


def _nothing_open(ladder: Ladder | None, facts: AccountFacts) -> Decision:
    return Decision(
        outcome="stopped",
        reasons=(Finding(Reason.SETTLED),),
        items=(),
        gates=(),
        next_check_on=None,
        case_state="closed",
        is_in_window=False,
        closings=_settled_runs(facts, frozenset()),
        undoings=_undoings(ladder, facts, ()),
        tellings=_corrections(facts),
    )


def _without_policy(facts: AccountFacts, as_of: date) -> Decision:
    items = sorted(facts.items, key=_order)
    return Decision(
        outcome="stopped",
        reasons=(Finding(Reason.NO_POLICY, {"currency": facts.currency}),),
        items=tuple(ItemDecision(i, "dunnable" if as_of > i.due_on else "not_due", i.open) for i in items),
        gates=(Gate("policy", "1", "0", ok=False),),
        next_check_on=None,
        case_state="waiting",
        is_in_window=items[0].due_on < as_of,
        askings=(Asking("no_policy", "credit_manager", 2, Reason.NO_POLICY),),
    )


class _Evaluation:
    """One call of `evaluate`."""

    __slots__ = (
        "_as_of", "_asked", "_closings", "_dates", "_facts", "_gates", "_ladder", "_open_runs", "_plans", "_policy",
        "_ready", "_resumes", "_subject", "_timing",
    )  # fmt: skip

    def __init__(self, ladder: Ladder, facts: AccountFacts, as_of: date) -> None:
        self._ladder = ladder
        self._policy = ladder.policy
        self._facts = facts
        self._as_of = as_of
        self._dates: list[date] = []
        self._asked: list[Asking] = []
        self._closings: list[Closing] = []
        # Plans by identity: they are many, they change, and nothing is asked of two of one receivable.
        self._ready: dict[int, list[Rung]] = {}
        self._resumes: dict[UUID, date] = {}
        self._timing = Timing(ladder, facts, as_of, self._resumes)
        self._subject: Subject | None = None
        self._open_runs: list[Run] = []
        items: Sequence[Item] = facts.items
        if facts.runs:
            items = self._look_at_runs(items)
        if len(items) > 1:
            items = sorted(items, key=_order)
        self._plans = [self._planned(item) for item in items]
        self._gates = CaseGates(
            ladder, facts, as_of, plans=self._plans, open_runs=self._open_runs, ready=self._ready, dates=self._dates,
            asked=self._asked,
        )  # fmt: skip

    def decide(self) -> Decision:
        facts = self._facts
        if not self._plans:
            return _nothing_open(self._ladder, facts)
        self._cover()
        for plan in [plan for plan in self._plans if plan.state in _CHOOSING and self._choose(plan)]:
            self._see_end(plan)
        moving = [plan for plan in self._plans if plan.step is not None]
        outcome: Outcome
        actions: tuple[Action, ...] = ()
        waits = self._gates.whole_case_waits()
        reasons: tuple[Finding, ...]
        if waits is not None:
            outcome, reasons = "wait", (waits,)
            for plan in self._plans:
                plan.step, plan.skipped = None, ()
        elif moving:
            actions, refusals = self._act(moving)
            if actions:
                outcome, reasons = "act", self._part_covered()
            elif refusals:
                first = refusals[0]
                is_stop = first.code == Reason.BELOW_CASE
                outcome = "stopped" if is_stop else "wait"
                reasons = (*refusals, *(_findings(self._plans) if is_stop else ()))
            else:
                outcome, reasons = self._without_move()
        else:
            outcome, reasons = self._without_move()
        in_window = self._is_in_window()
        as_of = self._as_of
        return Decision(
            outcome=outcome,
            reasons=reasons,
            items=tuple(self._plans),
            gates=tuple(self._gates.noted),
            next_check_on=min([on for on in self._dates if on > as_of], default=None),
            case_state=self._case_state(is_in_window=in_window),
            is_in_window=in_window,
            actions=actions,
            closings=tuple(self._closings),
            undoings=_undoings(self._ladder, facts, self._plans),
            tellings=() if waits is not None and waits.code == Reason.BEFORE_START else self._tellings(),
            askings=(*self._asked, *self._end_asked()),
        )

    # Runs that are under way.

    def _look_at_runs(self, items: Sequence[Item]) -> Sequence[Item]:
        """Note the runs under way; those that are over let their receivables go on."""
        is_open = {item.receivable_id for item in items}
        self._closings += _settled_runs(self._facts, is_open)
        closed = {closing.run.step for closing in self._closings}
        as_of = self._as_of
        for run in self._facts.runs:
            if run.state == "failed":
                about = f"{run.step}|{run.number}"
                reason = Reason.BOUNCED
                self._asked.append(
                    Asking("fix_contact", "collector", 2, reason, tuple(sorted(run.receivable_ids)), about)
                )
            if run.state not in UNDER_WAY or run.step in closed:
                continue
            late = run.expires_on is not None and run.expires_on < as_of
            if run.state == "proposed" and late:
                rung = self._ladder.by_id.get(run.step)
                asks = rung is None or rung.step.approval is None or rung.step.approval.on_expiry == "task"
                self._closings.append(Closing(run, Reason.APPROVAL_EXPIRED, asks=asks))
                items = self._passed(items, run)
                continue
            if run.state == "undelivered" and late:
                # Sent, and nobody can tell whether it arrived: its receivables may be reminded again.
                self._closings.append(Closing(run, Reason.OUTCOME_UNKNOWN))
                continue
            if run.state == "requested" and run.kind != "notice" and late:
                rung = self._ladder.by_id.get(run.step)
                blocking = rung is not None and rung.step.task is not None and rung.step.task.blocking
                rises = blocking and not run.has_risen
                self._closings.append(Closing(run, Reason.TASK_EXPIRED, rises=rises))
                if not rises:
                    items = self._passed(items, run)
                    continue
            self._open_runs.append(run)
            if run.expires_on is not None:
                self._dates.append(max(as_of, run.expires_on) + DAY)
        return items

    def _under_way(self, step: Step) -> Run | None:
        """The newest run of a step that is not over."""
        for run in reversed(self._open_runs):
            if run.step == step.id:
                return run
        return None

    def _passed(self, items: Sequence[Item], run: Run) -> Sequence[Item]:
        rung = self._ladder.by_id.get(run.step)
        if rung is None:
            return items
        return [
            replace(item, passed=max(item.passed, rung.position)) if item.receivable_id in run.receivable_ids else item
            for item in items
        ]

    # What each item may do.

    def _planned(self, item: Item) -> ItemDecision:
        as_of, due = self._as_of, item.due_on
        dunnable_from = due + self._ladder.grace
        if as_of >= dunnable_from:
            plan = ItemDecision(item, "dunnable", item.open)
        else:
            plan = ItemDecision(item, "grace" if as_of > due else "not_due", item.open)
            # Each of these days may change what is listed, covered or worth a contact.
            self._dates += (due + DAY, dunnable_from)
        if self._facts.stops:
            self._stop(plan)
        if self._facts.handed_over and item.receivable_id in self._facts.handed_over:
            plan.state = "handed_over"
            plan.claimable = 0
            plan.finding = Finding(Reason.HANDED_OVER, {"invoice": item.number})
        if self._open_runs:
            plan.busy = next((run for run in self._open_runs if item.receivable_id in run.receivable_ids), None)
        return plan

    def _stop(self, plan: ItemDecision) -> None:
        """What is in force lowers what may be claimed; what has ended says when contact resumes."""
        item, as_of = plan.item, self._as_of
        amounts = {Reason.DISPUTED: 0, Reason.PLANNED: 0, Reason.PROMISED: 0}
        deciding: dict[Reason, tuple[date, str]] = {}
        for stop in self._facts.stops:
            if not stop.covers(item.receivable_id):
                continue
            if stop.is_in_force(as_of):
                until = stop.until_on or date.max
                if stop.until_on is not None:
                    self._dates.append(until + DAY)
                deciding[stop.reason] = max((until, stop.kind), deciding.get(stop.reason, (date.min, "")))
                if stop.reason in amounts:
                    amounts[stop.reason] += stop.stopped(item)
                if stop.deadline_on is not None:
                    self._overdue(stop, stop.deadline_on, item)
            elif (
                stop.until_on is not None and stop.from_on <= stop.until_on < as_of and stop.stopped(item) >= item.open
            ):
                resumes = stop.until_on + DAY
                before = self._resumes.get(item.receivable_id)
                self._resumes[item.receivable_id] = resumes if before is None else max(before, resumes)
        if not deciding:
            return
        disputed = min(item.open, amounts[Reason.DISPUTED])
        if disputed and self._policy.disputes.hold == "item":
            disputed = item.open
        planned = min(item.open - disputed, amounts[Reason.PLANNED])
        promised = min(item.open - disputed - planned, amounts[Reason.PROMISED])
        plan.claimable = item.open - disputed - planned - promised
        if Reason.ON_HOLD in deciding:
            plan.state, reason = "held", Reason.ON_HOLD
            plan.claimable = 0
        elif plan.claimable:
            return
        elif disputed == item.open:
            plan.state, reason = "disputed", Reason.DISPUTED
        elif planned:
            plan.state, reason = "planned", Reason.PLANNED
        else:
            plan.state, reason = "promised", Reason.PROMISED
        until, kind = deciding[reason]
        values: dict[str, object] = {"invoice": item.number, "kind": kind}
        if until != date.max:
            values["until"] = until
        plan.finding = Finding(reason, values)

    def _overdue(self, stop: Stop, deadline_on: date, item: Item) -> None:
        """A dispute that nobody decided in its time goes to a supervisor; it never ends by itself (D9)."""
        if self._as_of <= deadline_on:
            self._dates.append(deadline_on + DAY)
            return
        self._asked.append(
            Asking("overdue_dispute", "supervisor", 2, Reason.DISPUTED, (item.receivable_id,), str(stop.stop_id))
        )

    def _cover(self) -> None:
        """Unapplied credit is consumed once, oldest item first; what it covers wholly is not claimed (D7)."""
        left = self._facts.unapplied
        if left <= 0:
            return
        holds = self._policy.cash.unapplied == "hold"
        covered: list[UUID] = []
        for plan in self._plans:
            if plan.state != "dunnable":
                continue
            if not holds:
                if left < plan.claimable:
                    break
                left -= plan.claimable
            plan.state = "covered"
            covered.append(plan.receivable_id)
            plan.finding = Finding(
                Reason.COVERED_BY_CREDIT,
                {
                    "invoice": plan.number,
                    "open": self._amount(plan.claimable),
                    "unapplied": self._amount(self._facts.unapplied),
                },
            )
        if covered:
            self._asked.append(
                Asking(
                    "match_cash",
                    "collector",
                    2,
                    Reason.COVERED_BY_CREDIT,
                    tuple(covered[:MOST_LINES]),
                    str(self._facts.unapplied),
                )
            )

    def _choose(self, plan: ItemDecision) -> bool:
        """Choose the step an item takes today, by the policy's catch-up rule (D2, D3).

        Returns:
            Whether the whole ladder is behind it, but for steps that wait for what may never come.
        """
        if plan.busy is not None:
            self._go_on(plan, plan.busy)
            return False
        item, as_of = plan.item, self._as_of
        ready: list[Rung] = []
        first_on: date | None = None
        skipped: list[tuple[Step, Reason]] = []
        blocked: list[tuple[Rung, Reason, date | None]] = []
        ahead: tuple[Rung, Reason, date] | None = None
        catch_up = self._policy.catch_up
        first_max = self._ladder.first_contact_max if item.level == 0 else None
        for rung in self._ladder.rungs[item.passed :]:
            step = rung.step
            if rung.base == "previous" and (ready or blocked):
                # It counts from a step that is still to be taken.
                blocked.append((rung, Reason.REQUIRES_MISSING, None))
                continue
            on, why, gates = self._timing.day_of(rung, item)
            plan.looked_at.append((step.id, on, gates))
            if on is None:
                if self._never_comes(rung, plan, skipped):
                    skipped.append((step, Reason.REQUIRES_MISSING))
                else:
                    blocked.append((rung, why, None))
                continue
            if on > as_of:
                self._dates.append(on)
                ahead = (rung, why, on)
                if why == Reason.CATCH_UP:
                    # An effect that nobody looked at in time stands in the way of no contact.
                    blocked.append(ahead)
                    continue
                break
            if (rung.early and as_of > max(item.due_on, self._timing.rolled_base(rung, item))) or (
                catch_up.mode == "none"
                and rung.is_contact
                and rung.position != first_max
                and (as_of - on).days > catch_up.stale_after_days
            ):
                skipped.append((step, Reason.STALE))
            elif rung.condition is not None and not self._holds(rung, plan):
                skipped.append((step, Reason.WHEN_FALSE))
            elif not self._is_worth(rung, plan):
                plan.state = "suspended" if plan.state == "dunnable" else plan.state
                blocked.append((rung, Reason.BELOW_ITEM, None))
            else:
                if not ready:
                    first_on = on
                ready.append(rung)
                if catch_up.mode == "none":
                    # Held back for another reason it may grow stale: that day changes the outcome too.
                    self._dates.append(on + (catch_up.stale_after_days + 1) * DAY)
        if ready:
            chosen = self._chosen(ready, first_on == as_of, plan)
            self._ready[id(plan)] = ready
            plan.step = chosen.step
            skipped += [(known.step, why) for known, why, _ in blocked]
            plan.skipped = _skipped(skipped, ready, chosen)
            busy = self._under_way(chosen.step)
            if busy is not None:
                self._wait_for(plan, busy)
            return False
        # What lies above a step that waits may come to its turn again.
        if skipped:
            plan.skipped = tuple(
                (step, why) for step, why in skipped if not blocked or step.position < blocked[0][0].position
            )
        if self._repeats(plan):
            return False
        waits = blocked[0] if blocked else ahead
        if waits is not None:
            plan.finding = self._waits(plan, *waits)
        # What a person or the post must still bring holds the end back for no one.
        return ahead is None and all(why == Reason.REQUIRES_MISSING for _, why, _ in blocked)

    def _waits(self, plan: ItemDecision, rung: Rung, why: Reason, on: date | None) -> Finding:
        """Why a step is not taken, and from which day it may be, where a day brings it."""
        values: dict[str, object] = {"invoice": plan.item.number, "step": rung.step.id}
        if on is not None:
            values["on"] = on
        if why == Reason.BELOW_ITEM:
            values["needed"] = self._amount(rung.item_least)
            values["percent"] = rung.item_percent
            values["found"] = self._amount(plan.claimable)
        return Finding(why, values)

    def _go_on(self, plan: ItemDecision, run: Run) -> None:
        """An item in a run waits for its answer; an approved one is looked at again and goes on."""
        rung = self._ladder.by_id.get(run.step)
        if run.state != "approved" or rung is None:
            self._wait_for(plan, run)
            return
        on, why, gates = self._timing.day_of(rung, plan.item, is_approved=True)
        plan.looked_at.append((rung.step.id, on, gates))
        if on is None or on > self._as_of:
            if on is not None:
                self._dates.append(on)
            plan.finding = Finding(why, {"invoice": plan.number, "step": rung.step.id, "on": on})
        elif rung.condition is not None and not self._holds(rung, plan):
            plan.finding = Finding(Reason.WHEN_FALSE, {"invoice": plan.number, "step": rung.step.id})
            if all(closing.run is not run for closing in self._closings):
                self._closings.append(Closing(run, Reason.WHEN_FALSE))
        elif self._is_worth(rung, plan):
            plan.step = rung.step
            self._ready[id(plan)] = [rung]
        else:
            plan.finding = Finding(Reason.BELOW_ITEM, {"invoice": plan.number, "step": rung.step.id})

    def _wait_for(self, plan: ItemDecision, run: Run) -> None:
        plan.step, plan.skipped = None, ()
        code = Reason.APPROVAL_PENDING if run.state == "proposed" else Reason.RUN_OPEN
        plan.finding = Finding(
            code, {"invoice": plan.number, "step": run.step, "run": run.number, "until": run.expires_on}
        )

    def _never_comes(self, rung: Rung, plan: ItemDecision, skipped: Sequence[tuple[Step, Reason]]) -> bool:
        """Whether what a step requires was passed over and will not be issued any more."""
        position, item = rung.required_position, plan.item
        if position is None or rung.required in item.history:
            return False
        return position <= item.passed or any(step.position == position for step, _ in skipped)

    def _chosen(self, ready: Sequence[Rung], is_first_today: bool, plan: ItemDecision) -> Rung:  # noqa: FBT001
        # After a stop that covered a missed date the ladder goes on one step at a time.
        if len(ready) == 1 or self._policy.catch_up.mode == "next" or self._missed_by_stop(ready, plan):
            return ready[0]
        first = ready[0]
        if not first.is_contact and is_first_today:
            return first
        contacts = [rung for rung in ready if rung.is_contact]
        if self._policy.catch_up.mode == "none":
            return contacts[0] if contacts else first
        first_max = self._ladder.first_contact_max
        if plan.item.level == 0 and first_max is not None:
            allowed = [rung for rung in contacts if rung.position <= first_max]
            return allowed[-1] if allowed else first
        return contacts[-1] if contacts else first

    def _missed_by_stop(self, ready: Sequence[Rung], plan: ItemDecision) -> bool:
        if not self._facts.stops:
            return False
        dates = [self._timing.base(rung, plan.item) for rung in ready]
        return any(
            stop.covers(plan.receivable_id)
            and stop.until_on is not None
            and stop.stopped(plan.item) >= plan.item.open
            and any(stop.from_on <= on <= stop.until_on for on in dates)
            for stop in self._facts.stops
        )

    def _repeats(self, plan: ItemDecision) -> bool:
        """Whether the last notice is said again, today or later."""
        item = plan.item
        if not item.level:
            return False
        rung = self._ladder.rungs[item.level - 1]
        repeat = rung.step.repeat
        done = item.history.get(rung.step.id)
        if repeat is None or done is None or done.times > repeat.max:
            return False
        if rung.condition is not None and not self._holds(rung, plan):
            return False
        on, why, gates = self._timing.delayed(rung, item, done.on + repeat.every_days * DAY, Reason.NOT_DUE, [])
        plan.looked_at.append((rung.step.id, on, gates))
        if on > self._as_of:
            self._dates.append(on)
            plan.finding = Finding(why, {"invoice": item.number, "step": rung.step.id, "on": on})
        elif not self._is_worth(rung, plan):
            plan.finding = Finding(Reason.BELOW_ITEM, {"invoice": item.number, "step": rung.step.id})
        elif (busy := self._under_way(rung.step)) is not None:
            self._wait_for(plan, busy)
        else:
            plan.step = rung.step
            self._ready[id(plan)] = [rung]
        return True

    def _is_worth(self, rung: Rung, plan: ItemDecision) -> bool:
        """Item materiality: an amount and a percent of what it was issued for."""
        return plan.claimable >= rung.item_least and (
            not rung.item_percent or plan.claimable * 100 >= plan.item.issued * rung.item_percent
        )

    def _holds(self, rung: Rung, plan: ItemDecision) -> bool:
        """Whether the step's condition holds for an item."""
        assert rung.condition is not None
        subject, item = self._case_subject(), plan.item
        subject.item_amount = plan.claimable
        subject.product_line = item.product_line
        # An invoice is not acknowledged until somebody says so.
        subject.acknowledged = item.acknowledged is True
        holds = rung.condition.holds(subject)
        step, on, gates = plan.looked_at[-1] if plan.looked_at else ("", None, ())
        if step == rung.step.id:
            found = Found(tuple((name, self._shown(name, getattr(subject, name))) for name in rung.asks))
            plan.looked_at[-1] = step, on, (*gates, ("when", step, found, holds))
        return holds

    def _case_subject(self) -> Subject:
        if self._subject is None:
            debtor, as_of = self._facts.debtor, self._as_of
            overdue = [plan for plan in self._plans if plan.item.due_on < as_of]
            # Before anything is overdue the case is what is about to be.
            counted = overdue or self._plans
            subject = subject_of(debtor, self._facts.promises, as_of)
            subject.case_amount = sum(plan.claimable for plan in counted)
            subject.items = len(counted)
            subject.oldest_dpd = max(0, (as_of - self._plans[0].item.due_on).days)
            self._subject = subject
        return self._subject

    def _see_end(self, plan: ItemDecision) -> None:
        """All steps of an item are behind it: after the end's days a person decides."""
        item = plan.item
        reached = self._timing.base(self._ladder.rungs[-1], item)
        if item.level:
            reached = max([reached, *(done.on for done in item.history.values())])
            if item.last_notice_on is not None:
                reached = max(reached, item.last_notice_on)
        end_on = reached + self._policy.end.after_days * DAY
        if self._as_of >= end_on:
            plan.has_ended = True
            plan.finding = Finding(Reason.END_REACHED, {"invoice": plan.number, "on": end_on})
        else:
            self._dates.append(end_on)
            if plan.finding is None:
                plan.finding = Finding(Reason.NOT_DUE, {"invoice": plan.number, "on": end_on, "step": "end"})

    # What the case does.

    def _act(self, moving: Sequence[ItemDecision]) -> tuple[tuple[Action, ...], list[Finding]]:
        """The actions of today, and why others are not taken."""
        groups: dict[int, list[ItemDecision]] = {}
        contacting = []
        for plan in moving:
            assert plan.step is not None
            if plan.step.kind in ("notice", "call"):
                contacting.append(plan)
            else:
                groups.setdefault(plan.step.position, []).append(plan)
        actions: list[Action] = []
        refusals: list[Finding] = []
        for group in ([contacting] if contacting else []) + [groups[position] for position in sorted(groups)]:
            refusal = self._gates.refused(group)
            if refusal is None:
                actions += self._actions(group)
            else:
                refusals.append(refusal)
                for plan in group:
                    plan.step, plan.skipped = None, ()
        return tuple(actions), refusals

    def _actions(self, group: Sequence[ItemDecision]) -> list[Action]:
        moving = [plan for plan in group if plan.step is not None]
        rung = self._gates.top(moving)
        step = rung.step
        if rung.is_contact:
            waiting = [plan for plan in moving if plan.step is not None and plan.step.kind != step.kind]
            for plan in waiting:
                # One contact a day: the other kind keeps the gap.
                plan.step, plan.skipped = None, ()
            moving = [plan for plan in moving if plan.step is not None]
        for plan in moving[MOST_LINES:]:
            plan.step, plan.skipped = None, ()
        kept = moving[:MOST_LINES]
        places = set(map(id, moving))
        listed: list[ItemDecision] = []
        if step.kind == "notice":
            listed = [
                plan
                for plan in self._plans
                if plan.step is None
                and plan.busy is None
                and plan.state in ("grace", "dunnable", "suspended")
                and id(plan) not in places
            ][: MOST_LINES - len(kept)]
        chosen = set(map(id, (*kept, *listed)))
        # A run that a person approved goes on under its own number, with whom it was proposed for.
        approved = next((run for run in self._open_runs if run.step == step.id and run.state == "approved"), None)
        approval = None if approved is not None else self._approval(kept)
        return [
            Action(
                step=step,
                lines=tuple(
                    [
                        Line(plan.item.receivable_id, plan.step, plan.item.last_notice_on)
                        for plan in self._plans
                        if id(plan) in chosen
                    ]
                ),
                claimed=self._gates.net(kept),
                expires_on=self._expires_on(rung, approval),
                tone=None if step.tone is None else _not_softer(step.tone, self._facts.heard_tone),
                cash_through=self._gates.cash_through(),
                approval=None if approval is None else approval[0],
                approved_run=None if approved is None else approved.number,
                charges_interest=self._policy.interest is not None and self._policy.interest.charge_at == step.id,
            )
        ]

    def _expires_on(self, rung: Rung, approval: tuple[ApprovalAsked, int] | None) -> date:
        if approval is not None:
            on = self._ladder.calendar.add(self._as_of, approval[1])
        elif rung.step.kind == "notice":
            on = self._as_of + rung.step.expires_after_days * DAY
        else:
            on = self._ladder.calendar.add(self._as_of, rung.due_business_days)
        self._dates.append(on + DAY)
        return on

    def _approval(self, moving: Iterable[ItemDecision]) -> tuple[ApprovalAsked, int] | None:
        """Who must agree before the action, and in how many business days; None: nobody."""
        asked: tuple[int, tuple[ApprovalAsked, int]] | None = None
        for plan in moving:
            step = plan.step
            if step is None:
                continue
            rule = step.approval
            if rule is not None and (self._case_subject().case_amount or 0) >= rule.from_amount:
                found = ApprovalAsked(rule.role, rule.on_expiry), rule.expires_business_days
            elif self._policy.release == "proposal":
                found = ApprovalAsked("supervisor", "task"), _RELEASE_BUSINESS_DAYS
            else:
                continue
            if asked is None or step.position > asked[0]:
                asked = (step.position, found)
        return None if asked is None else asked[1]

    def _part_covered(self) -> tuple[Finding, ...]:
        if self._facts.unapplied <= 0:
            return ()
        left = self._facts.unapplied - sum(plan.claimable for plan in self._plans if plan.state == "covered")
        return (Finding(Reason.PART_COVERED, {"unapplied": self._amount(left)}),) if left > 0 else ()

    def _without_move(self) -> tuple[Outcome, tuple[Finding, ...]]:
        findings = _findings(self._plans)
        live = [plan for plan in self._plans if not plan.has_ended]
        if not live:
            return "ended", findings
        if all(plan.state in _STOPPED for plan in live):
            return "stopped", findings
        if any(plan.skipped for plan in live):
            return "skipped", findings
        return "wait", findings

    def _is_in_window(self) -> bool:
        """Whether an item is overdue, moves, or has reached its first step; or a stop was recorded."""
        as_of = self._as_of
        for plan in self._plans:
            if plan.state != "not_due" or plan.step is not None or plan.busy is not None or plan.item.passed:
                return True
            if plan.looked_at:
                on = plan.looked_at[0][1]
                if on is not None and on <= as_of:
                    return True
        return False

    def _case_state(self, *, is_in_window: bool) -> CaseState:
        if not is_in_window:
            return "closed"
        states = {plan.state for plan in self._plans}
        if all(plan.has_ended for plan in self._plans):
            return "ended"
        if len(states) == 1:
            only = states.pop()
            if only == "held":
                return "held"
            if only == "handed_over":
                return "handed_over"
            states = {only}
        if "dunnable" in states or "suspended" in states:
            return "active"
        return "waiting" if states & _STOPPED else "preventive"

    def _tellings(self) -> tuple[Telling, ...]:
        reopened = [
            plan.receivable_id
            for plan in self._plans
            if not plan.item.told_reversal and plan.item.level and plan.state in _CHOOSING
        ]
        tellings = _corrections(self._facts)
        return (Telling("reversal", tuple(reopened[:MOST_LINES])), *tellings) if reopened else tellings

    def _end_asked(self) -> tuple[Asking, ...]:
        ended = [plan.receivable_id for plan in self._plans if plan.has_ended]
        if not ended:
            return ()
        task = self._policy.end.task
        return (Asking(task.kind, task.role, task.due_business_days, Reason.END_REACHED, tuple(ended)),)

    def _shown(self, name: str, value: object) -> object:
        return self._amount(value) if name.endswith("_amount") and isinstance(value, int) else value

    def _amount(self, minor: int) -> Minor:
        return Minor(minor, self._facts.currency)


def _settled_runs(facts: AccountFacts, is_open: Iterable[UUID]) -> tuple[Closing, ...]:
    """Runs whose receivables are all settled; a notice on its way is left to the permit."""
    if not facts.runs:
        return ()
    live = frozenset(is_open)
    return tuple(
        Closing(run, Reason.SETTLED)
        for run in facts.runs
        if run.state in UNDER_WAY
        and not (run.kind == "notice" and run.state == "requested")
        and run.receivable_ids.isdisjoint(live)
    )


def _undoings(ladder: Ladder | None, facts: AccountFacts, plans: Sequence[ItemDecision]) -> tuple[Undoing, ...]:
    """Effects whose cause is gone."""
    if not facts.effects:
        return ()
    undoings = []
    for effect in facts.effects:
        rung = None if ladder is None else ladder.by_id.get(effect.step)
        rule = None if rung is None else rung.step.undo
        by = rule.effect if rule is not None else _UNDONE_BY.get(effect.effect)
        if by is None:
            continue
        concerned = [plan for plan in plans if plan.receivable_id in effect.receivable_ids]
        if not concerned:
            undoings.append(Undoing(effect, by, "settled"))
        elif rule is not None and rule.on == "below_materiality" and _is_small(rung, concerned):
            undoings.append(Undoing(effect, by, "below_materiality"))
    return tuple(undoings)


def _is_small(rung: Rung | None, concerned: Sequence[ItemDecision]) -> bool:
    return rung is not None and sum(plan.claimable for plan in concerned) < max(rung.case_least, rung.item_least)


def _corrections(facts: AccountFacts) -> tuple[Telling, ...]:
    if not facts.corrections:
        return ()
    corrections = tuple(sorted(facts.corrections, key=lambda c: (c.on, c.reason, c.receivable_id)))
    return (Telling("correction", tuple(sorted({c.receivable_id for c in corrections})), corrections),)


def _skipped(
    skipped: Sequence[tuple[Step, Reason]], ready: Sequence[Rung], chosen: Rung
) -> tuple[tuple[Step, Reason], ...]:
    """What lies below the chosen step: passed over for its own reason, or for a later step's sake."""
    passed = [(step, why) for step, why in skipped if step.position < chosen.position]
    caught_up = [(rung.step, Reason.CATCH_UP) for rung in ready if rung.position < chosen.position]
    return tuple(sorted(passed + caught_up, key=lambda entry: entry[0].position) if passed else caught_up)


def _order(item: Item) -> tuple[date, UUID]:
    return item.due_on, item.receivable_id


def _not_softer(tone: Tone, heard: str | None) -> Tone:
    """The step's tone, or the hardest one already heard."""
    return TONES[max(HARDNESS[tone], HARDNESS.get(heard or "", 0))]


def _findings(plans: Sequence[ItemDecision]) -> tuple[Finding, ...]:
    return tuple(plan.finding for plan in plans if plan.finding is not None)
