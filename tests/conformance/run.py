"""Proves on a real broker and database that no event is lost, doubled or reordered, whatever is killed.

Events go to a topic of the catalogue while workers of a toy service are killed, frozen, stopped and
joined by others; then effects, balances, positions, parked events and published events are compared
with an oracle. The last line is one JSON object; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
import checks
from fleet import STOCK, TOY, Fleet, Worker
from toy_worker import make_tables
from workload import TOPIC, Workload, producer, send

from cobranza.chassis import clock, topics_admin
from cobranza.chassis.local import platform as local

ROOT: Final = Path(__file__).parents[2]
#: Longer than the 15 s after which the group goes on without a member.
FROZEN_SECONDS: Final = 21.0
#: Nothing moves for this long: the run has stalled, and what is missing is reported as lost.
STALLED_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.1
_PROGRESS_SECONDS: Final = 10.0
#: This share of the events is published and consumed under faults; the rest uncovers the last hole.
TORMENTED: Final = 0.9
#: Records in flight; a bound for the memory of the publisher.
_WINDOW: Final = 5000


class Run:
    """One run: what is published, who consumes it, and what is done to them."""

    def __init__(self, *, database: Any, bootstrap: str, fleet: Fleet, workload: Workload, run: int) -> None:
        self._database = database
        self._bootstrap = bootstrap
        self._fleet = fleet
        self._workload = workload
        self._random = random.Random(run)
        self._started = clock.monotonic()
        self._published = 0
        #: The publisher stays so little ahead that there is work to be done while each fault lasts.
        self._allowed: float = workload.events * (1 - TORMENTED)
        self._pause = threading.Event()
        self._moved = (0, clock.monotonic())
        self._said = 0.0
        self.kills = 0

    def say(self, text: str) -> None:
        """One progress line."""
        sys.stdout.write(f"{clock.monotonic() - self._started:6.0f} s  {text}\n")
        sys.stdout.flush()

    def publish(self) -> None:
        """Send the whole workload, its last part once the faults are over; on a thread of its own."""
        to = producer(self._bootstrap)
        waiting: list[Any] = []
        for record in self._workload.records():
            while self._published >= self._allowed:
                self._pause.wait(_POLL_SECONDS)
            waiting.append(send(to, record))
            self._published += 1
            if len(waiting) >= _WINDOW:
                for future in waiting:
                    future.get(timeout=300)
                waiting.clear()
        to.flush()
        for future in waiting:
            future.get(timeout=300)
        to.close()

    async def effects(self) -> int:
        """How many events were applied so far."""
        count = int(await self._database.fetchval("SELECT coalesce(sum(times), 0) FROM balance"))
        now = clock.monotonic()
        if count > self._moved[0]:
            self._moved = (count, now)
        if now - self._said > _PROGRESS_SECONDS:
            self._said = now
            self.say(f"published {self._published}, applied {count}, kills {self.kills}")
        return count

    @property
    def stalled(self) -> bool:
        """True when nothing was applied for long."""
        return clock.monotonic() - self._moved[1] > STALLED_SECONDS

    async def _wait_for(self, condition: Callable[[], Awaitable[bool]]) -> bool:
        while not self.stalled:
            if await condition():
                return True
            await self._fleet.keep_running()
            await asyncio.sleep(_POLL_SECONDS)
        self.say("STALLED: nothing was applied for long")
        return False

    async def _grows(self, beyond: int) -> bool:
        """Wait until `beyond` events were applied and more of them arrive at this very moment."""
        before = await self.effects()

        async def condition() -> bool:
            nonlocal before
            now = await self.effects()
            grows = now > before and now >= beyond
            before = now
            return grows

        return await self._wait_for(condition)

    async def _kill(self, worker: Worker) -> None:
        self.kills += 1
        await self._fleet.kill(worker)

    async def torment(self, kills: int) -> None:
        """Kill before anything is committed, then kill, freeze, stop and join while the work goes on."""

        async def assigned() -> bool:
            return bool(await self._database.fetchval("SELECT count(*) FROM progress"))

        if self._has_positions and kills > 0:
            await self._wait_for(assigned)
            self.say("kill before the first commit of any partition")
            await self._kill(self._fleet.workers[0])
        if kills > 1 and await self._grows(1):
            self.say("kill at the first effect")
            await self._kill(self._random.choice(self._fleet.workers))
        faults = self._faults(kills - self.kills)
        part = int(self._workload.events * TORMENTED / (len(faults) + 2))
        for place, fault in enumerate(faults, start=1):
            self._allowed = part * (place + 2)
            if not await self._grows(part * place):
                return
            await self._inflict(fault)

    def calm(self) -> None:
        """The faults are over: publish the rest."""
        self._allowed = math.inf
        self._moved = (self._moved[0], clock.monotonic())

    @property
    def _has_positions(self) -> bool:
        return self._fleet.program == TOY

    def _faults(self, kills: int) -> list[str]:
        others = max(1, kills // 8)
        faults = ["kill"] * kills + ["freeze", "terminate", "join", "restart-all"] * others
        self._random.shuffle(faults)
        return faults

    async def _inflict(self, fault: str) -> None:
        worker = self._random.choice(self._fleet.workers)
        match fault:
            case "kill":
                await self._kill(worker)
            case "restart-all" if len(self._fleet.workers) > 1:
                self.say("all workers are stopped and started together")
                await asyncio.gather(*map(self._fleet.restart, self._fleet.workers))
            case "freeze":
                self.say(f"{worker.name} is frozen for {FROZEN_SECONDS:.0f} s")
                await self._fleet.freeze(worker, seconds=FROZEN_SECONDS)
            case "terminate":
                self.say(f"{worker.name} is told to stop")
                await self._fleet.restart(worker)
            case "join" if len(self._fleet.workers) == 2:
                self.say("a third worker joins")
                await self._fleet.start("third")
            case _:
                self.say(f"{worker.name} leaves for good")
                if len(self._fleet.workers) > 2:
                    await self._fleet.leave(worker)

    async def drain(self) -> bool:
        """Wait until everything is consumed and published, or nothing moves any more."""
        ends = await asyncio.to_thread(checks.read_ends, self._bootstrap, TOPIC)

        async def done() -> bool:
            await self.effects()
            rows = await self._database.fetch("SELECT partition, next_offset FROM progress")
            at_end = {row["partition"]: row["next_offset"] for row in rows} == ends
            unsent = await self._database.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
            return at_end and unsent == 0

        return await self._wait_for(done)

    async def settle(self, *, seconds: float) -> None:
        """Wait until nothing was applied for so long: all a consumer without positions can be asked."""

        async def still() -> bool:
            await self.effects()
            return clock.monotonic() - self._moved[1] > seconds

        await self._wait_for(still)


async def main(options: argparse.Namespace, directory: Path) -> dict[str, int]:
    """Start the servers, do the run, and return its figures."""
    async with local.LocalPlatform(directory, tests=True) as platform:
        await platform.start_infrastructure()
        environment = platform.environment()
        await asyncio.to_thread(topics_admin.apply, platform.bootstrap)
        owner = await asyncpg.connect(environment["DUNNING_OWNER_DATABASE_URL"])
        await make_tables(owner, app_role="dunning_app")
        logs = directory / "workers"
        logs.mkdir()
        hole = directory / "hole"
        fleet = Fleet(
            STOCK if options.stock else TOY,
            environment=environment
            | {
                "TOY_DATABASE_URL": environment["DUNNING_DATABASE_URL"],
                "COBRANZA_COMPANIES": str(ROOT / "deploy" / "companies.yaml"),
                "TOY_HOLE": str(hole),
            },
            logs=logs,
        )
        workload = Workload(events=options.events, run=options.run)
        run = Run(database=owner, bootstrap=platform.bootstrap, fleet=fleet, workload=workload, run=options.run)
        publishing = asyncio.create_task(asyncio.to_thread(run.publish))
        try:
            # One list is lost before the first commit, another when the faults are over.
            hole.touch()
            for name in ("first", "second"):
                await fleet.start(name)
            await run.torment(options.kills)
            hole.touch()
            run.calm()
            await publishing
            if options.stock:
                await run.settle(seconds=60)
            else:
                await run.drain()
        finally:
            run.calm()
            await fleet.stop()
        run.say("comparing")
        return await _figures(run, fleet, workload, owner, platform.bootstrap, stock=options.stock)


async def _figures(
    run: Run, fleet: Fleet, workload: Workload, owner: Any, bootstrap: str, *, stock: bool
) -> dict[str, int]:
    oracle = workload.oracle
    found = await checks.effects(owner, oracle)
    parked = dict(await owner.fetch("SELECT state, count(*) FROM parked GROUP BY state"))
    figures = {
        "events": oracle.events,
        "repeats": oracle.repeats,
        "poison": oracle.poison,
        "kills": run.kills,
        "lost": found.lost,
        "double": found.double,
        "out_of_order": found.out_of_order,
        "wrong_balances": found.wrong_balances,
    }
    if stock:
        return figures
    told = await asyncio.to_thread(checks.published, bootstrap)
    unpublished = oracle.events - told.events
    run.say(
        f"behind {parked.get('behind', 0)} of {oracle.behind}, positions at the end "
        f"{await checks.at_the_end(owner, bootstrap)}, unpublished {unpublished}, inversions published "
        f"{told.inversions}, workers ended by themselves {fleet.ended_by_itself} {fleet.reasons_to_end()}"
    )
    figures |= {
        "parked": parked.get("poison", 0),
        "rewinds": fleet.count_in_logs("position rewound"),
        "duplicates_published": told.duplicates,
    }
    whole = (
        found.right
        and unpublished == 0
        and told.inversions == 0
        and parked == {state: n for state, n in (("poison", oracle.poison), ("behind", oracle.behind)) if n}
        and await checks.at_the_end(owner, bootstrap)
        and fleet.count_in_logs("HOLE ") == 2
        and figures["rewinds"] > 0
    )
    if not whole:
        raise NotConformingError(figures)
    return figures


class NotConformingError(Exception):
    """Something differs from the oracle."""

    def __init__(self, figures: dict[str, int]) -> None:
        self.figures = figures
        super().__init__("the run does not conform")


def command() -> int:
    """Read the options, run, print the figures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--run", type=int, default=1, help="fixes all randomness of the run but time's own")
    parser.add_argument("--stock", action="store_true", help="show what a stock Faust agent loses; never fails")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cobranza-conformance-"))
    sys.stdout.write(f"run {options.run}: {options.events} events, {options.kills} kills; state in {directory}\n")
    code = 0
    try:
        figures = local.run(main(options, directory))
    except NotConformingError as differs:
        figures, code = differs.figures, 1
        sys.stdout.write(f"NOT CONFORMING; logs are kept in {directory}\n")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    if figures is None:
        return 130
    sys.stdout.write(json.dumps(figures) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(command())
