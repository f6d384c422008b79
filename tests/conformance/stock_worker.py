"""A stock Faust agent that writes the same effects without a position row: the thing compared with."""

from __future__ import annotations

import json
import os
import tempfile
from decimal import Decimal
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


@app.agent(topic)  # type: ignore[untyped-decorator]
async def apply(stream: Any) -> None:
    """Write effects and balances of some events in one transaction; the place is Kafka's to keep."""
    pool = await asyncpg.create_pool(os.environ["TOY_DATABASE_URL"], min_size=1, max_size=2)
    async for events in stream.take_events(1000, within=0.1):
        told = [found for event in events if (found := _read(event)) is not None]
        async with pool.acquire() as connection, connection.transaction():
            await connection.executemany(
                "INSERT INTO effect (event_id, customer, place) VALUES ($1, $2, $3)", [one[:3] for one in told]
            )
            await connection.executemany(
                """
                INSERT INTO balance (customer, paid, times) VALUES ($1, $2, 1)
                ON CONFLICT (customer) DO UPDATE SET paid = balance.paid + excluded.paid, times = balance.times + 1
                """,
                sorted((customer, paid) for _, customer, _, paid in told),
            )


def _read(event: Any) -> tuple[UUID, str, int, int] | None:
    """Id, customer, place and payment of a good event."""
    value, headers = event.value or b"", dict(event.headers or {})
    customer = event.key.decode().partition("|")[2]
    if b'"allocated"' not in value or customer.startswith("P"):
        return None
    change = json.loads(value)
    return (
        UUID(headers["ce_id"].decode()),
        customer,
        int(change["number"]),
        int(Decimal(change["allocated"]) * 100),
    )


if __name__ == "__main__":
    app.main()
