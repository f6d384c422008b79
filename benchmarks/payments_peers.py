"""The programs that are compared: each reads the topic from the start and applies it until it is stopped.

python payments_peers.py worker|by-hand|stock-faust|kafka-python
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final
from uuid import UUID

import asyncpg
import uvloop
from payments_by_hand import Input, apply
from payments_workload import TOPIC

from cobranza.chassis import ids, logs, topics_admin
from cobranza.contracts.topics import topic

BOOTSTRAP: Final = os.environ["KAFKA_BOOTSTRAP"]  # noqa: TID251 - a program of its own
DATABASE: Final = os.environ["PAYMENTS_DATABASE_URL"]  # noqa: TID251
MOST: Final = 1000


async def worker() -> None:
    """Payments' agents in the stream runtime, without relay and timers."""
    from cobranza.chassis.streams.worker import StreamWorker  # noqa: PLC0415 - each peer loads its own libraries
    from cobranza.payments.__main__ import SERVICE  # noqa: PLC0415

    context = SERVICE.context(notifies=False)
    logs.configure(service="payments", role="worker", level="warning")
    streams = StreamWorker(
        service="payments", agents=SERVICE.agents(context), database=context.database, kafka_bootstrap=BOOTSTRAP
    )
    await streams.start()
    await asyncio.Event().wait()


async def by_hand() -> None:
    """Plain aiokafka and asyncpg: a partition's fetched list is one transaction, as in the worker."""
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415

    connection, topic_id, partitions = await _prepared()
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, number) for number in partitions])
    while True:
        for records in (await consumer.getmany(timeout_ms=500, max_records=MOST)).values():
            await apply(connection, topic_id, [Input(r.partition, r.offset, r.value) for r in records])


async def stock_faust() -> None:
    """A Faust agent as its documentation writes one; its place is Kafka's to keep."""
    import faust  # noqa: PLC0415

    connection, topic_id, _ = await _prepared()
    app: Any = faust.App(
        f"stock-{ids.new_id()}",
        broker=[f"aiokafka://{address}" for address in BOOTSTRAP.split(",")],
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_max_poll_records=MOST,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        datadir="stock-faust",
    )
    source = app.topic(TOPIC, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def consume(stream: Any) -> None:
        async for events in stream.take_events(MOST, within=0.1):
            told = [Input(e.message.partition, e.message.offset, e.value) for e in events]
            await apply(connection, topic_id, told)

    app.agent(source)(consume)
    await app.start()
    await asyncio.Event().wait()


async def kafka_python() -> None:
    """kafka-python's blocking consumer beside asyncpg."""
    from kafka import KafkaConsumer, TopicPartition  # noqa: PLC0415

    connection, topic_id, partitions = await _prepared()
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(TOPIC, number) for number in partitions])
    while True:
        for records in consumer.poll(timeout_ms=500, max_records=MOST).values():
            await apply(connection, topic_id, [Input(r.partition, r.offset, r.value) for r in records])


async def _prepared() -> tuple[Any, UUID, list[int]]:
    """A connection, the topic's id and the partitions, with a position for each."""
    connection = await asyncpg.connect(DATABASE)
    topic_id = (await asyncio.to_thread(topics_admin.topic_ids, BOOTSTRAP, [TOPIC]))[TOPIC]
    partitions = list(range(topic(TOPIC).partitions))
    await connection.execute(
        """INSERT INTO progress (consumer, topic_id, partition, topic, next_offset)
        SELECT 'payments', $1, p, $2, 0 FROM unnest($3::int[]) AS t(p) ON CONFLICT DO NOTHING""",
        *(topic_id, TOPIC, partitions),
    )
    return connection, topic_id, partitions


PEERS: Final = {"worker": worker, "by-hand": by_hand, "stock-faust": stock_faust, "kafka-python": kafka_python}

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(PEERS[sys.argv[1]]())
