"""How long a large bank file takes to be checked and imported, and whether memory stays flat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import psutil
from figures import Figure, WrongTotalsError, say
from payments_workload import COMPANY, connect

from cobranza.chassis import logs, migrations
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies, CompanyProfile, Contact, Sender
from cobranza.chassis.database import Database
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.testing.databases import Databases
from cobranza.payments.use_cases import Importer

_ACCOUNT: Final = "ES9121000418450200051332"
_DAY: Final = "2026-10-01"
_OPENING: Final = 100_00
_SEEN_EVERY_SECONDS: Final = 0.1


async def measure(directory: Path, *, entries: int) -> list[Figure]:
    """One camt.053 through the check and the import, on an empty ledger."""
    logs.configure(service="payments", role="api", level="warning")
    file = directory / "statement.xml"
    total = _write(file, entries)
    async with LocalPlatform(directory / "state") as platform:
        databases = Databases((await platform.start_postgres()).admin_url)
        urls = await asyncio.to_thread(databases.clone, "payments", _migrate)
        database = Database(urls.app_url, service="payments", clock=BusinessClock(None))
        importer = Importer(database, Companies({COMPANY: _profile()}), 6)
        seen: list[int] = []
        watching = asyncio.create_task(_watch_memory(seen))
        try:
            before = psutil.Process().memory_info().rss
            started = time.perf_counter()
            report = await importer.check(file, name=file.name, by="benchmark")
            checked = time.perf_counter() - started
            started = time.perf_counter()
            await importer.run(report.import_id)
            imported = time.perf_counter() - started
        finally:
            watching.cancel()
            await database.close()
        grown = (max(seen) - before) / 2**20
        owner = await connect(urls.owner_url)
        found = await owner.fetchrow("SELECT count(*) AS n, coalesce(sum(amount), 0)::bigint AS total FROM receipt")
        await owner.close()
    if (found["n"], found["total"]) != (entries, total):
        raise WrongTotalsError(f"expected {entries} receipts of {total}, found {found['n']} of {found['total']}")
    say(f"  {file.stat().st_size / 2**20:.1f} MiB of XML")
    what = f"camt.053 of {entries:,} entries"
    return [
        Figure(f"{what}: checked", checked, "s", rounds=[checked]),
        Figure(f"{what}: imported", imported, "s", rounds=[imported]),
        Figure(f"{what}: memory grown at most", grown, "MiB", rounds=[grown]),
    ]


async def _watch_memory(seen: list[int]) -> None:
    while True:
        seen.append(psutil.Process().memory_info().rss)
        await asyncio.sleep(_SEEN_EVERY_SECONDS)


def _write(file: Path, entries: int) -> int:
    """Write the statement part by part; returns the sum of its entries in minor units."""
    amounts = [1_00 + n % 97 for n in range(entries)]
    with file.open("w", encoding="utf-8") as out:
        out.writelines(_parts(amounts))
    return sum(amounts)


def _parts(amounts: list[int]) -> Iterator[str]:
    yield (
        "<?xml version='1.0' encoding='UTF-8'?>\n<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'>"
        f"<BkToCstmrStmt>\n<Stmt><Id>1</Id><Acct><Id><IBAN>{_ACCOUNT}</IBAN></Id><Ccy>EUR</Ccy></Acct>"
    )
    for code, minor in (("OPBD", _OPENING), ("CLBD", _OPENING + sum(amounts))):
        yield (
            f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy='EUR'>{minor / 100:.2f}</Amt>"
            f"<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{_DAY}</Dt></Dt></Bal>\n"
        )
    yield f"<TxsSummry><TtlNtries><NbOfNtries>{len(amounts)}</NbOfNtries></TtlNtries></TxsSummry>\n"
    for number, minor in enumerate(amounts):
        yield (
            f"<Ntry><Amt Ccy='EUR'>{minor / 100:.2f}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>"
            f"<BookgDt><Dt>{_DAY}</Dt></BookgDt><ValDt><Dt>{_DAY}</Dt></ValDt><AcctSvcrRef>R{number}</AcctSvcrRef>"
            f"<NtryDtls><TxDtls><Amt Ccy='EUR'>{minor / 100:.2f}</Amt><RltdPties><Dbtr><Pty><Nm>Payer {number % 5000}"
            f"</Nm></Pty></Dbtr></RltdPties><RmtInf><Ustrd>Pago F-{number}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>\n"
        )
    yield "</Stmt></BkToCstmrStmt></Document>"


def _profile() -> CompanyProfile:
    return CompanyProfile.model_validate(
        {
            "company": COMPANY,
            "name": COMPANY,
            "tax_id": "X",
            "country": "ES",
            "zone": ZoneInfo("Europe/Madrid"),
            "currencies": ("EUR",),
            "contact": Contact(name="A", email="a@example.test"),
            "sender": Sender(name="A", email="a@example.test"),
            "payment_instructions": (
                {"currency": "EUR", "bank": "B", "holder": COMPANY, "account": _ACCOUNT, "reference": "invoice"},
            ),
        }
    )


def _migrate(owner_url: str) -> None:
    migrations.upgrade("cobranza.payments:migrations", owner_url)
