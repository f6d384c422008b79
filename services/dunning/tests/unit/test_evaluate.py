"""The semantics decisions by their numbers and dates, every condition, and properties of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cobranza.chassis.calendars import country_calendar
from cobranza.contracts import dunning, identifiers, invoicing, payments
from cobranza.contracts.payloads import Payload
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.account import (
    Account,
    answer_delivered,
    answer_not_sent,
    answer_sent,
    answer_task,
    applied,
    at_hand,
    follow,
)
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.condition import AllOf, AnyOf, Compared, Condition, Not, OneOf
from cobranza.dunning.domain.decision import Action, Decision
from cobranza.dunning.domain.facts import AccountFacts, Brake, CashNeed, Debtor, Issued, Item, PartPayment, Run, Stop
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.domain.policy import (
    Approval,
    CatchUp,
    End,
    EndTask,
    Goodwill,
    Interest,
    Limits,
    Materiality,
    Policy,
    Repeat,
    Requires,
    Step,
    StepTask,
    Threshold,
    Undo,
)

MEXICO = country_calendar("MX")
R1 = Step("r1", 3, "notice", channel="email", tone="friendly", template="r1", position=1)
R2 = Step("r2", 10, "notice", channel="email", tone="firm", template="r2", position=2)
F = Step("f", 20, "notice", channel="email", tone="formal", template="f", position=3)
S = Step(
    "s",
    30,
    "effect",
    effect="suspend_service",
    requires=Requires("f", term_days=7),
    approval=Approval("credit_manager"),
    position=4,
)
LADDER = Policy(
    policy="ladder-t",
    version=1,
    company="acme-mx",
    currency="MXN",
    timezone="America/Mexico_City",
    calendar="mx-business",
    languages=("es-MX", "en"),
    effective_from=date(2027, 1, 1),
    contact_rules=("b2b-default",),
    steps=(R1, R2, F),
    end=End(15, EndTask("decide_end", "credit_manager", 5)),
    min_gap_days=5,
    materiality=Materiality(case=Threshold(amount=200_00)),
    goodwill=Goodwill(percent=30, days=5),  # type: ignore[arg-type]
)
#: With the suspension of service at its end.
WITH_EFFECT = replace(LADDER, steps=(R1, R2, F, S))
A = Item(UUID(int=1), "A-1", date(2027, 1, 11), 58_000_00, 58_000_00)
B = Item(UUID(int=2), "B-1", date(2027, 1, 21), 10_000_00, 10_000_00)


def on(day: str) -> date:
    return date.fromisoformat(f"2027-{day}")


def facts(*items: Item, **changes: object) -> AccountFacts:
    return AccountFacts(currency="MXN", items=items)._replace(**changes)  # type: ignore[arg-type]


def decide(known: AccountFacts, day: str, policy: Policy = LADDER) -> Decision:
    return evaluate(Ladder(policy, MEXICO), known, on(day))


def catching_up(mode: str, policy: Policy = LADDER) -> Policy:
    return replace(policy, catch_up=CatchUp(mode))  # type: ignore[arg-type]


@dataclass
class Played:
    """An account played day by day: what is asked for is sent, called and approved the same day.

    Args:
        silent: steps whose outcome never comes by itself.
    """

    policy: Policy
    account: Account
    silent: Sequence[str] = ()
    done: list[tuple[str, str]] = field(default_factory=list)
    decisions: dict[date, Decision] = field(default_factory=dict)

    @property
    def ladder(self) -> Ladder:
        return Ladder(self.policy, MEXICO)

    def evaluate(self, as_of: date) -> Decision:
        decision = evaluate(self.ladder, self.account.facts, as_of)
        self.account = at_hand(applied(self.account, self.ladder, decision, as_of))
        for action in decision.actions:
            if action.approval is None:
                lines = "+".join(f"{line.receivable_id.int}" for line in action.lines if line.step is not None)
                self.done.append((as_of.isoformat()[5:], f"{action.step.id}:{lines}"))
            if action.step.id not in self.silent:
                self.answer(action, as_of)
        self.decisions.setdefault(as_of, decision)
        return decision

    def answer(self, action: Action, as_of: date) -> None:
        run = max(run.number for run in self.account.facts.runs if run.step == action.step.id)
        step = action.step.id
        if action.approval is not None:
            self.account = answer_task(self.account, self.ladder, step=step, run=run, disposition="approved", on=as_of)
        elif action.step.kind == "notice":
            self.sent(step, run, as_of)
            self.account = answer_delivered(self.account, self.ladder, step=step, run=run, on=as_of)
        else:
            self.task(step, run, "done", as_of)

    def sent(self, step: str, run: int, as_of: date) -> None:
        granted = frozenset(item.receivable_id for item in self.account.facts.items)
        self.account = answer_sent(self.account, self.ladder, step=step, run=run, granted=granted, on=as_of)

    def not_sent(self, step: str, run: int, state: str, reason: str, as_of: date) -> None:
        self.account = answer_not_sent(self.account, step=step, run=run, state=state, reason=reason, on=as_of)

    def task(self, step: str, run: int, disposition: str, as_of: date) -> None:
        self.account = answer_task(self.account, self.ladder, step=step, run=run, disposition=disposition, on=as_of)

    def tell(self, *told: Payload) -> None:
        for payload in told:
            self.account = follow(self.account, payload, self.ladder)

    def change(self, **changes: object) -> None:
        self.account = self.account.with_facts(**changes)

    def item(self, receivable_id: UUID = A.receivable_id) -> Item:
        found = self.account.item(receivable_id)
        assert found is not None
        return found

    def to_rest(self, as_of: date) -> Decision:
        """Evaluate until nothing changes any more that day."""
        decision = self.evaluate(as_of)
        for _ in range(40):
            if not decision.changes_facts:
                return decision
            decision = self.evaluate(as_of)
        raise AssertionError("the day never comes to rest")

    def every_day(self, first: date, last: date) -> None:
        day = first
        while day <= last:
            self.to_rest(day)
            day += timedelta(days=1)

    def only_when_due(self, first: date, last: date, also: Mapping[date, Sequence[Payload]] | None = None) -> None:
        """Evaluate on the days that the last evaluation asked for, and on those on which `also` is told."""
        day: date | None = first
        while day is not None and day <= last:
            self.tell(*(also or {}).get(day, ()))
            check = self.to_rest(day).next_check_on
            others = [other for other in also or () if other > day]
            day = min([day for day in (check, *others) if day is not None], default=None)


def played(*items: Item, policy: Policy = LADDER, silent: Sequence[str] = (), **changes: object) -> Played:
    return Played(policy, Account(facts(*items, **changes)), silent)


def balance(
    item: Item,
    *,
    open: int,  # noqa: A002
    day: str,
    effective: str | None = None,
    allocated: int | None = None,
    **changes: object,
) -> payments.ReceivableChanged:
    """The balance of an item as payments tells it."""
    paid = item.issued - open if allocated is None else allocated
    told: dict[str, object] = {
        "company": "acme-mx",
        "receivable_id": item.receivable_id,
        "invoice_id": identifiers.invoice_id("acme-mx", "erp", item.number),
        "instalment": 1,
        "customer": "C-1",
        "number": item.number,
        "kind": "invoice",
        "currency": "MXN",
        "issued_on": "2026-12-11",
        "due_on": item.due_on,
        "issued": _amount(item.issued),
        "allocated": _amount(paid),
        "credited": _amount(item.issued - open - paid),
        "written_off": "0.00",
        "open": _amount(open),
        "version": 1,
        "cause": "payment-received",
        "effective_on": f"2027-{effective or day}",
        "recorded_on": f"2027-{day}",
        **changes,
    }
    return payments.ReceivableChanged.model_validate(told)


def _amount(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02}"


def test_d1_a_notice_takes_the_highest_moving_step_and_is_not_softer_than_heard() -> None:
    a = replace(A, level=2, passed=2, last_notice_on=on("01-21"))
    known = facts(a, B, last_contact_on=on("01-21"), heard_tone="firm")

    early = decide(known, "01-25")
    decision = decide(known, "01-26")

    assert early.contact is None
    assert early.next_check_on == on("01-26")
    assert decision.contact is not None
    assert (decision.contact.step, decision.contact.tone) == (R1, "firm")
    assert [(line.receivable_id, line.step, line.last_notice_on) for line in decision.contact.lines] == [
        (A.receivable_id, None, on("01-21")),
        (B.receivable_id, R1, None),
    ]


def test_d1_each_item_is_raised_to_its_own_step() -> None:
    a = replace(A, level=1, passed=1, last_notice_on=on("01-14"))
    b = replace(B, due_on=on("01-18"))

    decision = decide(facts(a, b, last_contact_on=on("01-14"), heard_tone="friendly"), "01-21")

    assert decision.contact is not None
    assert decision.contact.step == R2
    assert [line.step for line in decision.contact.lines] == [R2, R1]


def test_d2_a_late_step_moves_the_next_by_the_gap_and_the_roll() -> None:
    a = replace(A, level=1, passed=1, last_notice_on=on("01-18"))

    decision = decide(facts(a, last_contact_on=on("01-18")), "01-18")

    assert decision.outcome == "wait"
    assert decision.reason == Reason.MIN_GAP
    assert decision.next_check_on == on("01-25")


def test_d2_the_ladder_runs_by_the_calendar() -> None:
    case = played(A)

    case.every_day(on("01-04"), on("03-05"))

    assert case.done == [("01-14", "r1:1"), ("01-21", "r2:1"), ("02-02", "f:1")]


@pytest.mark.parametrize(
    ("mode", "contacts"),
    [
        ("collapse", [("02-03", "f")]),
        ("next", [("02-03", "r1"), ("02-08", "r2"), ("02-15", "f")]),
        ("none", [("02-03", "f")]),
    ],
)
def test_d3_catch_up_after_the_platform_was_down(mode: str, contacts: list[tuple[str, str]]) -> None:
    case = played(A, policy=catching_up(mode))

    case.every_day(on("02-03"), on("02-23"))

    assert case.done == [(day, f"{step}:1") for day, step in contacts]


@pytest.mark.parametrize(("mode", "reason"), [("collapse", Reason.CATCH_UP), ("none", Reason.STALE)])
def test_d3_skipped_steps_are_told_with_their_reason(mode: str, reason: Reason) -> None:
    decision = decide(facts(A), "02-03", catching_up(mode))

    assert decision.items[0].skipped == ((R1, reason), (R2, reason))


def test_d3_the_first_contact_is_no_higher_than_the_policy_allows() -> None:
    policy = replace(LADDER, catch_up=CatchUp(first_contact_max="r2"))

    decision = decide(facts(A), "03-16", policy)

    assert decision.contact is not None
    assert decision.contact.step == R2


def test_d3_after_a_stop_that_covered_a_missed_date_one_step_is_taken() -> None:
    hold = Stop(Reason.ON_HOLD, "internal", on("01-13"), on("02-02"))
    case = played(A, stops=(hold,))

    case.every_day(on("01-12"), on("02-20"))

    assert case.done == [("02-03", "r1:1"), ("02-08", "r2:1"), ("02-15", "f:1")]


def test_d3_nothing_is_sent_before_the_start() -> None:
    decision = decide(facts(A, start_on=on("01-20")), "01-14")

    assert (decision.outcome, decision.reason) == ("wait", Reason.BEFORE_START)
    assert decision.next_check_on == on("01-20")


def test_d5_when_one_of_several_is_paid_nothing_resets() -> None:
    b = replace(B, level=1, passed=1, last_notice_on=on("01-26"))

    decision = decide(facts(b, last_contact_on=on("01-26"), heard_tone="firm"), "01-27")

    assert decision.next_check_on == on("02-02")


def test_d7_credit_that_covers_all_stops_the_contact() -> None:
    decision = decide(facts(A, unapplied=60_000_00), "01-14")

    assert (decision.outcome, decision.reason) == ("stopped", Reason.COVERED_BY_CREDIT)


def test_d7_credit_that_covers_a_part_leaves_the_notice() -> None:
    decision = decide(facts(A, unapplied=20_000_00), "01-14")

    assert decision.contact is not None
    assert decision.reasons[-1].code == Reason.PART_COVERED


def test_d7_credit_is_consumed_oldest_first() -> None:
    a = replace(A, level=2, passed=2, last_notice_on=on("01-21"))

    decision = decide(facts(a, B, unapplied=58_000_00, last_contact_on=on("01-21")), "01-26")

    assert decision.contact is not None
    assert [line.receivable_id for line in decision.contact.lines] == [B.receivable_id]


@pytest.mark.parametrize(("known", "outcome"), [("01-12", "wait"), ("01-13", "act")])
def test_d8_a_step_waits_for_fresh_cash(known: str, outcome: str) -> None:
    decision = decide(facts(A, cash=CashNeed(on(known))), "01-14")

    assert decision.outcome == outcome
    assert (decision.reason == Reason.CASH_STALE) == (outcome == "wait")


def test_d17_one_notice_lists_all_overdue_items() -> None:
    c = Item(UUID(int=3), "C-1", date(2027, 1, 13), 100_00, 100_00)

    decision = decide(facts(A, c), "01-14")

    assert decision.contact is not None
    assert [(line.receivable_id, line.step) for line in decision.contact.lines] == [
        (A.receivable_id, R1),
        (c.receivable_id, None),
    ]


def test_d18_a_step_rolls_over_sunday_and_holiday() -> None:
    a = replace(A, level=2, passed=2, last_notice_on=on("01-21"))

    decision = decide(facts(a, last_contact_on=on("01-21")), "01-31")

    assert decision.next_check_on == on("02-02")
    assert decision.reason == Reason.ROLLED


def test_d18_an_item_is_overdue_from_the_day_after_its_due_date() -> None:
    assert decide(facts(A), "01-11").items[0].state == "not_due"
    assert decide(facts(A), "01-12").items[0].state == "dunnable"
    assert decide(facts(A), "01-11").is_in_window is False
    assert decide(facts(A), "01-12").is_in_window is True


def test_grace_days_delay_steps_but_not_the_case() -> None:
    policy = replace(LADDER, grace_days=7)

    decision = decide(facts(A), "01-14", policy)

    assert (decision.items[0].state, decision.reason) == ("grace", Reason.IN_GRACE)
    assert decision.next_check_on == on("01-19")
    assert decision.is_in_window


def test_a_case_below_materiality_is_suspended_until_the_amount_grows() -> None:
    small = replace(A, open=100_00)

    suspended = decide(facts(small), "01-14")
    lifted = decide(facts(small, replace(B, due_on=on("01-12"), open=150_00)), "01-15")

    assert (suspended.outcome, suspended.reason) == ("stopped", Reason.BELOW_CASE)
    assert lifted.outcome == "act"


def test_materiality_in_percent_is_of_all_that_is_open() -> None:
    policy = replace(LADDER, materiality=Materiality(case=Threshold(percent=Decimal(50))))
    later = replace(B, due_on=date(2027, 6, 1), open=58_000_01)

    assert decide(facts(A, later), "01-14", policy).reason == Reason.BELOW_CASE
    assert decide(facts(A, replace(later, open=58_000_00)), "01-14", policy).outcome == "act"


def test_a_hold_on_one_item_leaves_the_others() -> None:
    hold = Stop(Reason.ON_HOLD, "internal", on("01-12"), on("01-20"), frozenset({A.receivable_id}))
    b = replace(B, due_on=A.due_on)

    decision = decide(facts(A, b, stops=(hold,)), "01-14")

    assert decision.contact is not None
    assert [line.receivable_id for line in decision.contact.lines] == [B.receivable_id]
    assert decision.items[0].state == "held"


def test_a_held_case_waits_for_the_end_of_the_hold() -> None:
    hold = Stop(Reason.ON_HOLD, "internal", on("01-12"), on("01-20"))

    decision = decide(facts(A, stops=(hold,)), "01-14")

    assert (decision.outcome, decision.reason, decision.case_state) == ("stopped", Reason.ON_HOLD, "held")
    assert decision.next_check_on == on("01-21")


def test_nothing_else_is_issued_while_a_run_is_open() -> None:
    decision = decide(
        facts(A, B, runs=(Run("r1", 1, "requested", frozenset({A.receivable_id}), expires_on=on("01-19")),)), "01-21"
    )

    assert (decision.outcome, decision.reason) == ("wait", Reason.RUN_OPEN)
    assert decision.items[0].step is None


def test_a_refused_run_is_not_repeated_for_the_same_facts_on_the_same_day() -> None:
    known = facts(A)
    refused = Run(
        "r1", 1, "suppressed", frozenset({A.receivable_id}), answered_on=on("01-14"), reason="no_address",
        facts_hash=known.digest(),
    )  # fmt: skip

    same = decide(known._replace(runs=(refused,)), "01-14")
    other_facts = decide(known._replace(runs=(refused,), debtor=replace(known.debtor, revision=2)), "01-14")
    next_day = decide(known._replace(runs=(refused,)), "01-15")

    assert (same.outcome, same.reason, same.next_check_on) == ("wait", "no_address", on("01-15"))
    assert other_facts.outcome == "act"
    assert next_day.outcome == "act"


def test_the_ladder_ends_with_a_person() -> None:
    a = replace(A, level=3, passed=3, last_notice_on=on("02-02"))

    before = decide(facts(a, last_contact_on=on("02-02")), "02-16")
    after = decide(facts(a, last_contact_on=on("02-02")), "02-17")

    assert (before.outcome, before.next_check_on) == ("wait", on("02-17"))
    assert (after.outcome, after.reason, after.next_check_on) == ("ended", Reason.END_REACHED, None)
    assert after.ended_items == (A.receivable_id,)


@pytest.mark.parametrize(
    "requires", [Requires("f", term_days=3, evidence=("statement",)), Requires("f", delivered=True, term_days=3)]
)
def test_a_step_that_waits_for_what_nobody_brings_does_not_hold_the_end_back(requires: Requires) -> None:
    agency = Step("agency", 40, "effect", effect="agency", requires=requires, position=4)
    policy = replace(LADDER, steps=(R1, R2, F, agency))
    sent = level(F, history={**level(F).history, "f": Issued(on("02-02"))})
    case = played(sent, policy=policy, control="matched", last_contact_on=on("02-02"), evaluated_on=on("02-19"))

    waiting = case.evaluate(on("02-22"))
    ended = case.evaluate(on("03-07"))
    case.change(evidence=frozenset({"statement"}), items=(replace(case.item(), history=level(F).history),))
    brought = case.evaluate(on("03-16"))

    assert (waiting.reason, waiting.next_check_on) == (Reason.REQUIRES_MISSING, on("03-07"))
    assert (ended.outcome, ended.reason, ended.case_state) == ("ended", Reason.END_REACHED, "ended")
    assert [asked.kind for asked in ended.askings] == ["decide_end"]
    # It goes on when somebody brings it.
    assert [action.step.id for action in brought.actions] == ["agency"]


def test_without_a_policy_nothing_is_silent() -> None:
    decision = evaluate(None, facts(A), on("01-14"))

    assert (decision.outcome, decision.reason, decision.is_in_window) == ("stopped", Reason.NO_POLICY, True)


def test_a_settled_account_closes_its_case() -> None:
    decision = decide(facts(), "01-14")

    assert (decision.reason, decision.case_state, decision.next_check_on) == (Reason.SETTLED, "closed", None)


def level(step: Step, **changes: object) -> Item:
    """Item A taken up to a step on the day of its date."""
    days = {"r1": on("01-14"), "r2": on("01-21"), "f": on("02-02")}
    done = {name: Issued(day, delivered_on=day) for name, day in days.items()}
    history = {known.id: done[known.id] for known in (R1, R2, F) if known.position <= step.position}
    last = max(issued.on for issued in history.values())
    item = replace(A, level=step.position, passed=step.position, last_notice_on=last, history=history)
    return replace(item, **changes)  # type: ignore[arg-type]


def stepped(*steps: Step, **changes: object) -> Policy:
    """The test ladder with other steps."""
    placed = tuple(replace(step, position=place) for place, step in enumerate(steps, start=1))
    return replace(LADDER, steps=placed, **changes)  # type: ignore[arg-type]


def test_d3_the_suspension_comes_a_term_after_the_formal_demand_it_requires() -> None:
    case = played(A, policy=WITH_EFFECT, control="matched")

    case.every_day(on("02-03"), on("02-20"))

    assert case.done == [("02-03", "f:1"), ("02-11", "s:1")]


def test_d3_an_effect_is_never_reached_by_catching_up() -> None:
    free = replace(S, requires=Requires("r1", term_days=0), offset=12)
    policy = replace(LADDER, steps=(R1, R2, replace(free, position=3), replace(F, position=4)))
    case = played(A, policy=policy, control="matched", evaluated_on=on("01-14"), promised_on=on("01-21"))
    case.account = case.account.with_facts(items=(level(R1),), last_contact_on=on("01-14"))

    case.to_rest(on("02-03"))

    assert case.done == [("02-03", "f:1")]
    assert [run.step for run in case.account.facts.runs if run.state == "skipped"] == ["r2", "s"]


def test_d3_an_effect_whose_day_nobody_looked_at_waits_for_the_next_worked_day() -> None:
    known = facts(
        level(F), control="matched", last_contact_on=on("02-02"), evaluated_on=on("02-03"), promised_on=on("02-10")
    )

    late = decide(known, "02-15", WITH_EFFECT)
    looked_at = known._replace(evaluated_on=on("02-15"), promised_on=on("02-16"), caught_up_on=on("02-15"))
    again = decide(looked_at, "02-15", WITH_EFFECT)
    next_day = decide(looked_at, "02-16", WITH_EFFECT)

    assert (late.outcome, late.reason, late.next_check_on) == ("wait", Reason.CATCH_UP, on("02-16"))
    # A second look at the same day, for whatever reason, is no earlier.
    assert (again.outcome, again.reason, again.next_check_on) == ("wait", Reason.CATCH_UP, on("02-16"))
    assert [action.step for action in next_day.actions] == [S]


def test_d4_a_substantial_part_payment_lets_the_next_step_wait_and_keeps_the_level() -> None:
    case = played(A)
    case.every_day(on("01-12"), on("01-17"))

    case.tell(balance(A, open=38_000_00, day="01-18"))
    case.every_day(on("01-18"), on("01-31"))

    assert case.done == [("01-14", "r1:1"), ("01-25", "r2:1")]
    assert case.decisions[on("01-21")].reason == Reason.GOODWILL
    assert case.item().open == 38_000_00


def test_d4_a_small_part_payment_moves_nothing() -> None:
    case = played(level(R1), last_contact_on=on("01-14"))
    case.tell(balance(A, open=41_000_00, day="01-18"))

    case.every_day(on("01-18"), on("01-22"))

    assert case.done == [("01-21", "r2:1")]


def test_d4_below_materiality_the_case_is_suspended_at_its_level_and_goes_on_when_a_charge_lifts_it() -> None:
    case = played(level(R2), last_contact_on=on("01-21"))
    case.tell(balance(A, open=100_00, day="01-28"))
    case.every_day(on("01-28"), on("02-10"))
    assert case.done == []
    assert (case.decisions[on("02-02")].reason, case.item().level) == (Reason.BELOW_CASE, 2)

    charge = Item(UUID(int=9), "N-1", on("02-08"), 150_00, 150_00)
    case.change(items=(*case.account.facts.items, charge))
    case.every_day(on("02-11"), on("02-11"))

    assert case.done == [("02-11", "f:1+9")]


def test_d6_a_reversal_reopens_at_the_last_level_and_escalates_after_its_grace() -> None:
    case = played(level(R2), last_contact_on=on("01-21"), heard_tone="firm")
    case.tell(balance(A, open=0, day="01-22"))
    assert case.to_rest(on("01-22")).case_state == "closed"

    case.tell(balance(A, open=58_000_00, day="02-05"))
    reversal = case.evaluate(on("02-05"))
    case.every_day(on("02-06"), on("02-12"))

    assert [(telling.purpose, telling.receivable_ids) for telling in reversal.tellings] == [
        ("reversal", (A.receivable_id,))
    ]
    assert (reversal.reason, reversal.items[0].item.level) == (Reason.REOPENED_GRACE, 2)
    assert case.done == [("02-10", "f:1")]
    assert case.decisions[on("02-06")].tellings == ()


def test_d7_credit_that_covers_an_item_asks_a_person_to_match_it() -> None:
    decision = decide(facts(A, unapplied=60_000_00), "01-14")

    assert [(asked.kind, asked.receivable_ids) for asked in decision.askings] == [("match_cash", (A.receivable_id,))]


def test_d7_the_notice_claims_the_net() -> None:
    decision = decide(facts(A, unapplied=20_000_00), "01-14")

    assert decision.contact is not None
    assert decision.contact.claimed == 38_000_00


def test_d7_a_policy_may_let_any_credit_stop_contact() -> None:
    policy = replace(LADDER, cash=replace(LADDER.cash, unapplied="hold"))

    assert decide(facts(A, unapplied=1_00), "01-14", policy).reason == Reason.COVERED_BY_CREDIT


@pytest.mark.parametrize(
    ("verdict", "contact", "effect"),
    [("matched", "act", "act"), ("mismatch", "act", "wait"), ("missing", "act", "wait"), (None, "act", "act")],
)
def test_d8_a_control_total_that_does_not_match_holds_effects(verdict: str | None, contact: str, effect: str) -> None:
    notice = decide(facts(A, control=verdict), "01-14", WITH_EFFECT)
    suspension = decide(
        facts(level(F), control=verdict, last_contact_on=on("02-02"), evaluated_on=on("02-10")), "02-10", WITH_EFFECT
    )

    assert (notice.outcome, suspension.outcome) == (contact, effect)
    assert (suspension.reason == Reason.CONTROL_MISMATCH) == (effect == "wait")


def test_d8_or_everything_by_policy() -> None:
    policy = replace(LADDER, cash=replace(LADDER.cash, control_total="required"))

    assert decide(facts(A, control="mismatch"), "01-14", policy).reason == Reason.CONTROL_MISMATCH
    assert decide(facts(A, control="missing"), "01-14", policy).reason == Reason.CONTROL_MISMATCH
    assert decide(facts(A, control=None), "01-14", policy).outcome == "act"


def test_d8_staleness_is_counted_in_banking_days() -> None:
    policy = replace(LADDER, cash=replace(LADDER.cash, max_staleness_banking_days=3))

    assert decide(facts(A, cash=CashNeed(on("01-08"))), "01-14", policy).reason == Reason.CASH_STALE
    assert decide(facts(A, cash=CashNeed(on("01-11"))), "01-14", policy).outcome == "act"


def dispute(amount: int, *, day: str = "01-15", returns: str | None = None) -> list[Payload]:
    identity = {
        "company": "acme-mx", "customer": "C-1", "dispute_id": UUID(int=50), "receivable_id": A.receivable_id,
        "amount": {"amount": _amount(amount), "currency": "MXN"}, "kind": "price", "opened_on": f"2027-{day}",
        "deadline_on": "2027-01-29",
    }  # fmt: skip
    told: list[Payload] = [dunning.DisputeOpened.model_validate(identity)]
    if returns is not None:
        zero = {"amount": "0.00", "currency": "MXN"}
        resolved = {
            "outcome": "rejected", "stopped": zero, "returning": identity["amount"], "returns_on": f"2027-{returns}",
            "by": "Lucía", "resolved_on": "2027-01-28",
        }  # fmt: skip
        told.append(dunning.DisputeResolved.model_validate({**identity, **resolved}))
    return told


def test_d9_a_disputed_part_leaves_the_claim_and_comes_back_at_the_same_level() -> None:
    case = played(level(R1), last_contact_on=on("01-14"))
    opened, resolved = dispute(8_000_00, returns="02-02")
    case.tell(opened)

    notice = case.evaluate(on("01-21"))
    case.tell(resolved)
    case.every_day(on("01-28"), on("02-02"))

    assert notice.contact is not None
    assert notice.contact.claimed == 50_000_00
    assert case.decisions[on("02-01")].items[0].claimable == 50_000_00
    assert case.decisions[on("02-02")].items[0].claimable == 58_000_00
    assert case.done[-1] == ("02-02", "f:1")


def test_d9_a_wholly_disputed_item_stops() -> None:
    case = played(level(R1), last_contact_on=on("01-14"))
    case.tell(*dispute(58_000_00))

    decision = case.evaluate(on("01-21"))

    assert (decision.items[0].state, decision.outcome, decision.case_state) == ("disputed", "stopped", "waiting")


def test_d9_a_policy_may_hold_the_whole_item() -> None:
    case = played(level(R1), policy=replace(LADDER, disputes=replace(LADDER.disputes, hold="item")))
    case.tell(*dispute(1_00))

    assert case.evaluate(on("01-25")).items[0].state == "disputed"


def promise(**changes: object) -> dict[str, object]:
    amount = {"amount": "58000.00", "currency": "MXN"}
    return {
        "company": "acme-mx", "customer": "C-1", "case_id": UUID(int=70), "promise_id": UUID(int=60),
        "lines": [{"receivable_id": A.receivable_id, "amount": amount}], "amount": amount,
        "promised_on": "2027-01-29", "limit_on": "2027-02-03", "made_on": "2027-01-20", "captured_by": "Lucía",
        "channel": "call", **changes,
    }  # fmt: skip


def test_d10_a_broken_promise_brings_the_next_step_at_once() -> None:
    case = played(level(R1), last_contact_on=on("01-14"))
    case.tell(dunning.PromiseMade.model_validate(promise()))
    case.every_day(on("01-20"), on("02-02"))
    case.tell(balance(A, open=18_000_00, day="02-02"))
    case.every_day(on("02-03"), on("02-03"))
    assert (case.done, case.decisions[on("01-25")].items[0].state) == ([], "promised")

    broken = promise(paid={"amount": "40000.00", "currency": "MXN"}, kept_fraction="0.69", judged_on="2027-02-04")
    case.tell(dunning.PromiseBroken.model_validate(broken))
    case.policy = replace(case.policy, goodwill=None)
    decision = case.evaluate(on("02-04"))

    assert decision.contact is not None
    assert (decision.contact.step, decision.contact.claimed) == (R2, 18_000_00)


def test_d6_a_promise_kept_by_money_that_goes_back_is_broken() -> None:
    case = played(level(R1), last_contact_on=on("01-14"))
    case.tell(dunning.PromiseMade.model_validate(promise()))
    case.every_day(on("01-20"), on("02-01"))
    case.tell(balance(A, open=0, day="02-02"))
    kept = case.evaluate(on("02-02"))
    case.tell(balance(A, open=58_000_00, day="02-05"))
    broken = case.evaluate(on("02-05"))

    assert [judging.verdict for judging in kept.judgings] == ["kept"]
    assert [judging.verdict for judging in broken.judgings] == ["broken"]
    assert "broken_promise" in {asked.kind for asked in broken.askings}


def test_a_plan_in_good_standing_and_a_hand_over_stop_contact() -> None:
    amount = {"amount": "58000.00", "currency": "MXN"}
    plan = dunning.PlanAgreed.model_validate(
        {
            "company": "acme-mx", "customer": "C-1", "case_id": UUID(int=70), "plan_id": UUID(int=80),
            "lines": [{"receivable_id": A.receivable_id, "amount": amount}], "total": amount,
            "instalments": [{"number": 1, "due_on": "2027-02-28", "amount": amount, "promise_id": UUID(int=81)}],
            "agreed_on": "2027-01-20", "by": "Lucía",
        }
    )  # fmt: skip
    planned, handed = played(level(R1)), played(level(F), handed_over=frozenset({A.receivable_id}))
    planned.tell(plan)

    assert planned.evaluate(on("01-25")).items[0].state == "planned"
    decision = handed.evaluate(on("02-20"))
    assert (decision.items[0].state, decision.case_state) == ("handed_over", "handed_over")


def test_d15_a_replacement_for_no_more_on_the_same_day_inherits_the_level() -> None:
    for issued, due, inherited in ((52_000_00, "01-11", 2), (60_000_00, "01-11", 0), (52_000_00, "02-26", 0)):
        case = played(level(R2), last_contact_on=on("01-21"), heard_tone="firm")
        case.tell(balance(A, open=58_000_00, day="01-25"))
        new = Item(UUID(int=5), "A-2", on(due), issued, issued)
        case.tell(
            invoicing.InvoiceReplaced.model_validate(
                {
                    "company": "acme-mx", "customer": "C-1", "number": "A-1", "replaced_on": "2027-01-26",
                    "invoice_id": identifiers.invoice_id("acme-mx", "erp", "A-1"),
                    "replaced_by": identifiers.invoice_id("acme-mx", "erp", "A-2"),
                }
            ),
            balance(new, open=issued, day="01-26"),
        )  # fmt: skip

        assert case.item(new.receivable_id).level == inherited
        decision = case.evaluate(on("01-26"))

        assert [telling.purpose for telling in decision.tellings] == ["correction"]
        assert case.account.facts.corrections == ()


def test_d17_promised_items_are_not_in_the_notice() -> None:
    c = Item(UUID(int=3), "C-1", on("01-11"), 100_00, 100_00)
    stop = Stop(Reason.PROMISED, "promise", on("01-12"), on("02-03"), amounts={c.receivable_id: 100_00})

    decision = decide(facts(A, B, c, stops=(stop,), last_contact_on=on("01-21")), "01-26")

    assert decision.contact is not None
    assert [line.receivable_id for line in decision.contact.lines] == [A.receivable_id, B.receivable_id]
    assert decision.contact.claimed == 68_000_00


def test_d19_a_level_that_needs_delivery_rises_when_the_letter_is_posted() -> None:
    f = replace(F, requires_delivery=True)
    case = played(level(R2), policy=replace(LADDER, steps=(R1, R2, f, S)), silent=("f",), last_contact_on=on("01-21"),
                  control="matched")  # fmt: skip
    case.every_day(on("02-02"), on("02-02"))
    case.sent("f", 1, on("02-02"))
    assert case.item().level == 2
    case.every_day(on("02-03"), on("02-03"))
    assert case.decisions[on("02-03")].reason == Reason.RUN_OPEN

    case.account = answer_delivered(case.account, case.ladder, step="f", run=1, on=on("02-04"))
    case.every_day(on("02-04"), on("02-20"))

    assert case.item().level == 4
    # The term ends on Friday 02-12, the eve of a day that is not worked.
    assert case.done == [("02-02", "f:1"), ("02-15", "s:1")]


def test_d19_without_a_fallback_a_person_mends_the_contact_and_the_level_stays() -> None:
    case = played(level(R2), silent=("f",), last_contact_on=on("01-21"))
    case.every_day(on("02-02"), on("02-02"))

    case.not_sent("f", 1, "failed", "bounced", on("02-02"))
    decision = case.evaluate(on("02-03"))

    assert [asked.kind for asked in decision.askings] == ["fix_contact"]
    assert case.item().level == 2


def test_d20_money_recorded_after_a_notice_with_an_earlier_value_date_is_told_as_a_correction() -> None:
    case = played(level(R2), last_contact_on=on("01-21"))

    case.tell(balance(A, open=0, day="01-22", effective="01-20"))
    decision = case.evaluate(on("01-22"))

    assert [(told.purpose, told.corrections[0].reason) for told in decision.tellings] == [("correction", "paid_before")]
    assert case.evaluate(on("01-23")).tellings == ()


def test_d20_money_that_came_after_the_notice_needs_no_correction() -> None:
    case = played(level(R2), last_contact_on=on("01-21"))

    case.tell(balance(A, open=0, day="01-22", effective="01-22"))

    assert case.evaluate(on("01-22")).tellings == ()


def test_d20_a_notice_that_the_permit_refused_is_decided_anew() -> None:
    case = played(level(R1), silent=("r2",), last_contact_on=on("01-14"))
    case.every_day(on("01-21"), on("01-21"))

    case.tell(balance(A, open=0, day="01-21"))
    case.not_sent("r2", 1, "suppressed", "settled", on("01-21"))

    assert case.evaluate(on("01-21")).reason == Reason.SETTLED


# Steps of every kind.

CALL = Step("call", 7, "call", task=StepTask("call", "collector", attempts=2), position=1)
TASK = Step("visit", 8, "task", task=StepTask("visit", "collector", due_business_days=3), position=1)


def test_a_call_that_reaches_the_right_person_is_a_contact_and_raises_the_level() -> None:
    case = played(A, policy=stepped(CALL, F), silent=("call",))
    case.every_day(on("01-18"), on("01-18"))
    assert case.done == [("01-18", "call:1")]

    case.task("call", 1, "right_party_no_commitment", on("01-19"))

    assert (case.item().level, case.account.facts.contacts) == (1, (on("01-19"),))


def test_a_call_that_reaches_nobody_is_tried_as_often_as_the_policy_says_and_the_ladder_goes_on() -> None:
    case = played(A, policy=stepped(CALL, F), silent=("call",))
    case.every_day(on("01-18"), on("01-18"))

    case.task("call", 1, "no_answer", on("01-18"))
    assert case.evaluate(on("01-19")).reason == Reason.RUN_OPEN
    case.task("call", 1, "voicemail", on("01-19"))

    [run] = case.account.facts.runs
    assert (run.state, run.reason, case.item().level, case.item().passed) == ("skipped", "unreachable", 0, 1)
    assert case.evaluate(on("01-20")).items[0].candidates[0].step == "f"


def test_a_task_that_is_not_done_in_time_is_skipped() -> None:
    case = played(A, policy=stepped(TASK, F), silent=("visit",))

    case.every_day(on("01-19"), on("01-25"))

    assert case.done == [("01-19", "visit:1")]
    [closing] = case.decisions[on("01-23")].closings
    assert (closing.run.step, closing.reason, closing.rises) == ("visit", Reason.TASK_EXPIRED, False)
    assert case.item().passed == 1


def test_a_blocking_task_rises_to_a_supervisor_before_it_is_given_up() -> None:
    blocking = replace(TASK, task=replace(TASK.task, blocking=True))  # type: ignore[type-var]
    case = played(A, policy=stepped(blocking, F), silent=("visit",))

    case.every_day(on("01-19"), on("01-29"))

    closings = [
        (day, closing.rises) for day, decision in sorted(case.decisions.items()) for closing in decision.closings
    ]
    assert closings == [(on("01-23"), True), (on("01-28"), False)]


def test_a_step_that_a_person_must_approve_is_proposed_and_goes_on_when_approved() -> None:
    f = replace(F, approval=Approval("supervisor", from_amount=50_000_00))
    case = played(level(R2), policy=stepped(R1, R2, f), silent=("f",), last_contact_on=on("01-21"))

    proposal = case.evaluate(on("02-02"))
    assert [action.approval.role for action in proposal.actions if action.approval] == ["supervisor"]
    assert case.evaluate(on("02-02")).reason == Reason.APPROVAL_PENDING
    case.task("f", 1, "approved", on("02-03"))
    decision = case.evaluate(on("02-03"))

    assert decision.contact is not None
    assert (decision.contact.approved_run, decision.contact.step.id) == (1, "f")


@pytest.mark.parametrize(("amount", "asks"), [(58_000_00, True), (58_000_01, False)])
def test_the_amount_of_an_approval_is_the_case_s_dunnable_one(amount: int, asks: bool) -> None:  # noqa: FBT001
    f = replace(F, approval=Approval("supervisor", from_amount=amount))

    [action] = decide(facts(level(R2), last_contact_on=on("01-21")), "02-02", stepped(R1, R2, f)).actions

    assert (action.approval is not None) == asks


def test_an_approval_that_nobody_gives_expires_and_the_ladder_goes_on() -> None:
    for on_expiry, asks in (("skip", False), ("task", True)):
        f = replace(F, approval=Approval("supervisor", on_expiry=on_expiry))  # type: ignore[arg-type]
        case = played(level(R2), policy=stepped(R1, R2, f), silent=("f",), last_contact_on=on("01-21"))

        case.every_day(on("02-02"), on("02-06"))

        [closing] = case.decisions[on("02-06")].closings
        assert (closing.reason, closing.asks) == (Reason.APPROVAL_EXPIRED, asks)
        assert (case.item().level, case.item().passed) == (2, 3)


def test_an_approval_that_is_refused_skips_the_step() -> None:
    f = replace(F, approval=Approval("supervisor"))
    case = played(level(R2), policy=stepped(R1, R2, f), silent=("f",), last_contact_on=on("01-21"))
    case.evaluate(on("02-02"))

    case.task("f", 1, "refused", on("02-03"))

    assert (case.item().level, case.item().passed) == (2, 3)
    assert case.account.facts.runs[-1].reason == Reason.APPROVAL_REFUSED


def test_what_was_approved_is_looked_at_again_before_it_is_done() -> None:
    f = replace(F, approval=Approval("supervisor"))
    case = played(level(R2), policy=stepped(R1, R2, f), silent=("f",), last_contact_on=on("01-21"))
    case.evaluate(on("02-02"))
    case.task("f", 1, "approved", on("02-03"))
    case.tell(balance(A, open=0, day="02-03"))

    decision = case.evaluate(on("02-03"))

    assert (decision.actions, decision.reason) == ((), Reason.SETTLED)
    assert [closing.reason for closing in decision.closings] == [Reason.SETTLED]


def test_a_policy_may_release_every_step_by_hand() -> None:
    [action] = decide(facts(A), "01-14", replace(LADDER, release="proposal")).actions

    assert action.approval is not None


def test_the_last_notice_repeats_and_then_the_ladder_ends() -> None:
    f = replace(F, repeat=Repeat(every_days=10, max=2))
    case = played(A, policy=stepped(R1, R2, f))

    case.every_day(on("01-12"), on("03-20"))

    # 02-12 + 10 = Monday 02-22.
    assert case.done[2:] == [("02-02", "f:1"), ("02-12", "f:1"), ("02-22", "f:1")]
    assert case.decisions[on("03-09")].outcome == "ended"
    assert case.decisions[on("03-08")].outcome == "wait"


def test_a_step_that_requires_a_skipped_one_is_skipped_too() -> None:
    second = replace(R2, requires=Requires("r1", term_days=1))
    case = played(A, policy=stepped(replace(R1, when=Compared("item_amount", "ge", 99_999_99)), second, F))

    case.every_day(on("01-12"), on("02-02"))

    assert case.done == [("02-02", "f:1")]
    assert [(run.step, run.reason) for run in case.account.facts.runs if run.state == "skipped"] == [
        ("r1", "when_false"), ("r2", "requires_missing"),
    ]  # fmt: skip


def test_an_irreversible_effect_needs_an_earlier_notice_delivered() -> None:
    undelivered = level(F, history={"r1": Issued(on("01-14")), "f": Issued(on("02-02"))})

    decision = decide(facts(undelivered, control="matched", evaluated_on=on("02-10")), "02-15", WITH_EFFECT)

    assert (decision.outcome, decision.reason) == ("wait", Reason.REQUIRES_MISSING)


def test_service_is_never_suspended_on_the_eve_of_a_day_that_is_not_worked() -> None:
    known = facts(level(F), control="matched", evaluated_on=on("02-11"), promised_on=on("02-12"))
    friday = known._replace(items=(level(F, reopened_on=on("02-07")),))

    decision = decide(friday, "02-12", WITH_EFFECT)

    assert (decision.outcome, decision.next_check_on) == ("wait", on("02-15"))


def test_evidence_must_be_at_hand() -> None:
    agency = replace(S, effect="agency", requires=Requires("f", term_days=7, evidence=("statement", "delivery_proof")))
    policy = stepped(R1, R2, F, agency)
    known = facts(level(F), control="matched", evaluated_on=on("02-09"))

    missing = decide(known, "02-10", policy)
    complete = decide(known._replace(evidence=frozenset({"statement"})), "02-10", policy)

    assert (missing.reason, complete.outcome) == (Reason.REQUIRES_MISSING, "act")


def test_a_receipt_of_nobody_for_the_same_amount_holds_an_effect() -> None:
    known = facts(level(F), control="matched", evaluated_on=on("02-09"), unidentified=frozenset({58_000_00}))

    assert decide(known, "02-10", WITH_EFFECT).reason == Reason.PAYER_UNKNOWN


@pytest.mark.parametrize(("rule", "left", "undone"), [("settled", 0, True), ("settled", 50_00, False),
                                                      ("below_materiality", 50_00, True)])  # fmt: skip
def test_an_effect_is_taken_back_when_its_cause_is_gone(rule: str, left: int, undone: bool) -> None:  # noqa: FBT001
    s = replace(S, undo=Undo("resume_service", rule))  # type: ignore[arg-type]
    case = played(level(F), policy=stepped(R1, R2, F, s), control="matched", evaluated_on=on("02-09"))
    case.to_rest(on("02-10"))
    assert [effect.effect for effect in case.account.facts.effects] == ["suspend_service"]

    case.tell(balance(A, open=left, day="02-16"))
    decision = case.evaluate(on("02-16"))

    assert [undoing.by for undoing in decision.undoings] == (["resume_service"] if undone else [])
    assert len(case.account.facts.effects) == (0 if undone else 1)


def test_the_contact_limit_stops_contacts_until_the_window_moves_and_asks_a_person() -> None:
    policy = replace(LADDER, limits=Limits(contacts=2, window_days=30))
    known = facts(A, contacts=(on("01-02"), on("01-05")))

    decision = decide(known, "01-14", policy)

    assert (decision.reason, decision.reasons[0].as_values()["on"]) == (Reason.CONTACT_LIMIT, "2027-02-01")
    assert [asked.kind for asked in decision.askings] == ["contact_limit"]
    assert decide(known, "02-01", replace(policy, roll="none")).reason != Reason.CONTACT_LIMIT


def test_an_item_below_materiality_is_listed_and_does_not_move() -> None:
    policy = replace(LADDER, materiality=Materiality(item=Threshold(amount=50_00, percent=Decimal(1))))
    small = Item(UUID(int=3), "C-1", A.due_on, 1_000_00, 49_99)
    part = Item(UUID(int=4), "D-1", A.due_on, 10_000_00, 99_99)

    decision = decide(facts(A, small, part), "01-14", policy)

    assert decision.contact is not None
    assert {line.receivable_id.int: line.step and line.step.id for line in decision.contact.lines} == {
        1: "r1", 3: None, 4: None,
    }  # fmt: skip
    assert decide(facts(small), "01-14", policy).reason == Reason.BELOW_ITEM


def test_below_the_materiality_of_a_step_the_next_lower_one_is_taken() -> None:
    f = replace(F, materiality=Materiality(case=Threshold(amount=99_000_00)))

    decision = decide(facts(A), "02-03", stepped(R1, R2, f))

    assert decision.contact is not None
    assert decision.contact.step.id == "r2"
    assert decision.items[0].skipped == ((R1, Reason.CATCH_UP),)


@pytest.mark.parametrize(
    ("step", "first"),
    [
        (Step("x", 5, "notice", base="issue", channel="email", tone="neutral", template="x"), "12-16"),
        (Step("x", 3, "notice", unit="business", channel="email", tone="neutral", template="x"), "01-14"),
        (Step("x", 5, "notice", unit="business", channel="email", tone="neutral", template="x"), "01-18"),
        (Step("x", -2, "notice", roll="preceding", channel="email", tone="neutral", template="x"), "01-08"),
        (Step("x", -2, "notice", roll="none", channel="email", tone="neutral", template="x"), "01-09"),
    ],
)
def test_a_date_is_counted_from_its_base_in_its_unit(step: Step, first: str) -> None:
    case = played(replace(A, issued_on=date(2026, 12, 11)), policy=stepped(step))

    case.every_day(date(2026, 12, 12), on("01-25"))

    assert case.done == [(first, "x:1")]


def test_previous_counts_from_the_step_before() -> None:
    second = replace(R2, base="previous", offset=6)
    case = played(A, policy=stepped(R1, second))

    case.every_day(on("01-18"), on("01-30"))

    # R1 a day late, on Monday 01-18.
    assert case.done == [("01-18", "r1:1"), ("01-25", "r2:1")]


def test_interest_is_charged_with_the_step_that_the_policy_names() -> None:
    policy = replace(LADDER, interest=Interest("mx-ccom-362", charge_at="r2"))

    [reminder] = decide(facts(A), "01-14", policy).actions
    [second] = decide(facts(level(R1)), "01-21", policy).actions

    assert (reminder.charges_interest, second.charges_interest) == (False, True)


def test_a_customer_hold_stops_steps_before_the_due_date_too() -> None:
    early = Step("early", -7, "notice", channel="email", tone="friendly", template="early")
    hold = Stop(Reason.ON_HOLD, "internal", on("01-01"), on("01-08"))
    case = played(A, policy=stepped(early, R1), stops=(hold,))

    case.every_day(on("01-02"), on("01-18"))

    # The hold ends on a Friday; the first notice waits for Monday, the next for the gap.
    assert case.done == [("01-11", "early:1"), ("01-18", "r1:1")]


def test_equal_items_come_in_one_total_order() -> None:
    twins = [Item(UUID(int=number), "T", A.due_on, 100_00, 100_00) for number in (3, 1, 2)]

    decision = decide(facts(*twins), "01-14")

    assert [item.receivable_id.int for item in decision.items] == [1, 2, 3]


# Conditions.

DEBTOR = Debtor(
    segment="standard", risk="low", country="MX", language="es-MX", tags=frozenset({"vip", "export"}),
    protected_party="business", since=date(2025, 1, 20), broken_promises=1, reachable=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "true", "false"),
    [
        (OneOf("segment", ("standard", "key-account")), {}, {"segment": "small"}),
        (Compared("segment", "ne", "small"), {}, {"segment": "small"}),
        (OneOf("risk", ("low",)), {}, {"risk": "high"}),
        (OneOf("country", ("MX",)), {}, {"country": None}),
        (OneOf("language", ("es-MX",)), {}, {"language": "en"}),
        (OneOf("tag", ("vip", "new")), {}, {"tags": frozenset({"export"})}),
        (Compared("tag", "ne", "new"), {}, {"tags": frozenset({"new"})}),
        (OneOf("protected_party", ("business",)), {}, {"protected_party": "consumer"}),
        (Compared("broken_promises", "ge", 1), {}, {"broken_promises": 0}),
        (Compared("months_as_customer", "lt", 24), {}, {"since": date(2025, 1, 14)}),
        (Compared("months_as_customer", "gt", 1), {}, {"since": None}),
        (OneOf("reachable", (True,)), {}, {"reachable": False}),
        (Not(OneOf("reachable", (False,))), {}, {"reachable": False}),
    ],
)
def test_a_condition_on_the_customer_holds_or_the_step_is_skipped(
    condition: Condition, true: dict[str, object], false: dict[str, object]
) -> None:
    policy = stepped(replace(R1, when=condition), R2)

    holds = decide(facts(A, debtor=replace(DEBTOR, **true)), "01-14", policy)  # type: ignore[arg-type]
    fails = decide(facts(A, debtor=replace(DEBTOR, **false)), "01-14", policy)  # type: ignore[arg-type]

    assert holds.outcome == "act"
    assert (fails.outcome, fails.items[0].skipped) == ("skipped", ((policy.steps[0], Reason.WHEN_FALSE),))


@pytest.mark.parametrize(
    ("condition", "true", "false"),
    [
        (Compared("item_amount", "ge", 58_000_00), A, replace(A, open=57_999_99)),
        (Compared("item_amount", "lt", 58_000_00), replace(A, open=57_999_99), A),
        (Compared("item_amount", "eq", 58_000_00), A, replace(A, open=57_999_99)),
        (Compared("case_amount", "le", 58_000_00), A, replace(A, open=58_000_01)),
        (OneOf("product_line", ("water",)), replace(A, product_line="water"), A),
        (OneOf("acknowledged", (True,)), replace(A, acknowledged=True), A),
        (OneOf("acknowledged", (False,)), A, replace(A, acknowledged=True)),
        (Compared("oldest_dpd", "le", 3), A, replace(A, due_on=date(2027, 1, 8))),
    ],
)
def test_a_condition_on_the_item_holds_or_the_step_is_skipped(condition: Condition, true: Item, false: Item) -> None:
    policy = stepped(replace(R1, when=condition), R2)

    assert decide(facts(true), "01-14", policy).outcome == "act"
    assert decide(facts(false), "01-14", policy).items[0].skipped[0] == (policy.steps[0], Reason.WHEN_FALSE)


def test_conditions_count_the_overdue_items_of_the_case() -> None:
    policy = stepped(replace(R1, when=Compared("items", "ge", 2)), R2)
    later = replace(B, due_on=on("01-20"))

    assert decide(facts(A, replace(B, due_on=on("01-13"))), "01-14", policy).outcome == "act"
    assert decide(facts(A, later), "01-14", policy).items[0].skipped[0][1] == Reason.WHEN_FALSE


def test_all_keys_must_hold_and_one_of_any() -> None:
    big, key = Compared("case_amount", "ge", 60_000_00), OneOf("segment", ("key-account",))

    def outcome(condition: Condition, segment: str) -> str:
        known = facts(A, debtor=replace(DEBTOR, segment=segment))
        return decide(known, "01-14", stepped(replace(R1, when=condition), R2)).outcome

    assert outcome(AnyOf((big, key)), "key-account") == "act"
    assert outcome(AnyOf((big, key)), "standard") == "skipped"
    assert outcome(AllOf((big, key)), "key-account") == "skipped"
    assert outcome(AllOf((Not(big), key)), "key-account") == "act"


# Properties.

_days = st.dates(date(2027, 1, 1), date(2027, 3, 1))
_policies = st.builds(
    lambda mode, grace, gap, roll, first: replace(
        LADDER,
        grace_days=grace,
        catch_up=CatchUp(mode, first, 5),
        steps=(
            replace(R1, offset=-4, roll="preceding" if roll != "none" else roll, min_gap_days=gap, id="r0"),
            *(replace(s, position=s.position + 1, roll=roll, min_gap_days=gap) for s in WITH_EFFECT.steps),
        ),
    ),
    st.sampled_from(["collapse", "next", "none"]),
    st.integers(0, 6),
    st.integers(0, 9),
    st.sampled_from(["none", "following"]),
    st.sampled_from([None, "r1", "r2"]),
)


@st.composite
def _accounts(draw: st.DrawFn) -> AccountFacts:
    items = tuple(
        Item(UUID(int=number), f"N-{number}", due, amount, amount)
        for number, (due, amount) in enumerate(
            draw(st.lists(st.tuples(_days, st.integers(1, 500_00)), min_size=1, max_size=5)), start=1
        )
    )
    starts = draw(st.lists(st.tuples(_days, st.integers(0, 15)), max_size=2))
    stops = tuple(
        Stop(
            Reason.ON_HOLD,
            "internal",
            start,
            start + timedelta(days=length),
            frozenset({items[0].receivable_id}) if length % 2 else frozenset(),
        )
        for start, length in starts
    )
    return AccountFacts(
        currency="MXN",
        items=items,
        unapplied=draw(st.sampled_from([0, 0, 100_00, 400_00])),
        stops=stops,
        start_on=draw(st.none() | _days),
        control="matched",
    )


@given(_policies, _accounts(), _days, st.randoms(use_true_random=False))
def test_permuted_facts_give_the_same_decision(
    policy: Policy, known: AccountFacts, as_of: date, random: Random
) -> None:
    items, stops = list(known.items), list(known.stops)
    random.shuffle(items)
    random.shuffle(stops)
    permuted = known._replace(items=tuple(items), stops=tuple(stops))

    assert evaluate(Ladder(policy, MEXICO), permuted, as_of) == evaluate(Ladder(policy, MEXICO), known, as_of)
    assert permuted.digest() == known.digest()


def test_a_step_that_grows_stale_while_the_case_is_below_materiality_is_noticed_that_day() -> None:
    policy = replace(LADDER, catch_up=CatchUp("none", None, 5))
    small = replace(A, issued=19_999, open=19_999, due_on=date(2027, 1, 1))

    decision = evaluate(Ladder(policy, MEXICO), AccountFacts(currency="MXN", items=(small,)), date(2027, 1, 4))

    assert decision.contact is None
    assert decision.next_check_on is not None
    assert decision.next_check_on <= date(2027, 1, 10)


@settings(deadline=None)
@given(_policies, _accounts())
def test_evaluation_every_day_contacts_as_evaluation_only_when_due(policy: Policy, known: AccountFacts) -> None:
    first, last = date(2026, 12, 20), date(2027, 5, 20)
    daily, due = Played(policy, Account(known)), Played(policy, Account(known))

    daily.every_day(first, last)
    due.only_when_due(first, last)

    assert due.done == daily.done


#: What has no date is lifted by an event or by a person who was asked; the sweep exempts these alone (I8).
LIFTED_BY_OTHERS = frozenset(
    {
        Reason.SETTLED, Reason.ON_HOLD, Reason.COVERED_BY_CREDIT, Reason.BELOW_CASE, Reason.BELOW_ITEM,
        Reason.END_REACHED, Reason.CONTROL_MISMATCH,
    }
)  # fmt: skip


@settings(deadline=None)
@given(
    _policies,
    _accounts(),
    st.sets(st.sampled_from(["r0", "r1", "r2", "f", "s"])),
    st.sampled_from(["matched", "mismatch"]),
    st.sampled_from([(), ("statement",)]),
)
def test_i8_whatever_is_open_has_its_next_day_or_waits_for_somebody_else(
    policy: Policy, known: AccountFacts, silent: set[str], control: str, evidence: tuple[str, ...]
) -> None:
    handed = replace(
        S, id="agency", offset=45, effect="agency", requires=Requires("f", term_days=1, evidence=evidence), position=6
    )
    policy = replace(policy, steps=(*policy.steps, handed))
    case = Played(policy, Account(known._replace(control=control)), silent=tuple(silent))  # type: ignore[arg-type]
    day, last = date(2026, 12, 20), date(2027, 9, 1)

    while day <= last:
        decision = case.to_rest(day)
        if decision.next_check_on is None:
            assert decision.reasons
            assert {found.code for found in decision.reasons} <= LIFTED_BY_OTHERS
            return
        assert decision.next_check_on > day
        day = decision.next_check_on


@given(_policies, _accounts(), _days)
def test_a_contact_claims_each_overdue_item_once_and_never_more_than_is_open(
    policy: Policy, known: AccountFacts, as_of: date
) -> None:
    decision = evaluate(Ladder(policy, MEXICO), known, as_of)

    if decision.contact is not None:
        listed = [line.receivable_id for line in decision.contact.lines]
        held = {item.receivable_id for item in decision.items if item.state in ("held", "covered", "promised")}
        assert len(set(listed)) == len(listed)
        assert not held & set(listed)
        assert sum(item.open for item in known.items if item.receivable_id in listed) > 0
        assert sum(i.open for i in known.items) - known.unapplied >= policy.materiality.case.amount
        assert as_of >= (known.start_on or as_of)


def test_facts_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="open amount"):
        replace(A, open=0)
    with pytest.raises(ValueError, match="level"):
        replace(A, level=2, passed=1)


_told = st.lists(
    st.tuples(
        st.integers(0, 100),
        st.sampled_from(["pay", "part", "return", "credit", "dispute", "promise", "cancel"]),
        st.integers(0, 4),
        st.integers(1, 300_00),
    ),
    max_size=6,
)


def _events(known: AccountFacts, script: Sequence[tuple[int, str, int, int]]) -> dict[date, list[Payload]]:
    """Published events about an account, by the day they are told; balances never contradict each other."""
    first = date(2026, 12, 20)
    paid = {item.receivable_id: 0 for item in known.items}
    events: dict[date, list[Payload]] = {}
    for offset, what, place, amount in sorted(script, key=lambda entry: entry[0]):
        day = first + timedelta(days=offset)
        item = known.items[place % len(known.items)]
        match what:
            case "pay":
                paid[item.receivable_id] = item.issued
            case "part":
                paid[item.receivable_id] = min(item.issued, paid[item.receivable_id] + amount)
            case "return":
                paid[item.receivable_id] = 0
            case _:
                pass
        told: Payload
        if what in ("pay", "part", "return"):
            told = balance(
                item,
                open=item.issued - paid[item.receivable_id],
                day="01-01",
                effective_on=day,
                recorded_on=day,
            )
        elif what == "credit":
            told = payments.CreditChanged.model_validate(
                {
                    "company": "acme-mx", "customer": "C-1", "currency": "MXN", "unapplied": f"{amount // 100}.00",
                    "version": 1, "cause": "payment-received", "effective_on": day,
                }
            )  # fmt: skip
        elif what == "dispute":
            [told] = dispute(amount)
            told = told.model_copy(update={"receivable_id": item.receivable_id, "opened_on": day})
        elif what == "promise":
            money = {"amount": _amount(amount), "currency": "MXN"}
            told = dunning.PromiseMade.model_validate(
                promise(
                    lines=[{"receivable_id": item.receivable_id, "amount": money}], amount=money, made_on=day,
                    promised_on=day + timedelta(days=5), limit_on=day + timedelta(days=7),
                )
            )  # fmt: skip
        else:
            told = invoicing.InvoiceCancelled.model_validate(
                {
                    "company": "acme-mx", "customer": "C-1", "number": item.number, "cancelled_on": day,
                    "invoice_id": identifiers.invoice_id("acme-mx", "erp", item.number),
                }
            )  # fmt: skip
        events.setdefault(day, []).append(told)
    return events


@settings(max_examples=60, deadline=None)
@given(_policies, _accounts(), _told)
def test_events_told_twice_and_looked_at_every_day_or_only_when_due_give_the_same_contacts(
    policy: Policy, known: AccountFacts, script: Sequence[tuple[int, str, int, int]]
) -> None:
    first, last = date(2026, 12, 20), date(2027, 5, 20)
    events = _events(known, script)
    daily, due = Played(policy, Account(known)), Played(policy, Account(known))

    day = first
    while day <= last:
        for told in events.get(day, ()):
            daily.tell(told, told)
        daily.to_rest(day)
        day += timedelta(days=1)
    due.only_when_due(first, last, events)

    assert due.done == daily.done


@given(_policies, _accounts(), _days, st.lists(st.tuples(_days, st.integers(1, 400_00)), max_size=3))
def test_what_is_claimed_is_never_more_than_is_open_less_what_is_stopped(
    policy: Policy, known: AccountFacts, as_of: date, disputed: Sequence[tuple[date, int]]
) -> None:
    item = known.items[0]
    stops = tuple(
        Stop(Reason.DISPUTED, "price", start, None, amounts={item.receivable_id: amount}) for start, amount in disputed
    )
    decision = evaluate(Ladder(policy, MEXICO), known._replace(stops=(*known.stops, *stops)), as_of)

    for found in decision.items:
        assert 0 <= found.claimable <= found.item.open
    stopped = sum(amount for start, amount in disputed if start <= as_of)
    assert decision.items[[i.receivable_id for i in decision.items].index(item.receivable_id)].claimable <= max(
        0, item.open - stopped
    )
    for action in decision.actions:
        listed = {line.receivable_id for line in action.lines}
        claimable = sum(found.claimable for found in decision.items if found.receivable_id in listed)
        assert action.claimed <= claimable or action.step.kind != "notice"


# Gates.


def refused(decision: Decision) -> dict[str, tuple[str, str]]:
    """What each gate that refused needed and found, the steps' own included."""
    gates = [*decision.gates, *(gate for item in decision.items for known in item.candidates for gate in known.gates)]
    told = [gate.as_values() for gate in gates if not gate.ok]
    return {str(name): (str(needed), str(found)) for name, needed, found, *_ in told}


@pytest.mark.parametrize(
    ("known", "day", "policy", "gate", "needed", "found"),
    [
        (facts(A, cash=CashNeed(on("01-12"))), "01-14", LADDER, "cash", "2027-01-13", "2027-01-12"),
        (facts(A, cash=CashNeed(None)), "01-14", LADDER, "cash", "2027-01-13", "-"),
        (facts(level(F), control="mismatch", evaluated_on=on("02-10")), "02-15", WITH_EFFECT,
         "control_total", "matched", "mismatch"),
        (facts(replace(A, open=100_00)), "01-14", LADDER, "materiality", "200.00 MXN, 0 %", "100.00 MXN"),
        (facts(level(R1), last_contact_on=on("01-18")), "01-21", LADDER, "min_gap", "2027-01-23", "2027-01-21"),
        (facts(A), "01-14", replace(LADDER, grace_days=7), "grace", "2027-01-19", "2027-01-14"),
        (facts(replace(A, payments=(PartPayment(on("01-13"), 30_000_00, 88_000_00),))), "01-14", LADDER,
         "goodwill", "2027-01-18", "2027-01-14"),
        (facts(A, start_on=on("01-20")), "01-14", LADDER, "start", "2027-01-20", "2027-01-14"),
        (facts(A, brake=Brake(5, 7)), "01-14", LADDER, "brake", "5", "7"),
        (facts(A, contacts=(on("01-05"),)), "01-14", replace(LADDER, limits=Limits(contacts=1)),
         "contact_limit", "1", "1"),
        (facts(level(F), control="matched", unidentified=frozenset({58_000_00}), evaluated_on=on("02-10")), "02-15",
         WITH_EFFECT, "unidentified", "0", "1"),
        (facts(replace(level(R2), reopened_on=on("02-05"))), "02-08", LADDER, "reopened", "2027-02-10", "2027-02-08"),
    ],
)  # fmt: skip
def test_every_gate_that_refuses_says_what_it_needed_and_what_it_found(
    known: AccountFacts, day: str, policy: Policy, gate: str, needed: str, found: str
) -> None:
    decision = decide(known, day, policy)

    assert decision.actions == ()
    assert refused(decision)[gate] == (needed, found)


def test_credit_that_covers_says_what_is_open_and_what_there_is() -> None:
    [reason] = decide(facts(A, unapplied=60_000_00), "01-14").reasons

    assert reason.code == Reason.COVERED_BY_CREDIT
    assert reason.as_values() == {"invoice": "A-1", "open": "58000.00 MXN", "unapplied": "60000.00 MXN"}
