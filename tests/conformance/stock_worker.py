"""A stock Faust agent that writes the same effects without a position row: the thing compared with."""

from __future__ import annotations

import os
import tempfile
from typing import Any
from uuid import UUID

import asyncpg
import faust

BOOTSTRAP = os.environ["KAFKA_BOOTSTRAP"]
app: Any = faust.App(
    "stock",
    broker=[f"aiokafka://{address}" for address in BOOTSTRAP.split(",")],
    web_enabled=False,
    key_serializer="raw",
    value_serializer="raw",
    topic_allow_declare=False,
    topic_disable_leader=True,
    broker_session_timeout=15,
    broker_heartbeat_interval=3,
    broker_rebalance_timeout=30,
    broker_commit_interval=1.0,
    broker_max_poll_records=1000,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    datadir=tempfile.mkdtemp(prefix="cobranza-stock-"),
)
topic = app.topic("cobranza.payments", key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


@app.agent(topic)
async def apply(stream: Any) -> None:
    pool = await asyncpg.create_pool(os.environ["TOY_DATABASE_URL"], min_size=1, max_size=2)
    async for events in stream.take_events(1000, within=0.1):
        rows = []
        for event in events:
            headers = dict(event.headers or {})
            number = _number(event.value)
            if number is not None and "ce_id" in headers:
                rows.append((UUID(headers["ce_id"].decode()), event.key.decode().partition("|")[2], number))
        if rows:
            await pool.executemany("INSERT INTO effect (event_id, customer, place) VALUES ($1, $2, $3)", rows)


def _number(value: bytes | None) -> int | None:
    found = (value or b"").partition(b'"number":"')[2].partition(b'"')[0]
    return int(found) if found.isdigit() else None


if __name__ == "__main__":
    app.main()
