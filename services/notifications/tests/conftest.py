"""What notifications' tests share: the events others tell, a ledger that answers, a mail server that counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

import pytest
from aiosmtpd.smtp import SMTP

from cobranza.chassis import migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.streams import BatchTransaction, Event
from cobranza.contracts.dunning import HoldPlaced, NoticeRequested
from cobranza.contracts.envelope import Envelope
from cobranza.contracts.identifiers import EventId
from cobranza.contracts.invoicing import CustomerChanged, InvoiceIssued
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Payload
from cobranza.contracts.payments import (
    NoticePermitAnswer,
    NoticePermitRequest,
    PaymentReceived,
    PermitLine,
    PermitRefusal,
)
from cobranza.notifications.gateways.letters import Letters
from cobranza.notifications.gateways.mail import Server, SmtpMail
from cobranza.notifications.gateways.permits import PermitUnavailableError
from cobranza.notifications.use_cases.intake import Intake
from cobranza.notifications.use_cases.outcomes import Outcomes
from cobranza.notifications.use_cases.sending import MailServers, Sender

NAMESPACE = UUID("5c1b0c54-59f4-4a5c-9a90-0d2f2a4dbb2a")
NOON = datetime(2027, 1, 4, 12, tzinfo=UTC)
TODAY = date(2027, 1, 4)


def an_id(name: object) -> UUID:
    return uuid5(NAMESPACE, str(name))


COMPANIES = """
companies:
  acme-mx:
    name: Acme Distribuciones, S.A. de C.V.
    tax_id: ADI010203AB1
    country: MX
    zone: America/Mexico_City
    currencies: [MXN, USD]
    languages: [es-MX, en]
    delivery: sandbox
    payment_instructions:
      - { currency: MXN, bank: Banco del Centro, holder: Acme, account: "CLABE 012180001234567899" }
    contact: { name: Lucía Ortega, email: cobranza@acme.example, phone: "+52 55 5555 0101" }
    sender: { name: Acme Distribuciones, email: cobranza@acme.example }
  live-us:
    name: Example Receivables Inc.
    tax_id: "00-0000000"
    country: US
    zone: UTC
    currencies: [USD]
    languages: [en]
    delivery: live
    contact: { name: Alex Morgan, email: receivables@example.test }
    sender: { name: Example Receivables, email: receivables@example.test }
"""


@pytest.fixture(scope="session")
def companies_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("companies") / "companies.yaml"
    file.write_text(COMPANIES, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def companies(companies_file: Path) -> Companies:
    return Companies.read(companies_file)


class Told:
    """Events as other services tell them."""

    def __init__(self) -> None:
        self.count = 0

    def event(self, data: Payload, *, name: object = None, sequence: int = 1) -> Event:
        self.count += 1
        return Event.of(
            Envelope(
                event_id=EventId(an_id(name or ("event", self.count))),
                source="/cobranza/test",
                time=NOON,
                sequence=sequence,
                correlation_id="correlation-1",
                data=data,
            ),
            offset=self.count,
        )

    def customer(self, **changes: object) -> CustomerChanged:
        return CustomerChanged.model_validate(
            {
                "company": "acme-mx",
                "customer": "C-1",
                "revision": 1,
                "name": "Ferretería Núñez",
                "country": "MX",
                "language": "es-MX",
                "zone": "America/Mexico_City",
                "contacts": [
                    {"name": "Ana Ruiz", "role": "accounts_payable", "channel": "email", "value": "ana@nunez.example"}
                ],
                **changes,
            }
        )

    def invoice(self, number: str = "F-1", **changes: object) -> InvoiceIssued:
        amount = {"amount": "1160.00", "currency": "MXN"}
        return InvoiceIssued.model_validate(
            {
                "company": "acme-mx",
                "customer": "C-1",
                "number": number,
                "issued_on": date(2026, 12, 1),
                "payable": amount,
                "instalments": [{"number": 1, "due_on": date(2026, 12, 31), "amount": amount}],
                "concept": "Material eléctrico",
                "fiscal_id": "A1B2",
                "invoice_id": an_id(number),
                "external": {"system": "erp", "id": number},
                "revision": 1,
                **changes,
            }
        )

    def requested(
        self, *, run: int = 1, lines: tuple[str, ...] = ("F-1",), listed: tuple[str, ...] = (), **changes: object
    ) -> NoticeRequested:
        return NoticeRequested.model_validate(
            {
                "company": "acme-mx",
                "case_id": an_id("case"),
                "step": "aviso-1",
                "run": run,
                "purpose": "dunning",
                "customer": "C-1",
                "currency": "MXN",
                "lines": [
                    *({"receivable_id": an_id(("receivable", line)), "step": "aviso-1"} for line in lines),
                    *({"receivable_id": an_id(("receivable", line))} for line in listed),
                ],
                "channel_plan": [{"channel": "email", "role": "main"}],
                "template": "aviso-1",
                "tone": "friendly",
                "language": "es-MX",
                "policy": {"id": "house", "version": 1},
                "decision_id": an_id("decision"),
                "expires_at": NOON + timedelta(days=2),
                **changes,
            }
        )

    def hold(self) -> HoldPlaced:
        return HoldPlaced.model_validate(
            {
                "company": "acme-mx",
                "customer": "C-1",
                "hold_id": an_id("hold"),
                "scope": "customer",
                "reason": "customer_request",
                "placed_on": TODAY,
                "by": "lucia",
            }
        )

    def payment(self, **changes: object) -> PaymentReceived:
        return PaymentReceived.model_validate(
            {
                "company": "acme-mx",
                "customer": "C-1",
                "payment_id": an_id("payment"),
                "external": {"system": "bank", "id": "P-1"},
                "amount": {"amount": "1160.00", "currency": "MXN"},
                "value_on": TODAY,
                "booked_on": TODAY,
                "method": "transfer",
                "references": ["F-1"],
                **changes,
            }
        )

    def permit_line(self, number: str = "F-1", **changes: object) -> PermitLine:
        return PermitLine.model_validate(
            {
                "currency": "MXN",
                "receivable_id": an_id(("receivable", number)),
                "invoice_id": an_id(number),
                "instalment": 1,
                "number": number,
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
                **changes,
            }
        )


@pytest.fixture(scope="session")
def told() -> Told:
    return Told()


class Ledger:
    """Grants permits from a few facts, as payments does: the same question gets the same answer."""

    def __init__(self, told: Told) -> None:
        self.lines = {line.receivable_id: line for line in (told.permit_line("F-1"), told.permit_line("F-2"))}
        self.refused: dict[UUID, str] = {}
        self.credit = Money.zero("MXN")
        self.ttl_seconds = 15
        self.is_away = False
        self.asked: list[NoticePermitRequest] = []
        self._answers: dict[tuple[UUID, int], NoticePermitAnswer] = {}

    def refuse(self, number: str, reason: str) -> None:
        self.refused[an_id(("receivable", number))] = reason

    async def ask(self, request: NoticePermitRequest) -> NoticePermitAnswer:
        if self.is_away:
            raise PermitUnavailableError("payments does not answer")
        self.asked.append(request)
        return self._answers.setdefault((request.notice_id, request.attempt), self._answer(request))

    def _answer(self, request: NoticePermitRequest) -> NoticePermitAnswer:
        refusals = tuple(
            PermitRefusal(reason=self.refused.get(wanted, "unknown_receivable"), receivable_id=wanted)
            for wanted in request.receivable_ids
            if wanted in self.refused or wanted not in self.lines
        )
        lines = tuple(
            self.lines[wanted]
            for wanted in request.receivable_ids
            if wanted in self.lines and wanted not in self.refused
        )
        common = {"notice_id": request.notice_id, "attempt": request.attempt, "asked_at": NOON, "refusals": refusals}
        if not lines:
            return NoticePermitAnswer.model_validate({**common, "granted": False})
        claimed = Money.from_minor(sum(line.minor("claimable") for line in lines), lines[0].currency) - self.credit
        return NoticePermitAnswer.model_validate(
            {
                **common,
                "granted": True,
                "expires_at": NOON + timedelta(seconds=self.ttl_seconds),
                "ttl_seconds": self.ttl_seconds,
                "lines": lines,
                "credit": self.credit,
                "claimed": claimed,
            }
        )


@pytest.fixture
def ledger(told: Told) -> Ledger:
    return Ledger(told)


@dataclass
class Sink:
    """A real SMTP server that counts every message it takes, and fails as a test says."""

    taken: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    data_reply: str = "250 taken"
    rcpt_reply: str = "250 OK"
    before_reply: Callable[[], object] | None = None
    drops_before_reply: bool = False
    port: int = 0

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: Any, _options: Any) -> Any:  # noqa: N802
        if self.rcpt_reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt_reply

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> Any:  # noqa: N802
        if self.data_reply.startswith("250"):
            message = BytesParser(EmailMessage, policy=policy.default).parsebytes(envelope.content)
            assert isinstance(message, EmailMessage)
            self.taken.append(message)
            self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        if self.drops_before_reply:
            server.transport.abort()
        return self.data_reply


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    handler = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, hostname="sink.test", loop=loop), "127.0.0.1", 0)
    handler.port = server.sockets[0].getsockname()[1]
    yield handler
    server.close()


@pytest.fixture
async def database(fresh_database: Any, business_clock: BusinessClock) -> AsyncIterator[Database]:
    urls = fresh_database("notifications", lambda url: migrations.upgrade("cobranza.notifications:migrations", url))
    database = Database(urls.app_url, service="notifications", clock=business_clock, pool_size=8)
    yield database
    await database.close()


@dataclass
class Service:
    """Notifications without Kafka: events in, turns of the sender, rows and events out."""

    database: Database
    intake: Intake
    outcomes: Outcomes
    sender: Sender

    async def tell(self, *events: Event) -> None:
        handlers = {
            "customer-changed": self.intake.customers,
            "invoice-issued": self.intake.invoices,
            "payment-received": self.intake.payments,
            "cash-watermark": self.intake.payments,
        }
        for event in events:
            handle = handlers.get(event.type.split(".")[2], self.intake.dunning)
            async with self.database.transaction_of(BatchTransaction, event.cause) as tx:
                await handle(tx, [event])

    async def query(self, statement: str, **parameters: object) -> list[SimpleNamespace]:
        async with self.database.transaction() as tx:
            rows = await tx.execute(statement, parameters)
            return [SimpleNamespace(**row._mapping) for row in rows]

    async def change(self, statement: str, **parameters: object) -> None:
        async with self.database.transaction() as tx:
            await tx.execute(statement, parameters)

    async def notice(self) -> SimpleNamespace:
        (row,) = await self.query("SELECT * FROM notice")
        return row

    async def published(self) -> list[SimpleNamespace]:
        rows = await self.query(
            "SELECT type, sequence, convert_from(value, 'UTF8')::jsonb AS data FROM outbox ORDER BY seq"
        )
        return [SimpleNamespace(**{**vars(row), "type": row.type.split(".")[2]}) for row in rows]


@pytest.fixture
def service(database: Database, companies: Companies, ledger: Ledger, sink: Sink) -> Service:
    outcomes = Outcomes(database, companies, 6)
    server = Server("127.0.0.1", sink.port)
    return Service(
        database=database,
        intake=Intake(companies, 6),
        outcomes=outcomes,
        sender=Sender(
            database=database,
            outcomes=outcomes,
            permits=ledger,
            mail=SmtpMail(),
            letters=Letters(),
            servers=MailServers(server, server),
        ),
    )


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parent / "golden"
