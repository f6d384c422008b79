"""A dunning database with one company, played through the stream runtime without a broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from cobranza.chassis import ids, migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Database
from cobranza.chassis.inbox import start_positions
from cobranza.chassis.service import Context, Service
from cobranza.chassis.streams.batch import BatchRunner, FetchedList
from cobranza.chassis.timers import Scheduler
from cobranza.contracts import envelope, identifiers, invoicing, notifications, payments
from cobranza.contracts.payloads import Payload
from cobranza.dunning import gateways
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import policies, tasks
from cobranza.dunning.use_cases.evaluation import Desk

PROFILE = {
    "company": "acme-mx",
    "name": "Acme",
    "tax_id": "ADI010203AB1",
    "country": "MX",
    "zone": "America/Mexico_City",
    "currencies": ["MXN", "USD"],
    "contact": {"name": "Lucía", "email": "cobranza@acme.example"},
    "sender": {"name": "Acme", "email": "cobranza@acme.example"},
}
_TOPIC_ID = UUID(int=7)


@dataclass
class Dunning:
    """The service under test, with an ERP's and the other services' voices."""

    context: Context[DunningSettings]
    clock: BusinessClock
    service: Service[DunningSettings]
    offsets: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        return self.context.database

    @property
    def desk(self) -> Desk:
        return Desk(self.context.companies, self.context.settings.evaluation_hour)

    async def activate_file(self, name: str) -> None:
        """Put a policy of the tests' data into force."""
        await self.activate(str(Path(__file__).parents[1] / "data" / name))

    async def activate(self, preset: str = "friendly-b2b", company: str = "acme-mx") -> None:
        document, faults = gateways.parse(gateways.read_source(preset))
        assert not faults
        async with self.database.transaction() as tx:
            for policy, _ in await policies.load_policy(self.desk, tx, document, company=company):
                await policies.activate_policy(self.desk, tx, company=company, policy=policy.policy, version=None)

    def event(self, payload: Payload, *, sequence: int | None = None) -> envelope.Record:
        key = f"{payload.partition_key}|{payload.subject}"
        if sequence is None:
            sequence = self.versions.get(key, 0) + 1
            self.versions[key] = sequence
        return envelope.encode(
            envelope.Envelope(
                event_id=identifiers.EventId(ids.new_id()),
                source=f"/cobranza/{payload.TYPE.split('.')[1]}",
                time=datetime(2027, 1, 1, tzinfo=UTC),
                sequence=sequence,
                correlation_id=str(ids.new_id()),
                data=payload,
            )
        )

    async def deliver(self, *records: envelope.Record, topic: str = "cobranza.payments") -> None:
        agent = next(agent for agent in self.service.agents(self.context) if agent.topic == topic)
        runner = BatchRunner(
            consumer="dunning", agent=agent, database=self.database, topic_id=lambda: _topic_id(topic), pause=_no_pause
        )
        start = self.offsets.get(topic, 0)
        if start == 0:
            async with self.database.transaction() as tx:
                await start_positions(tx, consumer="dunning", topic=topic, topic_id=_topic_id(topic), earliest={0: 0})
        batch = [
            SimpleNamespace(offset=start + place, key=record.key, value=record.value, headers=record.headers)
            for place, record in enumerate(records)
        ]
        self.offsets[topic] = start + len(batch)
        fetched = FetchedList(batch, partition=0, fetched_from=start, end_offset=start + len(batch))
        assert await runner.apply([await runner.read(fetched)]) == {}

    async def tell(self, *payloads: Payload, topic: str = "cobranza.payments") -> None:
        await self.deliver(*(self.event(payload) for payload in payloads), topic=topic)

    async def at(self, day: str, hour: int = 12) -> None:
        """Move the business clock to a local hour of 2027 and work every timer that is due."""
        local = datetime.combine(date.fromisoformat(f"2027-{day}"), datetime.min.time(), UTC) + timedelta(
            hours=hour + 6
        )
        self.clock.set(local)
        await self.work_timers()

    async def work_timers(self) -> None:
        scheduler = Scheduler(self.database, self.service.timers(self.context), idle_seconds=0.01)
        for _ in range(100):
            if not await scheduler.work_due():
                return
        raise AssertionError("the timers never come to rest")

    async def told(self, kind: str = "") -> list[dict[str, Any]]:
        """What dunning published, in order: the data with `type`."""
        rows = await self.rows("SELECT type, value FROM outbox ORDER BY seq")
        return [
            {"type": row.type.split(".")[2], **json.loads(bytes(row.value))}
            for row in rows
            if row.type.startswith(f"cobranza.dunning.{kind}")
        ]

    async def rows(self, sql: str, **parameters: Any) -> Sequence[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.execute(sql, parameters))

    async def broken(self) -> dict[str, int]:
        """Invariants that are broken now."""
        found = {}
        for invariant in self.service.invariants:
            count = len(await self.rows(invariant.sql))
            if count:
                found[invariant.name] = count
        return found

    async def sent(self, request: dict[str, Any], day: str, *, granted: Sequence[str] | None = None) -> None:
        lines = granted if granted is not None else [line["receivable_id"] for line in request["lines"]]
        await self.tell(
            notifications.NoticeSent.model_validate(
                {
                    **_notice(request),
                    "attempt": 1,
                    "lines": [
                        {
                            "receivable_id": line,
                            "open": {"amount": "1.00", "currency": request["currency"]},
                            "claimed": {"amount": "1.00", "currency": request["currency"]},
                        }
                        for line in lines
                    ],
                    "handed_at": "2027-01-14T18:00:00Z",
                    "sent_on": f"2027-{day}",
                    "outcome": "known",
                }
            ),
            topic="cobranza.notifications",
        )

    async def complete(self, task: dict[str, Any], disposition: str) -> None:
        async with self.database.transaction() as tx:
            await tasks.complete_task(
                self.desk,
                tx,
                company=task["company"],
                task_id=UUID(task["task_id"]),
                disposition=disposition,
                receptivity=None,
                by="Lucía",
            )

    async def delivered(self, request: dict[str, Any], day: str) -> None:
        at = {"delivered_at": f"2027-{day}T18:00:00Z", "delivered_on": f"2027-{day}"}
        await self.tell(
            notifications.NoticeDelivered.model_validate({**_notice(request), **at}), topic="cobranza.notifications"
        )

    async def customer(self, customer: str) -> None:
        """A business customer of the standard segment."""
        told = {
            "company": "acme-mx", "customer": customer, "revision": 1, "name": "Uno", "country": "MX",
            "language": "es-MX", "zone": "America/Mexico_City", "segment": "standard", "protected_party": "business",
        }  # fmt: skip
        await self.tell(invoicing.CustomerChanged.model_validate(told), topic="cobranza.customers")

    async def suppressed(self, request: dict[str, Any], day: str, reason: str = "no_address") -> None:
        await self.tell(
            notifications.NoticeSuppressed.model_validate(
                {**_notice(request), "reason": reason, "suppressed_on": f"2027-{day}"}
            ),
            topic="cobranza.notifications",
        )

    @staticmethod
    def receivable(
        number: str,
        due_on: str,
        *,
        open: str = "58000.00",  # noqa: A002
        issued: str = "58000.00",
        customer: str = "C-1",
        currency: str = "MXN",
        cause: str = "invoice-issued",
        company: str = "acme-mx",
        on: str = "2026-12-11",
    ) -> payments.ReceivableChanged:
        """A balance as payments tells it."""
        invoice_id = identifiers.invoice_id(company, "erp", number)
        paid = Decimal(issued) - Decimal(open)
        return payments.ReceivableChanged.model_validate(
            {
                "company": company,
                "receivable_id": identifiers.receivable_id(invoice_id, 1),
                "invoice_id": invoice_id,
                "instalment": 1,
                "customer": customer,
                "number": number,
                "kind": "invoice",
                "currency": currency,
                "issued_on": "2026-12-11",
                "due_on": f"2027-{due_on}",
                "issued": issued,
                "allocated": format(paid, "f"),
                "credited": "0.00",
                "written_off": "0.00",
                "open": open,
                "version": 1,
                "cause": cause,
                "effective_on": on,
                "recorded_on": on,
            }
        )

    @staticmethod
    def credit(unapplied: str, *, customer: str = "C-1", currency: str = "MXN") -> payments.CreditChanged:
        """A customer's unapplied credit as payments tells it."""
        return payments.CreditChanged.model_validate(
            {
                "company": "acme-mx",
                "customer": customer,
                "currency": currency,
                "unapplied": unapplied,
                "version": 1,
                "cause": "payment-received",
                "effective_on": "2027-01-13",
            }
        )


def _notice(request: dict[str, Any]) -> dict[str, Any]:
    case_id = UUID(request["case_id"])
    return {
        "company": request["company"],
        "notice_id": identifiers.notice_id(
            company=request["company"], case_id=case_id, step=request["step"], run=request["run"], channel="email"
        ),
        "customer": request["customer"],
        "purpose": request["purpose"],
        "channel": "email",
        "case_id": case_id,
        "step": request["step"],
        "run": request["run"],
        "delivery": "sandbox",
    }


def _topic_id(topic: str) -> UUID:
    return identifiers.event_id(cause=_TOPIC_ID, service="test", type=topic, subject="topic")


async def _no_pause(_seconds: float) -> None:
    return


def _service() -> Service[DunningSettings]:
    # Imported late: the Kafka client's deprecations are forgiven only while tests run.
    from cobranza.dunning.__main__ import SERVICE

    return SERVICE


def _migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.dunning:migrations", owner_url)


@pytest.fixture
def profile_changes() -> dict[str, Any]:
    """What a test changes of the company's profile."""
    return {}


def context_on(urls: Any, clock: BusinessClock, profile_changes: dict[str, Any]) -> Context[DunningSettings]:
    """The service's context on a database; close its database after use."""
    settings = DunningSettings.model_validate(
        {
            "database_url": urls.app_url,
            "owner_database_url": urls.owner_url,
            "kafka_bootstrap": "127.0.0.1:1",
            "companies_file": "unused",
        }
    )
    return Context(
        service="dunning",
        settings=settings,
        database=Database(urls.app_url, service="dunning", clock=clock),
        clock=clock,
        companies=Companies({"acme-mx": CompanyProfile.model_validate({**PROFILE, **profile_changes})}),
    )


@pytest.fixture
async def service(
    fresh_database: Any, business_clock: BusinessClock, profile_changes: dict[str, Any]
) -> AsyncIterator[Dunning]:
    """The service on a fresh database, the clock at Monday 2027-01-04 noon UTC."""
    context = context_on(fresh_database("dunning", _migrate), business_clock, profile_changes)
    yield Dunning(context, business_clock, _service())
    await context.database.close()


@pytest.fixture
def services(fresh_database: Any, business_clock: BusinessClock) -> Callable[..., AbstractAsyncContextManager[Dunning]]:
    """Makes the service on a database of its own, as often as asked; for tests that run their own loops."""

    @asynccontextmanager
    async def made(**profile_changes: Any) -> AsyncIterator[Dunning]:
        context = context_on(fresh_database("dunning", _migrate), business_clock, profile_changes)
        try:
            yield Dunning(context, business_clock, _service())
        finally:
            await context.database.close()

    return made
