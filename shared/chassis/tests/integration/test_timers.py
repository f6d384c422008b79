"""Durable timers on a real database: fired once, fenced, given back, on the business clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import toy_service as toy

from cobranza.chassis import timers
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.timers import Scheduler, Timer, Together

NOON = datetime(2027, 1, 4, 12, tzinfo=UTC)
SUBJECT = UUID("11111111-1111-4111-8111-111111111111")


@pytest.fixture
async def db(fresh_database: Callable[..., Any], business_clock: BusinessClock) -> AsyncIterator[Database]:
    business_clock.set(NOON)
    database = toy.database(fresh_database("dunning", toy.migrate).app_url, business_clock)
    yield database
    await database.close()


async def _arm(db: Database, due_at: datetime, key: str = "case|1") -> None:
    async with db.transaction() as tx:
        await timers.arm(tx, key=key, kind="case", company="acme-mx", subject_id=SUBJECT, due_at=due_at)


def _scheduler(db: Database, handler: Any) -> Scheduler:
    return Scheduler(db, {"case": handler}, idle_seconds=0.01)


async def test_a_timer_fires_once_when_its_business_instant_has_come(
    db: Database, business_clock: BusinessClock
) -> None:
    fired: list[str] = []

    async def handler(_tx: Transaction, timer: Timer) -> None:
        fired.append(timer.key)

    scheduler = _scheduler(db, handler)
    await _arm(db, NOON + timedelta(days=1))

    assert await scheduler.work_due() == 0
    business_clock.set(NOON + timedelta(days=1))
    assert await scheduler.work_due() == 1
    assert await scheduler.work_due() == 0
    assert fired == ["case|1"]
    assert await toy.rows(db, "SELECT state FROM timer") == [("fired",)]


async def test_a_handler_that_returns_an_instant_is_armed_again(db: Database) -> None:
    async def handler(_tx: Transaction, timer: Timer) -> datetime:
        return timer.due_at + timedelta(days=3)

    await _arm(db, NOON)
    await _scheduler(db, handler).work_due()

    assert await toy.rows(db, "SELECT state, due_at FROM timer") == [("armed", NOON + timedelta(days=3))]


async def test_an_event_that_moves_a_timer_in_work_rolls_its_work_back(db: Database) -> None:
    async def handler(tx: Transaction, timer: Timer) -> None:
        await tx.execute("INSERT INTO balance (receivable_id, open, times) VALUES (:i, 1, 1)", {"i": timer.subject_id})
        await _arm(db, NOON + timedelta(days=9))

    await _arm(db, NOON)
    await _scheduler(db, handler).work_due()

    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(0,)]
    assert await toy.rows(db, "SELECT state, due_at FROM timer") == [("armed", NOON + timedelta(days=9))]


async def test_a_failing_timer_stops_no_other_and_is_tried_again(db: Database, wait_until: Any) -> None:
    tries: list[str] = []

    async def handler(_tx: Transaction, timer: Timer) -> None:
        tries.append(timer.key)
        if timer.key == "case|bad" and tries.count("case|bad") == 1:
            raise ValueError("a fault of the handler")

    await _arm(db, NOON - timedelta(hours=1), "case|bad")
    await _arm(db, NOON, "case|good")
    scheduler = _scheduler(db, handler)
    await scheduler.work_due()
    assert tries == ["case|bad", "case|good"]

    async def again() -> bool:
        await scheduler.work_due()
        return tries.count("case|bad") == 2

    await wait_until(again, timeout=5)


async def test_two_schedulers_work_a_timer_once(db: Database) -> None:
    import asyncio

    fired: list[str] = []

    async def handler(_tx: Transaction, timer: Timer) -> None:
        fired.append(timer.key)

    for number in range(40):
        await _arm(db, NOON, f"case|{number:02}")
    first, second = _scheduler(db, handler), _scheduler(db, handler)

    await asyncio.gather(first.work_due(), second.work_due())

    assert sorted(fired) == sorted(set(fired))
    assert len(fired) == 40


async def test_timers_worked_together_share_one_transaction_and_each_has_its_own_next_instant(db: Database) -> None:
    batches: list[list[str]] = []

    async def handle(_tx: Transaction, due: Sequence[Timer]) -> dict[str, datetime]:
        batches.append([timer.key for timer in due])
        return {"case|1": NOON + timedelta(days=3)}

    for key in ("case|1", "case|2", "case|3"):
        await _arm(db, NOON, key)
    await _scheduler(db, Together(handle)).work_due()

    assert batches == [["case|1", "case|2", "case|3"]]
    assert await toy.rows(db, "SELECT timer_key, state, due_at FROM timer ORDER BY timer_key") == [
        ("case|1", "armed", NOON + timedelta(days=3)),
        ("case|2", "fired", NOON),
        ("case|3", "fired", NOON),
    ]


async def test_a_bad_timer_among_many_is_found_and_stops_no_other(db: Database) -> None:
    async def handle(_tx: Transaction, due: Sequence[Timer]) -> dict[str, datetime]:
        if any(timer.key == "case|5" for timer in due):
            raise ValueError("a fault of the handler")
        return {}

    for number in range(8):
        await _arm(db, NOON, f"case|{number}")
    await _scheduler(db, Together(handle)).work_due()

    assert await toy.rows(db, "SELECT timer_key FROM timer WHERE state <> 'fired'") == [("case|5",)]


async def test_an_event_that_moves_one_of_many_timers_in_work_rolls_back_its_work_alone(db: Database) -> None:
    moved: list[str] = []

    async def handle(tx: Transaction, due: Sequence[Timer]) -> dict[str, datetime]:
        await tx.execute(
            "INSERT INTO balance (receivable_id, open, times) VALUES (:i, 1, 1)", {"i": UUID(int=len(due))}
        )
        if not moved:
            moved.append("case|1")
            await _arm(db, NOON + timedelta(days=9), "case|1")
        return {}

    for key in ("case|1", "case|2", "case|3"):
        await _arm(db, NOON, key)
    await _scheduler(db, Together(handle)).work_due()

    assert await toy.rows(db, "SELECT receivable_id FROM balance") == [(UUID(int=2),)]
    assert await toy.rows(db, "SELECT state, due_at FROM timer ORDER BY timer_key") == [
        ("armed", NOON + timedelta(days=9)),
        ("fired", NOON),
        ("fired", NOON),
    ]


async def test_a_subject_that_somebody_holds_locked_stops_no_other_timer(db: Database, wait_until: Any) -> None:
    worked: list[str] = []

    async def handle(tx: Transaction, due: Sequence[Timer]) -> dict[str, datetime]:
        # Nothing waits the usual ten seconds here.
        await tx.execute("SET LOCAL lock_timeout = '50ms'")
        await tx.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest(CAST(:keys AS text[])) AS key",
            {"keys": [timer.key for timer in due]},
        )
        worked.extend(timer.key for timer in due)
        return {}

    scheduler = _scheduler(db, Together(handle))
    for number in range(8):
        await _arm(db, NOON, key=f"case|{number}")

    async with db.transaction() as somebody:
        await somebody.execute("SELECT pg_advisory_xact_lock(hashtextextended('case|5', 0))")
        await scheduler.work_due()
        states = {row[0]: row[1] for row in await toy.rows(db, "SELECT timer_key, state FROM timer")}

    assert sorted(worked) == [f"case|{number}" for number in range(8) if number != 5]
    assert states == {f"case|{number}": "claimed" if number == 5 else "fired" for number in range(8)}
    # It is tried again a little later, not at once.
    assert await scheduler.work_due() == 0
    await toy.rows(db, "UPDATE timer SET lease_until = clock_timestamp() - interval '1 second' RETURNING 1")
    await _scheduler(db, Together(handle)).work_due()
    assert len(worked) == 8
