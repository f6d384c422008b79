"""The worker process of a service: agents, relay, timers and jobs on one loop, started and stopped together."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, Final

from cobranza.chassis import clock, logs, metrics
from cobranza.chassis.database import is_transient
from cobranza.chassis.health import OperationsServer
from cobranza.chassis.logs import logger
from cobranza.chassis.relay import Relay
from cobranza.chassis.service import Context, Invariant, Job, Service
from cobranza.chassis.streams.worker import StreamWorker, end_process
from cobranza.chassis.timers import Scheduler

_INVARIANTS_EVERY_SECONDS: Final = 60.0
#: Grace for each part to end; the whole stop stays under the 30 s of the supervisor.
_STOP_SECONDS: Final = 5.0
_LOCK_POLL_SECONDS: Final = 1.0


async def run(service: Service[Any]) -> None:
    """Run the worker until SIGTERM or SIGINT.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    context = service.context(notifies=False, pool_size=10)
    logs.configure(service=service.name, role="worker", level=context.settings.log_level)
    await Worker(service, context).run()


class Worker:
    """One worker's parts and their life."""

    def __init__(self, service: Service[Any], context: Context[Any]) -> None:
        self._service = service
        self._context = context
        self._stopping = asyncio.Event()
        self._relay = Relay(
            database_url=context.settings.database_url.get_secret_value(),
            kafka_bootstrap=context.settings.kafka_bootstrap,
            service=service.name,
        )
        context.database.on_written(self._relay.wake)
        self._scheduler = Scheduler(
            context.database,
            service.timers(context),
            idle_seconds=0.1 if context.clock.is_virtual else 1.0,
        )
        agents = service.agents(context)
        self._streams = (
            StreamWorker(
                service=service.name,
                agents=agents,
                database=context.database,
                kafka_bootstrap=context.settings.kafka_bootstrap,
            )
            if agents
            else None
        )
        self._operations = OperationsServer(
            port=context.settings.operations_port,
            checks={"database": self._database_answers, "streams": self._streams_are_ready},
        )

    async def run(self) -> None:
        """Start everything, wait for a signal, stop everything in reverse order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        metrics.BUILD_INFO.info({"version": version("cobranza-chassis"), "service": self._service.name})
        await self._operations.start()
        parts = [
            asyncio.create_task(self._relay.run(), name="relay"),
            asyncio.create_task(self._scheduler.run(), name="timers"),
            # A group takes up to 15 s to settle after a kill; nothing else waits for it.
            *([asyncio.create_task(self._streams.run(), name="streams")] if self._streams is not None else []),
            asyncio.create_task(self._watch_invariants(), name="invariants"),
            *(asyncio.create_task(self._repeat(job), name=job.name) for job in self._service.jobs(self._context)),
        ]
        logger().info("worker started")
        stopped = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([stopped, *parts], return_when=asyncio.FIRST_COMPLETED)
        self._operations.stopping()
        for part in done - {stopped}:
            # A part ends only when told to; if it raised, the process must not live on without it.
            try:
                part.result()
            except Exception:  # noqa: BLE001 - whatever it was, it is logged and the process ends
                end_process(f"{part.get_name()} ended by an exception")
        if self._streams is not None:
            await self._streams.stop()
        self._scheduler.stop()
        self._relay.stop()
        _, late = await asyncio.wait(parts[:2], timeout=_STOP_SECONDS)
        for part in [*late, *parts[2:]]:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await self._context.database.close()
        await self._operations.stop()
        logger().info("worker stopped")

    async def _repeat(self, job: Job) -> None:
        if job.one_at_a_time:
            await _forever(job.name, self._only_as_holder(job.run), every_seconds=job.every_seconds)
        else:
            await _forever(job.name, job.run, every_seconds=job.every_seconds)

    def _only_as_holder(self, run: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
        """Wait for the service's lock before each run: whoever takes it over goes on at once."""

        async def wait_and_run() -> bool:
            while not self._relay.holds_lock:  # noqa: ASYNC110 - the lock is the database's, there is no event
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            return await run()

        return wait_and_run

    async def _watch_invariants(self) -> None:
        for invariant in self._service.invariants:
            metrics.INVARIANT_VIOLATIONS.labels(name=invariant.name)

        async def look() -> bool:
            await self._set_gauges()
            for name, count in (await violations(self._context, self._service.invariants)).items():
                if count:
                    metrics.INVARIANT_VIOLATIONS.labels(name=name).inc(count)
                    logger().error("invariant violated", name=name, count=count)
            return False

        await _forever("invariants", self._only_as_holder(look), every_seconds=_INVARIANTS_EVERY_SECONDS)

    async def _set_gauges(self) -> None:
        in_use = self._context.database.connections_in_use
        metrics.DB_POOL_CONNECTIONS.labels(state="in_use").set(in_use)
        metrics.DB_POOL_CONNECTIONS.labels(state="free").set(self._context.database.pool_size - in_use)
        async with self._context.database.transaction() as tx:
            rows = await tx.execute(
                """
                SELECT topic, state, count(*) AS parked, extract(epoch FROM clock_timestamp() - min(parked_at)) AS age
                FROM parked WHERE closed_at IS NULL GROUP BY topic, state
                """
            )
            found = {(row.topic, row.state): (row.parked, float(row.age)) for row in rows}
        for topic in (agent.topic for agent in self._service.agents(self._context)):
            for state in ("poison", "behind", "conflict"):
                parked, age = found.get((topic, state), (0, 0.0))
                metrics.PARKED_EVENTS.labels(topic=topic, state=state).set(parked)
                metrics.PARKED_OLDEST_AGE.labels(topic=topic, state=state).set(age)

    async def _database_answers(self) -> str | None:
        try:
            async with self._context.database.transaction() as tx:
                await tx.execute("SELECT 1")
        except Exception as error:  # noqa: BLE001 - any failure means not ready
            return f"the database does not answer: {type(error).__name__}"
        return None

    async def _streams_are_ready(self) -> str | None:
        return self._streams.is_ready() if self._streams is not None else None


async def violations(context: Context[Any], invariants: tuple[Invariant, ...]) -> dict[str, int]:
    """How many rows break each invariant; all zero in a healthy system."""
    found: dict[str, int] = {}
    for invariant in invariants:
        async with context.database.transaction() as tx:
            result = await tx.execute(f"SELECT count(*) FROM ({invariant.sql}) AS broken")  # noqa: S608 - our own text
            found[invariant.name] = int(result.scalar_one())
    return found


async def _forever(name: str, run: Callable[[], Awaitable[bool]], *, every_seconds: float) -> None:
    failures = 0
    while True:
        started = clock.monotonic()
        try:
            more = await run()
            failures = 0
        except Exception as error:  # noqa: BLE001 - a job must outlive any fault; the next run tries again
            failures += 1
            more = False
            logger().log(
                30 if is_transient(error) else 40,
                "job failed",
                job=name,
                error=type(error).__name__,
                exc_info=not is_transient(error),
            )
        if more:
            await asyncio.sleep(0)
        else:
            wait = every_seconds if not failures else min(30.0, every_seconds + 0.2 * 2 ** min(failures, 7))
            await asyncio.sleep(max(0.0, wait - (clock.monotonic() - started)))
