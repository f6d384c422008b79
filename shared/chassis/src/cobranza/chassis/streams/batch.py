"""What was fetched becomes one transaction: positions, inbox, versions, effect and outbox together."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from uuid import UUID, uuid5

from cobranza.chassis import clock, inbox, metrics
from cobranza.chassis.database import Database, is_refused_by_database, is_transient
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams.agent import (
    Agent,
    BatchTransaction,
    Event,
    InputRefusedError,
    ParkedInput,
    parties,
    refusal_code,
    refusal_pointer,
)
from cobranza.contracts.envelope import EnvelopeError, Tombstone, UnknownType, decode
from cobranza.contracts.topics import topic

#: A handler's own exception is tried this often, after these waits, before the event is parked.
RETRY_WAITS_SECONDS: Final = (0.1, 1.0, 5.0)
#: More poison in a row than this stops the consumer.
MOST_IN_A_ROW: Final = 20
#: More poison than this share of the last WINDOW events stops the consumer.
WINDOW: Final = 1000
MOST_OF_WINDOW: Final = 0.05
#: Records decoded before the loop turns.
RECORDS_IN_A_ROW: Final = 32
_LONGEST_WAIT_SECONDS: Final = 30.0


class KafkaRecord(Protocol):
    """What the runtime reads of a Kafka record."""

    @property
    def offset(self) -> int:
        """Place in the partition."""

    @property
    def key(self) -> bytes | None:
        """Decides the partition."""

    @property
    def value(self) -> bytes | None:
        """The event; None is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The event's attributes in binary mode."""


class FetchedList(list[KafkaRecord]):
    """The records of one partition as one fetch returned them, in offset order, never empty."""

    __slots__ = ("end_offset", "fetched_from", "partition")

    def __init__(self, records: Iterable[KafkaRecord], *, partition: int, fetched_from: int, end_offset: int) -> None:
        """Args: `fetched_from` is the offset asked for; compaction may begin the list later."""
        super().__init__(records)
        self.partition = partition
        self.fetched_from = fetched_from
        self.end_offset = end_offset


@dataclass(slots=True)
class _Input:
    """One record on its way: raw, and decoded or faulty."""

    record: KafkaRecord
    partition: int
    event: Event | None = None
    fault: Exception | None = None
    skipped: str | None = None
    body: bytes | None = None
    key: str = ""
    event_id: UUID = field(default=UUID(int=0))


@dataclass(frozen=True, slots=True)
class Part:
    """A contiguous stretch of one partition, decoded; `start` is the first offset it answers for."""

    partition: int
    inputs: Sequence[_Input]
    start: int
    end_offset: int

    def __len__(self) -> int:
        """How many records it holds."""
        return len(self.inputs)


class Breaker:
    """Counts poison; trips on a flood so that a consumer does not drain a topic into the parking lot."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._window: deque[bool] = deque(maxlen=WINDOW)

    def note(self, *, poison: bool) -> None:
        """Note one event's outcome; events parked behind others do not count."""
        self._in_a_row = self._in_a_row + 1 if poison else 0
        self._window.append(poison)

    @property
    def reason(self) -> str | None:
        """Why the consumer must stop, or None."""
        if self._in_a_row > MOST_IN_A_ROW:
            return f"{self._in_a_row} events in a row were refused"
        refused = sum(self._window)
        if refused > WINDOW * MOST_OF_WINDOW:
            return f"{refused} of the last {len(self._window)} events were refused"
        return None

    def reset(self) -> None:
        """Begin anew after a person resumed the consumer."""
        self._in_a_row = 0
        self._window.clear()


class BatchRunner:
    """Applies the fetched lists of one topic for one consumer."""

    def __init__(
        self,
        *,
        consumer: str,
        agent: Agent,
        database: Database,
        topic_id: Callable[[], UUID],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        """Args: `progressed` is called whenever an attempt ended, well or not."""
        self._consumer = consumer
        self._agent = agent
        self._database = database
        self._topic_id = topic_id
        self._pause = pause
        self._progressed = progressed
        self._payloads = topic(agent.topic).payloads
        self.breaker = Breaker()
        # Alerts look at increases, and a series born at 1 shows none.
        metrics.EVENTS_CONSUMED.labels(topic=agent.topic, event_type="unknown", outcome="skipped")
        metrics.EVENTS_SUSPECT.labels(topic=agent.topic)

    async def read(self, fetched: FetchedList) -> Part:
        """Decode a list, a few records at a time: meanwhile the batch before it waits for the database."""
        inputs: list[_Input] = []
        for begin in range(0, len(fetched), RECORDS_IN_A_ROW):
            inputs += [self._decode(record, fetched.partition) for record in fetched[begin : begin + RECORDS_IN_A_ROW]]
            await asyncio.sleep(0)
        return Part(fetched.partition, inputs, fetched.fetched_from, fetched.end_offset)

    async def apply(self, parts: Sequence[Part]) -> dict[int, int]:
        """Apply parts of one or several partitions; returns when every record is applied, stale, parked or skipped.

        Parts of one partition stand in offset order. Transient faults are waited out here without limit. A record
        that a handler or the database refuses is found by bisecting and parked.

        Returns:
            Where to fetch again, by partition: records below the list were never applied, so nothing of it was.
        """
        started = clock.monotonic()
        rewinds = await self._apply_parts(parts)
        metrics.EVENT_BATCH_SECONDS.labels(topic=self._agent.topic).observe(clock.monotonic() - started)
        metrics.EVENT_BATCH_SIZE.labels(topic=self._agent.topic).observe(sum(map(len, parts)))
        return rewinds

    async def _apply_parts(self, parts: Sequence[Part]) -> dict[int, int]:
        only = parts[0].inputs[0] if len(parts) == 1 and len(parts[0].inputs) == 1 else None
        tries = waits = 0
        while True:
            try:
                return await self._transact(parts)
            except Exception as error:  # noqa: BLE001
                # One of the three broad catches of the chassis: an exception that left here would
                # be acknowledged by Faust and its events lost.
                self._progressed()
                if is_transient(error):
                    metrics.DB_RETRIES.labels(reason=type(error).__name__).inc()
                    ceiling = min(_LONGEST_WAIT_SECONDS, 0.1 * 2 ** min(waits, 10))
                    wait = random.uniform(0, ceiling)  # noqa: S311 - jitter
                    waits += 1
                    if waits in (1, 10) or waits % 50 == 0:
                        logger().warning(
                            "batch interrupted",
                            topic=self._agent.topic,
                            error=type(error).__name__,
                            waits=waits,
                        )
                    await self._pause(wait)
                    if waits > len(RETRY_WAITS_SECONDS) and await self._told_to_park(parts):
                        if only is None:
                            return await self._bisect(parts)
                        only.fault = error
                elif only is None:
                    return await self._bisect(parts)
                elif (
                    tries < len(RETRY_WAITS_SECONDS)
                    and not is_refused_by_database(error)
                    and getattr(error, "code", None) is None
                ):
                    await self._pause(RETRY_WAITS_SECONDS[tries])
                    tries += 1
                else:
                    logger().error(
                        "event refused by its handler",
                        topic=self._agent.topic,
                        partition=only.partition,
                        offset=only.record.offset,
                        event_id=str(only.event_id),
                        exc_info=True,
                    )
                    only.fault = error

    async def _told_to_park(self, parts: Sequence[Part]) -> bool:
        """Has an operator said, in the last hour, that the stuck event of one of these partitions be parked?"""
        try:
            async with self._database.transaction() as tx:
                rows = await tx.execute(
                    """
                    SELECT 1 FROM unnest(CAST(:partitions AS int[])) AS t(partition)
                    JOIN operator_action ON verb = 'park-now' AND subject = :topic || '/' || t.partition
                    WHERE done_at > clock_timestamp() - interval '1 hour'
                        AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.consumer = :consumer AND p.topic = :topic
                            AND p.partition = t.partition AND p.parked_at > done_at)
                    """,
                    {
                        "consumer": self._consumer,
                        "topic": self._agent.topic,
                        "partitions": [part.partition for part in parts],
                    },
                )
                return rows.first() is not None
        except Exception as error:
            if is_transient(error):
                return False
            raise

    async def _bisect(self, parts: Sequence[Part]) -> dict[int, int]:
        if len(parts) > 1:
            middle = len(parts) // 2
            first, second = parts[:middle], parts[middle:]
        else:
            (part,) = parts
            middle = len(part.inputs) // 2
            before, after = part.inputs[:middle], part.inputs[middle:]
            first = [Part(part.partition, before, part.start, part.end_offset)]
            second = [Part(part.partition, after, before[-1].record.offset + 1, part.end_offset)]
        # A partition to be rewound by the first half shows the same hole to the second.
        return {**await self._apply_parts(first), **await self._apply_parts(second)}

    def _decode(self, record: KafkaRecord, partition: int) -> _Input:
        item = _Input(record, partition)
        try:
            decoded = decode(
                record.key,
                record.headers,
                record.value,
                payloads=self._payloads,
                strict=self._agent.is_ingress,
            )
        except EnvelopeError as error:
            item.fault = error
        else:
            match decoded:
                case UnknownType(type=type_):
                    item.skipped = type_
                case Tombstone() if not self._agent.is_ingress and topic(self._agent.topic).compacted:
                    item.skipped = "tombstone"
                case Tombstone():
                    item.fault = InputRefusedError(
                        "tombstone", "", "an event without a value; publish the full state instead"
                    )
                case _:
                    item.event = Event.of(decoded, offset=record.offset)
        if item.event is not None:
            item.event_id = item.event.id
            item.key = item.event.key
            if self._agent.is_ingress:
                item.body = hashlib.sha256(record.value or b"").digest()
        else:
            item.event_id = uuid5(self._topic_id(), f"{partition}|{record.offset}")
            item.key = _readable_key(record.key)
        return item

    async def _transact(self, parts: Sequence[Part]) -> dict[int, int]:
        outcomes: dict[tuple[str, str], int] = {}
        rewinds: dict[int, int] = {}
        fresh: list[_Input] = []
        moved: dict[int, inbox.Position] = {}
        topic_id = self._topic_id()
        async with self._database.transaction_of(BatchTransaction, Cause.command()) as tx:
            positions = await inbox.lock_positions(
                tx, consumer=self._consumer, topic_id=topic_id, partitions={part.partition for part in parts}
            )
            for part in parts:
                position = positions.get(part.partition)
                if position is None or part.start > position:
                    rewinds[part.partition] = position or 0
                    continue
                for item in part.inputs:
                    if item.record.offset < position:
                        _count(outcomes, item, "duplicate")
                    else:
                        fresh.append(item)
                following = part.inputs[-1].record.offset + 1
                if following > position:
                    positions[part.partition] = following
                    moved[part.partition] = inbox.Position(following, at_end=following >= part.end_offset)
            if not fresh:
                return rewinds
            await self._apply_fresh(tx, fresh, outcomes=outcomes)
            await inbox.move_positions(tx, consumer=self._consumer, topic_id=topic_id, positions=moved)
        self._after_commit(fresh, outcomes)
        return rewinds

    async def _apply_fresh(
        self,
        tx: BatchTransaction,
        inputs: Sequence[_Input],
        *,
        outcomes: dict[tuple[str, str], int],
    ) -> None:
        blocked: set[str] = set()
        if not self._agent.is_ingress:
            keys = {item.key for item in inputs if item.event is not None or item.fault is not None}
            blocked = await inbox.parked_keys(tx, consumer=self._consumer, keys=list(keys))
        unseen = await self._unseen(tx, inputs, outcomes=outcomes)
        ready: list[_Input] = []
        for item in unseen:
            if item.fault is not None:
                await self._park(tx, item, state="poison", error=item.fault)
                _count(outcomes, item, "parked")
                if not self._agent.is_ingress:
                    blocked.add(item.key)
            elif item.key in blocked:
                await self._park(tx, item, state="behind", error=None)
                _count(outcomes, item, "parked")
            else:
                ready.append(item)
        current = await self._drop_stale(tx, ready, outcomes)
        if not current:
            return
        await self._agent.handle(tx, [item.event for item in current if item.event is not None])
        refused = tx.refused
        for item in current:
            if item.event_id in refused:
                _, error, state = refused[item.event_id]
                await self._park(tx, item, state=state, error=error)
                item.fault = error
                _count(outcomes, item, "parked")
            else:
                _count(outcomes, item, "applied")

    async def _unseen(
        self,
        tx: BatchTransaction,
        inputs: Sequence[_Input],
        *,
        outcomes: dict[tuple[str, str], int],
    ) -> list[_Input]:
        """Insert ids into the inbox; park the same id with another body, drop plain repeats."""
        first: dict[UUID, _Input] = {}
        repeats: list[_Input] = []
        for item in inputs:
            if item.skipped is not None:
                _count(outcomes, item, "skipped")
            elif item.event_id in first:
                repeats.append(item)
            else:
                first[item.event_id] = item
        if not first:
            return []
        fresh = await inbox.mark_seen(tx, consumer=self._consumer, bodies={i: item.body for i, item in first.items()})
        known = {i: item for i, item in first.items() if i not in fresh}
        contradicted = (
            await inbox.other_bodies(tx, consumer=self._consumer, bodies={i: item.body for i, item in known.items()})
            if known and self._agent.is_ingress
            else set()
        )
        for item in [*known.values(), *repeats]:
            original = first.get(item.event_id)
            if item.event_id in contradicted or (
                original is not None and original is not item and original.body != item.body
            ):
                error = InputRefusedError(
                    "event_id_reused",
                    "/id",
                    "an event with this source and id but another body was already received",
                )
                await self._park(tx, item, state="conflict", error=error)
                item.fault = error
                _count(outcomes, item, "parked")
            else:
                _count(outcomes, item, "duplicate")
        return [item for i, item in first.items() if i in fresh]

    async def _drop_stale(
        self, tx: BatchTransaction, inputs: Sequence[_Input], outcomes: dict[tuple[str, str], int]
    ) -> list[_Input]:
        """Drop events whose aggregate is already known at their version or a later one."""
        subjects = {
            (event.company, event.subject)
            for item in inputs
            if (event := item.event) is not None and event.sequence is not None and event.subject
        }
        if not subjects:
            return list(inputs)
        seen = await inbox.versions(tx, consumer=self._consumer, subjects=sorted(subjects))
        current: list[_Input] = []
        moved: dict[tuple[str, str], int] = {}
        jumps = 0
        for item in inputs:
            event = item.event
            if event is None or event.sequence is None or not event.subject:
                current.append(item)
                continue
            subject = (event.company, event.subject)
            last = seen.get(subject, 0)
            if event.sequence <= last:
                _count(outcomes, item, "stale")
                continue
            jumps += event.sequence > last + 1
            seen[subject] = moved[subject] = event.sequence
            current.append(item)
        if moved:
            await inbox.keep_versions(tx, consumer=self._consumer, seen=moved)
        # On a compacted topic a jump is what compaction leaves.
        if jumps and not topic(self._agent.topic).compacted:
            metrics.EVENTS_JUMPED.labels(topic=self._agent.topic).inc(jumps)
            logger().warning("versions jumped", topic=self._agent.topic, jumps=jumps)
        return current

    async def _park(
        self,
        tx: BatchTransaction,
        item: _Input,
        *,
        state: Literal["poison", "behind", "conflict"],
        error: Exception | None,
    ) -> None:
        result = await tx.execute(
            """
            INSERT INTO parked (consumer, key, event_id, topic, topic_id, partition, "offset", raw_key, raw_headers, raw_value,
                state, error_class, error_text, pointer)
            VALUES (:consumer, :key, :event_id, :topic, :topic_id, :partition, :offset, :raw_key,
                CAST(:raw_headers AS jsonb), :raw_value, :state, :error_class, :error_text, :pointer) RETURNING id
            """,
            {
                "consumer": self._consumer,
                "key": item.key,
                "event_id": item.event_id,
                "topic": self._agent.topic,
                "topic_id": self._topic_id(),
                "partition": item.partition,
                "offset": item.record.offset,
                "raw_key": item.record.key,
                "raw_headers": _headers_text(item.record.headers),
                "raw_value": item.record.value,
                "state": state,
                "error_class": None if error is None else refusal_code(error),
                "error_text": None if error is None else str(error)[:2000],
                "pointer": None if error is None else refusal_pointer(error),
            },
        )
        parked_id = result.scalar_one()
        if state == "poison" and not self._agent.is_ingress:
            await tx.execute(
                "INSERT INTO parked_key (consumer, key) VALUES (:consumer, :key) ON CONFLICT DO NOTHING",
                {"consumer": self._consumer, "key": item.key},
            )
        if error is not None:
            logger().warning(
                "event parked",
                topic=self._agent.topic,
                partition=item.partition,
                offset=item.record.offset,
                event_id=str(item.event_id),
                state=state,
                reason=refusal_code(error),
            )
        if self._agent.on_parked is not None and error is not None:
            company, customer = parties(item.key)
            await self._agent.on_parked(
                tx,
                ParkedInput(
                    parked_id=parked_id,
                    event_id=item.event_id,
                    event_type=_type_of(item),
                    topic=self._agent.topic,
                    company=company,
                    customer=customer,
                    code=refusal_code(error),
                    detail=str(error)[:500],
                    outcome="parked",
                    cause=Cause.event(item.event_id, correlation_id=None),
                ),
            )

    def _after_commit(self, inputs: Sequence[_Input], outcomes: dict[tuple[str, str], int]) -> None:
        self._progressed()
        for (event_type, outcome), count in outcomes.items():
            metrics.EVENTS_CONSUMED.labels(topic=self._agent.topic, event_type=event_type, outcome=outcome).inc(count)
            if outcome == "stale":
                metrics.EVENTS_STALE.labels(topic=self._agent.topic).inc(count)
            if outcome == "skipped":
                logger().warning("events skipped", topic=self._agent.topic, event_type=event_type, count=count)
        for item in inputs:
            if isinstance(item.fault, EnvelopeError) and item.fault.is_security_relevant:
                metrics.EVENTS_SUSPECT.labels(topic=self._agent.topic).inc()
                logger().error("company differs", topic=self._agent.topic, offset=item.record.offset)
            if item.skipped is None:
                self.breaker.note(poison=item.fault is not None)
        if not self._agent.is_ingress:
            age = metrics.EVENT_AGE.labels(topic=self._agent.topic)
            now = clock.utc_now()
            for item in inputs:
                if item.event is not None and item.event.time is not None:
                    age.observe(max(0.0, (now - item.event.time).total_seconds()))


def _count(outcomes: dict[tuple[str, str], int], item: _Input, outcome: str) -> None:
    counted = _type_of(item), outcome
    outcomes[counted] = outcomes.get(counted, 0) + 1


def _type_of(item: _Input) -> str:
    return item.event.type if item.event is not None else "unknown"


def _readable_key(key: bytes | None) -> str:
    try:
        return (key or b"-|-").decode()[:200].replace("\x00", "\N{REPLACEMENT CHARACTER}")
    except UnicodeDecodeError:
        return "-|-"


def _headers_text(headers: Sequence[tuple[str, bytes]]) -> str:
    return json.dumps(
        [
            [
                name,
                (value or b"").decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}"),
            ]
            for name, value in headers
        ]
    )
