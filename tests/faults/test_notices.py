"""Row 5: the sender killed at each arrow of permit, intent, hand-over and mark; no debtor gets a mail twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import date, timedelta
from email.parser import BytesParser
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import pytest
import uvicorn
from aiosmtpd.smtp import SMTP
from fastapi import FastAPI

from cobranza.chassis import clock, migrations, settings
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.streams import BatchTransaction, Event
from cobranza.contracts.dunning import NoticeRequested
from cobranza.contracts.envelope import Envelope
from cobranza.contracts.identifiers import EventId
from cobranza.contracts.invoicing import CustomerChanged
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Payload
from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest
from cobranza.notifications.use_cases.intake import Intake

NOTICES = 3
LEASE_IS_OVER = "UPDATE notice SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_until IS NOT NULL"
NAMESPACE = UUID("2f1be3a8-30b5-45a5-b1a8-6d0c2e5a9e44")
COMPANIES = """
companies:
  acme-mx:
    name: Acme Distribuciones, S.A. de C.V.
    tax_id: ADI010203AB1
    country: MX
    zone: America/Mexico_City
    currencies: [MXN]
    languages: [es-MX]
    delivery: sandbox
    contact: { name: Lucía Ortega, email: cobranza@acme.example }
    sender: { name: Acme Distribuciones, email: cobranza@acme.example }
"""
# The worker as it is run, killed at the first arrival at the point it is told; without its agents,
# so that a process started again does not wait for the group to forget the killed one.
WORKER = """
import asyncio, dataclasses, os, signal, sys
from cobranza.chassis import worker
from cobranza.notifications.__main__ import SERVICE
from cobranza.notifications.gateways import mail
from cobranza.notifications.gateways.permits import HttpPermits
from cobranza.notifications.use_cases.outcomes import Outcomes

def die_at(owner, name):
    original = getattr(owner, name)
    async def dead(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, dead)

points = {
    "before the permit": (HttpPermits, "ask"),
    "before the intent": (mail._SmtpConnection, "address"),
    "before the hand-over": (mail._SmtpConnection, "deliver"),
    "before the mark": (Outcomes, "sent"),
}
if sys.argv[1] in points:
    die_at(*points[sys.argv[1]])
asyncio.run(worker.run(dataclasses.replace(SERVICE, agents=lambda _: ())))
"""


def _id(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


class Counting:
    """An SMTP server that counts what it takes by Message-ID."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.port = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.taken[str(BytesParser().parsebytes(envelope.content)["Message-ID"])] += 1
        return "250 taken"


@pytest.fixture
async def smtp() -> AsyncIterator[Counting]:
    counting = Counting()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(counting, hostname="sink.test", loop=loop), "127.0.0.1", 0)
    counting.port = server.sockets[0].getsockname()[1]
    yield counting
    server.close()


@pytest.fixture
async def payments_url(wait_until: Any) -> AsyncIterator[str]:
    app = FastAPI()

    @app.post("/payments/v1/notice-permits")
    async def grant(request: NoticePermitRequest) -> NoticePermitAnswer:
        return NoticePermitAnswer.model_validate(
            {
                "notice_id": request.notice_id,
                "attempt": request.attempt,
                "asked_at": clock.utc_now(),
                "granted": True,
                "expires_at": clock.utc_now() + timedelta(seconds=15),
                "ttl_seconds": 15,
                "credit": Money.zero("MXN"),
                "claimed": Money.of("1160.00", "MXN"),
                "refusals": [],
                "lines": [
                    {
                        "currency": "MXN",
                        "receivable_id": receivable_id,
                        "invoice_id": _id("invoice"),
                        "instalment": 1,
                        "number": "F-1",
                        "kind": "invoice",
                        "issued_on": date(2026, 12, 1),
                        "due_on": date(2026, 12, 31),
                        "issued": "1160.00",
                        "open": "1160.00",
                        "disputed": "0.00",
                        "promised": "0.00",
                        "planned": "0.00",
                        "claimable": "1160.00",
                        "version": 1,
                    }
                    for receivable_id in request.receivable_ids
                ],
            }
        )

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none"))
    running = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


def _told(data: Payload, name: str) -> Event:
    envelope = Envelope(
        event_id=EventId(_id(name)),
        source="/cobranza/test",
        time=clock.utc_now(),
        sequence=1,
        correlation_id="faults",
        data=data,
    )
    return Event.of(envelope, offset=0)


async def _ask_for_notices(url: str, companies: Companies) -> None:
    database = Database(url, service="notifications", clock=BusinessClock())
    intake = Intake(companies, 6)
    customer = CustomerChanged.model_validate(
        {
            "company": "acme-mx", "customer": "C-1", "revision": 1, "name": "Ferretería Núñez", "country": "MX",
            "language": "es-MX", "zone": "America/Mexico_City",
            "contacts": [
                {"name": "Ana Ruiz", "role": "accounts_payable", "channel": "email", "value": "ana@nunez.example"}
            ],
        }
    )  # fmt: skip
    requests = [
        NoticeRequested.model_validate(
            {
                "company": "acme-mx", "case_id": _id("case"), "step": "aviso-1", "run": run, "purpose": "dunning",
                "customer": "C-1", "currency": "MXN",
                "lines": [{"receivable_id": _id("receivable"), "step": "aviso-1"}],
                "channel_plan": [{"channel": "email", "role": "main"}], "template": "aviso-1", "tone": "friendly",
                "language": "es-MX", "policy": {"id": "house", "version": 1}, "decision_id": _id("decision"),
                "expires_at": clock.utc_now() + timedelta(days=2),
            }
        )
        for run in range(1, NOTICES + 1)
    ]  # fmt: skip
    for handle, events in (
        (intake.customers, [_told(customer, "customer")]),
        (intake.dunning, [_told(request, f"request {request.run}") for request in requests]),
    ):
        async with database.transaction_of(BatchTransaction, events[0].cause) as tx:
            await handle(tx, events)
    await database.close()


@pytest.mark.parametrize("point", ["before the permit", "before the intent", "before the hand-over", "before the mark"])
async def test_5_a_sender_killed_at_any_step_never_sends_a_notice_twice(
    fresh_database: Any,
    kafka_bootstrap: str,
    smtp: Counting,
    payments_url: str,
    tmp_path: Any,
    wait_until: Any,
    point: str,
) -> None:
    urls = fresh_database("notifications", lambda url: migrations.upgrade("cobranza.notifications:migrations", url))
    companies = tmp_path / "companies.yaml"
    companies.write_text(COMPANIES, encoding="utf-8")
    await _ask_for_notices(urls.app_url, Companies.read(companies))
    environment = {
        **settings.environment(),
        "NOTIFICATIONS_DATABASE_URL": urls.app_url,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "COBRANZA_COMPANIES": str(companies),
        "PAYMENTS_URL": payments_url,
        "COBRANZA_SMTP_PORT": str(smtp.port),
    }
    database = await asyncpg.connect(urls.owner_url)

    async def states() -> list[str]:
        return [row["state"] for row in await database.fetch("SELECT state FROM notice")]

    async def settled() -> bool:
        return set(await states()) <= {"sent", "unknown"}

    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, point, env=environment)
    died_with = await asyncio.wait_for(killed.wait(), 30)
    taken_before = dict(smtp.taken)
    await database.execute(LEASE_IS_OVER)
    again = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, "nowhere", env=environment)
    try:
        await wait_until(settled, timeout=30)
        ended = await states()
    finally:
        again.terminate()
        await again.wait()
        await database.close()

    assert died_with == -signal.SIGKILL
    assert ("unknown" in ended) == (point in {"before the hand-over", "before the mark"})
    assert all(times == 1 for times in smtp.taken.values())
    assert ended.count("sent") <= len(smtp.taken) <= NOTICES
    assert bool(taken_before) == (point == "before the mark")
