"""Rows 12, 15, 25, 38 and 59 on the whole platform: whatever falls out, no debt is forgotten and nobody is written to twice."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from cobranza.chassis.clock import BusinessClock

ROOT = Path(__file__).parents[2]
COBRANZA = [sys.executable, "-c", "from cobranza.chassis.cli import main; main()"]
#: Notices of a company that leave on a day.
FLOOR = 25
#: A Monday, at noon in Mexico.
START = datetime(2027, 1, 4, 18, tzinfo=UTC)

COMPANY = """
  {company}:
    name: Acme
    tax_id: ADI010203AB1
    country: MX
    zone: America/Mexico_City
    currencies: [MXN]
    languages: [es-MX]
    contact: {{ name: Lucía Ortega, email: cobranza@acme.example }}
    sender: {{ name: Acme, email: cobranza@acme.example }}
"""
POLICY = """\
policy: outage
version: {version}
company: {company}
currency: MXN
timezone: America/Mexico_City
calendar: mx-business
languages: [es-MX]
effective_from: 2026-01-01
contact_rules: [b2b-default]
min_gap_days: 3
steps:
  - {{ id: aviso-1, offset: 1, kind: notice, channel: email, tone: friendly, template: aviso-1 }}
  - {{ id: {second}, offset: {offset}, kind: notice, channel: email, tone: firm, template: aviso-2 }}
  - {{ id: bloqueo, offset: 6, kind: effect, effect: credit_hold, requires: {{ issued: aviso-1, term_days: 1 }} }}
  - {{ id: requerimiento, offset: 30, kind: notice, channel: email, tone: formal, template: requerimiento }}
end: {{ after_days: 15, task: {{ kind: decide_end, role: credit_manager }} }}
"""


class Platform:
    """`cobranza up` on a state directory and a standing business clock: started, stopped and started again."""

    def __init__(self, directory: Path, companies: tuple[str, ...]) -> None:
        self.state = directory / "state"
        self.clock = BusinessClock(directory / "business-clock")
        self.clock.set(START)
        self._directory = directory
        self._companies = directory / "companies.yaml"
        entries = "".join(COMPANY.format(company=company) for company in companies)
        self._companies.write_text(f"companies:{entries}", encoding="utf-8")
        self._process: subprocess.Popen[str] | None = None
        self._base = ""
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*COBRANZA, "up", "--state", str(self.state), "--companies", str(self._companies)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "COLUMNS": "500",
                "DUNNING_BRAKE_FLOOR": str(FLOOR),
                "COBRANZA_CLOCK_FILE": str(self._directory / "business-clock"),
                "COBRANZA_ALLOW_VIRTUAL_CLOCK": "true",
            },
        )
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if "Kafka:" in line:
                break
        found = re.search(r"ready: (http://127\.0\.0\.1:\d+)/", said)
        assert found, said
        self._base = found.group(1)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=40)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def pid(self, name: str) -> int:
        return int((self.state / "run" / f"{name}.pid").read_text(encoding="utf-8"))

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [*COBRANZA, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._directory,
            env=self._environment(),
        )
        assert done.returncode == 0 or arguments[0] == "verify", done.stdout + done.stderr
        return done.stdout

    def activate(self, company: str, *, version: int = 1, second: str = "aviso-2", offset: int = 4) -> None:
        file = self._directory / f"{company}.v{version}.yaml"
        file.write_text(POLICY.format(company=company, version=version, second=second, offset=offset), encoding="utf-8")
        self.command("dunning", "policy", "load", str(file))
        self.command("dunning", "policy", "activate", "outage", "--company", company)

    def owe(self, company: str, customers: list[str], due_on: date) -> None:
        """An invoice for each customer, told until it is taken in: servers may be down."""
        for customer in customers:
            money = {"amount": "100.00", "currency": "MXN"}
            contact = {"name": "Ana", "role": "accounts_payable", "channel": "email", "value": f"{customer}@x.example"}
            self._tell(
                "customer-changed",
                company,
                {
                    "customer": customer, "external": {"system": "erp", "id": customer}, "name": customer,
                    "country": "MX", "language": "es-MX", "zone": "America/Mexico_City", "contacts": [contact],
                },
            )  # fmt: skip
            self._tell(
                "invoice-issued",
                company,
                {
                    "customer": customer, "external": {"system": "erp", "id": customer}, "number": customer,
                    "issued_on": "2026-12-01", "payable": money,
                    "instalments": [{"number": 1, "due_on": due_on.isoformat(), "amount": money}],
                },
            )  # fmt: skip

    def _tell(self, kind: str, company: str, data: dict[str, Any]) -> None:
        event = {
            "specversion": "1.0", "id": f"{kind}-{company}-{data['customer']}", "source": f"/erp/{company}/erp",
            "type": f"erp.{kind}.v1", "datacontenttype": "application/json", "data": {"company": company, **data},
        }  # fmt: skip

        def is_taken() -> bool:
            try:
                answer = httpx.post(f"{self._base}/invoicing/v1/events", json=event, timeout=30, trust_env=False)
            except httpx.TransportError:
                return False
            if answer.status_code >= 500:
                return False
            assert answer.json()["refused"] == 0, answer.text
            return True

        eventually(is_taken, seconds=60)

    def rows(self, sql: str, *values: object) -> list[Any]:
        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self._environment()["DUNNING_OWNER_DATABASE_URL"])
            try:
                return list(await connection.fetch(sql, *values))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def count(self, sql: str, *values: object) -> int:
        return int(self.rows(sql, *values)[0][0])

    def has_cases(self, company: str, most: int) -> Callable[[], bool]:
        def look() -> bool:
            sql = "SELECT count(*) FROM collection_case WHERE company = $1"
            try:
                return self.count(sql, company) == most
            except (OSError, asyncpg.PostgresError):
                return False

        return look

    def broken(self) -> dict[str, int]:
        """What `cobranza verify` finds in any database and between them."""
        told = self.command("verify", "--json").splitlines()
        return {name: count for name, count in json.loads(told[-1]).items() if count} if told else {"verify": 1}

    def is_sound(self) -> bool:
        return eventually(lambda: not self.broken(), seconds=60)

    def _environment(self) -> dict[str, str]:
        told = Path(f"/proc/{self.pid('dunning-worker')}/environ").read_text(encoding="utf-8")
        return dict(entry.split("=", 1) for entry in told.split("\0") if entry)


def eventually(look: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


COMPANIES = ("kafka-mx", "postgres-mx", "change-mx", "outage-mx")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path, COMPANIES)
    yield made
    made.stop()


@pytest.mark.long
@pytest.mark.parametrize("server", ["kafka", "postgres"])
def test_15_25_a_server_killed_under_decisions_forgets_no_case(platform: Platform, server: str) -> None:
    company = f"{server}-mx"
    customers = [f"K-{number}" for number in range(24)]
    platform.activate(company)
    platform.owe(company, customers[:8], date(2027, 1, 1))

    killed = platform.pid(server)
    os.kill(killed, signal.SIGKILL)
    platform.owe(company, customers[8:], date(2027, 1, 1))

    assert eventually(platform.has_cases(company, 24), seconds=90)
    assert platform.pid(server) != killed
    assert platform.is_sound(), platform.broken()
    requested = platform.rows(
        "SELECT c.customer FROM collection_case c JOIN step_run s USING (case_id) WHERE c.company = $1", company
    )
    assert Counter(row["customer"] for row in requested) == Counter(customers)
    assert platform.count("SELECT count(*) FROM parked") == 0


@pytest.mark.long
def test_59_a_policy_changed_and_a_day_down_on_due_dates_forget_no_case(platform: Platform) -> None:
    early, late = [f"E-{number}" for number in range(6)], [f"L-{number}" for number in range(6)]
    platform.activate("change-mx")
    platform.owe("change-mx", early, date(2027, 1, 1))
    platform.owe("change-mx", late, date(2027, 1, 5))
    sent = "SELECT count(*) FROM step_run WHERE company = 'change-mx' AND state = 'sent'"
    assert eventually(lambda: platform.count(sent) == 6, seconds=60)

    # Its worker hangs for two days, in which half of the debts fall due and a person changes the policy.
    frozen = platform.pid("dunning-worker")
    os.kill(frozen, signal.SIGSTOP)
    platform.clock.set(START.replace(day=6))
    platform.activate("change-mx", version=2, second="aviso-2b", offset=3)
    moved = platform.command(
        "dunning", "policy", "migrate", "outage", "--company", "change-mx", "--to", "2", "--step", "aviso-2=aviso-2b",
        "--approved-by", "Lucía",
    )  # fmt: skip
    os.kill(frozen, signal.SIGKILL)

    assert "6 cases" in moved
    assert eventually(platform.has_cases("change-mx", 12), seconds=90)
    assert platform.is_sound(), platform.broken()
    pins = platform.rows("SELECT DISTINCT policy_version FROM collection_case WHERE company = 'change-mx'")
    assert [pin["policy_version"] for pin in pins] == [2]
    looked_at = platform.rows("SELECT evaluated_on, next_check_on FROM account WHERE company = 'change-mx'")
    assert {row["evaluated_on"] for row in looked_at} == {date(2027, 1, 6)}
    assert all(row["next_check_on"] > date(2027, 1, 6) for row in looked_at)


@pytest.mark.long
def test_38_after_nine_days_without_anything_each_case_has_one_notice_no_effect_and_the_brake_holds_the_rest(
    platform: Platform,
) -> None:
    # Written to before; their next reminder and a credit hold fall into the outage.
    known = [f"E-{number}" for number in range(3)]
    # Nothing is due yet; two reminders fall into the outage.
    new = [f"N-{number}" for number in range(27)]
    platform.activate("outage-mx")
    platform.owe("outage-mx", known, date(2027, 1, 1))
    platform.owe("outage-mx", new, date(2027, 1, 7))
    sent = "SELECT count(*) FROM step_run WHERE company = 'outage-mx' AND state = 'sent'"
    assert eventually(lambda: platform.count(sent) == 3, seconds=60)
    accounts = "SELECT count(*) FROM account WHERE company = 'outage-mx'"
    assert eventually(lambda: platform.count(accounts) == 30, seconds=60)

    platform.stop()
    platform.clock.set(START + timedelta(days=9))
    platform.start()
    back_on = date(2027, 1, 13)
    waiting = "SELECT count(*) FROM account WHERE company = 'outage-mx' AND evaluated_on = $1"
    assert eventually(lambda: platform.count(waiting, back_on) == 30, seconds=120)
    assert platform.is_sound(), platform.broken()

    runs = platform.rows(
        "SELECT case_id, step, kind, state, reason FROM step_run WHERE company = 'outage-mx' AND reached_on = $1",
        back_on,
    )
    notices = Counter(run["case_id"] for run in runs if run["kind"] == "notice" and run["state"] != "skipped")
    assert (len(notices), set(notices.values())) == (FLOOR, {1})
    assert [run for run in runs if run["kind"] == "effect" and run["state"] != "skipped"] == []
    first = {
        run["case_id"]
        for run in platform.rows(
            "SELECT case_id FROM step_run WHERE company = 'outage-mx' AND reached_on < $1", back_on
        )
    }
    skipped = {case_id: set[tuple[str, str]]() for case_id in notices}
    for run in runs:
        if run["state"] == "skipped":
            skipped[run["case_id"]].add((run["step"], run["reason"]))
        elif run["kind"] == "notice":
            assert run["step"] == "aviso-2"
    for case_id, steps in skipped.items():
        # Whoever heard the first reminder misses none; the others' effect requires the one they never heard.
        assert steps == (set() if case_id in first else {("aviso-1", "catch_up"), ("bloqueo", "requires_missing")})
    held = platform.count("SELECT count(*) FROM account WHERE company = 'outage-mx' AND reason = 'braked'")
    assert held == 30 - FLOOR

    platform.command("dunning", "record", "release-brake", "--data", '{"company": "outage-mx"}')

    second = "SELECT count(*) FROM step_run WHERE company = 'outage-mx' AND step = 'aviso-2'"
    assert eventually(lambda: platform.count(second) == 30, seconds=60)
    assert platform.count("SELECT count(DISTINCT case_id) FROM step_run WHERE company = 'outage-mx'") == 30
    assert platform.is_sound(), platform.broken()
