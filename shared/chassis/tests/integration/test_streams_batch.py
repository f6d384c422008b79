"""The batch runner on a real PostgreSQL: position, inbox, versions, parking, breakers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import toy_service as toy

from cobranza.chassis import inbox
from cobranza.chassis.database import Database
from cobranza.chassis.parking import Parking, ParkingError
from cobranza.chassis.streams import Agent
from cobranza.chassis.streams.batch import BatchRunner, FetchedList

PARTITION = 3
OTHER = 7


@pytest.fixture
async def db(fresh_database: Callable[..., Any]) -> AsyncIterator[Database]:
    database = toy.database(fresh_database("dunning", toy.migrate).app_url)
    async with database.transaction() as tx:
        await inbox.start_positions(
            tx, consumer="dunning", topic=toy.TOPIC, topic_id=toy.TOPIC_ID, earliest={PARTITION: 0, OTHER: 0}
        )
    yield database
    await database.close()


@pytest.fixture
def ledger() -> toy.Ledger:
    return toy.Ledger()


async def _no_pause(_seconds: float) -> None:
    return


def _runner(db: Database, ledger: toy.Ledger) -> BatchRunner:
    return BatchRunner(
        consumer="dunning", agent=ledger.agent(), database=db, topic_id=lambda: toy.TOPIC_ID, pause=_no_pause
    )


def _fetched(*records: Any, start: int | None = None, partition: int = PARTITION) -> FetchedList:
    return FetchedList(
        records,
        partition=partition,
        fetched_from=records[0].offset if start is None else start,
        end_offset=records[-1].offset + 1,
    )


async def _apply(runner: BatchRunner, *records: Any, start: int | None = None) -> dict[int, int]:
    return await _apply_all(runner, [_fetched(*records, start=start)])


async def _apply_all(runner: BatchRunner, lists: list[FetchedList]) -> dict[int, int]:
    return await runner.apply([await runner.read(fetched) for fetched in lists])


async def _position(db: Database) -> object:
    return (await _positions(db))[PARTITION]


async def _positions(db: Database) -> dict[object, object]:
    return {row[0]: row[1] for row in await toy.rows(db, "SELECT partition, next_offset FROM progress")}


async def test_a_batch_moves_effect_and_position_together(db: Database, ledger: toy.Ledger) -> None:
    await _apply(_runner(db, ledger), toy.record(0, toy.told(1)), toy.record(1, toy.told(2)))

    assert await toy.rows(db, "SELECT count(*), sum(times) FROM balance") == [(2, 2)]
    assert await _position(db) == 2
    assert await toy.rows(db, "SELECT count(*) FROM progress WHERE caught_up_at IS NOT NULL") == [(1,)]


async def test_a_hole_applies_nothing_and_asks_for_the_lost_offset(db: Database, ledger: toy.Ledger) -> None:
    runner = _runner(db, ledger)
    await _apply(runner, toy.record(0, toy.told(1)))

    rewinds = await _apply(runner, toy.record(5, toy.told(6)))

    assert rewinds == {PARTITION: 1}
    assert await _position(db) == 1
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(1,)]


async def test_a_gap_that_compaction_left_is_no_hole(db: Database, ledger: toy.Ledger) -> None:
    runner = _runner(db, ledger)
    await _apply(runner, toy.record(0, toy.told(1)))

    # The broker was asked for offset 1 and its first record left is 7.
    rewinds = await _apply(runner, toy.record(7, toy.told(2)), toy.record(11, toy.told(3)), start=1)

    assert rewinds == {}
    assert await _position(db) == 12
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(3,)]


async def test_lists_of_several_partitions_share_one_transaction(db: Database, ledger: toy.Ledger) -> None:
    rewinds = await _apply_all(
        _runner(db, ledger),
        [
            _fetched(toy.record(0, toy.told(1)), toy.record(1, toy.told(2))),
            _fetched(toy.record(0, toy.told(3, customer="B")), partition=OTHER),
            _fetched(toy.record(2, toy.told(4))),
        ],
    )

    assert rewinds == {}
    assert len(ledger.seen) == 1
    assert await toy.rows(db, "SELECT count(*), max(times) FROM balance") == [(4, 1)]
    assert await _positions(db) == {PARTITION: 3, OTHER: 1}


async def test_a_hole_in_one_partition_does_not_hold_back_another(db: Database, ledger: toy.Ledger) -> None:
    rewinds = await _apply_all(
        _runner(db, ledger),
        [
            _fetched(toy.record(4, toy.told(1))),
            _fetched(toy.record(0, toy.told(3, customer="B")), partition=OTHER),
            _fetched(toy.record(5, toy.told(2))),
        ],
    )

    assert rewinds == {PARTITION: 0}
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(1,)]
    assert await _positions(db) == {PARTITION: 0, OTHER: 1}


async def test_poison_among_several_partitions_parks_alone_at_its_own_place(db: Database, ledger: toy.Ledger) -> None:
    bad = toy.told(3, customer="B")
    ledger.fail_for["F-3"] = ValueError("the handler cannot take it")

    rewinds = await _apply_all(
        _runner(db, ledger),
        [
            _fetched(toy.record(0, toy.told(1)), toy.record(1, toy.told(2))),
            _fetched(toy.record(0, bad), toy.record(1, toy.told(4, customer="C")), partition=OTHER),
            _fetched(toy.record(2, toy.told(5))),
        ],
    )

    assert rewinds == {}
    assert await toy.rows(db, 'SELECT partition, "offset" FROM parked') == [(OTHER, 0)]
    assert await toy.rows(db, "SELECT count(*), max(times) FROM balance") == [(4, 1)]
    assert await _positions(db) == {PARTITION: 3, OTHER: 2}


async def test_records_below_the_position_are_dropped(db: Database, ledger: toy.Ledger) -> None:
    runner = _runner(db, ledger)
    await _apply(runner, toy.record(0, toy.told(1)), toy.record(1, toy.told(2)))

    await _apply(runner, toy.record(1, toy.told(2)), toy.record(2, toy.told(3)))

    assert await toy.rows(db, "SELECT max(times), count(*) FROM balance") == [(1, 3)]


async def test_a_repeat_at_another_offset_has_no_second_effect(db: Database, ledger: toy.Ledger) -> None:
    runner = _runner(db, ledger)
    await _apply(runner, toy.record(0, toy.told(1)), toy.record(1, toy.told(1)))

    await _apply(runner, toy.record(2, toy.told(1)))

    assert await toy.rows(db, "SELECT times FROM balance") == [(1,)]
    assert await _position(db) == 3


async def test_a_stale_version_is_dropped_and_a_jump_applied(db: Database, ledger: toy.Ledger) -> None:
    runner = _runner(db, ledger)

    await _apply(runner, toy.record(0, toy.told(1, sequence=1, open_minor=100)))
    await _apply(runner, toy.record(1, toy.told(1, sequence=4, open_minor=40)))
    await _apply(runner, toy.record(2, toy.told(1, sequence=3, open_minor=70)))

    assert await toy.rows(db, "SELECT open, times FROM balance") == [(40, 2)]


async def test_bytes_that_are_no_event_are_parked_raw_and_others_flow(db: Database, ledger: toy.Ledger) -> None:
    bad = toy.FakeRecord(1, b"acme-mx|C9", b"{not json", [("ce_type", b"cobranza.payments.receivable-changed.v1")])

    await _apply(_runner(db, ledger), toy.record(0, toy.told(1)), bad, toy.record(2, toy.told(2)))

    assert await toy.rows(db, "SELECT state, key, raw_value FROM parked") == [("poison", "acme-mx|C9", b"{not json")]
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(2,)]
    assert await _position(db) == 3


async def test_a_poisoned_key_parks_its_later_events_in_order_and_release_applies_them(
    db: Database, ledger: toy.Ledger
) -> None:
    runner = _runner(db, ledger)
    ledger.fail_for["F-2"] = ValueError("a fault of the handler")

    await _apply(
        runner,
        toy.record(0, toy.told(1, customer="A")),
        toy.record(1, toy.told(2, customer="B")),
        toy.record(2, toy.told(3, customer="B")),
        toy.record(3, toy.told(2, customer="B", sequence=2, open_minor=7)),
        toy.record(4, toy.told(4, customer="A")),
    )

    parked = await toy.rows(db, 'SELECT "offset", state FROM parked ORDER BY id')
    assert parked == [(1, "poison"), (2, "behind"), (3, "behind")]
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(2,)]

    parking = Parking(db, consumer="dunning", agents=[ledger.agent()])
    with pytest.raises(ValueError, match="a fault of the handler"):
        await parking.release("acme-mx|B", actor="test", reason="try")
    ledger.fail_for.clear()
    assert await parking.release("acme-mx|B", actor="test", reason="the fault is mended") == 3
    assert await toy.rows(db, "SELECT open FROM balance ORDER BY open") == [(7,), (100,), (100,), (100,)]
    assert await toy.rows(db, "SELECT count(*) FROM parked_key") == [(0,)]
    await _apply(runner, toy.record(5, toy.told(5, customer="B")))
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(5,)]


async def test_what_the_database_refuses_parks_only_that_event(db: Database, ledger: toy.Ledger) -> None:
    async def overdraw(tx: Any, events: Any) -> None:
        await ledger.handle(tx, events)
        for event in events:
            if event.data.number == "F-3":
                await tx.execute(
                    "UPDATE balance SET open = -1 WHERE receivable_id = :i", {"i": event.data.receivable_id}
                )

    runner = BatchRunner(
        consumer="dunning",
        agent=Agent(toy.TOPIC, overdraw),
        database=db,
        topic_id=lambda: toy.TOPIC_ID,
        pause=_no_pause,
    )

    await _apply(runner, *(toy.record(n, toy.told(n, customer=f"C{n}")) for n in range(8)))

    assert await toy.rows(db, 'SELECT "offset", error_class FROM parked') == [(3, "integrity")]
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(7,)]
    assert await _position(db) == 8


async def test_a_transient_fault_is_retried_in_place_and_parks_nothing(db: Database, ledger: toy.Ledger) -> None:
    ledger.fail_once += [ConnectionResetError("gone"), TimeoutError("slow")]

    await _apply(_runner(db, ledger), toy.record(0, toy.told(1)), toy.record(1, toy.told(2)))

    assert await toy.rows(db, "SELECT count(*) FROM parked") == [(0,)]
    assert await toy.rows(db, "SELECT count(*), max(times) FROM balance") == [(2, 1)]


async def test_an_unknown_type_and_a_future_major_are_skipped(db: Database, ledger: toy.Ledger) -> None:
    future = toy.record(0, toy.told(1))
    headers = [(k, b"cobranza.payments.receivable-changed.v2" if k == "ce_type" else v) for k, v in future.headers]

    await _apply(_runner(db, ledger), toy.FakeRecord(0, future.key, future.value, headers), toy.record(1, toy.told(2)))

    assert await toy.rows(db, "SELECT count(*) FROM parked") == [(0,)]
    assert await toy.rows(db, "SELECT count(*) FROM balance") == [(1,)]
    assert await _position(db) == 2


async def test_a_flood_of_poison_trips_the_breaker(db: Database, ledger: toy.Ledger) -> None:
    runner = _runner(db, ledger)
    bad = [toy.FakeRecord(n, f"acme-mx|K{n}".encode(), b"", []) for n in range(21)]

    await _apply(runner, *bad[:20])
    assert runner.breaker.reason is None
    await _apply(runner, bad[20])

    assert runner.breaker.reason == "21 events in a row were refused"


async def test_a_discarded_event_needs_a_reason_and_is_kept(db: Database, ledger: toy.Ledger) -> None:
    await _apply(_runner(db, ledger), toy.FakeRecord(0, b"acme-mx|C9", b"", []))
    parking = Parking(db, consumer="dunning", agents=[ledger.agent()])
    (entry,) = await parking.list()

    with pytest.raises(ParkingError, match="a reason is required"):
        await parking.discard(entry.id, actor="ana", reason=" ")
    await parking.discard(entry.id, actor="ana", reason="test traffic")

    assert await parking.list() == []
    assert await toy.rows(db, "SELECT actor, verb, reason FROM operator_action") == [
        ("ana", "discarded", "test traffic")
    ]
    with pytest.raises(ParkingError, match="already discarded"):
        await parking.discard(entry.id, actor="ana", reason="again")


async def test_a_fixed_event_takes_the_place_of_the_parked_one(db: Database, ledger: toy.Ledger) -> None:
    good = toy.record(0, toy.told(1))
    await _apply(_runner(db, ledger), toy.FakeRecord(0, good.key, b"{", good.headers))
    parking = Parking(db, consumer="dunning", agents=[ledger.agent()])
    (entry,) = await parking.list()

    with pytest.raises(ParkingError, match="still refused"):
        await parking.fix(entry.id, b"[]", actor="ana", reason="typo")
    assert good.value is not None
    await parking.fix(entry.id, good.value, actor="ana", reason="the brace was cut off")

    assert await toy.rows(db, "SELECT open FROM balance") == [(100,)]
    assert await toy.rows(db, "SELECT count(*) FROM parked_key") == [(0,)]
