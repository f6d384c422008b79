"""A portfolio runs through the whole platform day by day; every figure equals an independent recomputation.

The portfolio is made up here in the columns of the public sample. `make example-check FILE=ibm_ar.csv`
runs the same test on the sample itself, which takes minutes and is not part of this repository.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: The policy of the example: one e-mail this many calendar days after the due date.
STEP_DAYS = 5
COLUMNS = ("countryCode", "customerID", "invoiceNumber", "InvoiceDate", "DueDate", "InvoiceAmount", "SettledDate")
DAYS = (date(2012, 6, 30), date(2012, 12, 31), date(2013, 6, 30), date(2013, 9, 30), date(2013, 12, 31))


@dataclass(frozen=True)
class Invoice:
    customer: str
    issued: date
    due: date
    settled: date
    amount: Decimal


def _made_up(file: Path) -> None:
    chance = random.Random(11)
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        for number in range(60):
            issued = date(2012, 6, 1) + timedelta(days=chance.randrange(0, 25))
            due = issued + timedelta(days=10)
            settled = due + timedelta(days=chance.choice([-4, 0, 3, 5, 6, 9, 16]))
            writer.writerow(
                {
                    "countryCode": "391",
                    "customerID": f"{chance.randrange(1, 13):04d}-TESTS",
                    "invoiceNumber": f"{number:010d}",
                    "InvoiceDate": f"{issued.month}/{issued.day}/{issued.year}",
                    "DueDate": f"{due.month}/{due.day}/{due.year}",
                    "InvoiceAmount": f"{chance.randrange(100, 100_000) / 100:.2f}",
                    "SettledDate": f"{settled.month}/{settled.day}/{settled.year}",
                }
            )


def _read(file: Path) -> list[Invoice]:
    def day(text: str) -> date:
        return datetime.strptime(text, "%m/%d/%Y").date()

    with file.open(newline="", encoding="utf-8") as opened:
        return [
            Invoice(
                r["customerID"],
                day(r["InvoiceDate"]),
                day(r["DueDate"]),
                day(r["SettledDate"]),
                Decimal(r["InvoiceAmount"]),
            )
            for r in csv.DictReader(opened)
        ]


def _recomputed_notices(invoices: list[Invoice]) -> dict[str, Any]:
    """On the day an invoice is five days overdue and unpaid, its debtor gets one notice of all overdue ones."""
    last = max(i.settled for i in invoices)
    days: dict[tuple[str, date], list[Invoice]] = {}
    by_customer: dict[str, list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        by_customer[invoice.customer].append(invoice)
    for customer, own in by_customer.items():
        for invoice in own:
            on = invoice.due + timedelta(days=STEP_DAYS)
            if invoice.settled > on and on <= last:
                days[customer, on] = [i for i in own if i.issued <= on and i.due < on < i.settled]
    return {
        "notices_sent": len(days),
        "lines": sum(len(listed) for listed in days.values()),
        "claimed": str(sum((i.amount for listed in days.values() for i in listed), Decimal("0.00"))),
        "notices_for_settled": 0,
    }


def _recomputed_ageing(invoices: list[Invoice], on: date) -> dict[str, Any]:
    still = [i for i in invoices if i.issued <= on < i.settled]
    edges = {"current": (-(10**6), 0), "1-30": (1, 30), "31-60": (31, 60), "61-90": (61, 90), "90+": (91, 10**6)}
    buckets = {name: [i for i in still if low <= (on - i.due).days <= high] for name, (low, high) in edges.items()}
    return {
        "as_of": on.isoformat(),
        "open_count": len(still),
        "open_balance": _sum(still),
        "past_due_balance": _sum([i for i in still if i.due < on]),
        "customers_with_balance": len({i.customer for i in still}),
        "buckets": {name: {"amount": _sum(inside), "count": len(inside)} for name, inside in buckets.items()},
    }


def _sum(invoices: list[Invoice]) -> str:
    return str(sum((i.amount for i in invoices), Decimal("0.00")))


@pytest.mark.timeout(1200)
def test_the_platform_says_what_a_few_lines_of_arithmetic_say(
    tmp_path: Path, request: pytest.FixtureRequest, postgres: str, kafka_bootstrap: str
) -> None:
    real = request.config.getoption("--real-portfolio")
    file = Path(real) if real else tmp_path / "made_up.csv"
    if not real:
        _made_up(file)
    invoices = _read(file)

    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "ibm_ar.py"), str(file), "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    first, last = min(i.issued for i in invoices), max(i.settled for i in invoices)
    assert said["ageing"] == [_recomputed_ageing(invoices, on) for on in DAYS if first <= on <= last]
    assert (said["invoiced_total"], said["collected_total"]) == (_sum(invoices), _sum(invoices))
    assert {name: said[name] for name in ("notices_sent", "lines", "claimed", "notices_for_settled")} == (
        _recomputed_notices(invoices)
    )
    assert said["parked"] == 0
    if real:
        _compare_with_truth(said, file.with_name("ibm_ar_truth.json"))


def _compare_with_truth(said: dict[str, Any], truth_file: Path) -> None:
    """The figures that were computed for the sample elsewhere, to the cent and the count."""
    truth = json.loads(truth_file.read_text(encoding="utf-8"), parse_float=Decimal)
    assert said["invoiced_total"] == str(truth["invoiced_total"])
    assert len(said["ageing"]) == len(truth["ageing"])
    for found, known in zip(said["ageing"], truth["ageing"], strict=True):
        assert found["as_of"] == known["as_of"]
        assert (found["open_count"], found["customers_with_balance"]) == (
            known["open_count"],
            known["customers_with_balance"],
        )
        assert Decimal(found["open_balance"]) == known["open_balance"]
        assert Decimal(found["past_due_balance"]) == known["past_due_balance"]
        for bucket, inside in found["buckets"].items():
            assert (Decimal(inside["amount"]), inside["count"]) == (known[f"bal_{bucket}"], known[f"n_{bucket}"])
