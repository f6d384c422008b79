"""How many cases a second a preview of the live portfolio tells, from the database."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from figures import Figure, WrongTotalsError, say
from payments_workload import COMPANY, connect

from cobranza.chassis import logs, migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies, CompanyProfile, Contact, Sender
from cobranza.chassis.database import Database
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.testing.databases import Databases
from cobranza.dunning import gateways
from cobranza.dunning.use_cases import policies
from cobranza.dunning.use_cases.evaluation import Desk
from cobranza.dunning.use_cases.preview import back_test, preview

_ITEMS: Final = 4
_TODAY: Final = date(2027, 3, 22)
_LOAD: Final = (
    """INSERT INTO account (account_id, company, customer, currency)
        SELECT md5('a' || n)::uuid, '{company}', 'C-' || n, 'MXN' FROM generate_series(1, {cases}) AS g(n)""",
    """INSERT INTO customer (company, customer, revision, language, segment, country, protected_party, reachable)
        SELECT '{company}', 'C-' || n, 1, 'es-MX', 'standard', 'MX', 'business', true FROM generate_series(1, {cases}) AS g(n)""",
    """INSERT INTO receivable (receivable_id, company, account_id, invoice_id, number, issued_on, due_on, issued, open, cause,
            recorded_on)
        SELECT md5('r' || n)::uuid, '{company}', md5('a' || n % {cases} + 1)::uuid, md5('i' || n)::uuid, 'F-' || n,
            date '2027-01-01', date '2027-02-01' + n % 48, 5800000, 5800000, 'invoice-issued', date '2027-01-01'
        FROM generate_series(1, {receivables}) AS g(n)""",
    """INSERT INTO balance_change (receivable_id, on_date, open, allocated)
        SELECT receivable_id, issued_on, issued, 0 FROM receivable""",
)
#: Every other receivable is paid five days late; the days and the other policy of a back-test.
_PAID: Final = (
    """INSERT INTO balance_change (receivable_id, on_date, open, allocated)
        SELECT receivable_id, due_on + 5, -issued, issued FROM receivable WHERE right(number, 1) IN ('1', '3', '5', '7', '9')""",
    "UPDATE receivable SET open = 0, allocated = issued WHERE right(number, 1) IN ('1', '3', '5', '7', '9')",
)
_FIRST: Final = date(2027, 1, 1)
_OTHER: Final = "strict"


async def measure(directory: Path, *, cases: int) -> list[Figure]:
    """A preview of today and one of a week later, and a back-test of two policies over three months; each of every case."""
    logs.configure(service="dunning", role="api", level="warning")
    async with LocalPlatform(directory) as platform:
        databases = Databases((await platform.start_postgres()).admin_url)
        urls = await asyncio.to_thread(databases.clone, "dunning", _migrate)
        owner = await connect(urls.owner_url)
        for statement in _LOAD:
            await owner.execute(statement.format(company=COMPANY, cases=cases, receivables=cases * _ITEMS))
        await owner.execute("VACUUM ANALYZE")
        clock = BusinessClock(directory / "business-clock")
        clock.set(datetime(_TODAY.year, _TODAY.month, _TODAY.day, 18, tzinfo=UTC))
        database = Database(urls.app_url, service="dunning", clock=clock)
        desk = Desk(Companies({COMPANY: _profile()}), 6)
        try:
            await _activate(desk, database)
            previews = [
                await _time(desk, database, cases, on=_TODAY),
                await _time(desk, database, cases, on=_TODAY + timedelta(7)),
            ]
            for statement in _PAID:
                await owner.execute(statement)
            await owner.execute("VACUUM ANALYZE")
            return [*previews, await _time_back_test(desk, database, cases)]
        finally:
            await owner.close()
            await database.close()


async def _time(desk: Desk, database: Database, cases: int, *, on: date) -> Figure:
    started = time.perf_counter()
    found = acting = 0
    async for one in preview(desk, database, company=COMPANY, on=on):
        found += 1
        acting += any(entry.decision.actions for entry in one.evaluated)
    took = time.perf_counter() - started
    if found != cases:
        raise WrongTotalsError(f"expected {cases} cases, found {found}")
    say(f"  {acting:,} of {found:,} cases act on {on}; {took:.1f} s")
    return Figure(
        f"preview of {(on - _TODAY).days} days ahead, {cases:,} cases",
        found / took,
        "cases/s",
        wanted="≥ 900",
        rounds=[found / took],
    )


async def _time_back_test(desk: Desk, database: Database, cases: int) -> Figure:
    other = policies.for_company(desk, gateways.read_source(_OTHER), company=COMPANY)
    started = time.perf_counter()
    found = await back_test(
        desk, database, company=COMPANY, first=_FIRST, last=_TODAY, tried=("friendly-b2b", 1), against=other
    )
    took = time.perf_counter() - started
    if found.debtors != cases:
        raise WrongTotalsError(f"expected {cases} debtors, found {found.debtors}")
    notices = [
        sum(n for (*_, what), n in side.acts.items() if what == "notice") for side in (found.policy, found.against)
    ]
    say(f"  {notices[0]:,} notices by the one, {notices[1]:,} by the other; {took:.1f} s")
    return Figure(
        f"back-test of two policies over {(_TODAY - _FIRST).days + 1} days, {cases:,} cases", found.debtors / took, "cases/s",
        rounds=[found.debtors / took],
    )  # fmt: skip


async def _activate(desk: Desk, database: Database) -> None:
    document, _ = policies.check_source(gateways.read_source("friendly-b2b"))
    async with database.transaction() as tx:
        for policy, _ in await policies.load_policy(desk, tx, document, company=COMPANY):
            await policies.activate_policy(desk, tx, company=COMPANY, policy=policy.policy, version=None)


def _profile() -> CompanyProfile:
    return CompanyProfile(
        company=COMPANY,
        name=COMPANY,
        tax_id="X",
        country="MX",
        zone=ZoneInfo("America/Mexico_City"),
        currencies=("MXN",),
        contact=Contact(name="A", email="a@example.test"),
        sender=Sender(name="A", email="a@example.test"),
    )


def _migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.dunning:migrations", owner_url)
