"""The toy fleet on some servers, what is published to it, and how far it has come."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import asyncpg
import checks
from fleet import PROGRAMS, TOY, Fleet
from workload import Workload

from cobranza.chassis import settings
from cobranza.chassis.testing.databases import DatabaseUrls
from cobranza.chassis.testing.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
_RUN: Final = 7


class Bench:
    """One database and one broker with a fleet of toy workers."""

    def __init__(self, *, urls: DatabaseUrls, bootstrap: str, directory: Path) -> None:
        self.urls = urls
        self.bootstrap = bootstrap
        self.environment = {
            **settings.environment(),
            "KAFKA_BOOTSTRAP": bootstrap,
            "TOY_DATABASE_URL": urls.app_url,
            "COBRANZA_COMPANIES": str(ROOT / "deploy" / "companies.yaml"),
            # Made by a test to let the process of its choice die.
            "TOY_DIES": f"before-mark:{directory / 'die'}",
        }
        self.fault = directory / "die"
        self.programs = PROGRAMS
        self._logs = directory
        self.fleet = Fleet(TOY, environment=self.environment, logs=directory)

    def dies_at(self, point: str) -> None:
        """Workers started from now on die at `point` when the fault is made."""
        self.environment["TOY_DIES"] = f"{point}:{self.fault}"
        self.fleet = Fleet(TOY, environment=self.environment, logs=self._logs)

    async def query(self, statement: str) -> Any:
        """One value, over a connection of its own: the server may just have been killed."""
        connection = await asyncpg.connect(self.urls.owner_url, timeout=5)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def applied(self) -> int:
        """How many events were applied; -1 while the database is away."""
        try:
            return int(await self.query("SELECT coalesce(sum(times), 0) FROM balance"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return -1

    async def grows(self, *, timeout: float) -> None:  # noqa: ASYNC109 - the limit is part of the failure's text
        """Wait until an event is applied."""
        before: int | None = None

        async def more() -> bool:
            nonlocal before
            now = await self.applied()
            before = now if before is None or before < 0 else before
            return 0 <= before < now

        await wait_until(more, timeout=timeout)

    async def publish(self, load: Workload) -> None:
        """Send the whole workload by a process of its own: the client drops sockets while the broker is away."""
        publisher = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAMS / "workload.py"),
            self.bootstrap,
            str(load.events),
            str(_RUN),
            env=self.environment,
        )
        try:
            for _ in load.records():
                # The oracle is complete when the records end.
                await asyncio.sleep(0)
            assert await publisher.wait() == 0
        finally:
            if publisher.returncode is None:
                publisher.kill()
                await publisher.wait()

    async def drained(self, workload: Workload, *, timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Wait until every event was applied and every row published; workers that ended start again."""

        async def done() -> bool:
            await self.fleet.keep_running()
            return (
                await self.applied() >= workload.oracle.events
                and await self.query("SELECT count(*) FROM outbox WHERE sent_at IS NULL") == 0
            )

        await wait_until(done, timeout=timeout)

    async def differences(self, workload: Workload) -> checks.Effects:
        """How the effects differ from the oracle's."""
        connection = await asyncpg.connect(self.urls.owner_url)
        try:
            return await checks.effects(connection, workload.oracle)
        finally:
            await connection.close()


def workload(events: int) -> Workload:
    """Good events and repeats; nothing of it may be parked."""
    return Workload(events=events, run=_RUN, poisoned=0)
