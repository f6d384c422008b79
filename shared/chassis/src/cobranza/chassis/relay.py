"""The relay: publishes a service's outbox to Kafka, in order, one relay at a time per service."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from cobranza.chassis import clock, metrics
from cobranza.chassis.logs import logger

#: Rows read at a time; about one transaction's worth of a full batch.
BATCH: Final = 1000
#: Longest wait before looking again; NOTIFY and the worker's own commits come sooner.
POLL_SECONDS: Final = 0.2
#: A round begins no sooner than this after the one before, so that few events do not each pay for a round.
GATHER_SECONDS: Final = 0.03
#: Seconds to wait for the lock again while another relay holds it.
STANDBY_SECONDS: Final = 1.0
KEEP_SENT: Final = "7 days"
CLEAN_EVERY_SECONDS: Final = 3600
_LOCK_KEY: Final = "cobranza-relay"
#: The last is what the driver raises when the server dies in the middle of an answer.
_DATABASE_FAULTS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Relay:
    """Reads unsent rows in order, sends them, marks the acknowledged prefix.

    It may send a row twice (after a crash, or when frozen past the loss of its lock): readers drop
    repeats by event id and sequence. It never skips a row and never inverts the rows of a key.
    """

    def __init__(self, *, database_url: str, kafka_bootstrap: str, service: str) -> None:
        self._url = database_url
        self._bootstrap = kafka_bootstrap
        self._service = service
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failures = 0
        #: True while this process holds the service's relay lock.
        self.holds_lock = False

    def wake(self) -> None:
        """Rows were written: look now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the send in progress."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Relay until stopped; faults of broker and database are waited out with back-off."""
        while not self._stopping.is_set():
            try:
                await self._hold_lock_and_relay()
            except (*_DATABASE_FAULTS, OSError, KafkaError) as error:
                self._failures += 1
                delay = min(30.0, 0.2 * 2 ** min(self._failures, 8)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                logger().warning(
                    "relay interrupted",
                    error=type(error).__name__,
                    retry_in_seconds=round(delay, 1),
                )
                await self._pause(delay)
            finally:
                self.holds_lock = False

    async def _hold_lock_and_relay(self) -> None:
        # One direct connection holds the lock and marks the rows: when it drops, both are gone.
        connection = await asyncpg.connect(self._url, timeout=10, command_timeout=30)
        try:
            while not self._stopping.is_set():
                if await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", _LOCK_KEY):
                    break
                await self._pause(STANDBY_SECONDS)
            else:
                return
            self.holds_lock = True
            await connection.add_listener("outbox", lambda *_: self.wake())
            # After a failed or timed-out send the producer is abandoned: its pending batches must
            # not overtake the rows read again.
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=True,
                max_batch_size=131072,
                compression_type="lz4",
                request_timeout_ms=10000,
            )
            try:
                await producer.start()
                await self._relay(connection, producer)
            finally:
                await asyncio.wait_for(producer.stop(), timeout=15)
        finally:
            connection.terminate()

    async def _relay(self, connection: Any, producer: AIOKafkaProducer) -> None:
        last_cleaned = 0.0
        while not self._stopping.is_set():
            begun = clock.monotonic()
            self._wake.clear()
            rows = await connection.fetch(
                "SELECT seq, topic, key, headers, value, occurred_at FROM outbox WHERE sent_at IS NULL ORDER BY seq LIMIT $1",
                BATCH,
            )
            await self._measure(connection, rows)
            if rows:
                await self._send(connection, producer, rows)
                self._failures = 0
                if len(rows) < BATCH and (early := begun + GATHER_SECONDS - clock.monotonic()) > 0:
                    await asyncio.sleep(early)
                continue
            if clock.monotonic() - last_cleaned > CLEAN_EVERY_SECONDS:
                await self._clean(connection)
                last_cleaned = clock.monotonic()
            await self._pause(POLL_SECONDS)

    async def _send(self, connection: Any, producer: AIOKafkaProducer, rows: Sequence[Any]) -> None:
        pending = await _hand_over(producer, rows)
        acknowledged: list[int] = []
        failure: BaseException | None = None
        for row, outcome in zip(rows, pending, strict=True):
            try:
                await asyncio.wait_for(asyncio.shield(outcome), timeout=30)
            except (KafkaError, TimeoutError) as error:
                failure = error
                break
            acknowledged.append(row["seq"])
            metrics.OUTBOX_PUBLISHED.labels(topic=row["topic"]).inc()
        if acknowledged:
            await connection.execute(
                "UPDATE outbox SET sent_at = clock_timestamp() WHERE seq = ANY($1::bigint[])",
                acknowledged,
            )
        if failure is not None:
            raise failure if isinstance(failure, KafkaError) else ConnectionError(str(failure))

    async def _measure(self, connection: Any, rows: Sequence[Any]) -> None:
        pending = len(rows)
        if pending == BATCH:
            pending = await connection.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
        metrics.OUTBOX_PENDING.set(pending)
        age = (clock.utc_now() - rows[0]["occurred_at"]).total_seconds() if rows else 0.0
        metrics.OUTBOX_OLDEST_AGE.set(max(0.0, age))

    async def _clean(self, connection: Any) -> None:
        while True:
            deleted = await connection.fetch(
                f"DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE sent_at < clock_timestamp() - interval '{KEEP_SENT}' LIMIT 5000) RETURNING seq"  # noqa: S608, E501 - constant
            )
            if not deleted:
                return

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), timeout=seconds)
        except TimeoutError:
            return


async def _hand_over(producer: AIOKafkaProducer, rows: Sequence[Any]) -> list[asyncio.Future[Any]]:
    """Give `rows` to the producer in order; returns one future per row.

    One hand-made batch per partition and run costs a tenth of a send per row. Rows of a key stay in
    order: a partition's batches are handed over one after the other.
    """
    futures: list[asyncio.Future[Any] | None] = [None] * len(rows)
    by_partition: dict[tuple[str, int], list[int]] = {}
    for index, row in enumerate(rows):
        topic = row["topic"]
        partitions = await producer.partitions_for(topic)
        partition = partition_of(row["key"].encode(), len(partitions))
        by_partition.setdefault((topic, partition), []).append(index)
    for (topic, partition), indices in by_partition.items():
        batch = producer.create_batch()
        members: list[int] = []
        for index in indices:
            row = rows[index]
            headers = [(name, value.encode()) for name, value in json.loads(row["headers"])]
            item = {
                "key": row["key"].encode(),
                "value": row["value"],
                "timestamp": None,
                "headers": headers,
            }
            if batch.append(**item) is None:
                batch.close()
                outcome = await producer.send_batch(batch, topic, partition=partition)
                for member in members:
                    futures[member] = outcome
                batch, members = producer.create_batch(), []
                batch.append(**item)
            members.append(index)
        batch.close()
        outcome = await producer.send_batch(batch, topic, partition=partition)
        for member in members:
            futures[member] = outcome
    return [future for future in futures if future is not None]


def partition_of(key: bytes, partitions: int) -> int:
    """The partition every documented client puts `key` on: murmur2, positive, modulo the count."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
