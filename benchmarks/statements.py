"""How long one customer's statement takes in a large ledger, by HTTP, as it is and as of a day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
from figures import Figure, WrongTotalsError, percentile, say
from payments_workload import COMPANY, connect

from cobranza.chassis import http, logs, migrations, page
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies, CompanyProfile, Contact, Sender
from cobranza.chassis.database import Database
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.service import Context
from cobranza.chassis.testing.databases import Databases
from cobranza.contracts.money import to_decimal
from cobranza.payments.api import router
from cobranza.payments.settings import PaymentsSettings

#: Debts of a customer; not a divisor of the days, so that each has debts of many days.
_DEBTS_EACH: Final = 51
_FIRST_DUE: Final = date(2025, 7, 1)
_DUE_DAYS: Final = 400
_AS_OF: Final = date(2026, 3, 31)

# Of five debts one is paid in full, one in half, three are open; the same in `_expected`.
_DEBTS: Final = """
    CREATE TEMPORARY TABLE debt AS
    SELECT n, '{company}' AS company, 'C-' || n % {customers} AS customer, date '{first_due}' + n % {due_days} AS due_on,
        1000 + n % 977 AS amount, CASE n % 5 WHEN 0 THEN 1000 + n % 977 WHEN 1 THEN (1000 + n % 977) / 2 ELSE 0 END AS paid,
        md5('debt' || n)::uuid AS debt, md5('money' || n)::uuid AS money, md5('issue' || n)::uuid AS issue,
        md5('came' || n)::uuid AS came, md5('used' || n)::uuid AS used
    FROM generate_series(0, {receivables} - 1) AS g(n)"""
_LOAD: Final = (
    """INSERT INTO receivable (company, receivable_id, customer, invoice_id, instalment, number, kind, currency, issued,
            allocated, issued_on, due_on)
        SELECT company, debt, customer, debt, 1, 'F-' || n, 'invoice', 'MXN', amount, paid, due_on - 30, due_on FROM debt""",
    """INSERT INTO receipt (company, receipt_id, customer, told_customer, kind, currency, system, external_id, sha256, amount,
            allocated, value_on, details)
        SELECT company, money, customer, customer, 'cash', 'MXN', 'bank', n::text, '', paid, paid, due_on, '{}'
        FROM debt WHERE paid > 0""",
    """INSERT INTO journal_entry (entry_id, company, kind, cause_event_id, effective_on)
        SELECT issue, company, 'invoice-issued', issue, due_on - 30 FROM debt
        UNION ALL SELECT came, company, 'payment-received', came, due_on FROM debt WHERE paid > 0
        UNION ALL SELECT used, company, 'payment-allocated', came, due_on FROM debt WHERE paid > 0""",
    """INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, rule, cause_event_id)
        SELECT used, company, money, debt, 'MXN', paid, 'reference@1', came FROM debt WHERE paid > 0""",
    """INSERT INTO journal_line (entry_id, line, account, receivable_id, receipt_id, currency, amount)
        SELECT issue, 1, 'AR', debt, NULL::uuid, 'MXN', amount FROM debt
        UNION ALL SELECT issue, 2, 'ADJUSTMENT:issued', debt, NULL, 'MXN', -amount FROM debt
        UNION ALL SELECT came, 1, 'CASH', NULL, money, 'MXN', paid FROM debt WHERE paid > 0
        UNION ALL SELECT came, 2, 'CREDIT:' || customer, NULL, money, 'MXN', -paid FROM debt WHERE paid > 0
        UNION ALL SELECT used, 1, 'CREDIT:' || customer, NULL, money, 'MXN', paid FROM debt WHERE paid > 0
        UNION ALL SELECT used, 2, 'AR', debt, NULL, 'MXN', -paid FROM debt WHERE paid > 0""",
)


async def measure(directory: Path, *, receivables: int, statements: int) -> list[Figure]:
    """Statements of many customers one after the other, through the whole HTTP application, over a warm cache."""
    logs.configure(service="payments", role="api", level="warning")
    async with LocalPlatform(directory) as platform:
        databases = Databases((await platform.start_postgres()).admin_url)
        urls = await asyncio.to_thread(databases.clone, "payments", _migrate)
        owner = await connect(urls.owner_url)
        await _load(owner, receivables)
        await owner.close()
        database = Database(urls.app_url, service="payments", clock=BusinessClock(None))
        try:
            async with _client(database, urls.app_url) as client:
                return [
                    await _time(client, "as it is", {}, receivables, statements),
                    await _time(client, "as of a day", {"as_of": str(_AS_OF)}, receivables, statements),
                ]
        finally:
            await database.close()


async def _time(
    client: httpx.AsyncClient, what: str, asked: Mapping[str, str], receivables: int, statements: int
) -> Figure:
    customers = receivables // _DEBTS_EACH
    took = []
    for number in (n * 7919 % customers for n in range(statements + 1)):
        started = time.perf_counter()
        answer = await client.get(f"/customers/C-{number}/statement", params={"company": COMPANY, **asked})
        took.append((time.perf_counter() - started) * 1000)
        found = answer.json()["balances"][0]["open"]["amount"]
        expected = str(to_decimal(_expected(number, receivables, date.max if not asked else _AS_OF), "MXN"))
        if found != expected:
            raise WrongTotalsError(f"C-{number} {what}: expected {expected}, found {found}")
    took.sort()
    say(f"  {what}: slowest {took[-1]:.0f} ms")
    name = f"statement {what}, {receivables:,} receivables, p99 of {statements}"
    return Figure(name, percentile(took[:-1], 0.99), "ms", rounds=[percentile(took, 0.5), took[-1]])


def _client(database: Database, app_url: str) -> httpx.AsyncClient:
    profile = CompanyProfile(
        company=COMPANY,
        name=COMPANY,
        tax_id="X",
        country="MX",
        zone=ZoneInfo("America/Mexico_City"),
        currencies=("MXN",),
        contact=Contact(name="A", email="a@example.test"),
        sender=Sender(name="A", email="a@example.test"),
    )
    companies, clock = Companies({COMPANY: profile}), BusinessClock(None)
    settings = PaymentsSettings.model_validate(
        {"database_url": app_url, "KAFKA_BOOTSTRAP": "127.0.0.1:1", "COBRANZA_COMPANIES": "companies.yaml"}
    )
    context = Context(service="payments", settings=settings, database=database, clock=clock, companies=companies)
    app = http.create_app(
        {"payments": router(context)}, access=http.LocalAccess(), frame=page.Frame(companies=companies, clock=clock)
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost/payments/v1")


async def _load(owner: Any, receivables: int) -> None:
    debts = _DEBTS.format(
        company=COMPANY,
        customers=receivables // _DEBTS_EACH,
        first_due=_FIRST_DUE,
        due_days=_DUE_DAYS,
        receivables=receivables,
    )
    for statement in (debts, *_LOAD):
        await owner.execute(statement)
    await owner.execute("VACUUM ANALYZE")


def _expected(customer: int, receivables: int, on: date) -> int:
    """What the customer owes at the end of a day, worked out without the database."""
    total = 0
    for n in range(customer, receivables, receivables // _DEBTS_EACH):
        due_on, amount = _FIRST_DUE + timedelta(n % _DUE_DAYS), 1000 + n % 977
        paid = {0: amount, 1: amount // 2}.get(n % 5, 0)
        if due_on - timedelta(30) <= on:
            total += amount - (paid if due_on <= on else 0)
    return total


def _migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.payments:migrations", owner_url)
