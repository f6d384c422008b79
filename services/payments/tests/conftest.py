"""A ledger to test against: the real database, fed as Kafka would feed it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import hypothesis
import pytest

from cobranza.chassis import inbox, migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies, CompanyProfile, Contact, Sender
from cobranza.chassis.database import Database
from cobranza.chassis.service import Context
from cobranza.chassis.streams.batch import BatchRunner, FetchedList
from cobranza.chassis.testing import FreshDatabase
from cobranza.chassis.testing.databases import DatabaseUrls
from cobranza.chassis.timers import Scheduler
from cobranza.contracts import dunning, identifiers, ingress, invoicing
from cobranza.contracts.envelope import Envelope, Record, encode, erp_event
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import External, Payload
from cobranza.contracts.topics import CATALOGUE, PAYLOADS, TOPIC_OF, topic
from cobranza.payments.agents import agents
from cobranza.payments.invariants import INVARIANTS
from cobranza.payments.scheduler import timers
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Charger, RuleKeeper
from cobranza.payments.use_cases.charge_rules import preset_document

ACME = "acme-mx"
FIFO = "fifo-mx"
FED = "fed-mx"
DAILY = "daily-mx"
MONTHLY = "monthly-mx"
ABROAD = "abroad-cl"
ANDES = "andes-cl"
THAMES = "thames-uk"
IBERIA = "iberia-es"
TOPIC_IDS = {entry.name: UUID(int=number) for number, entry in enumerate(CATALOGUE, 1)}

#: `make nightly`: hundreds of long runs of the ledger machine instead of a few.
hypothesis.settings.register_profile("nightly", max_examples=2000)


def migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.payments:migrations", owner_url)


def profile(company: str, **changes: Any) -> CompanyProfile:
    return CompanyProfile.model_validate(
        {
            "company": company,
            "name": company,
            "tax_id": "X",
            "country": "MX",
            "zone": ZoneInfo("America/Mexico_City"),
            "currencies": ("MXN", "USD"),
            "contact": Contact(name="A", email="a@example.test"),
            "sender": Sender(name="A", email="a@example.test"),
            **changes,
        }
    )


COMPANIES = Companies(
    {
        ACME: profile(ACME, approval_above={"MXN": {"waiver": "500.00", "write_off": "1000.00"}}),
        FIFO: profile(FIFO, fifo_auto=True),
        FED: profile(FED, cash_feed="watermark"),
        DAILY: profile(DAILY, control_totals="daily"),
        MONTHLY: profile(MONTHLY, fiscal_receipts="monthly"),
        ABROAD: profile(ABROAD, country="CL"),
        ANDES: profile(ANDES, country="CL", currencies=("CLP",), zone=ZoneInfo("America/Santiago")),
        IBERIA: profile(
            IBERIA,
            country="ES",
            currencies=("EUR",),
            tolerance={"EUR": {"amount": "1.00", "percent": "0.5"}},
            discount_grace_days=2,
        ),
        THAMES: profile(THAMES, country="GB", currencies=("GBP",), zone=ZoneInfo("Europe/London")),
    }
)


@dataclass
class KafkaRecord:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class Ledger:
    """Tells events to payments and reads what it made of them."""

    database: Database
    context: Context[PaymentsSettings]
    app_url: str
    owner_url: str
    expected_broken: set[str] = field(default_factory=set)
    _runners: dict[str, BatchRunner] = field(default_factory=dict)
    _offsets: dict[str, int] = field(default_factory=dict)
    _sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    _ids: int = 0

    def record(self, data: Payload, *, sequence: int | None = None) -> Record:
        """The event as its producer would write it; sequences and ids count by themselves."""
        self._ids += 1
        if topic(TOPIC_OF[data.TYPE]).is_ingress:
            return encode(erp_event(data, external_event_id=f"e-{self._ids}", system="sap"))
        if sequence is None:
            sequence = self._sequences.get((data.company, data.subject), 0) + 1
            self._sequences[data.company, data.subject] = sequence
        service = data.TYPE.split(".")[1]
        event_id = identifiers.event_id(
            cause=UUID(int=self._ids), service=service, type=data.TYPE, subject=data.subject
        )
        return encode(
            Envelope(
                event_id=event_id,
                source=f"/cobranza/{service}",
                data=data,
                correlation_id=str(event_id),
                sequence=sequence,
                time=datetime(2027, 1, 4, tzinfo=UTC),
            )
        )

    async def tell(self, *events: Payload) -> None:
        """Tell events one after the other, each in a batch of its own."""
        for event in events:
            await self.deliver(TOPIC_OF[event.TYPE], [self.record(event)])
            if isinstance(event, dunning.StepReached):
                # As the worker's job does within a second.
                await self.settle()

    async def tell_at_once(self, *events: Payload) -> None:
        """Tell events of one topic as one batch."""
        await self.deliver(TOPIC_OF[events[0].TYPE], [self.record(event) for event in events])

    async def deliver(self, topic_name: str, records: Sequence[Record]) -> None:
        """Deliver records of one topic as one batch."""
        runner = self._runners.get(topic_name)
        if runner is None:
            agent = next(agent for agent in agents(self.context) if agent.topic == topic_name)
            topic_id = TOPIC_IDS[topic_name]
            runner = self._runners[topic_name] = BatchRunner(
                consumer="payments", agent=agent, database=self.database, topic_id=lambda: topic_id
            )
            async with self.database.transaction() as tx:
                positions = await inbox.start_positions(
                    tx, consumer="payments", topic=topic_name, topic_id=topic_id, earliest={0: 0}
                )
            self._offsets[topic_name] = positions[0]
        start = self._offsets[topic_name]
        batch = [
            KafkaRecord(start + place, record.key, record.value, record.headers) for place, record in enumerate(records)
        ]
        self._offsets[topic_name] = start + len(batch)
        fetched = FetchedList(batch, partition=0, fetched_from=start, end_offset=start + len(batch))
        assert await runner.apply([await runner.read(fetched)]) == {}

    async def ring(self) -> None:
        """Work all timers that are due."""
        scheduler = Scheduler(self.database, timers(self.context), idle_seconds=0.01)
        while await scheduler.work_due():
            assert not await self.value("SELECT count(*) FROM timer WHERE state = 'claimed'"), "a timer failed"

    async def rows(self, sql: str, **parameters: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.execute(sql, parameters))

    async def value(self, sql: str, **parameters: Any) -> Any:
        return (await self.rows(sql, **parameters))[0][0]

    async def run(self, sql: str, **parameters: Any) -> None:
        async with self.database.transaction() as tx:
            await tx.execute(sql, parameters)

    async def open(self, number: str) -> int:
        """Open of the invoice, in minor units."""
        return int(await self.value("SELECT coalesce(sum(open), 0) FROM receivable WHERE number = :n", n=number))

    async def unapplied(self, customer: str, currency: str = "MXN") -> int:
        """Unapplied credit of the customer, in minor units."""
        return int(
            await self.value(
                "SELECT coalesce(sum(unapplied), 0) FROM credit WHERE customer = :c AND currency = :k",
                c=customer,
                k=currency,
            )
        )

    async def activate(self, preset: str, company: str = ACME) -> None:
        """Put a shipped version of late charge rules into force."""
        async with self.database.transaction() as tx:
            await RuleKeeper(self.context.companies).activate(
                tx, preset_document(preset), company=company, effective_from=date(2020, 1, 1), by="ana"
            )

    async def settle(self) -> None:
        """Run the job of late charges until nothing is left to do."""
        charger = Charger(self.database, self.context.companies)
        while await charger.run():
            pass

    async def charges(self) -> list[tuple[str, str, int, int]]:
        """Kind, number, amount and open of every late charge, in the order of their making."""
        rows = await self.rows(
            """
            SELECT l.kind, r.number, l.amount, r.open FROM late_charge l JOIN receivable r USING (company, receivable_id)
            ORDER BY l.assessed_on, l.kind, r.number
            """
        )
        return [tuple(row) for row in rows]

    async def parked(self) -> list[str]:
        return [row.error_class for row in await self.rows("SELECT error_class FROM parked ORDER BY id")]

    async def told(self, *types: type[Payload]) -> list[Any]:
        """The payloads told so far of these types, in order."""
        rows = await self.rows(
            "SELECT type, value FROM outbox WHERE type = ANY(CAST(:types AS text[])) ORDER BY seq",
            types=[type_.TYPE for type_ in types],
        )
        return [PAYLOADS[row.type].model_validate_json(row.value) for row in rows]

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """The business tables without the instants of booking."""
        return {name: [tuple(row) for row in await self.rows(sql)] for name, sql in _DUMPS.items()}

    async def broken(self) -> set[str]:
        found = set()
        for invariant in INVARIANTS:
            if await self.value(f"SELECT count(*) FROM ({invariant.sql}) AS broken"):  # noqa: S608 - our own
                found.add(invariant.name)
        return found

    async def caught_up(self) -> None:
        """As after an idle tick: dunning and invoicing were read to their ends just now."""
        for name in ("cobranza.dunning", "cobranza.invoicing"):
            await self.run(
                """
                INSERT INTO progress (consumer, topic_id, partition, topic, next_offset, caught_up_at)
                VALUES ('payments', :id, 0, :topic, 0, clock_timestamp())
                ON CONFLICT (consumer, topic_id, partition) DO UPDATE SET caught_up_at = clock_timestamp()
                """,
                id=TOPIC_IDS[name],
                topic=name,
            )


_DUMPS = {
    "receivable": "SELECT * FROM receivable ORDER BY receivable_id",
    "receipt": """SELECT receipt_id, customer, told_customer, kind, amount, allocated, refunded, reversed, value_on, reason,
        details, version FROM receipt ORDER BY receipt_id""",
    "credit": "SELECT * FROM credit WHERE version > 0 ORDER BY 1, 2, 3",
    "allocation": "SELECT receipt_id, receivable_id, amount, rule FROM allocation ORDER BY 1, 2, 3, 4",
    "journal": """SELECT e.kind, e.effective_on, l.account, l.receivable_id, l.receipt_id, l.amount
        FROM journal_entry e JOIN journal_line l USING (entry_id) ORDER BY 1, 2, 3, 4, 5, 6""",
    "stop": "SELECT * FROM stop ORDER BY 1, 2, 3, 4",
    "feed": "SELECT company, feed, through_on FROM cash_feed ORDER BY 1, 2",
    "input": "SELECT company, input_id, customer, waiting FROM input_parked ORDER BY 1, 2",
    "handed": "SELECT notice_id, attempt, handed_at FROM permit ORDER BY 1, 2",
    "outbox": "SELECT type, subject, sequence FROM outbox ORDER BY 1, 2, 3",
}


def open_ledger(urls: DatabaseUrls, clock: BusinessClock, companies: Companies) -> Ledger:
    database = Database(urls.app_url, service="payments", clock=clock, pool_size=10)
    settings = PaymentsSettings.model_validate(
        {"database_url": urls.app_url, "KAFKA_BOOTSTRAP": "127.0.0.1:1", "COBRANZA_COMPANIES": "companies.yaml"}
    )
    context = Context(service="payments", settings=settings, database=database, clock=clock, companies=companies)
    return Ledger(database, context, urls.app_url, urls.owner_url)


@pytest.fixture
async def ledger(fresh_database: FreshDatabase, business_clock: BusinessClock) -> AsyncIterator[Ledger]:
    """A ledger; whatever a test did to it, it must balance at the end."""
    made = open_ledger(fresh_database("payments", migrate), business_clock, COMPANIES)
    yield made
    broken = await made.broken()
    await made.database.close()
    assert broken == made.expected_broken


@pytest.fixture
def shared_ledger(fresh_database: FreshDatabase, business_clock: BusinessClock) -> Callable[[str], Ledger]:
    """Ledgers on one database, each for a company of its own; for machines that run their own loop."""
    urls = fresh_database("payments", migrate)
    return lambda company: open_ledger(urls, business_clock, Companies({company: profile(company)}))


def _money(amount: str | Money, currency: str = "MXN") -> Money:
    return amount if isinstance(amount, Money) else Money.of(amount, currency)


@dataclass(frozen=True)
class Make:
    """Events as ERPs, banks and invoicing state them, with only what matters said."""

    company: str = ACME
    customer: str = "C1"

    def of(self, **changes: str) -> Make:
        return replace(self, **changes)

    def invoice(
        self,
        number: str,
        *amounts: str,
        due_on: date = date(2027, 1, 11),
        currency: str = "MXN",
        kind: type[invoicing.InvoiceState] = invoicing.InvoiceIssued,
        **changes: Any,
    ) -> Any:
        parts = [
            invoicing.Instalment(number=place, due_on=date(due_on.year, due_on.month + place - 1, due_on.day), amount=m)
            for place, m in enumerate((_money(a, currency) for a in amounts or ("1000.00",)), 1)
        ]
        return kind(
            company=self.company,
            customer=self.customer,
            number=number,
            issued_on=date(2027, 1, 2),
            payable=sum((part.amount for part in parts), Money.zero(currency)),
            instalments=tuple(parts),
            invoice_id=self.invoice_id(number),
            external=External(system="sap", id=number),
            revision=1,
            **changes,
        )

    def invoice_id(self, number: str) -> Any:
        return identifiers.invoice_id(self.company, "sap", number)

    def receivable_id(self, number: str, instalment: int = 1) -> Any:
        return identifiers.receivable_id(self.invoice_id(number), instalment)

    def cancel(self, number: str, on: date = date(2027, 1, 20)) -> Any:
        return invoicing.InvoiceCancelled(
            company=self.company,
            invoice_id=self.invoice_id(number),
            customer=self.customer,
            number=number,
            cancelled_on=on,
        )

    def credit_note(self, id_: str, amount: str, *parts: tuple[str, str], currency: str = "MXN") -> Any:
        return invoicing.CreditNoteIssued(
            company=self.company,
            credit_note_id=identifiers.credit_note_id(self.company, "sap", id_),
            external=External(system="sap", id=id_),
            customer=self.customer,
            issued_on=date(2027, 1, 15),
            effective_on=date(2027, 1, 15),
            amount=_money(amount, currency),
            applies_to=tuple(
                invoicing.CreditedInvoice(invoice_id=self.invoice_id(number), amount=_money(part, currency))
                for number, part in parts
            ),
        )

    def payment(
        self,
        id_: str,
        amount: str,
        *references: str,
        currency: str = "MXN",
        remittance: Sequence[tuple[str, str]] = (),
        nobody: bool = False,
        value_on: date = date(2027, 1, 12),
        **changes: Any,
    ) -> Any:
        return ingress.PaymentReceived(
            company=self.company,
            external=External(system="sap", id=id_),
            customer=None if nobody else self.customer,
            amount=_money(amount, currency),
            value_on=value_on,
            references=references,
            remittance=tuple({"reference": r, "amount": _money(a, currency)} for r, a in remittance),
            **changes,
        )

    def step(
        self,
        *numbers: str,
        effect: str = "interest",
        on: date = date(2027, 2, 2),
        step: str = "requerimiento",
        run: int = 1,
        case: int = 1,
        currency: str = "MXN",
        **changes: Any,
    ) -> Any:
        terms = changes.pop("terms", None)
        return dunning.StepReached(
            company=self.company,
            case_id=UUID(int=case),
            customer=self.customer,
            currency=currency,
            step=step,
            run=run,
            position=3,
            kind="effect" if effect == "fee" else "notice",
            receivable_ids=tuple(self.receivable_id(number) for number in numbers),
            policy={"id": "mx-b2b", "version": 7},
            decision_id=UUID(int=9),
            effect=effect,
            fee="gestion" if effect == "fee" else None,
            fee_terms=None if terms is None else dunning.FeeTerms.model_validate(terms),
            reached_on=on,
            **changes,
        )

    def reversal(self, id_: str, on: date = date(2027, 1, 22), **changes: Any) -> Any:
        return ingress.PaymentReversed(
            company=self.company,
            external=External(system="sap", id=id_),
            customer=self.customer,
            reversed_on=on,
            **changes,
        )


@pytest.fixture
def make() -> Make:
    return Make()
