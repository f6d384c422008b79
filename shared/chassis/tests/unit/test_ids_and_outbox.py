"""Ids and outbox rows: what repeats must repeat, what is new must be new."""

from __future__ import annotations

import json
from datetime import date
from uuid import UUID

import pytest
import toy_service as toy

from cobranza.chassis import outbox
from cobranza.chassis.ids import new_id
from cobranza.chassis.outbox import Cause, EventTooLargeError


def test_new_ids_are_of_version_seven_and_never_repeat() -> None:
    made = [new_id() for _ in range(2000)]

    assert {one.version for one in made} == {7}
    assert len(set(made)) == len(made)


def test_new_ids_sort_by_the_millisecond_of_their_making() -> None:
    made = [new_id() for _ in range(2000)]

    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)


def _row(cause: Cause, *, number: int = 1, sequence: int = 1) -> outbox.Row:
    return outbox.row(toy.told(number).data, service="payments", sequence=sequence, cause=cause, expires_at=None)


def test_the_same_event_or_timer_gives_the_same_event_id_and_a_command_a_new_one() -> None:
    by_event = Cause.event(UUID(int=7), correlation_id="c")
    by_timer = Cause.timer("case|1", date(2027, 1, 4))

    assert _row(by_event).event_id == _row(by_event).event_id
    assert _row(by_timer).event_id == _row(Cause.timer("case|1", date(2027, 1, 4))).event_id
    assert _row(by_timer).event_id != _row(Cause.timer("case|1", date(2027, 1, 5))).event_id
    assert _row(by_event).event_id != _row(by_event, number=2).event_id
    assert _row(Cause.command()).event_id != _row(Cause.command()).event_id


def test_the_root_s_correlation_travels_on() -> None:
    row = _row(Cause.event(UUID(int=7), correlation_id="root"))

    headers = json.loads(row.headers)
    assert ["ce_correlationid", "root"] in headers
    assert ["ce_causationid", str(UUID(int=7))] in headers


def test_a_sequence_starts_at_one() -> None:
    with pytest.raises(ValueError, match="starts at 1"):
        _row(Cause.command(), sequence=0)


def test_an_event_that_no_reader_accepts_dies_in_its_own_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_EVENT_BYTES", 100)

    with pytest.raises(EventTooLargeError, match="at most 100"):
        _row(Cause.command())
