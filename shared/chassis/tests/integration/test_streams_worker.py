"""The Faust worker on a real broker: batches arrive, a lost list is healed, compaction is no alarm."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import toy_service as toy
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from cobranza.chassis import metrics
from cobranza.chassis.database import Database
from cobranza.chassis.ids import new_id
from cobranza.chassis.streams import Agent
from cobranza.chassis.streams.transport import Consumer
from cobranza.chassis.streams.worker import StreamWorker
from cobranza.contracts.envelope import Envelope, encode
from cobranza.contracts.identifiers import EventId
from cobranza.contracts.invoicing import CustomerChanged

CUSTOMERS = "cobranza.customers"


@pytest.fixture
async def db(fresh_database: Callable[..., Any]) -> AsyncIterator[Database]:
    database = toy.database(fresh_database("dunning", toy.migrate).app_url)
    yield database
    await database.close()


@pytest.fixture
async def start(db: Database, clean_topics: str) -> AsyncIterator[Callable[[Agent], Any]]:
    """Starts workers and stops them whatever the test does."""
    started: list[StreamWorker] = []

    async def begin(agent: Agent) -> StreamWorker:
        worker = StreamWorker(service="dunning", agents=[agent], database=db, kafka_bootstrap=clean_topics)
        started.append(worker)
        await worker.start()
        return worker

    yield begin
    for worker in started:
        await worker.stop()


def _send(bootstrap: str, numbers: range, *, sequence: int = 1) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    for number in numbers:
        record = encode(toy.told(number, customer=f"C{number % 50}", sequence=sequence))
        producer.send(toy.TOPIC, key=record.key, value=record.value, headers=list(record.headers))
    producer.flush()
    producer.close()


def _count(name: str, topic: str) -> float:
    return float(metrics.CHASSIS.counter(name).labels(topic=topic)._value.get())


async def test_a_worker_applies_all_and_a_deliberate_hole_is_healed_by_a_seek(
    db: Database, clean_topics: str, start: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(_send, clean_topics, range(1000))
    dropped: list[int] = []
    deliver = Consumer._deliver

    async def lose_one_list(self: Any, tp: Any, part: Any, last: Any, fetcher: Any, generation: int) -> None:
        if tp.partition == 2 and not dropped:
            dropped.append(len(part))
            return
        await deliver(self, tp, part, last, fetcher, generation)

    monkeypatch.setattr(Consumer, "_deliver", lose_one_list)
    before = _count("position_rewinds_total", toy.TOPIC)
    ledger = toy.Ledger()
    await start(ledger.agent())

    async def first_lists_in() -> bool:
        return bool(dropped) and await toy.rows(db, "SELECT count(*) > 500 FROM balance") == [(True,)]

    await wait_until(first_lists_in, timeout=40)
    # A later list of the partition uncovers the hole.
    await asyncio.to_thread(_send, clean_topics, range(1000, 1200))

    async def all_in() -> bool:
        return await toy.rows(db, "SELECT count(*), max(times) FROM balance") == [(1200, 1)]

    await wait_until(all_in, timeout=40)
    assert dropped
    assert _count("position_rewinds_total", toy.TOPIC) > before
    assert await toy.rows(db, "SELECT count(*) FROM parked") == [(0,)]


async def test_a_restarted_worker_continues_where_the_database_says(
    db: Database, clean_topics: str, start: Any, wait_until: Any
) -> None:
    ledger = toy.Ledger()
    first = await start(ledger.agent())
    await asyncio.to_thread(_send, clean_topics, range(100))

    async def hundred() -> bool:
        return await toy.rows(db, "SELECT count(*) FROM balance") == [(100,)]

    await wait_until(hundred, timeout=40)
    await first.stop()
    await asyncio.to_thread(_send, clean_topics, range(100, 150))

    async def more() -> bool:
        return await toy.rows(db, "SELECT count(*), max(times) FROM balance") == [(150, 1)]

    await start(ledger.agent())
    await wait_until(more, timeout=40)


async def test_a_stopped_consumer_waits_for_an_operator(
    db: Database, clean_topics: str, start: Any, wait_until: Any
) -> None:
    async def ignore(_tx: Any, _events: Any) -> None:
        return

    await start(Agent(toy.TOPIC, ignore))

    def flood() -> None:
        producer = KafkaProducer(bootstrap_servers=clean_topics)
        for _ in range(60):
            producer.send(toy.TOPIC, key=b"acme-mx|X", value=b"{", headers=[])
        producer.flush()
        producer.close()

    await asyncio.to_thread(flood)

    async def stopped() -> bool:
        return await toy.rows(db, "SELECT count(*) FROM consumer_stop") == [(1,)]

    await wait_until(stopped, timeout=40)
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM consumer_stop")
    await asyncio.to_thread(_send, clean_topics, range(5))

    async def resumed() -> bool:
        return await toy.rows(
            db, "SELECT count(*) FROM inbox i WHERE event_id NOT IN (SELECT event_id FROM parked)"
        ) == [(5,)]

    await wait_until(resumed, timeout=40)


def _customer(number: int, *, sequence: int) -> Any:
    told = CustomerChanged(
        company="acme-mx",
        customer=f"C{number}",
        revision=sequence,
        name=f"Customer {number} as of {sequence}",
        country="MX",
        language="es-MX",
        zone="America/Mexico_City",
    )
    return encode(
        Envelope(
            event_id=EventId(new_id()),
            source="/cobranza/invoicing",
            correlation_id="test",
            time=datetime(2027, 1, 4, 12, tzinfo=UTC),
            sequence=sequence,
            data=told,
        )
    )


def _make_compactable(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    settings = {
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "1000",
    }
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, CUSTOMERS, settings)])
    admin.close()


def _left(bootstrap: str) -> list[int]:
    """Offsets that are still on the compacted topic, all partitions together."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=800)
    partitions = [TopicPartition(CUSTOMERS, number) for number in range(6)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    offsets = [record.offset for record in consumer]
    consumer.close()
    return offsets


async def test_a_compacted_topic_is_read_from_its_beginning_without_alarm_or_endless_seek(
    db: Database, clean_topics: str, start: Any, wait_until: Any
) -> None:
    def publish() -> None:
        _make_compactable(clean_topics)
        producer = KafkaProducer(bootstrap_servers=clean_topics)
        for sequence in range(1, 41):
            for number in range(12):
                record = _customer(number, sequence=sequence)
                producer.send(CUSTOMERS, key=record.key, value=record.value, headers=list(record.headers))
            producer.flush()
            # A segment is closed by its age, so that the cleaner may take it.
            threading.Event().wait(0.02)
        producer.close()

    await asyncio.to_thread(publish)

    async def compacted() -> bool:
        return len(await asyncio.to_thread(_left, clean_topics)) < 300

    await wait_until(compacted, timeout=90)
    rewinds, jumps = _count("position_rewinds_total", CUSTOMERS), _count("events_jumped_total", CUSTOMERS)
    seen: dict[str, int] = {}

    async def keep(_tx: Any, events: Any) -> None:
        for event in events:
            seen[event.data.customer] = event.sequence

    await start(Agent(CUSTOMERS, keep))

    async def all_read() -> bool:
        return seen == {f"C{number}": 40 for number in range(12)}

    await wait_until(all_read, timeout=40)

    assert _count("position_rewinds_total", CUSTOMERS) == rewinds
    assert _count("events_jumped_total", CUSTOMERS) == jumps
    assert await toy.rows(db, "SELECT count(*) FROM parked") == [(0,)]
