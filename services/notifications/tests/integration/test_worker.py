"""The worker as it is run: an event on a real broker becomes a mail, and the mail an event."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from fastapi import FastAPI

from cobranza.chassis import migrations, settings
from cobranza.contracts.envelope import Envelope, decode, encode
from cobranza.contracts.notifications import NoticeSent
from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest

# As the `cobranza` command runs it, without loading every other service.
WORKER = """
import asyncio
from cobranza.chassis import worker
from cobranza.notifications.__main__ import SERVICE
asyncio.run(worker.run(SERVICE))
"""


@pytest.fixture
async def payments_url(ledger: Any, wait_until: Any) -> Any:
    app = FastAPI()

    @app.post("/payments/v1/notice-permits")
    async def ask(request: NoticePermitRequest) -> NoticePermitAnswer:
        return cast(NoticePermitAnswer, await ledger.ask(request))

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none"))
    running = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def _first(consumer: AIOKafkaConsumer, kind: bytes) -> Any:
    """The first record of a type; the worker also tells its templates."""
    async for record in consumer:
        if kind in dict(record.headers)["ce_type"]:
            return record
    raise AssertionError


async def test_a_request_on_the_broker_becomes_a_mail_and_an_event(
    fresh_database: Any,
    clean_topics: Any,
    business_clock: Any,
    payments_url: Any,
    companies_file: Any,
    sink: Any,
    told: Any,
    tmp_path: Any,
    wait_until: Any,
) -> None:
    urls = fresh_database("notifications", lambda url: migrations.upgrade("cobranza.notifications:migrations", url))
    environment = {
        **settings.environment(),
        "NOTIFICATIONS_DATABASE_URL": urls.app_url,
        "KAFKA_BOOTSTRAP": clean_topics,
        "COBRANZA_COMPANIES": str(companies_file),
        "COBRANZA_CLOCK_FILE": str(tmp_path / "business-clock"),
        "COBRANZA_ALLOW_VIRTUAL_CLOCK": "true",
        "PAYMENTS_URL": payments_url,
        "COBRANZA_SMTP_PORT": str(sink.port),
    }
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, env=environment)
    try:
        async with AIOKafkaProducer(bootstrap_servers=clean_topics) as producer:
            # The request comes first: its customer is on another topic.
            for topic, payload, service in (
                ("cobranza.dunning", told.requested(), "dunning"),
                ("cobranza.customers", told.customer(), "invoicing"),
            ):
                event = told.event(payload)
                record = encode(
                    Envelope(
                        event_id=event.id,
                        source=f"/cobranza/{service}",
                        time=event.time,
                        sequence=1,
                        correlation_id="correlation-1",
                        data=payload,
                    )
                )
                await producer.send_and_wait(topic, record.value, key=record.key, headers=list(record.headers))
        async with AIOKafkaConsumer(
            "cobranza.notifications", bootstrap_servers=clean_topics, auto_offset_reset="earliest"
        ) as consumer:
            told_of = await asyncio.wait_for(_first(consumer, b"notice-sent"), 60)
    finally:
        worker.terminate()
        stopped = await asyncio.wait_for(worker.wait(), 30)

    sent = decode(told_of.key, told_of.headers, told_of.value, strict=True)
    assert isinstance(sent, Envelope)
    assert isinstance(sent.data, NoticeSent)
    assert sent.correlation_id == "correlation-1"
    assert [mail["To"] for mail in sink.taken] == ["Ana Ruiz <ana@nunez.example>"]
    assert stopped == 0
