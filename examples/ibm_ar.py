"""A real portfolio through the whole platform: 2,466 invoices of 100 customers, day by day.

The file is a vendor's public sample and is not part of this repository:

    make example-ibm-ar FILE=path/to/ibm_ar.csv

One event per customer, invoice and payment goes in through Kafka in date order, each payment before
its day is evaluated. The last line of the output is JSON with what the platform says.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time as real_time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from replay import Replay, clock_at, erp_event, run_verb, use_policy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cobranza.chassis.local.faults import LocalModeError
from cobranza.chassis.local.platform import LocalPlatform, run
from cobranza.chassis.local.state import wipe

COMPANY = "ibm-ar"
SYSTEM = "csv"
#: The days the sample's figures are known for.
AGEING_DAYS = (date(2012, 6, 30), date(2012, 12, 31), date(2013, 6, 30), date(2013, 9, 30), date(2013, 12, 31))
HERE = Path(__file__).parent
Published = tuple[str, str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """One invoice of the file, paid once in full on `settled_on`."""

    customer: str
    country: str
    number: str
    invoiced_on: date
    due_on: date
    amount: Decimal
    settled_on: date


def read(file: Path) -> list[Line]:
    """The file's lines.

    Raises:
        ValueError: naming the line that cannot be read.
    """
    lines = []
    with file.open(newline="", encoding="utf-8") as opened:
        for number, row in enumerate(csv.DictReader(opened), start=2):
            try:
                lines.append(
                    Line(
                        customer=row["customerID"],
                        country=row["countryCode"],
                        number=row["invoiceNumber"],
                        invoiced_on=_day(row["InvoiceDate"]),
                        due_on=_day(row["DueDate"]),
                        amount=Decimal(row["InvoiceAmount"]),
                        settled_on=_day(row["SettledDate"]),
                    )
                )
            except (KeyError, ValueError, ArithmeticError) as error:
                raise ValueError(f"{file}:{number}: {error!r}; expected the columns of the sample") from error
    return lines


def _day(text: str) -> date:
    return datetime.strptime(text, "%m/%d/%Y").date()  # noqa: DTZ007 - a calendar date


def events_by_day(lines: list[Line]) -> dict[date, list[Published]]:
    """What an ERP would publish, by the day it happens."""
    days: dict[date, list[Published]] = defaultdict(list)
    known: set[str] = set()
    for line in sorted(lines, key=lambda one: (one.invoiced_on, one.number)):
        if line.customer not in known:
            known.add(line.customer)
            days[line.invoiced_on].append(_customer(line))
        days[line.invoiced_on].append(_invoice(line))
    for line in sorted(lines, key=lambda one: (one.settled_on, one.number)):
        days[line.settled_on].append(_payment(line))
    return days


def _customer(line: Line) -> Published:
    key, event = erp_event(
        company=COMPANY,
        system=SYSTEM,
        event="customer-changed",
        customer=line.customer,
        event_id=f"customer-{line.customer}",
        data={
            "external": {"system": SYSTEM, "id": line.customer},
            "customer": line.customer,
            "name": f"Customer {line.customer}",
            "country": "US",
            "language": "en",
            "zone": "UTC",
            "segment": line.country,
            "protected_party": "business",
            "contacts": [
                {
                    "name": f"Accounts payable {line.customer}",
                    "role": "payables",
                    "channel": "email",
                    "value": f"{line.customer}@example.test",
                }
            ],
        },
    )
    return "erp.invoicing", key, event


def _invoice(line: Line) -> Published:
    amount = {"amount": str(line.amount), "currency": "USD"}
    key, event = erp_event(
        company=COMPANY,
        system=SYSTEM,
        event="invoice-issued",
        customer=line.customer,
        event_id=f"invoice-{line.number}",
        data={
            "external": {"system": SYSTEM, "id": line.number},
            "customer": line.customer,
            "number": line.number,
            "issued_on": line.invoiced_on.isoformat(),
            "payable": amount,
            "instalments": [{"number": 1, "due_on": line.due_on.isoformat(), "amount": amount}],
        },
    )
    return "erp.invoicing", key, event


def _payment(line: Line) -> Published:
    amount = {"amount": str(line.amount), "currency": "USD"}
    key, event = erp_event(
        company=COMPANY,
        system=SYSTEM,
        event="payment-received",
        customer=line.customer,
        event_id=f"payment-{line.number}",
        data={
            "external": {"system": SYSTEM, "id": line.number},
            "customer": line.customer,
            "amount": amount,
            "value_on": line.settled_on.isoformat(),
            "references": [line.number],
        },
    )
    return "erp.payments", key, event


def days(first: date, last: date) -> Iterator[date]:
    """Every day from the first to the last, both inclusive."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


async def replay(lines: list[Line], state: Path, console: Console) -> dict[str, Any]:
    """Run the whole history, from the first invoice to the last payment; returns what the platform says at its end."""
    started = real_time.monotonic()
    by_day = events_by_day(lines)
    first, last = min(by_day), max(by_day)
    overrides = {
        "COBRANZA_COMPANIES": str(HERE / "ibm_ar_companies.yaml"),
        "COBRANZA_CLOCK_FILE": str(state / "clock"),
        "COBRANZA_ALLOW_VIRTUAL_CLOCK": "true",
    }
    async with LocalPlatform(state, overrides=overrides) as platform:
        clock = clock_at(state / "clock", first)
        console.print("starting a broker, a database and five services …")
        await platform.start_infrastructure()
        await platform.start_services()
        await use_policy(platform, "reminder-5", COMPANY)
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        async with Replay(platform, clock) as history:
            with bar:
                task = bar.add_task("days", total=(last - first).days + 1)
                for day in days(first, last):
                    history.set_clock(day, time(0, 1))
                    if by_day.get(day):
                        history.publish(by_day[day])
                        await history.until_quiet()
                    history.set_clock(day, time(12, 0))
                    await history.until_quiet()
                    bar.update(task, advance=1, description=day.isoformat())
            notices = history.read_all("cobranza.notifications")
            parked = await history.parked()
        ageing = [
            json.loads(
                await run_verb(platform, "analytics", "ageing", "--company", COMPANY, "--as-of", f"{day}", "--json")
            )
            for day in AGEING_DAYS
            if first <= day <= last
        ]
        totals = json.loads(await run_verb(platform, "analytics", "totals", "--company", COMPANY, "--json"))
    return {
        "ageing": [_figures(answer) for answer in ageing],
        "invoiced_total": totals["lines"][0]["invoiced"],
        "collected_total": totals["lines"][0]["collected"],
        **_count(notices, lines),
        "parked": parked,
        "seconds": round(real_time.monotonic() - started),
    }


def _figures(answer: Mapping[str, Any]) -> dict[str, Any]:
    (line,) = answer["lines"]
    return {
        "as_of": answer["as_of"],
        "open_count": line["open_count"],
        "open_balance": line["open"],
        "past_due_balance": line["overdue"],
        "customers_with_balance": line["customers"],
        "buckets": line["buckets"],
    }


def _count(notices: list[tuple[str, dict[str, Any]]], lines: list[Line]) -> dict[str, Any]:
    """Notices that asked for money, as told on the topic, and those that asked for money already paid."""
    settled_on = _settled_days(lines)
    sent = [
        data
        for kind, data in notices
        if kind == "cobranza.notifications.notice-sent.v1" and data["purpose"] == "dunning"
    ]
    wrongful = [
        data for data in sent if any(data["sent_on"] >= settled_on[line["receivable_id"]] for line in data["lines"])
    ]
    return {
        "notices_sent": len(sent),
        "lines": sum(len(data["lines"]) for data in sent),
        "claimed": str(sum((Decimal(data["claimed"]["amount"]) for data in sent), Decimal("0.00"))),
        "notices_for_settled": len(wrongful),
    }


def _settled_days(lines: list[Line]) -> dict[str, str]:
    from cobranza.contracts import identifiers

    return {
        str(
            identifiers.receivable_id(identifiers.invoice_id(COMPANY, SYSTEM, line.number), 1)
        ): line.settled_on.isoformat()
        for line in lines
    }


def main() -> int:
    """Run the example from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--state", type=Path, default=Path(".state/ibm-ar"), help="emptied before the run")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    try:
        lines = read(arguments.file)
        wipe(arguments.state)
        result = run(replay(lines, arguments.state, console))
    except (OSError, ValueError, LocalModeError) as error:
        console.print(f"[bold red]error[/]: {error}", highlight=False)
        return 1
    if result is None:
        return 130
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
