"""What may stop a case, or a group of its receivables, from being acted on although a step is due (D6 to D8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.decision import Asking, Finding, Gate, ItemDecision, Minor
from cobranza.dunning.domain.facts import AccountFacts, Run
from cobranza.dunning.domain.ladder import DAY, Ladder, Rung


class CaseGates:
    """The gates of one evaluation; each notes what it needed and found, and the day that may change it."""

    __slots__ = (
        "_as_of",
        "_asked",
        "_dates",
        "_facts",
        "_ladder",
        "_open_runs",
        "_plans",
        "_policy",
        "_ready",
        "noted",
    )

    def __init__(
        self,
        ladder: Ladder,
        facts: AccountFacts,
        as_of: date,
        *,
        plans: Sequence[ItemDecision],
        open_runs: Sequence[Run],
        ready: Mapping[int, Sequence[Rung]],
        dates: list[date],
        asked: list[Asking],
    ) -> None:
        """Note what the receivables would do.

        Args:
            ready: the steps each plan could take, by its identity.
            dates: days that change the outcome; those of the gates are added.
            asked: what people are asked; what the gates ask is added.
        """
        self._ladder = ladder
        self._policy = ladder.policy
        self._facts = facts
        self._as_of = as_of
        self._plans = plans
        self._open_runs = open_runs
        self._ready = ready
        self._dates = dates
        self.noted: list[Gate] = []
        self._asked = asked

    def whole_case_waits(self) -> Finding | None:
        """Why nothing at all is done, whatever the items would do."""
        facts, as_of = self._facts, self._as_of
        if facts.start_on is not None:
            self.noted.append(Gate("start", facts.start_on, as_of, as_of >= facts.start_on))
            if as_of < facts.start_on:
                self._dates.append(facts.start_on)
                return Finding(Reason.BEFORE_START, {"on": facts.start_on})
        if self._open_runs:
            run = next((run for run in self._open_runs if run.kind == "notice" and run.state == "requested"), None)
            if run is not None:
                self.noted.append(Gate("run", "0", f"{run.step}#{run.number}", ok=False))
                return Finding(Reason.RUN_OPEN, {"step": run.step, "run": run.number, "until": run.expires_on})
        return None

    def refused(self, group: Sequence[ItemDecision]) -> Finding | None:
        """Why a group that would move may not; None when it may."""
        facts, as_of = self._facts, self._as_of
        small = self._below_case(group)
        if small is not None:
            return small
        rung = self.top(group)
        if rung.step.kind == "task":
            return None
        if rung.is_contact:
            running = next((run for run in self._open_runs if run.kind == "call" and run.state == "requested"), None)
            if running is not None:
                self.noted.append(Gate("run", "0", f"{running.step}#{running.number}", ok=False))
                return Finding(
                    Reason.RUN_OPEN, {"step": running.step, "run": running.number, "until": running.expires_on}
                )
            limit = self._beyond_limit()
            if limit is not None:
                return limit
        cash_through = self.cash_through()
        if cash_through is not None and facts.cash is not None:
            known = facts.cash.known_through
            is_fresh = known is not None and known >= cash_through
            self.noted.append(Gate("cash", cash_through, known, is_fresh))
            if not is_fresh:
                self._dates.append(as_of + DAY)
                return Finding(Reason.CASH_STALE, {"needed": cash_through, "found": known})
        control = self._policy.cash.control_total
        if control == "required" or (rung.is_effect and control == "effects"):
            # None: the company sends no totals, and none was due; one that is due and did not come is told as missing.
            holds = facts.control in (None, "matched")
            self.noted.append(Gate("control_total", "matched", facts.control, holds))
            if not holds:
                return Finding(Reason.CONTROL_MISMATCH, {"needed": "matched", "found": facts.control})
        if rung.is_effect:
            return self._no_effect(rung, group)
        if facts.brake is not None and rung.step.kind == "notice":
            most, requested = facts.brake.limit, facts.brake.requested
            self._dates.append(as_of + DAY)
            self.noted.append(Gate("brake", most, requested, ok=False))
            return Finding(Reason.BRAKED, {"needed": most, "found": requested})
        refused = max((run for run in facts.runs if run.step == rung.step.id), key=lambda run: run.number, default=None)
        if refused is not None and refused.answered_on is not None and refused.state in ("suppressed", "failed"):
            # Another day is a reason to ask again; where the address refused for good, a gap is kept.
            retry_on = refused.answered_on + (DAY if refused.state == "suppressed" else max(DAY, rung.min_gap))
            if as_of < retry_on and refused.facts_hash == facts.digest():
                self._dates.append(retry_on)
                self.noted.append(Gate("retry", retry_on, as_of, ok=False))
                return Finding(refused.reason or refused.state, {"step": rung.step.id, "on": retry_on})
        return None

    def _no_effect(self, rung: Rung, group: Sequence[ItemDecision]) -> Finding | None:
        """What stops an effect alone: a receipt that may be its money, or a dispute with the bureau."""
        values = {"step": rung.step.id}
        if self._facts.unidentified and any(plan.item.open in self._facts.unidentified for plan in group):
            self.noted.append(Gate("unidentified", "0", "1", ok=False))
            return Finding(Reason.PAYER_UNKNOWN, values)
        if rung.step.effect == "credit_bureau" and any(plan.claimable < plan.item.open for plan in group):
            self.noted.append(Gate("undisputed", "0", "1", ok=False))
            return Finding(Reason.DISPUTED, {**values, "invoice": group[0].number, "kind": "dispute"})
        return None

    def _beyond_limit(self) -> Finding | None:
        limits = self._policy.limits
        contacts = self._facts.contacts
        if len(contacts) < limits.contacts:
            return None
        since = self._as_of - limits.window_days * DAY
        recent = sorted(on for on in contacts if since < on <= self._as_of)
        is_within = len(recent) < limits.contacts
        self.noted.append(Gate("contact_limit", limits.contacts, len(recent), is_within))
        if is_within:
            return None
        free_on = recent[len(recent) - limits.contacts] + limits.window_days * DAY
        self._dates.append(free_on)
        self._asked.append(Asking("contact_limit", "supervisor", 2, Reason.CONTACT_LIMIT, about=free_on.isoformat()))
        return Finding(Reason.CONTACT_LIMIT, {"needed": limits.contacts, "found": len(recent), "on": free_on})

    def _below_case(self, group: Sequence[ItemDecision]) -> Finding | None:
        """Case materiality on the net amount, its percent of all that is open; falls back to lower steps."""
        net, total = self.net(group), sum([plan.item.open for plan in self._plans])
        refused: Finding | None = None
        while True:
            live = [plan for plan in group if plan.step is not None]
            if not live:
                return refused
            rung = self.top(live)
            enough = _is_enough(rung, net, total)
            self.noted.append(Gate("materiality", rung.case_materiality, self._amount(net), enough))
            if enough:
                return None
            refused = Finding(
                Reason.BELOW_CASE,
                {
                    "needed": self._amount(rung.case_least),
                    "percent": rung.case_percent,
                    "found": self._amount(net),
                },
            )
            for plan in live:
                if plan.step is not rung.step:
                    continue
                lower = [
                    known
                    for known in self._ready[id(plan)]
                    if known.position < rung.position and known.is_contact == rung.is_contact
                    and _is_enough(known, net, total)
                ]  # fmt: skip
                plan.step = lower[-1].step if lower else None
                plan.skipped = tuple(
                    (step, why) for step, why in plan.skipped if lower and step.position < lower[-1].position
                )
                if plan.step is None and plan.state == "dunnable":
                    plan.state = "suspended"

    def net(self, group: Sequence[ItemDecision]) -> int:
        """What is claimed of the case when a group moves, less the credit that covers nothing yet; minor units."""
        places = set(map(id, group))
        claimed = sum([plan.claimable for plan in self._plans if plan.state == "dunnable" or id(plan) in places])
        if self._facts.unapplied <= 0:
            return claimed
        covered = sum(plan.claimable for plan in self._plans if plan.state == "covered")
        return claimed - max(0, self._facts.unapplied - covered)

    def top(self, plans: Iterable[ItemDecision]) -> Rung:
        """The highest step that one of them takes."""
        return self._ladder.rungs[max([plan.step.position for plan in plans if plan.step is not None]) - 1]

    def cash_through(self) -> date | None:
        """Through which day cash must be known: so many banking days back (D8)."""
        if self._facts.cash is None:
            return None
        return self._ladder.calendar.add(self._as_of, -self._policy.cash.max_staleness_banking_days)

    def _amount(self, minor: int) -> Minor:
        return Minor(minor, self._facts.currency)


def _is_enough(rung: Rung, net: int, total: int) -> bool:
    return net >= rung.case_least and (not rung.case_percent or net * 100 >= total * rung.case_percent)
