"""What analytics' tests share: the events others tell, the way they come in, and a server in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

import httpx
import pytest
import uvicorn

from cobranza.analytics.agents import agents
from cobranza.analytics.api import router
from cobranza.chassis import http, inbox, migrations, page
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.streams.batch import BatchRunner, FetchedList
from cobranza.contracts import dunning, invoicing, notifications, payments
from cobranza.contracts.envelope import Envelope, encode
from cobranza.contracts.identifiers import EventId
from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import TOPIC_OF

NAMESPACE = UUID("6a1f0c54-59f4-4a5c-9a90-0d2f2a4dbb2a")
TODAY = date(2027, 1, 4)
WHERE = "cobranza.analytics:migrations"


def an_id(*name: object) -> UUID:
    return uuid5(NAMESPACE, repr(name))


def a_context(**parts: object) -> Any:
    """A context of those parts that a test needs."""
    return SimpleNamespace(**parts)


COMPANIES = """
companies:
  acme-mx:
    name: Acme Distribuciones, S.A. de C.V.
    tax_id: ADI010203AB1
    country: MX
    zone: America/Mexico_City
    currencies: [MXN, USD]
    contact: { name: Lucía Ortega, email: cobranza@acme.example }
    sender: { name: Acme Distribuciones, email: cobranza@acme.example }
  andes-cl:
    name: Comercial Andes SpA
    tax_id: 76.543.210-3
    country: CL
    zone: America/Santiago
    currencies: [CLP]
    contact: { name: Tomás Rivas, email: cobranzas@andes.example }
    sender: { name: Comercial Andes, email: cobranzas@andes.example }
"""


@pytest.fixture(scope="session")
def companies_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("companies") / "companies.yaml"
    file.write_text(COMPANIES, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def companies(companies_file: Path) -> Companies:
    return Companies.read(companies_file)


@dataclass(frozen=True)
class Event:
    """A payload as its service tells it: with the version of its aggregate."""

    data: Payload
    sequence: int

    @property
    def id(self) -> UUID:
        return an_id(self.data.TYPE, self.data.company, self.data.subject, self.sequence)


class Told:
    """Events as other services tell them; amounts are decimal texts."""

    def customer(
        self, code: str = "C-1", name: str = "Ferretería Núñez", *, revision: int = 1, **more: object
    ) -> Event:
        return self._event(
            invoicing.CustomerChanged, revision, customer=code, revision=revision, name=name,
            **{"country": "MX", "language": "es-MX", "zone": "America/Mexico_City", **more},
        )  # fmt: skip

    def invoice(
        self, number: str = "F-1", amount: str = "1160.00", *, issued_on: date = date(2026, 11, 1), sequence: int = 1,
        customer: str = "C-1", currency: str = "MXN", **more: object,
    ) -> Event:  # fmt: skip
        money = {"amount": amount, "currency": currency}
        return self._event(
            invoicing.InvoiceIssued, sequence, customer=customer, number=number, issued_on=issued_on, payable=money,
            instalments=[{"number": 1, "due_on": issued_on + timedelta(days=30), "amount": money}],
            invoice_id=an_id("invoice", number), external={"system": "erp", "id": number}, revision=1, **more,
        )  # fmt: skip

    def cancelled(self, number: str = "F-1", *, sequence: int = 2, **more: object) -> Event:
        return self._event(
            invoicing.InvoiceCancelled, sequence, customer="C-1", number=number, cancelled_on=TODAY,
            invoice_id=an_id("invoice", number), **more,
        )  # fmt: skip

    def credit_note(self, number: str | None = "NC-1", amount: str = "60.00", **more: object) -> Event:
        return self._event(
            invoicing.CreditNoteIssued, 1, customer="C-1", number=number, issued_on=TODAY, effective_on=TODAY,
            credit_note_id=an_id("credit note", number), external={"system": "erp", "id": str(number)},
            amount={"amount": amount, "currency": "MXN"}, **more,
        )  # fmt: skip

    def receivable(
        self, number: str = "F-1", *, version: int = 1, issued: str = "1160.00", allocated: str = "0.00",
        credited: str = "0.00", written_off: str = "0.00", issued_on: date = date(2026, 11, 1),
        due_on: date = date(2026, 12, 1), effective_on: date | None = None, recorded_on: date | None = None,
        customer: str = "C-1", currency: str = "MXN", **more: object,
    ) -> Event:  # fmt: skip
        rest = Decimal(issued) - Decimal(allocated) - Decimal(credited) - Decimal(written_off)
        effective_on = effective_on or issued_on
        return self._event(
            payments.ReceivableChanged, version, receivable_id=an_id("receivable", number), customer=customer,
            invoice_id=an_id("invoice", number), instalment=1, number=number, kind="invoice", currency=currency,
            issued_on=issued_on, due_on=due_on, issued=issued, allocated=allocated, credited=credited,
            written_off=written_off, open=str(rest), version=version, cause="payment-received",
            effective_on=effective_on, recorded_on=recorded_on or effective_on, **more,
        )  # fmt: skip

    def credit(
        self, unapplied: str, *, version: int = 1, effective_on: date = TODAY, customer: str | None = "C-1",
        currency: str = "MXN", **more: object,
    ) -> Event:  # fmt: skip
        return self._event(
            payments.CreditChanged, version, customer=customer, currency=currency, unapplied=unapplied,
            version=version, cause="payment-received", effective_on=effective_on, **more,
        )  # fmt: skip

    def payment(
        self, name: str = "P-1", amount: str = "500.00", *, value_on: date = TODAY, customer: str | None = "C-1",
        currency: str = "MXN", sequence: int = 1, **more: object,
    ) -> Event:  # fmt: skip
        return self._event(
            payments.PaymentReceived, sequence, payment_id=an_id("payment", name), customer=customer,
            external={"system": "bank", "id": name}, amount={"amount": amount, "currency": currency},
            value_on=value_on, booked_on=value_on, method="transfer", **more,
        )  # fmt: skip

    def reversal(
        self, name: str = "P-1", amount: str = "500.00", *, customer: str = "C-1", sequence: int = 2, **more: object
    ) -> Event:
        return self._event(
            payments.PaymentReversed, sequence, payment_id=an_id("payment", name), customer=customer,
            external={"system": "bank", "id": name}, amount={"amount": amount, "currency": "MXN"}, reason="returned",
            effective_on=TODAY, **more,
        )  # fmt: skip

    def case_opened(self, name: str = "case", *, customer: str = "C-1", currency: str = "MXN", **more: object) -> Event:
        return self._event(
            dunning.CaseOpened, 1, case_id=an_id(name), customer=customer, currency=currency,
            **{"opened_on": date(2026, 12, 6), **more},
        )  # fmt: skip

    def case_closed(self, name: str = "case", **more: object) -> Event:
        return self._event(
            dunning.CaseClosed, 2, case_id=an_id(name), customer="C-1", currency="MXN", outcome="paid",
            opened_on=date(2026, 12, 6), closed_on=TODAY, **more,
        )  # fmt: skip

    def hold_placed(self, **more: object) -> Event:
        return self._event(
            dunning.HoldPlaced, 1, customer="C-1", hold_id=an_id("hold"), scope="customer", reason="customer_request",
            placed_on=TODAY, by="lucia", **more,
        )  # fmt: skip

    def hold_released(self, **more: object) -> Event:
        return self._event(
            dunning.HoldReleased, 2, customer="C-1", hold_id=an_id("hold"), scope="customer",
            reason="customer_request", placed_on=TODAY, by="lucia", release_reason="released", released_on=TODAY,
            **more,
        )  # fmt: skip

    def notice_sent(
        self, name: str = "notice", *, customer: str = "C-1", claimed: str = "1160.00", currency: str = "MXN",
        **more: object,
    ) -> Event:  # fmt: skip
        return self._event(
            notifications.NoticeSent, 1, customer=customer, handed_at=datetime(2027, 1, 4, 12, tzinfo=UTC),
            outcome="known", claimed={"amount": claimed, "currency": currency},
            **{"sent_on": TODAY, **_notice(name), **more},
        )  # fmt: skip

    def notice_delivered(self, name: str = "notice", **more: object) -> Event:
        return self._event(
            notifications.NoticeDelivered, 2, customer="C-1", delivered_at=datetime(2027, 1, 4, 13, tzinfo=UTC),
            delivered_on=TODAY, claimed={"amount": "1160.00", "currency": "MXN"}, **_notice(name), **more,
        )  # fmt: skip

    def notice_failed(self, name: str = "notice", **more: object) -> Event:
        return self._event(
            notifications.NoticeFailed, 2, customer="C-1", reason="bounced", failed_on=TODAY, **_notice(name), **more
        )

    def notice_suppressed(self, name: str = "notice", *, customer: str = "C-1", **more: object) -> Event:
        return self._event(
            notifications.NoticeSuppressed, 1, customer=customer, reason="on_hold",
            **{"suppressed_on": TODAY, **_notice(name), **more},
        )  # fmt: skip

    def _event(self, payload: type[Payload], sequence: int, **values: object) -> Event:
        return Event(payload.model_validate({"company": "acme-mx", **values}), sequence)


def _notice(name: str) -> dict[str, object]:
    return {
        "notice_id": an_id("notice", name), "purpose": "dunning", "channel": "email", "case_id": an_id("case"),
        "step": "aviso-1", "run": 1, "delivery": "sandbox",
    }  # fmt: skip


@pytest.fixture(scope="session")
def told() -> Told:
    return Told()


@dataclass
class Analytics:
    """Analytics without Kafka: records in through the stream runtime, rows out."""

    database: Database
    runners: dict[str, BatchRunner]
    offsets: dict[str, int] = field(default_factory=dict)
    url: str = ""

    async def tell(self, *events: Event) -> None:
        """Deliver the events, one batch per topic, each in the given order."""
        by_topic: dict[str, list[Event]] = {}
        for event in events:
            by_topic.setdefault(TOPIC_OF[event.data.TYPE], []).append(event)
        for topic, batch in by_topic.items():
            await self._apply(topic, batch)

    async def _apply(self, topic: str, events: Iterable[Event]) -> None:
        start = self.offsets.get(topic, 0)
        records = []
        for offset, event in enumerate(events, start):
            record = encode(
                Envelope(
                    event_id=EventId(event.id),
                    source=f"/cobranza/{event.data.TYPE.split('.')[1]}",
                    time=datetime(2027, 1, 4, 12, tzinfo=UTC),
                    sequence=event.sequence,
                    correlation_id="c",
                    data=event.data,
                )
            )
            records.append(SimpleNamespace(offset=offset, key=record.key, value=record.value, headers=record.headers))
        self.offsets[topic] = end = start + len(records)
        fetched = FetchedList(records, partition=0, fetched_from=start, end_offset=end)
        assert await self.runners[topic].apply([await self.runners[topic].read(fetched)]) == {}

    async def query(self, statement: str, **parameters: object) -> list[SimpleNamespace]:
        async with self.database.transaction() as tx:
            rows = await tx.execute(statement, parameters)
            return [SimpleNamespace(**row._mapping) for row in rows]

    async def change(self, statement: str, **parameters: object) -> None:
        async with self.database.transaction() as tx:
            await tx.execute(statement, parameters)


@pytest.fixture
async def analytics(
    fresh_database: Any, business_clock: BusinessClock, companies: Companies
) -> AsyncIterator[Analytics]:
    urls = fresh_database("analytics", lambda url: migrations.upgrade(WHERE, url))
    database = Database(urls.app_url, service="analytics", clock=business_clock)
    runners = {
        agent.topic: BatchRunner(
            consumer="analytics", agent=agent, database=database, topic_id=partial(an_id, "topic", agent.topic)
        )
        for agent in agents(a_context(companies=companies))
    }
    async with database.transaction() as tx:
        for topic in runners:
            await inbox.start_positions(
                tx, consumer="analytics", topic=topic, topic_id=an_id("topic", topic), earliest={0: 0}
            )
        await tx.execute("UPDATE progress SET caught_up_at = clock_timestamp()")
    yield Analytics(database, runners, url=urls.app_url)
    await database.close()


@pytest.fixture
def application(analytics: Analytics, companies: Companies, business_clock: BusinessClock) -> Any:
    context = a_context(
        database=analytics.database,
        companies=companies,
        clock=business_clock,
        settings=SimpleNamespace(evaluation_hour=6),
    )
    frame = page.Frame(
        companies=companies,
        clock=business_clock,
        navigation=(
            page.Link(label="Today", href="/analytics/"),
            page.Link(label="Portfolio", href="/analytics/portfolio"),
        ),
    )
    return http.create_app({"analytics": router(context)}, access=http.LocalAccess(), frame=frame)


@pytest.fixture
async def client(application: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/analytics") as client:
        yield client


@pytest.fixture
async def address(application: Any, wait_until: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(application, host="127.0.0.1", port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
    )
    running = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/analytics"
    server.should_exit = True
    await running
