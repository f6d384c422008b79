"""The semantics decisions D1, D2, D3, D5, D7, D8, D17, D18 by their numbers and dates."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.chassis.calendars import country_calendar
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.decision import Decision
from cobranza.dunning.domain.facts import AccountFacts, CashNeed, Item, OpenRun, RefusedRun, Stop
from cobranza.dunning.domain.policy import CatchUp, End, EndTask, Materiality, Policy, Step

MEXICO = country_calendar("MX")
R1 = Step("r1", 1, 3, "friendly", "r1", "following", 5)
R2 = Step("r2", 2, 10, "firm", "r2", "following", 5)
F = Step("f", 3, 20, "formal", "f", "following", 5)
LADDER = Policy(
    policy="ladder-t",
    version=1,
    title="",
    company="acme-mx",
    currency="MXN",
    timezone="America/Mexico_City",
    calendar="mx-business",
    languages=("es-MX", "en"),
    effective_from=date(2027, 1, 1),
    priority=0,
    grace_days=0,
    case_materiality=Materiality(amount=200_00),
    catch_up=CatchUp("collapse", None, 5),
    steps=(R1, R2, F),
    end=End(15, EndTask("decide_end", "credit_manager", 5)),
)
A = Item(UUID(int=1), "A-1", date(2027, 1, 11), 58_000_00, 58_000_00)
B = Item(UUID(int=2), "B-1", date(2027, 1, 21), 10_000_00, 10_000_00)


def on(day: str) -> date:
    return date.fromisoformat(f"2027-{day}")


def facts(*items: Item, **changes: object) -> AccountFacts:
    return replace(AccountFacts(currency="MXN", items=items), **changes)  # type: ignore[arg-type]


def decide(known: AccountFacts, day: str, policy: Policy = LADDER) -> Decision:
    return evaluate(policy, known, on(day), MEXICO)


def catching_up(mode: str) -> Policy:
    return replace(LADDER, catch_up=replace(LADDER.catch_up, mode=mode))  # type: ignore[arg-type]


@dataclass
class Desk:
    """Plays an account day by day: every notice requested is sent the same day."""

    policy: Policy
    known: AccountFacts
    contacts: list[tuple[date, str, tuple[str, ...]]] = field(default_factory=list)

    def evaluate(self, as_of: date) -> Decision:
        """Evaluate, apply what a service applies, and answer for the notice."""
        decision = evaluate(self.policy, self.known, as_of, MEXICO)
        moved = {line.receivable_id: line.step for line in decision.contact.lines} if decision.contact else {}
        skipped = {item.receivable_id: item.skipped[-1][0].position for item in decision.items if item.skipped}
        self.known = replace(self.known, items=tuple(self._after(i, moved, skipped, as_of) for i in self.known.items))
        if decision.contact is not None:
            lines = tuple(
                f"{line.receivable_id.int}:{line.step.id if line.step else '-'}" for line in decision.contact.lines
            )
            self.contacts.append((as_of, decision.contact.step.id, lines))
            self.known = replace(self.known, last_contact_on=as_of, heard_tone=decision.contact.tone)
        return decision

    def _after(self, item: Item, moved: Mapping[UUID, Step | None], skipped: Mapping[UUID, int], as_of: date) -> Item:
        level = step.position if (step := moved.get(item.receivable_id)) else item.level
        passed = max(item.passed, level, skipped.get(item.receivable_id, 0))
        last = as_of if item.receivable_id in moved else item.last_notice_on
        return replace(item, level=level, passed=passed, last_notice_on=last)

    def every_day(self, first: date, days: int) -> None:
        for day in range(days):
            self.evaluate(first + timedelta(days=day))

    def only_when_due(self, first: date, days: int) -> None:
        as_of: date | None = first
        while as_of is not None and as_of < first + timedelta(days=days):
            decision = self.evaluate(as_of)
            # Sending is a fact: the service evaluates again at once, for the next date.
            as_of = (self.evaluate(as_of) if decision.contact else decision).next_check_on


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
    desk = Desk(LADDER, facts(A))

    desk.every_day(on("01-04"), 60)

    assert [(day, step) for day, step, _ in desk.contacts] == [
        (on("01-14"), "r1"),
        (on("01-21"), "r2"),
        (on("02-02"), "f"),
    ]


@pytest.mark.parametrize(
    ("mode", "contacts"),
    [
        ("collapse", [("02-03", "f")]),
        ("next", [("02-03", "r1"), ("02-08", "r2"), ("02-15", "f")]),
        ("none", [("02-03", "f")]),
    ],
)
def test_d3_catch_up_after_the_platform_was_down(mode: str, contacts: list[tuple[str, str]]) -> None:
    desk = Desk(catching_up(mode), facts(A))

    desk.every_day(on("02-03"), 20)

    assert [(day, step) for day, step, _ in desk.contacts] == [(on(day), step) for day, step in contacts]


@pytest.mark.parametrize(("mode", "reason"), [("collapse", Reason.CATCH_UP), ("none", Reason.STALE)])
def test_d3_skipped_steps_are_told_with_their_reason(mode: str, reason: Reason) -> None:
    decision = decide(facts(A), "02-03", catching_up(mode))

    assert decision.items[0].skipped == ((R1, reason), (R2, reason))


def test_d3_the_first_contact_is_no_higher_than_the_policy_allows() -> None:
    policy = replace(LADDER, catch_up=replace(LADDER.catch_up, first_contact_max=2))

    decision = decide(facts(A), "03-16", policy)

    assert decision.contact is not None
    assert decision.contact.step == R2


def test_d3_after_a_stop_that_covered_a_missed_date_one_step_is_taken() -> None:
    hold = Stop(Reason.ON_HOLD, "internal", on("01-13"), on("02-02"))
    desk = Desk(LADDER, facts(A, stops=(hold,)))

    desk.every_day(on("01-12"), 40)

    assert [(day, step) for day, step, _ in desk.contacts] == [
        (on("02-03"), "r1"),
        (on("02-08"), "r2"),
        (on("02-15"), "f"),
    ]


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
    policy = replace(LADDER, case_materiality=Materiality(percent=Decimal(50)))
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
    decision = decide(facts(A, B, open_run=OpenRun("r1", 1, on("01-19"))), "01-21")

    assert (decision.outcome, decision.reason) == ("wait", Reason.RUN_OPEN)
    assert decision.items[0].step is None


def test_a_refused_run_is_not_repeated_for_the_same_facts_on_the_same_day() -> None:
    known = facts(A)
    refused = RefusedRun("r1", "no_address", on("01-15"), known.digest())

    same = decide(replace(known, refused=(refused,)), "01-14")
    other_facts = decide(replace(known, refused=(refused,), customer_revision=2), "01-14")
    next_day = decide(replace(known, refused=(refused,)), "01-15")

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


def test_without_a_policy_nothing_is_silent() -> None:
    decision = evaluate(None, facts(A), on("01-14"), MEXICO)

    assert (decision.outcome, decision.reason, decision.is_in_window) == ("stopped", Reason.NO_POLICY, True)


def test_a_settled_account_closes_its_case() -> None:
    decision = decide(facts(), "01-14")

    assert (decision.reason, decision.case_state, decision.next_check_on) == (Reason.SETTLED, "closed", None)


# Properties.

_days = st.dates(date(2027, 1, 1), date(2027, 3, 1))
_policies = st.builds(
    lambda mode, grace, gap, roll, first: replace(
        LADDER,
        grace_days=grace,
        catch_up=CatchUp(mode, first, 5),
        steps=(
            replace(R1, offset=-4, roll="preceding" if roll != "none" else roll, min_gap_days=gap, id="r0"),
            *(replace(s, position=s.position + 1, roll=roll, min_gap_days=gap) for s in LADDER.steps),
        ),
    ),
    st.sampled_from(["collapse", "next", "none"]),
    st.integers(0, 6),
    st.integers(0, 9),
    st.sampled_from(["none", "following"]),
    st.sampled_from([None, 2, 3]),
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
    )


@given(_policies, _accounts(), _days, st.randoms(use_true_random=False))
def test_permuted_facts_give_the_same_decision(
    policy: Policy, known: AccountFacts, as_of: date, random: Random
) -> None:
    items, stops = list(known.items), list(known.stops)
    random.shuffle(items)
    random.shuffle(stops)
    permuted = replace(known, items=tuple(items), stops=tuple(stops))

    assert evaluate(policy, permuted, as_of, MEXICO) == evaluate(policy, known, as_of, MEXICO)
    assert permuted.digest() == known.digest()


def test_a_step_that_grows_stale_while_the_case_is_below_materiality_is_noticed_that_day() -> None:
    policy = replace(LADDER, catch_up=CatchUp("none", None, 5))
    small = replace(A, issued=19_999, open=19_999, due_on=date(2027, 1, 1))

    decision = evaluate(policy, AccountFacts(currency="MXN", items=(small,)), date(2027, 1, 4), MEXICO)

    assert decision.contact is None
    assert decision.next_check_on is not None
    assert decision.next_check_on <= date(2027, 1, 10)


@given(_policies, _accounts())
def test_evaluation_every_day_contacts_as_evaluation_only_when_due(policy: Policy, known: AccountFacts) -> None:
    first = date(2026, 12, 20)
    daily, due = Desk(policy, known), Desk(policy, known)

    daily.every_day(first, 150)
    due.only_when_due(first, 150)

    assert due.contacts == daily.contacts


@given(_policies, _accounts(), _days)
def test_a_contact_claims_each_overdue_item_once_and_never_more_than_is_open(
    policy: Policy, known: AccountFacts, as_of: date
) -> None:
    decision = evaluate(policy, known, as_of, MEXICO)

    if decision.contact is not None:
        listed = [line.receivable_id for line in decision.contact.lines]
        held = {item.receivable_id for item in decision.items if item.state in ("held", "covered")}
        assert len(set(listed)) == len(listed)
        assert not held & set(listed)
        assert sum(item.open for item in known.items if item.receivable_id in listed) > 0
        assert sum(i.open for i in known.items) - known.unapplied >= policy.case_materiality.amount
        assert as_of >= (known.start_on or as_of)


def test_facts_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="open amount"):
        replace(A, open=0)
    with pytest.raises(ValueError, match="level"):
        replace(A, level=2, passed=1)
