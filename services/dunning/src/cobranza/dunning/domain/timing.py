"""When a step may be taken for a receivable: its date, and everything that moves it (D2 to D4, D18)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from uuid import UUID

from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.decision import GateValues
from cobranza.dunning.domain.facts import AccountFacts, Item
from cobranza.dunning.domain.ladder import DAY, Ladder, Rung


class Timing:
    """The days of one account's steps, as one evaluation sees them."""

    __slots__ = ("_as_of", "_facts", "_gaps", "_ladder", "_policy", "_resumes", "_worked_on")

    def __init__(self, ladder: Ladder, facts: AccountFacts, as_of: date, resumes: Mapping[UUID, date]) -> None:
        """Note what all steps share.

        Args:
            resumes: the first day on which a receivable that was stopped may move again.
        """
        self._ladder = ladder
        self._policy = ladder.policy
        self._facts = facts
        self._as_of = as_of
        self._resumes = resumes
        self._worked_on = ladder.following(as_of)
        self._gaps: dict[timedelta, tuple[date, GateValues]] = {}

    def base(self, rung: Rung, item: Item) -> date:
        """The day the step counts to, before anything moves it."""
        match rung.base:
            case "due":
                base = item.due_on
            case "issue":
                base = item.issued_on or item.due_on
            case "previous":
                base = max((done.on for done in item.history.values()), default=item.due_on)
        if rung.business_days is not None:
            return self._ladder.calendar.add(base, rung.business_days)
        return base + rung.delta

    def day_of(
        self, rung: Rung, item: Item, *, is_approved: bool = False
    ) -> tuple[date | None, Reason, tuple[GateValues, ...]]:
        """The day from which a step may be taken, what decides it, and its gates (D2, D18)."""
        as_of = self._as_of
        base = item.due_on + rung.delta if rung.counts_from_due else self.base(rung, item)
        raw, why = base, Reason.NOT_DUE
        gate: GateValues = ("date", base, as_of, as_of >= base)
        done = None
        if rung.required is not None:
            done = item.history.get(rung.required)
            if done is None:
                return None, Reason.REQUIRES_MISSING, (gate, rung.requires_gate)
        gates = [gate]
        if done is not None:
            if rung.must_be_delivered and done.delivered_on is None:
                gates.append(("requires", rung.required, "issued", False))
                return None, Reason.REQUIRES_MISSING, tuple(gates)
            term = max(done.on, done.delivered_on or done.on) if rung.must_be_delivered else done.on
            floor = term + rung.term
            gates.append(("term", floor, as_of, as_of >= floor))
            if floor > raw:
                raw, why = floor, Reason.TERM_RUNNING
        if rung.evidence:
            missing = rung.evidence - self._evidence(rung, item)
            if missing:
                gates.append(("evidence", ", ".join(sorted(missing)), "-", False))
                return None, Reason.REQUIRES_MISSING, tuple(gates)
        if rung.needs_delivered_notice and all(done.delivered_on is None for done in item.history.values()):
            gates.append(("delivered", "1", "0", False))
            return None, Reason.REQUIRES_MISSING, tuple(gates)
        return self.delayed(rung, item, raw, why, gates, is_approved=is_approved)

    def delayed(
        self,
        rung: Rung,
        item: Item,
        raw: date,
        why: Reason,
        gates: list[GateValues],
        *,
        is_approved: bool = False,
    ) -> tuple[date, Reason, tuple[GateValues, ...]]:
        """The day as everything that delays a step moves it."""
        as_of = self._as_of
        if rung.waits_for_grace:
            floor = item.due_on + self._ladder.grace
            gates.append(("grace", floor, as_of, as_of >= floor))
            if floor > raw:
                raw, why = floor, Reason.IN_GRACE
        if rung.is_contact and self._facts.last_contact_on is not None:
            gap, gate = self._gap(rung, self._facts.last_contact_on)
            gates.append(gate)
            if gap > raw:
                raw, why = gap, Reason.MIN_GAP
        if item.reopened_on is not None:
            floor = item.reopened_on + self._policy.reopen_grace_days * DAY
            gates.append(("reopened", floor, as_of, as_of >= floor))
            if floor > raw:
                raw, why = floor, Reason.REOPENED_GRACE
        if item.payments:
            goodwill = self._goodwill(item)
            if goodwill is not None:
                gates.append(("goodwill", goodwill, as_of, as_of >= goodwill))
                if goodwill > raw:
                    raw, why = goodwill, Reason.GOODWILL
        if self._resumes:
            resumes_on = self._resumes.get(item.receivable_id)
            if resumes_on is not None and resumes_on > raw:
                raw, why = resumes_on, Reason.ON_HOLD
        roll = rung.roll
        if roll == "none":
            on = raw
        elif roll == "preceding" and raw < item.due_on:
            on = self._ladder.preceding(raw)
        else:
            on = self._ladder.following(raw)
        if on <= as_of < self._worked_on and roll != "none":
            # Late, on a day that is not worked: the next worked day.
            on = self._worked_on
        if rung.suspends_service:
            on = self._ladder.before_a_worked_day(on)
            if on < as_of < (later := self._ladder.before_a_worked_day(as_of)):
                on = later
        if on != raw:
            gates.append(("business_day", on, as_of, as_of >= on))
            if raw <= as_of:
                why = Reason.ROLLED
        if rung.is_effect and on < as_of and not is_approved:
            caught_up_on = self._facts.catches_up_on(as_of)
            # Catching up never reaches an effect, however often that day is evaluated: people see it a worked day before.
            if caught_up_on is not None and as_of < (seen := self._ladder.following(caught_up_on + DAY)):
                on, why = seen, Reason.CATCH_UP
                gates.append(("catch_up", on, as_of, False))
        return on, why, tuple(gates)

    def _gap(self, rung: Rung, last_contact_on: date) -> tuple[date, GateValues]:
        """From when the last contact lets another be, which most steps and all items share."""
        found = self._gaps.get(rung.min_gap)
        if found is None:
            on = last_contact_on + rung.min_gap
            found = self._gaps[rung.min_gap] = on, ("min_gap", on, self._as_of, self._as_of >= on)
        return found

    def _evidence(self, rung: Rung, item: Item) -> frozenset[str]:
        done = item.history.get(rung.required or "")
        return self._facts.evidence | {"delivery_proof"} if done and done.delivered_on else self._facts.evidence

    def _goodwill(self, item: Item) -> date | None:
        """Until when a substantial payment lets the next step wait (D4)."""
        rule = self._policy.goodwill
        if rule is None:
            return None
        return max(
            (
                payment.on + rule.days * DAY
                for payment in item.payments
                if payment.paid * 100 >= payment.before * rule.percent
            ),
            default=None,
        )

    def rolled_base(self, rung: Rung, item: Item) -> date:
        """The day the step counts to, moved off days that are not worked."""
        base = self.base(rung, item)
        if rung.roll == "none":
            return base
        if rung.roll == "preceding" and base < item.due_on:
            return self._ladder.preceding(base)
        return self._ladder.following(base)
