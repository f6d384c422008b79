"""Rows 1-4, 7 and 8: workers and relays killed at each arrow between their steps, and frozen too long."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import checks
import pytest
import toy_worker
from bench import Bench, workload
from workload import TOPIC

from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.database import Database
from cobranza.chassis.outbox import Cause
from cobranza.contracts.envelope import Envelope, decode

NOTHING = checks.Effects(lost=0, double=0, out_of_order=0, wrong_balances=0)
#: Longer than the 15 s after which the group goes on without a member.
FROZEN_SECONDS = 21.0
RELAY = """
import asyncio, os, sys
import toy_worker
from cobranza.chassis.relay import Relay
toy_worker.plant(os.environ)
asyncio.run(Relay(database_url=sys.argv[1], kafka_bootstrap=sys.argv[2], service="toy").run())
"""


async def _relay(bench: Bench) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RELAY,
        bench.urls.app_url,
        bench.bootstrap,
        env=bench.environment | {"PYTHONPATH": str(bench.programs)},
    )


async def _fill_outbox(bench: Bench, events: int) -> Any:
    """Let the toy's own outbox tell what it will consume."""
    load = workload(events)
    database = Database(bench.urls.app_url, service="payments", clock=BusinessClock())
    async with database.transaction(Cause.command()) as tx:
        told: set[bytes] = set()
        for record in load.records():
            read = decode(record.key, record.headers, record.value, strict=False)
            assert isinstance(read, Envelope)
            assert read.sequence is not None
            if str(read.event_id).encode() not in told:
                told.add(str(read.event_id).encode())
                tx.publish(read.data, sequence=read.sequence)
    await database.close()
    return load


async def test_2_a_relay_killed_between_acknowledgement_and_mark_publishes_twice_and_has_one_effect(
    small_bench: Bench, wait_until: Any
) -> None:
    bench = small_bench
    load = await _fill_outbox(bench, 500)
    bench.fault.touch()

    killed = await _relay(bench)
    died_with = await asyncio.wait_for(killed.wait(), 30)
    unmarked = await bench.query("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    await bench.fleet.start("first")
    await bench.drained(load, timeout=60)

    told = await asyncio.to_thread(checks.published, bench.bootstrap, TOPIC)
    assert died_with == -signal.SIGKILL
    assert unmarked == load.oracle.events
    assert told == checks.Published(events=load.oracle.events, duplicates=load.oracle.events, inversions=0)
    assert await bench.differences(load) == NOTHING


@pytest.mark.long
@pytest.mark.parametrize("point", list(toy_worker.CRASH_POINTS))
async def test_1_2_3_4_a_worker_killed_at_each_step_loses_and_doubles_nothing(
    small_bench: Bench, wait_until: Any, point: str
) -> None:
    bench = small_bench
    load = workload(5_000)
    bench.dies_at(point)
    bench.fault.touch()
    publishing = asyncio.create_task(bench.publish(load))

    worker = await bench.fleet.start("first")
    await wait_until(lambda: not worker.runs, timeout=60)
    died_with = worker.process.returncode
    await publishing
    await bench.drained(load, timeout=90)

    assert died_with == -signal.SIGKILL
    assert await bench.differences(load) == NOTHING
    assert await bench.query("SELECT count(*) FROM parked") == 0
    told = await asyncio.to_thread(checks.published, bench.bootstrap)
    assert (told.events, told.inversions) == (load.oracle.events, 0)
    assert (told.duplicates > 0) == (point == "before-mark")


@pytest.mark.long
async def test_7_8_a_worker_frozen_past_its_session_and_continued_changes_nothing_more(small_bench: Bench) -> None:
    bench = small_bench
    load = workload(40_000)
    publishing = asyncio.create_task(bench.publish(load))
    workers = [await bench.fleet.start(name) for name in ("first", "second")]
    await bench.grows(timeout=60)

    await bench.fleet.freeze(workers[0], seconds=FROZEN_SECONDS)

    await publishing
    await bench.drained(load, timeout=120)
    assert all(worker.runs for worker in workers)
    assert await bench.differences(load) == NOTHING
    assert await bench.query("SELECT count(*) FROM parked") == 0
    told = await asyncio.to_thread(checks.published, bench.bootstrap)
    assert (told.events, told.inversions) == (load.oracle.events, 0)


@pytest.mark.long
async def test_9_workers_told_to_stop_under_load_are_out_within_25_s_and_lose_nothing(small_bench: Bench) -> None:
    bench = small_bench
    load = workload(40_000)
    publishing = asyncio.create_task(bench.publish(load))
    workers = [await bench.fleet.start(name) for name in ("first", "second")]
    await bench.grows(timeout=60)

    for worker in workers:
        worker.process.terminate()
    codes = await asyncio.wait_for(asyncio.gather(*(worker.process.wait() for worker in workers)), 25)

    await publishing
    await bench.drained(load, timeout=90)
    assert codes == [0, 0]
    assert await bench.differences(load) == NOTHING
