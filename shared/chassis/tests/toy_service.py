"""A toy service for the plumbing's own tests: it keeps balances of receivables it is told of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from cobranza.chassis import plumbing
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.database import Database, driver_url
from cobranza.chassis.streams import Agent, BatchTransaction, Event
from cobranza.contracts import identifiers
from cobranza.contracts.envelope import Envelope, encode
from cobranza.contracts.payments import ReceivableChanged

TOPIC = "cobranza.payments"
TOPIC_ID = UUID("11111111-2222-4333-8444-555555555555")
NAMESPACE = UUID("99999999-2222-4333-8444-555555555555")


async def _make(owner_url: str) -> None:
    engine = create_async_engine(driver_url(owner_url))
    async with engine.begin() as connection:

        def run(synchronous: object) -> None:
            plumbing.create(_Op(synchronous), app_role="dunning_app")

        await connection.run_sync(run)
        await connection.execute(
            text(
                "CREATE TABLE balance (receivable_id uuid PRIMARY KEY, open bigint NOT NULL CHECK (open >= 0), times int)"
            )
        )
        await connection.execute(text("GRANT ALL ON balance TO dunning_app"))
    await engine.dispose()


class _Op:
    def __init__(self, connection: object) -> None:
        self._connection = connection

    def execute(self, sqltext: str) -> None:
        self._connection.execute(text(sqltext))  # type: ignore[attr-defined]


def migrate(owner_url: str) -> None:
    import asyncio

    asyncio.run(_make(owner_url))


@dataclass(frozen=True)
class FakeRecord:
    """A Kafka record as the runtime reads it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def told(number: int, *, customer: str = "C1", sequence: int = 1, open_minor: int = 100) -> Envelope[ReceivableChanged]:
    receivable_id = identifiers.ReceivableId(uuid5(NAMESPACE, str(number)))
    open_amount = Decimal(open_minor) / 100
    return Envelope(
        event_id=identifiers.EventId(uuid5(NAMESPACE, f"event {number} {sequence}")),
        source="/cobranza/payments",
        correlation_id="test",
        time=datetime(2027, 1, 4, 12, tzinfo=UTC),
        sequence=sequence,
        data=ReceivableChanged(
            company="acme-mx",
            customer=customer,
            receivable_id=receivable_id,
            number=f"F-{number}",
            kind="invoice",
            invoice_id=identifiers.InvoiceId(uuid5(NAMESPACE, f"invoice {number}")),
            instalment=1,
            currency="MXN",
            issued_on=date(2027, 1, 1),
            due_on=date(2027, 1, 31),
            issued=Decimal("1000.00"),
            allocated=Decimal("1000.00") - open_amount,
            credited=Decimal("0.00"),
            written_off=Decimal("0.00"),
            open=open_amount,
            version=sequence,
            cause="issued",
            effective_on=date(2027, 1, 1),
            recorded_on=date(2027, 1, 1),
        ),
    )


def record(offset: int, envelope: Envelope[ReceivableChanged]) -> FakeRecord:
    encoded = encode(envelope)
    return FakeRecord(offset, encoded.key, encoded.value, encoded.headers)


@dataclass
class Ledger:
    """The toy's handler, with faults that a test can plant."""

    fail_for: dict[str, Exception] = field(default_factory=dict)
    fail_once: list[Exception] = field(default_factory=list)
    seen: list[list[str]] = field(default_factory=list)

    async def handle(self, tx: BatchTransaction, events: Sequence[Event]) -> None:
        self.seen.append([str(event.id) for event in events])
        for event in events:
            change = event.data
            assert isinstance(change, ReceivableChanged)
            await tx.execute(
                """
                INSERT INTO balance (receivable_id, open, times) VALUES (:id, :open, 1)
                ON CONFLICT (receivable_id) DO UPDATE SET open = excluded.open, times = balance.times + 1
                """,
                {"id": change.receivable_id, "open": change.open_minor},
            )
            if self.fail_once:
                raise self.fail_once.pop()
            if change.number in self.fail_for:
                raise self.fail_for[change.number]

    def agent(self) -> Agent:
        return Agent(TOPIC, self.handle)


def database(url: str, clock: BusinessClock | None = None) -> Database:
    return Database(url, service="dunning", clock=clock or BusinessClock(), pool_size=4)


async def rows(db: Database, sql: str, **parameters: object) -> list[tuple[object, ...]]:
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.execute(sql, parameters)]
