"""The gates by themselves: whatever the facts, no more is claimed than is open, and doubt sends nothing."""

from datetime import date
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts.reasons import Reason
from cobranza.payments.domain.ledger import Receivable
from cobranza.payments.domain.permit import Question, Stop, judge

DAY = date(2027, 1, 4)


def debt(number: int, open_: int, day: int = 1) -> Receivable:
    return Receivable(
        company="acme-mx", receivable_id=UUID(int=number), customer="C1", invoice_id=UUID(int=number), instalment=1,
        number=str(number), kind="invoice", currency="MXN", issued=open_ + 1, credited=1, issued_on=DAY,
        due_on=date(2027, 1, day),
    )  # fmt: skip


STOPS = st.builds(
    Stop,
    kind=st.sampled_from(["hold", "promise", "plan", "dispute"]),
    receivable_id=st.none() | st.integers(0, 4).map(lambda n: UUID(int=n)),
    amount=st.none() | st.integers(1, 300),
    reason=st.just("internal"),
    until_on=st.none() | st.sampled_from([date(2027, 1, 3), DAY]),
)
QUESTIONS = st.builds(
    Question,
    purpose=st.sampled_from(["dunning", "promise_reminder", "plan_reminder", "statement"]),
    receivable_ids=st.lists(st.integers(0, 5).map(lambda n: UUID(int=n)), min_size=1),
    receivables=st.lists(st.integers(0, 200), min_size=5, max_size=5).map(
        lambda opens: {UUID(int=n): debt(n, open_, n + 1) for n, open_ in enumerate(opens)}
    ),
    stops=st.lists(STOPS, max_size=3),
    unapplied=st.integers(0, 400),
    credit_stops=st.booleans(),
    proposed=st.dictionaries(st.integers(0, 4).map(lambda n: UUID(int=n)), st.integers(0, 200), max_size=2),
    doubts=st.frozensets(st.sampled_from([Reason.CASH_STALE, Reason.HOLDS_STALE, Reason.LEDGER_STOPPED]), max_size=2),
    on=st.just(DAY),
)


@given(QUESTIONS)
def test_no_more_is_claimed_than_is_open_and_every_receivable_is_answered(question: Any) -> None:
    verdict = judge(question)
    assert all(0 < line.amount <= line.receivable.open for line in verdict.lines)
    assert verdict.granted == bool(verdict.lines)
    if verdict.granted:
        assert not question.doubts
        assert 0 < verdict.claimed <= sum(line.receivable.open for line in verdict.lines)
        answered = {line.receivable.receivable_id for line in verdict.lines}
        assert answered | {refusal.receivable_id for refusal in verdict.refusals} == set(question.receivable_ids)
    else:
        assert verdict.refusals


@given(QUESTIONS)
def test_credit_is_consumed_once(question: Any) -> None:
    verdict = judge(question)
    if verdict.granted and not question.credit_stops and not question.proposed:
        covered = [r.receivable_id for r in verdict.refusals if r.reason == Reason.COVERED_BY_CREDIT]
        spent = question.unapplied - verdict.credit
        assert spent <= sum(question.receivables[id_].open for id_ in covered)
        assert (spent == 0) == (not covered)


def ask(*debts: Receivable, **changes: Any) -> Any:
    facts = {
        "purpose": "dunning", "receivable_ids": [d.receivable_id for d in debts],
        "receivables": {d.receivable_id: d for d in debts}, "stops": (), "unapplied": 0, "credit_stops": False, "proposed": {},
        "doubts": frozenset(), "on": DAY,
    }  # fmt: skip
    return judge(Question(**{**facts, **changes}))


def test_a_reminder_of_a_promise_passes_the_promise_but_no_hold() -> None:
    promise = Stop(kind="promise", receivable_id=None, amount=100, reason="promise", until_on=None)
    hold = Stop(kind="hold", receivable_id=None, amount=None, reason="insolvency", until_on=None)
    assert ask(debt(1, 100), stops=[promise], purpose="promise_reminder").granted
    (refusal,) = ask(debt(1, 100), stops=[promise, hold], purpose="promise_reminder").refusals
    assert (refusal.reason, refusal.hold) == (Reason.ON_HOLD, "insolvency")


def test_a_debt_that_a_suggestion_would_close_waits_for_a_person_and_the_others_are_asked_for() -> None:
    verdict = ask(debt(1, 58), debt(2, 30), proposed={UUID(int=1): 58, UUID(int=2): 29})

    assert [(r.reason, r.receivable_id) for r in verdict.refusals] == [(Reason.COVERED_BY_CREDIT, UUID(int=1))]
    assert ([line.receivable.receivable_id for line in verdict.lines], verdict.claimed) == ([UUID(int=2)], 30)


def test_credit_that_covers_all_that_may_be_asked_leaves_no_notice() -> None:
    dispute = Stop(kind="dispute", receivable_id=None, amount=8, reason="dispute", until_on=None)
    verdict = ask(debt(1, 58), stops=[dispute], unapplied=50)
    assert [refusal.reason for refusal in verdict.refusals] == [Reason.COVERED_BY_CREDIT]


def test_doubts_are_told_only_when_something_is_left_to_ask() -> None:
    doubts = frozenset({Reason.CASH_STALE})
    assert [r.reason for r in ask(debt(1, 0), doubts=doubts).refusals] == [Reason.SETTLED]
    assert [r.reason for r in ask(debt(1, 0), debt(2, 5), doubts=doubts).refusals] == [
        Reason.SETTLED,
        Reason.CASH_STALE,
    ]
