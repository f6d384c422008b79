"""The Faust application of a worker: one agent per topic around the batch runner."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import faust
from faust.types.tuples import TP

from cobranza.chassis import clock, inbox, metrics, topics_admin
from cobranza.chassis.database import Database, is_transient
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams.agent import Agent
from cobranza.chassis.streams.batch import BatchRunner, FetchedList, Part

#: How often an idle worker refreshes "caught up", looks for holes at a log's end and for breakers.
TICK_SECONDS: Final = 10.0
#: Group-coordinator errors within a minute that end the process.
MOST_COORDINATOR_ERRORS: Final = 5
#: Allocations between two looks for cyclic garbage: a batch makes tens of thousands of objects and no cycles.
_GC_THRESHOLD: Final = 50_000
#: A batch gathers parts until it holds this many records.
MOST_RECORDS: Final = 1000
#: A batch begins no sooner than this after the one before: what arrives meanwhile shares its transaction. The first
#: event after a quiet moment does not wait; at a steady rate fewer, larger batches leave the processor to the others.
GATHER_SECONDS: Final = 0.03
#: The watchdog's limits: no turn of the loop; lag without an ended attempt; outside a stable group.
LOOP_SILENT_SECONDS: Final = 60.0
NO_PROGRESS_SECONDS: Final = 60.0
UNSTABLE_GROUP_SECONDS: Final = 120.0
#: A second seek to the same place within this time would only repeat the first.
_SEEK_AGAIN_SECONDS: Final = 5.0
_EXIT_RUNTIME_ERROR: Final = 70
_STOP_SECONDS: Final = 20.0
_A_MINUTE: Final = 60.0


class StreamWorker:
    """Consumes the topics of a service's agents until stopped."""

    def __init__(
        self,
        *,
        service: str,
        agents: Sequence[Agent],
        database: Database,
        kafka_bootstrap: str,
        instance: str | None = None,
    ) -> None:
        """Args: `instance` is this worker's lasting name in the group, for static membership."""
        self._service = service
        self._database = database
        self._bootstrap = kafka_bootstrap
        self._agents = {agent.topic: agent for agent in agents}
        self._topic_ids: dict[str, UUID] = {}
        self._last_seek: dict[TP, tuple[int, float]] = {}
        self._last_progress = clock.monotonic()
        self._loop_turned = clock.monotonic()
        self._stable_since = clock.monotonic()
        self._lagging = False
        self._busy = 0
        self._stopping = False
        self._started = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped: set[str] = set()
        self._suspected: dict[TP, int] = {}
        self._runners = {
            agent.topic: BatchRunner(
                consumer=service,
                agent=agent,
                database=database,
                topic_id=partial(self._topic_id, agent.topic),
                progressed=self._progressed,
            )
            for agent in agents
        }
        self._app = self._make_app(instance)

    def _topic_id(self, topic: str) -> UUID:
        return self._topic_ids[topic]

    def _make_app(self, instance: str | None) -> Any:
        app: Any = faust.App(
            self._service,
            broker=[f"cobranza://{address}" for address in self._bootstrap.split(",")],
            web_enabled=False,
            key_serializer="raw",
            value_serializer="raw",
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            broker_session_timeout=15,
            broker_heartbeat_interval=3,
            broker_rebalance_timeout=30,
            broker_commit_interval=1.0,
            broker_max_poll_records=MOST_RECORDS,
            stream_buffer_maxsize=16,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=instance,
            worker_redirect_stdouts=False,
            stream_wait_empty=False,
            datadir="/nonexistent",
        )
        app.stored_positions = self._positions
        app.read_list = self._read
        for topic in self._agents:
            app.agent(
                app.topic(
                    topic,
                    key_type=bytes,
                    value_type=bytes,
                    key_serializer="raw",
                    value_serializer="raw",
                ),
                name=f"{self._service}.{topic}",
            )(self._agent_body(topic))
        return app

    def _agent_body(self, topic: str) -> Any:
        async def consume(stream: Any) -> None:
            begun = -GATHER_SECONDS
            async for part in stream:
                if (early := begun + GATHER_SECONDS - clock.monotonic()) > 0:
                    await asyncio.sleep(early)
                begun = clock.monotonic()
                waiting = _take_waiting(stream.channel.queue, most=MOST_RECORDS - len(part))
                try:
                    await self._consume(topic, [part, *(event.value for event in waiting)])
                    for event in waiting:
                        event.ack()
                except asyncio.CancelledError:
                    raise
                except BaseException:  # noqa: BLE001 - an exception out of here would be acknowledged
                    end_process("stream runtime failed")

        return consume

    async def _read(self, tp: TP, fetched: FetchedList) -> Part:
        return await self._runners[tp.topic].read(fetched)

    async def _consume(self, topic: str, parts: Sequence[Part]) -> None:
        runner = self._runners[topic]
        self._busy += 1
        try:
            await self._wait_while_stopped(topic, runner)
            if self._stopping:
                return
            rewinds = await runner.apply(parts)
            for partition, offset in rewinds.items():
                await self._rewind(TP(topic, partition), offset)
            if (reason := runner.breaker.reason) is not None:
                await self._stop_consumer(topic, reason)
        finally:
            self._busy -= 1
            self._progressed()

    async def _rewind(self, tp: TP, offset: int) -> None:
        """Seek to `offset`, or record the gap when the broker no longer has it."""
        last = self._last_seek.get(tp)
        now = clock.monotonic()
        if last is not None and last[0] == offset and now - last[1] < _SEEK_AGAIN_SECONDS:
            return
        self._last_seek[tp] = (offset, now)
        earliest = (await self._app.consumer.earliest_offsets(tp))[tp]
        if earliest > offset:
            logger().error(
                "records are gone",
                topic=tp.topic,
                partition=tp.partition,
                gone_from=offset,
                gone_until=earliest,
            )
            await self._skip_gone(tp, earliest)
            offset = earliest
        metrics.POSITION_REWINDS.labels(topic=tp.topic).inc()
        logger().warning("position rewound", topic=tp.topic, partition=tp.partition, offset=offset)
        await self._app.consumer.seek(tp, offset)

    async def _skip_gone(self, tp: TP, earliest: int) -> None:
        topic_id = self._topic_ids[tp.topic]
        async with self._database.transaction(Cause.command()) as tx:
            positions = await inbox.lock_positions(
                tx, consumer=self._service, topic_id=topic_id, partitions=[tp.partition]
            )
            current = positions.get(tp.partition)
            if current is not None and current < earliest:
                await inbox.move_positions(
                    tx,
                    consumer=self._service,
                    topic_id=topic_id,
                    positions={tp.partition: inbox.Position(earliest)},
                )
                await tx.execute(
                    "INSERT INTO operator_action (actor, verb, subject, reason) VALUES ('runtime', 'gap', :subject, :reason)",
                    {
                        "subject": f"{tp.topic}/{tp.partition}",
                        "reason": f"offsets {current} to {earliest - 1} are no longer in the topic",
                    },
                )

    async def _positions(self, assigned: set[TP]) -> dict[TP, int]:
        """Where each assigned partition continues; waits out a database that is away."""
        by_topic: dict[str, list[TP]] = {}
        for tp in assigned:
            by_topic.setdefault(tp.topic, []).append(tp)
        if not by_topic:
            return {}
        self._topic_ids.update(await asyncio.to_thread(topics_admin.topic_ids, self._bootstrap, list(by_topic)))
        earliest = await self._app.consumer.earliest_offsets(*assigned)
        positions: dict[TP, int] = {}
        for topic, tps in by_topic.items():
            stored = await self._stored_positions(topic, {tp.partition: earliest[tp] for tp in tps})
            positions.update({tp: stored[tp.partition] for tp in tps})
        self._last_seek.clear()
        return positions

    async def _stored_positions(self, topic: str, earliest: Mapping[int, int]) -> dict[int, int]:
        waits = 0
        while True:
            try:
                async with self._database.transaction() as tx:
                    return await inbox.start_positions(
                        tx,
                        consumer=self._service,
                        topic=topic,
                        topic_id=self._topic_ids[topic],
                        earliest=earliest,
                    )
            except Exception as error:
                # Whatever leaves here ends Faust's recovery; `_beat` then ends the process.
                if not is_transient(error):
                    raise
                waits += 1
                logger().warning("positions unavailable", error=type(error).__name__, waits=waits)
                await asyncio.sleep(min(5.0, 0.2 * waits))

    async def _wait_while_stopped(self, topic: str, runner: BatchRunner) -> None:
        """Wait until an operator resumes the consumer, if a flood of poison stopped it."""
        while topic in self._stopped and not self._stopping:
            await asyncio.sleep(1.0)
            await self._read_stops()
            self._progressed()
            if topic not in self._stopped:
                runner.breaker.reset()
                logger().info("consumer resumed", topic=topic)

    async def _read_stops(self) -> None:
        async with self._database.transaction() as tx:
            rows = await tx.execute(
                "SELECT topic FROM consumer_stop WHERE consumer = :consumer",
                {"consumer": self._service},
            )
            self._stopped = {row.topic for row in rows}
        for topic in self._agents:
            metrics.CONSUMER_STOPPED.labels(topic=topic).set(int(topic in self._stopped))

    async def _stop_consumer(self, topic: str, reason: str) -> None:
        logger().error("consumer stopped", topic=topic, reason=reason)
        async with self._database.transaction() as tx:
            await tx.execute(
                "INSERT INTO consumer_stop (consumer, topic, reason) VALUES (:consumer, :topic, :reason) ON CONFLICT DO NOTHING",
                {"consumer": self._service, "topic": topic, "reason": reason},
            )
        self._stopped.add(topic)
        metrics.CONSUMER_STOPPED.labels(topic=topic).set(1)

    def _progressed(self) -> None:
        self._last_progress = clock.monotonic()
        metrics.WORKER_LAST_PROGRESS.set(clock.utc_now().timestamp())

    # Life of the worker

    async def run(self) -> None:
        """Join the group and consume until stopped."""
        await self.start()
        while not self._stopping:  # noqa: ASYNC110 - a stop takes longer than this anyway
            await asyncio.sleep(0.1)

    async def start(self) -> None:
        """Join the group and consume; returns once the group has settled."""
        gc.set_threshold(_GC_THRESHOLD)
        await self._read_stops()
        await self._app.start()
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._beat())]
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        self._started.set()

    async def stop(self) -> None:
        """Finish or roll back the batches in work, commit offsets, leave the group; 20 s at most."""
        if self._stopping:
            return
        deadline = clock.monotonic() + _STOP_SECONDS
        with contextlib.suppress(TimeoutError):
            # A group that is settling is left when it has settled: Faust cannot be stopped half started.
            await asyncio.wait_for(self._started.wait(), timeout=_STOP_SECONDS)
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        consumer = self._app.consumer
        consumer.stop_flow()
        while self._busy and clock.monotonic() < deadline:  # noqa: ASYNC110 - bounded, at the very end
            await asyncio.sleep(0.02)
        try:
            await asyncio.wait_for(self._app.stop(), timeout=max(1.0, deadline - clock.monotonic()))
        except TimeoutError:
            logger().warning("stop took too long, leaving the group to expire")

    def is_ready(self) -> str | None:
        """None when ready, else the reason; a spare worker without partitions is ready."""
        if self._stopping:
            return "stopping"
        if not self._group_is_stable():
            return "the consumer group is settling"
        return None

    def _group_is_stable(self) -> bool:
        try:
            return bool(self._app.consumer._thread.group_is_stable())
        except Exception:  # noqa: BLE001 - not started yet
            return False

    async def _beat(self) -> None:
        """Show the watchdog that the loop turns; end the process on repeated coordinator errors."""
        errors: list[float] = []
        while True:
            await asyncio.sleep(1.0)
            now = self._loop_turned = clock.monotonic()
            if self._group_is_stable():
                self._stable_since = now
            if self._app.crashed:
                # A part of Faust ended by an exception; the rest would live on and consume nothing.
                end_process("the stream application crashed")
            try:
                self._app.consumer._thread.check_coordinator()
            except Exception as error:  # noqa: BLE001 - whatever the coordinator failed with
                errors = [*(at for at in errors if now - at < _A_MINUTE), now]
                logger().warning("group coordinator failed", error=type(error).__name__)
                if len(errors) >= MOST_COORDINATOR_ERRORS:
                    end_process("the group coordinator keeps failing")

    async def _tick(self) -> None:
        while True:
            try:
                await self._look_around()
            except Exception as error:  # noqa: BLE001 - looked at again in ten seconds
                logger().warning("lag unknown", error=type(error).__name__)
            await asyncio.sleep(TICK_SECONDS)

    async def _look_around(self) -> None:
        """Refresh lag and "caught up"; fetch again what was lost at the end of a log."""
        consumer = self._app.consumer
        assigned = [TP(tp.topic, tp.partition) for tp in consumer.assignment()]
        if not assigned:
            self._lagging = False
            return
        ends = await consumer.highwaters(*assigned)
        async with self._database.transaction() as tx:
            await inbox.refresh_caught_up(
                tx,
                consumer=self._service,
                at_end=[
                    (self._topic_ids[tp.topic], tp.partition, end)
                    for tp, end in ends.items()
                    if tp.topic in self._topic_ids
                ],
            )
            rows = await tx.execute(
                "SELECT topic, partition, next_offset FROM progress WHERE consumer = :consumer AND topic_id = ANY(:ids)",
                {"consumer": self._service, "ids": list(self._topic_ids.values())},
            )
            stored = {TP(row.topic, row.partition): row.next_offset for row in rows}
        lagging = False
        for tp in assigned:
            lag = max(0, ends.get(tp, 0) - stored.get(tp, 0))
            metrics.CONSUMER_LAG.labels(topic=tp.topic, partition=str(tp.partition)).set(lag)
            lagging = lagging or (lag > 0 and tp.topic not in self._stopped)
            fetched_to = await consumer.position(tp)
            if lag and fetched_to is not None and fetched_to >= ends[tp]:
                # Everything was fetched and a whole tick later nothing more of it is applied: a list
                # was lost at the end of the log, where no later batch would uncover it.
                if self._suspected.get(tp) == stored[tp] and not self._busy:
                    await self._rewind(tp, stored[tp])
                self._suspected[tp] = stored[tp]
            else:
                self._suspected.pop(tp, None)
        self._lagging = lagging
        if not lagging:
            self._progressed()

    def _watch(self) -> None:
        """On a thread of its own: end a process that lives and does nothing."""
        pause = threading.Event()
        while not self._stopping:
            pause.wait(1.0)
            now = clock.monotonic()
            if now - self._loop_turned > LOOP_SILENT_SECONDS:
                end_process("the event loop stands still")
            if self._lagging and now - self._last_progress > NO_PROGRESS_SECONDS:
                end_process("there is lag and nothing moves")
            if now - self._stable_since > UNSTABLE_GROUP_SECONDS:
                end_process("outside a stable consumer group")


def _take_waiting(queue: Any, *, most: int) -> list[Any]:
    """The parts that already wait behind the one just taken, up to `most` records more.

    They share its transaction: under load a batch grows to what arrived during the one before, over all
    partitions, instead of paying a commit for each partition's few records.
    """
    taken: list[Any] = []
    while most > 0 and not queue.empty():
        event = queue.get_nowait()
        taken.append(event)
        most -= len(event.value)
    return taken


def end_process(reason: str) -> None:
    """End at once: a graceful stop would commit offsets of work that was not done."""
    logger().error("worker ended", reason=reason, trace=traceback.format_exc(limit=20))
    os._exit(_EXIT_RUNTIME_ERROR)
