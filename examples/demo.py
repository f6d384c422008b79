"""The demo: a made-up portfolio goes through the whole platform, and the result is checked.

`make demo` stays until Ctrl-C so that the pages can be looked at; `make demo-check` ends with exit
code 1 if a figure differs from what the generator wrote down beforehand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from ibm_ar import days
from portfolio import FIRST_DAY, generate
from replay import Replay, StandstillError, clock_at, run_verb, use_policy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.local.faults import LocalModeError
from cobranza.chassis.local.mailbox import Mailbox
from cobranza.chassis.local.platform import LocalPlatform, Stage, run
from cobranza.chassis.local.state import wipe

COMPANIES = Path(__file__).parents[1] / "deploy" / "companies.yaml"
COLLECTING = ("acme-mx", "andes-cl")


@dataclass(frozen=True, slots=True)
class Check:
    """One figure: what was written down beforehand, and what the platform says."""

    what: str
    expected: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.found


class Demo:
    """One run in one state directory."""

    def __init__(self, state: Path, *, customers: int, months: int, console: Console) -> None:
        self._state = state
        self._arguments = {"customers": customers, "months": months}
        self._portfolio = generate(customers=customers, months=months)
        self._console = console
        self._clock_file = state / "clock"

    async def run(self, *, stay: bool, port: int | None) -> int:
        """Run, check, and stay if asked to; returns the exit code."""
        overrides = {
            "COBRANZA_COMPANIES": str(COMPANIES),
            "COBRANZA_CLOCK_FILE": str(self._clock_file),
            "COBRANZA_ALLOW_VIRTUAL_CLOCK": "true",
        }
        with self._bar() as bar:
            async with LocalPlatform(
                self._state, overrides=overrides, api_port=port, progress=_Stages(bar)
            ) as platform:
                clock = self._prepare()
                await platform.start_infrastructure()
                await platform.start_services()
                for company in COLLECTING:
                    await use_policy(platform, "friendly-b2b", company)
                async with Replay(platform, clock) as history:
                    await self._replay(history, clock, bar)
                    checks = await self._checks(platform, history)
                bar.stop()
                holds = self._show(checks)
                if stay:
                    self._say_where(platform)
                    failure = await platform.failed()
                    raise failure
        return 0 if holds else 1

    def _prepare(self) -> BusinessClock:
        """Write down the expected totals before anything runs, and find the business day to go on from.

        Raises:
            LocalModeError: the state belongs to a demo with other arguments.
        """
        kept = self._state / "demo.json"
        if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) != self._arguments:
            raise LocalModeError(
                f"{self._state} holds a demo with other customers or months.", remedy="Forget it with `make demo-wipe`."
            )
        (self._state / "expected.json").write_text(json.dumps(self._portfolio.expected(), indent=1), encoding="utf-8")
        kept.write_text(json.dumps(self._arguments), encoding="utf-8")
        return BusinessClock(self._clock_file) if self._clock_file.exists() else clock_at(self._clock_file, FIRST_DAY)

    async def _replay(self, history: Replay, clock: BusinessClock, bar: Progress) -> None:
        today = clock.now().date()
        last = self._portfolio.last_day
        task = bar.add_task("business days", total=(last - FIRST_DAY).days + 1, completed=(today - FIRST_DAY).days)
        for day in days(today, last):
            # Publishing a day again after an interruption is harmless: the events have the same ids.
            history.set_clock(day, time(12, 0))
            count = history.publish(self._portfolio.events.get(day, ()))
            for broken in self._portfolio.broken.get(day, ()):
                history.publish_raw(*broken)
            await history.until_quiet()
            history.set_clock(day, time(18, 0))
            await history.until_quiet()
            bar.update(task, advance=1, description=f"{day.isoformat()}  {count:>3} events")

    async def _checks(self, platform: LocalPlatform, history: Replay) -> list[Check]:
        expected = json.loads((self._state / "expected.json").read_text(encoding="utf-8"))
        checks: list[Check] = []
        for totals in expected["totals"]:
            checks += await self._figures(platform, totals, date.fromisoformat(expected["last_day"]))
        checks.append(Check("inputs parked with their reason", str(expected["parked"]), str(await history.parked())))
        verdict = json.loads(await run_verb(platform, "verify", "--json", also=(1,)))
        checks.append(Check("promises of the databases broken", "0", str(sum(verdict.values()))))
        sent = [d for kind, d in history.read_all("cobranza.notifications") if kind.endswith("notice-sent.v1")]
        ids = [data["notice_id"] for data in sent]
        checks.append(Check("notices sent twice", "0", str(len(ids) - len(set(ids)))))
        mails = [message.headers.get("Message-ID") for message in Mailbox(platform.mailbox).messages()]
        checks.append(Check("mails in the mailbox, one per notice", str(len(ids)), str(len(set(mails)))))
        return checks

    async def _figures(self, platform: LocalPlatform, totals: Mapping[str, Any], on: date) -> list[Check]:
        company, currency = totals["company"], totals["currency"]
        ageing = await run_verb(platform, "analytics", "ageing", "--company", company, "--as-of", f"{on}", "--json")
        line = next(line for line in json.loads(ageing)["lines"] if line["currency"] == currency)
        sums = await run_verb(platform, "analytics", "totals", "--company", company, "--json")
        sum_line = next(line for line in json.loads(sums)["lines"] if line["currency"] == currency)
        pairs = (
            ("invoices", totals["invoices"], sum_line["invoices"]),
            ("invoiced", totals["invoiced"], sum_line["invoiced"]),
            ("collected", totals["collected"], sum_line["collected"]),
            ("open", totals["open"], line["open"]),
            ("overdue", totals["overdue"], line["overdue"]),
            ("receivables open", totals["open_count"], line["open_count"]),
            ("not applied", totals["unapplied"], line["unapplied"]),
        )
        return [
            Check(f"{company} {currency}: {what}", _figure(expected), _figure(found)) for what, expected, found in pairs
        ]

    def _show(self, checks: list[Check]) -> bool:
        table = Table(
            "figure", "expected", "found", "verdict", title="What the generator wrote down, and what came out"
        )
        for check in checks:
            table.add_row(check.what, check.expected, check.found, "ok" if check.holds else "[bold red]differs[/]")
        self._console.print(table)
        return all(check.holds for check in checks)

    def _say_where(self, platform: LocalPlatform) -> None:
        address = f"http://127.0.0.1:{platform.api_port}"
        self._console.print(f"Hoy (today)      {address}/analytics/?company=acme-mx")
        self._console.print(f"¿Por qué? (why)  {address}/dunning/why")
        self._console.print(f"Mailbox          {address}/mailbox/")
        self._console.print(f"Kafka            {platform.bootstrap}")
        self._console.print(
            "Ctrl-C stops everything; the next `make demo` starts from here, `make demo-wipe` forgets it."
        )

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )


class _Stages:
    """Shows the steps of the start in the same progress display as the days."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: Stage) -> None:
        if stage.name not in self._tasks:
            self._tasks[stage.name] = self._bar.add_task(stage.name, total=stage.total)
        self._bar.update(self._tasks[stage.name], completed=stage.done, total=stage.total)


def _figure(value: object) -> str:
    return f"{Decimal(str(value)).normalize():f}"


def main() -> int:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=40)
    parser.add_argument("--months", type=int, default=3, help="of 30 days")
    parser.add_argument("--state", type=Path, default=Path(".state/demo"))
    parser.add_argument("--port", type=int, default=None, help="of APIs and pages; default 8000 or a free one")
    parser.add_argument("--check", action="store_true", help="end after the check, exit 1 if a figure differs")
    parser.add_argument("--wipe", action="store_true", help="forget what the state directory keeps, and end")
    arguments = parser.parse_args()
    console = Console()
    try:
        if arguments.wipe:
            console.print("forgotten" if wipe(arguments.state) else "there was nothing to forget")
            return 0
        demo = Demo(arguments.state, customers=arguments.customers, months=arguments.months, console=console)
        code = run(demo.run(stay=not arguments.check, port=arguments.port))
    except (LocalModeError, StandstillError, RuntimeError) as error:
        console.print(f"[bold red]error[/]: {error}", highlight=False, markup=True)
        return 1
    return 0 if code is None else code


if __name__ == "__main__":
    sys.exit(main())
