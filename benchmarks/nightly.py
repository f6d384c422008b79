"""How long one night's evaluation takes: every case's timer is due at once, two workers share them."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from figures import Figure, WrongTotalsError, say
from payments_workload import COMPANY, connect

from cobranza.chassis import logs, migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies, CompanyProfile, Contact, Sender
from cobranza.chassis.database import Database
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.service import Context
from cobranza.chassis.testing.databases import Databases
from cobranza.chassis.timers import Scheduler
from cobranza.dunning import gateways, scheduler
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import policies
from cobranza.dunning.use_cases.evaluation import Desk

_WORKERS: Final = 2
#: Receivables of a case; the same in `_LOAD`.
_DEBTS_EACH: Final = 4
#: One case in so many has a receivable that reaches its first notice tonight.
_ACTING: Final = 4
_NOW: Final = datetime(2027, 3, 23, 13, tzinfo=UTC)
_TODAY: Final = date(2027, 3, 23)

# Three receivables of a case are due next month; the first is overdue, in every fourth case by the notice's three days.
_LOAD: Final = (
    """INSERT INTO account (account_id, company, customer, currency)
        SELECT md5('account' || n)::uuid, '{company}', 'C-' || n, 'MXN' FROM generate_series(0, {cases} - 1) AS g(n)""",
    """INSERT INTO receivable (company, receivable_id, account_id, number, issued_on, due_on, issued, open, cause, recorded_on)
        SELECT '{company}', md5('debt' || n || '/' || d)::uuid, md5('account' || n)::uuid, 'F-' || n || '-' || d,
            due_on - 30, due_on, 100000 + n % 977, 100000 + n % 977, 'issued', due_on - 30
        FROM generate_series(0, {cases} - 1) AS g(n), generate_series(0, 3) AS h(d), LATERAL (SELECT date '{today}'
            + CASE WHEN d > 0 THEN 20 + d WHEN n % {acting} = 0 THEN -3 ELSE -1 END AS due_on) AS due""",
    """INSERT INTO timer (timer_key, kind, company, subject_id, due_at)
        SELECT 'case|' || account_id, 'case', company, account_id, timestamptz '{now}' FROM account""",
    """UPDATE account SET next_check_on = date '{today}'""",
)
_FOUND: Final = {
    "decisions": "SELECT count(*) FROM decision",
    "step runs": "SELECT count(*) FROM step_run WHERE state = 'requested' AND step = 'aviso-1'",
    "cases opened": "SELECT count(*) FROM outbox WHERE type = 'cobranza.dunning.case-opened.v1'",
    "notices requested": "SELECT count(*) FROM outbox WHERE type = 'cobranza.dunning.notice-requested.v1'",
    "timers still due": "SELECT count(*) FROM timer WHERE state <> 'armed' OR due_at <= timestamptz '{now}'",
}


async def measure(directory: Path, *, cases: int) -> list[Figure]:
    """Evaluate, decide and write the outbox for every case once; the relay is not part of it."""
    async with LocalPlatform(directory) as platform:
        databases = Databases((await platform.start_postgres()).admin_url)
        urls = await asyncio.to_thread(databases.clone, "dunning", _migrate)
        clock_file = directory / "business-clock"
        BusinessClock(clock_file).set(_NOW)
        await _activate(urls.app_url, clock_file)
        owner = await connect(urls.owner_url)
        for statement in _LOAD:
            await owner.execute(
                statement.format(company=COMPANY, cases=cases, today=_TODAY, acting=_ACTING, now=_NOW.isoformat())
            )
        await owner.execute("VACUUM ANALYZE")
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(_WORKERS, mp_context=get_context("spawn")) as pool:
            started = time.perf_counter()
            told = await asyncio.gather(
                *(loop.run_in_executor(pool, _work, urls.app_url, cases, clock_file) for _ in range(_WORKERS))
            )
            seconds = time.perf_counter() - started
        await _verify(owner, cases, {name: sql.format(now=_NOW.isoformat()) for name, sql in _FOUND.items()})
        await owner.close()
    say(f"  {cases:,} cases in {seconds / 60:.2f} minutes; each worker's cases and memory in MiB: {told}")
    name = f"nightly evaluation, {cases:,} cases of {_DEBTS_EACH}, {_WORKERS} workers"
    return [
        Figure(name, cases / seconds, "cases/s", rounds=[cases / seconds]),
        Figure(f"{name}, memory of one", float(max(memory for _, memory in told)), "MiB"),
    ]


def _work(app_url: str, cases: int, clock_file: Path) -> tuple[int, int]:
    """A worker's timers until none is due; how many it worked, and its most memory in MiB."""
    logs.configure(service="dunning", role="worker", level="warning")
    return asyncio.run(_work_timers(app_url, cases, clock_file)), resource.getrusage(
        resource.RUSAGE_SELF
    ).ru_maxrss // 1024


async def _work_timers(app_url: str, cases: int, clock_file: Path) -> int:
    context = _context(app_url, clock_file, brake_floor=cases)
    timers = Scheduler(context.database, scheduler.timers(context), idle_seconds=1)
    worked = 0
    while found := await timers.work_due():
        worked += found
    await context.database.close()
    return worked


async def _activate(app_url: str, clock_file: Path) -> None:
    context = _context(app_url, clock_file, brake_floor=1)
    desk = Desk(context.companies, context.settings.evaluation_hour)
    document, faults = gateways.parse(gateways.read_source("friendly-b2b"))
    if faults:
        raise WrongTotalsError(f"the policy has faults: {faults}")
    async with context.database.transaction() as tx:
        for policy, _ in await policies.load_policy(desk, tx, document, company=COMPANY):
            await policies.activate_policy(desk, tx, company=COMPANY, policy=policy.policy, version=None)
    await context.database.close()


async def _verify(owner: Any, cases: int, found: Mapping[str, str]) -> None:
    acting = -(-cases // _ACTING)
    expected = {
        "decisions": cases, "step runs": acting, "cases opened": cases, "notices requested": acting, "timers still due": 0
    }  # fmt: skip
    counted = {name: await owner.fetchval(sql) for name, sql in found.items()}
    if counted != expected:
        raise WrongTotalsError(f"expected {expected}, found {counted}")


def _context(app_url: str, clock_file: Path, *, brake_floor: int) -> Context[DunningSettings]:
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
    settings = DunningSettings.model_validate(
        {
            "database_url": app_url,
            "KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "COBRANZA_COMPANIES": "companies.yaml",
            "brake_floor": brake_floor,
        }
    )
    clock = BusinessClock(clock_file)
    database = Database(app_url, service="dunning", clock=clock)
    return Context(
        service="dunning", settings=settings, database=database, clock=clock, companies=Companies({COMPANY: profile})
    )


def _migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.dunning:migrations", owner_url)
