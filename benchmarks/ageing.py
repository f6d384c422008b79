"""How long ageing as of a date takes over a large read model."""

from __future__ import annotations

import asyncio
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from figures import Figure, WrongTotalsError, median, say
from payments_workload import COMPANY, connect

from cobranza.analytics import queries
from cobranza.analytics.domain.ageing import Ageing, Bucket, bucket_of
from cobranza.chassis import migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.database import Database
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.testing.databases import Databases

_AS_OF: Final = date(2026, 6, 30)
_FIRST_DUE: Final = date(2025, 7, 1)
_DUE_DAYS: Final = 400
_CUSTOMERS: Final = 20_000

# Of five receivables one is paid in full, one in half, three are open; the same in `_expected`.
_LOAD: Final = (
    """
    INSERT INTO receivable (company, receivable_id, customer, invoice_id, instalment, number, kind, currency, issued_on, due_on,
        issued, allocated, credited, written_off, open, version)
    SELECT $1, lpad(to_hex(n), 32, '0')::uuid, 'C-' || n % $3, lpad(to_hex(n), 32, '1')::uuid, 1, 'F-' || n, 'invoice', 'MXN',
        d - 30, d, a, p, 0, 0, a - p, CASE WHEN p > 0 THEN 2 ELSE 1 END
    FROM (SELECT n, $4::date + n % $5 AS d, 1000 + n % 977 AS a,
            CASE n % 5 WHEN 0 THEN 1000 + n % 977 WHEN 1 THEN (1000 + n % 977) / 2 ELSE 0 END AS p
        FROM generate_series(0, $2 - 1) AS g(n)) AS t
    """,
    """
    INSERT INTO receivable_balance (company, receivable_id, customer, currency, due_on, from_on, until_on, amount)
    SELECT $1, lpad(to_hex(n), 32, '0')::uuid, 'C-' || n % $3, 'MXN', d, d - 30,
        CASE WHEN n % 5 < 2 THEN d + n % 50 ELSE 'infinity' END, 1000 + n % 977
    FROM (SELECT n, $4::date + n % $5 AS d FROM generate_series(0, $2 - 1) AS g(n)) AS t
    """,
    """
    INSERT INTO receivable_balance (company, receivable_id, customer, currency, due_on, from_on, until_on, amount)
    SELECT $1, lpad(to_hex(n), 32, '0')::uuid, 'C-' || n % $3, 'MXN', d, d + n % 50, 'infinity',
        1000 + n % 977 - (1000 + n % 977) / 2
    FROM (SELECT n, $4::date + n % $5 AS d FROM generate_series(0, $2 - 1) AS g(n)) AS t WHERE n % 5 = 1
    """,
)


async def measure(directory: Path, *, receivables: int, rounds: int) -> list[Figure]:
    """The whole answer of one company, three statements, over a warm cache."""
    async with LocalPlatform(directory) as platform:
        databases = Databases((await platform.start_postgres()).admin_url)
        urls = await asyncio.to_thread(databases.clone, "analytics", _migrate)
        owner = await connect(urls.owner_url)
        await _load(owner, receivables)
        await owner.close()
        database = Database(urls.app_url, service="analytics", clock=BusinessClock(None))
        expected = _expected(receivables)
        took = []
        # The first round fills the cache and is left out.
        for _ in range(rounds + 1):
            started = time.perf_counter()
            async with database.reading() as connection:
                found = await queries.ageing(connection, company=COMPANY, as_of=_AS_OF)
            took.append((time.perf_counter() - started) * 1000)
            if found != [expected]:
                raise WrongTotalsError(f"expected {expected}, found {found}")
        await database.close()
        say(f"  first {took[0]:.0f} ms")
        return [Figure(f"ageing as of a date, {receivables:,} receivables", median(took[1:]), "ms", rounds=took[1:])]


async def _load(owner: Any, receivables: int) -> None:
    for statement in _LOAD:
        await owner.execute(statement, COMPANY, receivables, _CUSTOMERS, _FIRST_DUE, _DUE_DAYS)
    await owner.execute("VACUUM ANALYZE")


def _expected(receivables: int) -> Ageing:
    """The same answer, worked out without the database."""
    line = Ageing("MXN")
    owing, overdue = set(), set()
    for n in range(receivables):
        due_on = _FIRST_DUE + timedelta(n % _DUE_DAYS)
        if due_on - timedelta(30) > _AS_OF:
            continue
        amount, kind = 1000 + n % 977, n % 5
        if kind < 2 and due_on + timedelta(n % 50) <= _AS_OF:  # noqa: PLR2004 - see _LOAD
            amount -= amount if kind == 0 else amount // 2
        if amount:
            bucket = bucket_of(due_on, as_of=_AS_OF)
            line.amounts[bucket] += amount
            line.counts[bucket] += 1
            owing.add(n % _CUSTOMERS)
            if bucket is not Bucket.CURRENT:
                overdue.add(n % _CUSTOMERS)
    line.customers, line.customers_overdue = len(owing), len(overdue)
    return line


def _migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.analytics:migrations", owner_url)
