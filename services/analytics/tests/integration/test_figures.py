"""The same figures by HTTP, as CSV and on the command line; and at the size of a real portfolio."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import openpyxl
import pytest
from typer.testing import CliRunner

from cobranza.analytics import queries
from cobranza.analytics.commands import COMMANDS
from cobranza.analytics.domain.ageing import Bucket

TODAY = date(2027, 1, 4)


@pytest.fixture
async def portfolio(analytics: Any, told: Any) -> Any:
    """Two customers, two currencies, a hostile name; F-1 is 34 days late, F-2 not due, F-4 very late."""
    await analytics.tell(told.customer("C-1", "Ferretería Núñez"), told.customer("C-2", '=HYPERLINK("evil")'))
    await analytics.tell(
        told.invoice("F-1"),
        told.invoice("F-2", "300.00", issued_on=date(2026, 12, 20)),
    )
    await analytics.tell(
        told.receivable("F-1", allocated="160.00", version=2, effective_on=date(2026, 12, 15), recorded_on=TODAY),
        told.receivable("F-2", issued="300.00", issued_on=date(2026, 12, 20), due_on=date(2027, 1, 19)),
        told.receivable("F-3", currency="USD", issued="99.90", customer="C-2"),
        told.receivable("F-4", issued="50.00", customer="C-2", due_on=date(2026, 9, 1), issued_on=date(2026, 8, 1)),
        told.payment("P-1", "160.00", value_on=date(2026, 12, 15)),
        told.credit("25.00", customer="C-2"),
        told.credit("7.00", customer=None),
    )
    return analytics


async def test_ageing_is_told_by_currency_in_buckets(client: Any, portfolio: Any) -> None:
    answered = (await client.get("/v1/ageing?company=acme-mx")).json()

    assert (answered["as_of"], [line["currency"] for line in answered["lines"]]) == ("2027-01-04", ["MXN", "USD"])
    mxn = answered["lines"][0]
    assert (mxn["open"], mxn["overdue"], mxn["unapplied"]) == ("1350.00", "1050.00", "32.00")
    assert (mxn["open_count"], mxn["customers"], mxn["customers_overdue"]) == (3, 2, 2)
    assert {code: bucket["amount"] for code, bucket in mxn["buckets"].items()} == {
        "current": "300.00", "1-30": "0.00", "31-60": "1000.00", "61-90": "0.00", "90+": "50.00",
    }  # fmt: skip


async def test_ageing_of_a_past_day_ignores_what_was_later(client: Any, portfolio: Any) -> None:
    answered = (await client.get("/v1/ageing?company=acme-mx&as_of=2026-12-14")).json()

    assert answered["lines"][0]["open"] == "1210.00"


async def test_ageing_by_customer_names_the_most_overdue_first(client: Any, portfolio: Any) -> None:
    lines = (await client.get("/v1/ageing?company=acme-mx&by=customer")).json()["lines"]

    assert [(line["customer"], line["currency"], line["overdue"]) for line in lines] == [
        ("C-1", "MXN", "1000.00"), ("C-2", "USD", "99.90"), ("C-2", "MXN", "50.00"), ("-", "MXN", "0.00"),
    ]  # fmt: skip


async def test_the_csv_of_the_ageing_says_the_same_and_holds_no_formula(client: Any, portfolio: Any) -> None:
    answered = await client.get("/v1/ageing?company=acme-mx&by=customer&format=csv")

    assert answered.headers["content-type"] == "text/csv; charset=utf-8"
    assert "ageing-acme-mx-2027-01-04.csv" in answered.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answered.text.removeprefix("\ufeff"), newline="")))
    assert rows[0]["name"] == "Ferretería Núñez"
    assert (rows[0]["31-60"], rows[0]["open"]) == ("1000.00", "1300.00")
    assert rows[1]["name"] == '\'=HYPERLINK("evil")'


async def test_receivables_are_listed_by_pages_and_exported_whole(client: Any, portfolio: Any) -> None:
    first = (await client.get("/v1/receivables?company=acme-mx&limit=3")).json()
    rest = (
        await client.get("/v1/receivables", params={"company": "acme-mx", "limit": 3, "cursor": first["next_cursor"]})
    ).json()
    exported = await client.get("/v1/receivables?company=acme-mx&format=csv")

    listed = [item["number"] for item in first["items"] + rest["items"]]
    rows = list(csv.DictReader(io.StringIO(exported.text.removeprefix("\ufeff"), newline="")))
    assert sorted(listed) == ["F-1", "F-2", "F-3", "F-4"]
    assert rest["next_cursor"] is None
    assert [row["number"] for row in rows] == listed
    assert rows[0]["open"] == "50.00"


async def test_another_company_does_not_exist(client: Any, portfolio: Any) -> None:
    answered = await client.get("/v1/ageing?company=nobody")

    assert answered.status_code == 404
    assert answered.json()["type"] == "/problems/not-found"


@pytest.fixture
def command(portfolio: Any, companies_file: Any, business_clock: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ANALYTICS_DATABASE_URL", portfolio.url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(companies_file))
    monkeypatch.setenv("COBRANZA_CLOCK_FILE", str(business_clock._path))
    monkeypatch.setenv("COBRANZA_ALLOW_VIRTUAL_CLOCK", "true")

    async def run(*arguments: str) -> Any:
        # In a thread of its own: a verb runs a loop of its own.
        return await asyncio.to_thread(CliRunner().invoke, COMMANDS, list(arguments))

    return run


async def test_the_command_line_says_the_ageing_as_json(command: Any, client: Any) -> None:
    ended = await command("ageing", "--company", "acme-mx", "--as-of", "2026-12-14", "--json")

    said = json.loads(ended.stdout)
    asked = (await client.get("/v1/ageing?company=acme-mx&as_of=2026-12-14")).json()
    assert (said["as_of"], said["by"]) == ("2026-12-14", "currency")
    assert [(line["open"], line["buckets"]) for line in said["lines"]] == [
        (line["open"], line["buckets"]) for line in asked["lines"]
    ]


async def test_the_sheet_of_the_ageing_says_the_same_and_what_was_asked(client: Any, portfolio: Any) -> None:
    answered = await client.get("/v1/ageing?company=acme-mx&by=customer&format=xlsx")

    assert "ageing-acme-mx-2027-01-04.xlsx" in answered.headers["content-disposition"]
    book = openpyxl.load_workbook(io.BytesIO(answered.content))
    (header, *rows) = book.worksheets[0].iter_rows(values_only=True)
    asked = (await client.get("/v1/ageing?company=acme-mx&by=customer")).json()["lines"]
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(row["customer"], Decimal(str(row["open"]))) for row in found] == [
        (line["customer"], Decimal(line["open"])) for line in asked
    ]
    assert ("by", "customer") in list(book["about"].iter_rows(values_only=True))


async def test_the_command_line_writes_a_csv_and_shows_a_table(command: Any, tmp_path: Any) -> None:
    file = tmp_path / "ageing.csv"

    written = await command("ageing", "--company", "acme-mx", "--by", "customer", "--export", str(file))
    shown = await command("ageing", "--company", "acme-mx")

    assert written.exit_code == shown.exit_code == 0
    assert "C-2" in file.read_text(encoding="utf-8")
    assert "1,350.00" in shown.stdout


async def test_the_command_line_refuses_what_it_does_not_know(command: Any) -> None:
    company = await command("ageing", "--company", "nobody")
    grouping = await command("ageing", "--company", "acme-mx", "--by", "mood")
    ending = await command("ageing", "--company", "acme-mx", "--export", "ageing.ods")

    assert (company.exit_code, grouping.exit_code, ending.exit_code) == (2, 2, 2)
    assert "acme-mx" in company.stderr
    assert "must end in .csv or .xlsx" in ending.stderr


async def test_totals_count_what_was_invoiced_and_collected(command: Any) -> None:
    said = json.loads((await command("totals", "--company", "acme-mx", "--json")).stdout)

    assert said["lines"] == [
        {"currency": "MXN", "invoices": 3, "invoiced": "1510.00", "collected": "160.00"},
        {"currency": "USD", "invoices": 1, "invoiced": "99.90", "collected": "0.00"},
    ]


MANY = 50_000


async def test_fifty_thousand_receivables_age_as_plain_python_says(analytics: Any) -> None:
    random = Random(20270104)  # noqa: S311 - made-up portfolio
    first = date(2026, 1, 1)
    rows = [
        (
            f"C-{random.randrange(900)}", random.choice(("MXN", "USD")), first + timedelta(random.randrange(360)),
            random.randrange(1, 10**7), random.choice((None, 5, 40, 200)),
        )
        for _ in range(MANY)
    ]  # fmt: skip
    await analytics.change(
        """
        INSERT INTO receivable_balance (company, receivable_id, customer, currency, due_on, from_on, until_on, amount)
        SELECT 'acme-mx', gen_random_uuid(), c, k, i + 30, i, coalesce(i + p, DATE '9999-12-31'), a
        FROM unnest(CAST(:customers AS text[]), CAST(:currencies AS text[]), CAST(:issued AS date[]),
            CAST(:amounts AS bigint[]), CAST(:paid_after AS int[])) AS t(c, k, i, a, p)
        """,
        customers=[row[0] for row in rows], currencies=[row[1] for row in rows], issued=[row[2] for row in rows],
        amounts=[row[3] for row in rows], paid_after=[row[4] for row in rows],
    )  # fmt: skip

    for as_of in (first, date(2026, 3, 15), TODAY, date(2028, 1, 1)):
        expected, owing, late = _aged(rows, as_of=as_of)
        async with analytics.database.reading() as connection:
            by_currency = await queries.ageing(connection, company="acme-mx", as_of=as_of)
            by_customer = await queries.ageing_by_customer(connection, company="acme-mx", as_of=as_of)
        found = {
            (entry.currency, bucket.value): (entry.amounts[bucket], entry.counts[bucket])
            for entry in by_currency
            for bucket in Bucket
            if entry.counts[bucket]
        }
        summed: Counter[tuple[str, str]] = Counter()
        for entry in by_customer:
            for bucket in Bucket:
                summed[entry.currency, bucket.value] += entry.amounts[bucket]
        assert found == expected
        assert {entry.currency: entry.customers for entry in by_currency} == owing
        assert {e.currency: e.customers_overdue for e in by_currency if e.customers_overdue} == late
        assert +summed == Counter({key: amount for key, (amount, _) in expected.items()})


def _aged(rows: Any, *, as_of: date) -> tuple[dict[tuple[str, str], tuple[int, int]], dict[str, int], dict[str, int]]:
    """The same figures written out anew: of each bucket, and the customers that owe and are late, by currency."""
    amounts: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    owing: set[tuple[str, str]] = set()
    overdue: set[tuple[str, str]] = set()
    for customer, currency, issued_on, amount, paid_after in rows:
        is_paid = paid_after is not None and issued_on + timedelta(paid_after) <= as_of
        if issued_on > as_of or is_paid:
            continue
        late = (as_of - issued_on).days - 30
        bucket = (
            "current" if late <= 0 else "1-30" if late <= 30 else "31-60" if late <= 60 else "61-90" if late <= 90
            else "90+"
        )  # fmt: skip
        amounts[currency, bucket] += amount
        counts[currency, bucket] += 1
        owing.add((currency, customer))
        if late > 0:
            overdue.add((currency, customer))
    return (
        {key: (amounts[key], counts[key]) for key in amounts},
        dict(Counter(currency for currency, _ in owing)),
        dict(Counter(currency for currency, _ in overdue)),
    )
