"""The life of a notice, and what a permit's answer means for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts.dunning import NoticeLine
from cobranza.contracts.payloads import PURPOSES_WITH_PERMIT, Purpose
from cobranza.contracts.payments import NoticePermitAnswer, PermitRefusal
from cobranza.contracts.reasons import FINAL_PERMIT_REFUSALS, TRANSIENT_PERMIT_REFUSALS
from cobranza.notifications.domain.notice import (
    TRANSITIONS,
    Deferred,
    Granted,
    State,
    Suppressed,
    back_off_seconds,
    judge,
    may_become,
    needs_permit,
)


@pytest.fixture
def answered(told: Any) -> Any:
    own = told.permit_line("own").receivable_id
    listed = told.permit_line("listed").receivable_id

    def answer(granted: Any = (), refused: Any = None) -> Any:
        refusals = tuple(
            PermitRefusal(reason=reason, receivable_id={"own": own, "listed": listed}[name])
            for name, reason in (refused or {}).items()
        )
        lines = tuple(told.permit_line(name) for name in granted)
        permit = NoticePermitAnswer(
            notice_id=uuid5(own, "notice"),
            attempt=1,
            granted=bool(lines),
            asked_at=datetime(2027, 1, 4, tzinfo=UTC),
            lines=lines,
            refusals=refusals,
        )
        asked = (NoticeLine(receivable_id=own, step="aviso-1"), NoticeLine(receivable_id=listed))
        return judge(permit, step="aviso-1", lines=asked)

    return answer


def test_what_is_settled_for_good_never_moves_again() -> None:
    for state in (State.SENT, State.FAILED, State.SUPPRESSED, State.EXPIRED):
        assert TRANSITIONS[state] == frozenset()


def test_only_a_kept_intent_can_become_sent() -> None:
    assert not may_become(State.QUEUED, State.SENT)
    assert {state for state in State if may_become(state, State.SENT)} == {State.SENDING, State.UNKNOWN}


def test_what_is_under_way_never_becomes_suppressed() -> None:
    assert not may_become(State.SENDING, State.SUPPRESSED)
    assert not may_become(State.UNKNOWN, State.SUPPRESSED)


@pytest.mark.parametrize("purpose", sorted(PURPOSES_WITH_PERMIT))
def test_what_asks_for_money_needs_a_permit(purpose: Any) -> None:
    assert needs_permit(purpose)


def test_a_payment_confirmation_needs_none_and_an_unknown_purpose_does() -> None:
    assert not needs_permit(Purpose.PAYMENT_CONFIRMATION)
    assert needs_permit("something_new")


def test_a_grant_with_a_line_of_its_own_step_is_sent(answered: Any) -> None:
    assert answered(granted=["own", "listed"]) == Granted()
    assert answered(granted=["own"], refused={"listed": "settled"}) == Granted()


def test_a_grant_without_a_line_of_its_own_step_is_suppressed(answered: Any) -> None:
    assert answered(granted=["listed"], refused={"own": "settled"}) == Suppressed("facts_changed")


def test_a_grant_whose_own_line_is_only_late_waits(answered: Any) -> None:
    assert answered(granted=["listed"], refused={"own": "unknown_receivable"}) == Deferred("unknown_receivable")


@pytest.mark.parametrize("reason", sorted(FINAL_PERMIT_REFUSALS))
def test_a_final_refusal_of_all_suppresses_with_its_reason(answered: Any, reason: Any) -> None:
    assert answered(refused={"own": reason}) == Suppressed(reason)


@pytest.mark.parametrize("reason", sorted(TRANSIENT_PERMIT_REFUSALS))
def test_a_passing_refusal_waits_even_beside_a_final_one(answered: Any, reason: Any) -> None:
    assert answered(refused={"own": reason}) == Deferred(reason)
    assert answered(refused={"listed": "settled", "own": reason}) == Deferred(reason)


def test_the_reason_of_the_own_line_comes_before_that_of_a_listed_one(answered: Any) -> None:
    assert answered(refused={"listed": "settled", "own": "on_hold"}) == Suppressed("on_hold")


@given(st.integers(min_value=1, max_value=10_000))
def test_back_off_grows_and_stays_below_a_minute(attempt: Any) -> None:
    assert 0.25 <= back_off_seconds(attempt) <= back_off_seconds(attempt + 1) <= 60
