"""The relay on a real broker and database: order, one at a time, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import toy_service as toy
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from cobranza.chassis import topics_admin
from cobranza.chassis.database import Database
from cobranza.chassis.outbox import Cause
from cobranza.chassis.relay import Relay, partition_of


@pytest.fixture
async def urls(fresh_database: Callable[..., Any]) -> Any:
    return fresh_database("dunning", toy.migrate)


@pytest.fixture
async def db(urls: Any) -> AsyncIterator[Database]:
    database = toy.database(urls.app_url)
    yield database
    await database.close()


def _read(bootstrap: str, starts: dict[tuple[str, int], int]) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, consumer_timeout_ms=1500)
    partitions = [TopicPartition(topic, number) for topic, number in starts]
    consumer.assign(partitions)
    for tp in partitions:
        consumer.seek(tp, starts[tp.topic, tp.partition])
    try:
        return list(consumer)
    finally:
        consumer.close()


async def _publish(db: Database, numbers: range, *, sequence: int = 1) -> None:
    async with db.transaction(Cause.command()) as tx:
        for number in numbers:
            tx.publish(toy.told(number, customer=f"C{number % 7}").data, sequence=sequence)


async def test_rows_reach_the_topic_once_in_order_and_are_marked(
    db: Database, urls: Any, clean_topics: str, wait_until: Any
) -> None:
    starts = await asyncio.to_thread(topics_admin.end_offsets, clean_topics, [toy.TOPIC])
    relays = [Relay(database_url=urls.app_url, kafka_bootstrap=clean_topics, service="dunning") for _ in range(2)]
    running = [asyncio.create_task(relay.run()) for relay in relays]

    for sequence in (1, 2, 3):
        await _publish(db, range(200), sequence=sequence)

    async def all_sent() -> bool:
        return await toy.rows(db, "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [(0,)]

    await wait_until(all_sent, timeout=20)
    holders = sum(relay.holds_lock for relay in relays)
    for relay in relays:
        relay.stop()
    await asyncio.gather(*running)
    records = await asyncio.to_thread(_read, clean_topics, starts)

    assert holders == 1
    assert len(records) == 600
    by_key: dict[bytes, list[int]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(int(dict(record.headers)["ce_sequence"]))
        assert record.partition == partition_of(record.key, 6)
    assert all(sequences == sorted(sequences) for sequences in by_key.values())


async def test_a_relay_without_a_broker_keeps_the_rows_and_sends_them_later(
    db: Database, urls: Any, clean_topics: str, wait_until: Any
) -> None:
    await _publish(db, range(3))
    lost = Relay(database_url=urls.app_url, kafka_bootstrap="127.0.0.1:9", service="dunning")
    task = asyncio.create_task(lost.run())

    async def interrupted() -> bool:
        return lost._failures > 0

    await wait_until(interrupted, timeout=20)
    lost.stop()
    await task
    assert await toy.rows(db, "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [(3,)]

    relay = Relay(database_url=urls.app_url, kafka_bootstrap=clean_topics, service="dunning")
    task = asyncio.create_task(relay.run())

    async def all_sent() -> bool:
        return await toy.rows(db, "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [(0,)]

    await wait_until(all_sent, timeout=20)
    relay.stop()
    await task


async def test_a_forgotten_version_bump_is_an_error_and_not_a_reorder(db: Database) -> None:
    await _publish(db, range(1), sequence=1)

    with pytest.raises(Exception, match="unique"):
        await _publish(db, range(1), sequence=1)


async def test_every_documented_client_puts_a_key_on_the_same_partition(clean_topics: str) -> None:
    keys = [f"acme-mx|C-{number}".encode() for number in range(40)]

    def by_kafka_python() -> list[int]:
        producer = KafkaProducer(bootstrap_servers=clean_topics)
        sent = [producer.send(toy.TOPIC, key=key, value=b"{}") for key in keys]
        places = [one.get(timeout=30).partition for one in sent]
        producer.close()
        return places

    async def by_aiokafka() -> list[int]:
        async with AIOKafkaProducer(bootstrap_servers=clean_topics) as producer:
            return [(await producer.send_and_wait(toy.TOPIC, key=key, value=b"{}")).partition for key in keys]

    ours = [partition_of(key, 6) for key in keys]

    assert await asyncio.to_thread(by_kafka_python) == ours
    assert await by_aiokafka() == ours
    assert len(set(ours)) == 6
