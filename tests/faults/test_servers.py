"""Rows 15 and 25: broker and database killed under load; nothing is parked and work goes on by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import checks
import pytest
from bench import Bench, workload

from cobranza.chassis.testing.parts import Parts

NOTHING = checks.Effects(lost=0, double=0, out_of_order=0, wrong_balances=0)
#: After the server is back.
RESUMED_WITHIN_SECONDS = 30.0


@pytest.mark.long
@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_15_25_a_server_killed_under_load_parks_nothing_and_work_resumes_within_30_s(
    bench: Bench, mortal: Parts, wait_until: Any, server: str
) -> None:
    load = workload(30_000)
    publishing = asyncio.create_task(bench.publish(load))
    for name in ("first", "second"):
        await bench.fleet.start(name)
    await bench.grows(timeout=60)

    killed = mortal.pid(server)
    os.kill(killed, signal.SIGKILL)
    await wait_until(lambda: mortal.pid(server) != killed, timeout=30)
    await asyncio.to_thread(mortal.wait_until_ready, server)
    await bench.grows(timeout=RESUMED_WITHIN_SECONDS)

    await publishing
    await bench.drained(load, timeout=120)
    assert bench.fleet.ended_by_itself == 0
    assert await bench.differences(load) == NOTHING
    assert await bench.query("SELECT count(*) FROM parked") == 0
    assert await bench.query("SELECT count(*) FROM consumer_stop") == 0
    told = await asyncio.to_thread(checks.published, bench.bootstrap)
    assert (told.events, told.inversions) == (load.oracle.events, 0)
