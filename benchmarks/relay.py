"""How fast the relay publishes a full outbox."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from figures import Figure, WrongTotalsError, median, say
from payments_workload import COMPANY, connect, migrate

from cobranza.chassis import clock, outbox, topics_admin
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.outbox import Cause
from cobranza.chassis.relay import Relay
from cobranza.chassis.testing.databases import Databases, DatabaseUrls
from cobranza.contracts.identifiers import Customer, InvoiceId, ReceivableId
from cobranza.contracts.payments import ReceivableChanged

_LONGEST_SECONDS = 120.0


async def measure(directory: Path, *, rows: int, rounds: int) -> list[Figure]:
    """Rows of a full outbox published and marked per second, the relay alone in a process's loop."""
    async with LocalPlatform(directory) as platform:
        admin_url = (await platform.start_postgres()).admin_url
        bootstrap = await platform.start_kafka()
        await asyncio.to_thread(topics_admin.apply, bootstrap)
        databases = Databases(admin_url)
        told = [_row(number) for number in range(rows)]
        rates, published = [], 0
        for number in range(rounds):
            urls = await asyncio.to_thread(databases.clone, "payments", migrate)
            rates.append(await _rate(urls, bootstrap, told))
            published += rows
            ends = sum(topics_admin.end_offsets(bootstrap, ["cobranza.payments"]).values())
            if ends != published:
                raise WrongTotalsError(f"expected {published} records on the topic, found {ends}")
            say(f"  round {number + 1} {rates[-1]:8,.0f} events/s")
        return [Figure("relay: outbox to broker", median(rates), "events/s", rounds=rates)]


async def _rate(urls: DatabaseUrls, bootstrap: str, told: list[outbox.Row]) -> float:
    owner = await connect(urls.owner_url)
    await _fill(owner, told)
    relay = Relay(database_url=urls.app_url, kafka_bootstrap=bootstrap, service="payments")
    started = clock.monotonic()
    running = asyncio.create_task(relay.run())
    first: tuple[int, float] | None = None
    try:
        while clock.monotonic() < started + _LONGEST_SECONDS:
            unsent = await owner.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
            now = clock.monotonic()
            if first is None and unsent < len(told):
                first = unsent, now
            if first is not None and unsent == 0:
                return first[0] / (now - first[1])
            await asyncio.sleep(0.01)
    finally:
        relay.stop()
        await running
        await owner.close()
    raise WrongTotalsError("the relay did not finish")


async def _fill(owner: Any, told: list[outbox.Row]) -> None:
    await owner.execute(
        """INSERT INTO outbox (event_id, topic, key, type, subject, sequence, headers, value, occurred_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::jsonb[],
            $8::bytea[], $9::timestamptz[])""",
        [r.event_id for r in told],
        [r.topic for r in told],
        [r.key for r in told],
        [r.type for r in told],
        [r.subject for r in told],
        [r.sequence for r in told],
        [r.headers for r in told],
        [r.value for r in told],
        [r.occurred_at for r in told],
    )
    await owner.execute("ANALYZE outbox")


def _row(number: int) -> outbox.Row:
    paid = Decimal(number % 100_000) / 100
    payload = ReceivableChanged(
        company=COMPANY,
        customer=Customer(f"C-{number % 2000:06d}"),
        receivable_id=ReceivableId(UUID(int=2**100 + number)),
        invoice_id=InvoiceId(UUID(int=2**101 + number)),
        instalment=1,
        number=f"F-{number:07d}",
        kind="invoice",
        currency="MXN",
        issued_on=date(2026, 1, 2),
        due_on=date(2026, 2, 1),
        issued=Decimal("1000.00"),
        allocated=paid,
        credited=Decimal("0.00"),
        written_off=Decimal("0.00"),
        open=Decimal("1000.00") - paid,
        version=1,
        cause="payment-received",
        effective_on=date(2026, 1, 20),
        recorded_on=datetime(2026, 1, 20, tzinfo=UTC).date(),
    )
    return outbox.row(payload, service="payments", sequence=1, cause=Cause.command(), expires_at=None)
