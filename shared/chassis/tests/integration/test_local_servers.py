"""The real broker and the real database keep what they acknowledged when they are killed."""

import asyncio
import os
import signal

import asyncpg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from cobranza.chassis.testing import FreshDatabase
from cobranza.chassis.testing.parts import Parts
from cobranza.chassis.testing.waiting import WaitUntil
from cobranza.contracts.topics import CATALOGUE


def _migrate(owner_url: str) -> None:
    async def migrate() -> None:
        owner = await asyncpg.connect(owner_url)
        await owner.execute("CREATE TABLE note (body text)")
        await owner.execute("GRANT SELECT, INSERT ON note TO invoicing_app")
        await owner.close()

    asyncio.run(migrate())


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def test_broker_killed_after_every_topic_was_written_returns_every_record(
    clean_topics: str, local_parts: Parts, wait_until: WaitUntil
) -> None:
    topics = [entry.name for entry in CATALOGUE]
    producer = KafkaProducer(bootstrap_servers=clean_topics, acks="all")
    for topic in topics:
        producer.send(topic, key=b"acme|c1", value=topic.encode(), partition=0).get(timeout=30)
    producer.close()

    first = local_parts.pid("kafka")
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: local_parts.pid("kafka") != first, timeout=30)
    await asyncio.to_thread(local_parts.wait_until_ready, "kafka")

    consumer = KafkaConsumer(bootstrap_servers=clean_topics, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0) for topic in topics])
    found: set[bytes] = set()
    for _ in range(30):
        batches = await asyncio.to_thread(consumer.poll, timeout_ms=1000)
        found |= {record.value for batch in batches.values() for record in batch}
        if len(found) == len(topics):
            break
    consumer.close()
    assert found == {topic.encode() for topic in topics}


async def test_database_killed_after_a_commit_returns_the_row(
    fresh_database: FreshDatabase, local_parts: Parts, wait_until: WaitUntil
) -> None:
    urls = fresh_database("invoicing", _migrate)
    app = await asyncpg.connect(urls.app_url)
    await app.execute("INSERT INTO note VALUES ('kept')")
    await app.close()

    first = local_parts.pid("postgres")
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: local_parts.pid("postgres") != first, timeout=30)
    await wait_until(lambda: _answers(urls.app_url), timeout=30)

    app = await asyncpg.connect(urls.app_url)
    assert await app.fetchval("SELECT body FROM note") == "kept"
    await app.close()


async def test_each_fresh_database_is_a_clean_copy_of_the_migrated_one(
    fresh_database: FreshDatabase,
) -> None:
    one = await asyncpg.connect(fresh_database("invoicing", _migrate).app_url)
    other = await asyncpg.connect(fresh_database("invoicing", _migrate).app_url)

    await one.execute("INSERT INTO note VALUES ('mine')")

    assert await other.fetchval("SELECT count(*) FROM note") == 0
    await one.close()
    await other.close()


async def test_the_database_lower_cases_spanish_letters(postgres: str) -> None:
    admin = await asyncpg.connect(postgres)

    assert await admin.fetchval("SELECT lower('PEÑA')") == "peña"

    await admin.close()
