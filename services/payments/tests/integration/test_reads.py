"""The ledger read at the end of any day, by value and by record date, in pages, filtered, and as files."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import httpx
import openpyxl
import pytest

from cobranza.chassis import http, page
from cobranza.payments import queries
from cobranza.payments.api import router
from cobranza.payments.queries import AsOf, ReceiptFilter, ReceivableFilter

ACME = {"company": "acme-mx"}
NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def client(ledger: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://localhost/payments/v1"
    ) as client:
        yield client


def story(make: Any) -> list[Any]:
    """Everything that moves a balance: parts, money early and late, a credit note, a cancellation, a return."""
    return [
        make.invoice("F-1", "60.00", "40.00"),
        make.payment("P-1", "70.00", "F-1", value_on=date(2027, 1, 12)),
        make.payment("P-early", "30.00", "F-2", value_on=date(2026, 12, 20)),
        make.invoice("F-2", "50.00"),
        make.credit_note("N-1", "25.00", ("F-2", "15.00")),
        make.payment("P-late", "5.00", "F-1", value_on=date(2027, 1, 4)),
        make.invoice("F-3", "80.00"),
        make.payment("P-3", "80.00", "F-3", value_on=date(2027, 1, 14)),
        make.cancel("F-3", date(2027, 1, 20)),
        make.reversal("P-1", date(2027, 1, 22)),
        make.invoice("U-1", "9.00", currency="USD"),
    ]


async def amounts(ledger: Any, as_of: AsOf | None) -> dict[UUID, tuple[int, ...]]:
    """All amounts of every receivable and receipt that is not zero altogether."""
    found: dict[UUID, tuple[int, ...]] = {}
    async with ledger.database.reading() as connection:
        debts = queries.all_receivables(connection, company="acme-mx", which=ReceivableFilter(), as_of=as_of)
        async for part in debts:
            found |= {
                row.receivable_id: (row.issued, row.allocated, row.credited, row.written_off, row.open) for row in part
            }
        money = queries.all_receipts(connection, company="acme-mx", which=ReceiptFilter(), as_of=as_of)
        async for part in money:
            found |= {
                row.receipt_id: (row.amount, row.allocated, row.refunded, row.reversed, row.unapplied) for row in part
            }
    return found


async def test_by_record_date_the_ledger_is_what_it_was_at_every_instant(ledger: Any, make: Any) -> None:
    seen: list[tuple[datetime, dict[UUID, tuple[int, ...]]]] = []
    for event in story(make):
        await ledger.tell(event)
        seen.append((await ledger.value("SELECT clock_timestamp()"), await amounts(ledger, None)))

    for ends_at, was in seen:
        assert await amounts(ledger, AsOf(on=date(2027, 1, 4), by="record", ends_at=ends_at)) == was


@pytest.mark.parametrize("by", ["value", "record"])
async def test_at_the_end_of_time_the_ledger_is_what_it_is(
    ledger: Any, make: Any, by: Literal["value", "record"]
) -> None:
    await ledger.tell(*story(make))

    assert await amounts(ledger, AsOf(on=date(9999, 1, 1), by=by, ends_at=NEVER)) == await amounts(ledger, None)


async def test_by_value_date_only_what_had_taken_effect_counts(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(*story(make))

    async def open_on(day: date) -> dict[str, str]:
        answer = (await client.get("/receivables", params={**ACME, "as_of": str(day), "currency": "MXN"})).json()
        found: dict[str, Decimal] = {}
        for item in answer["items"]:
            found[item["number"]] = found.get(item["number"], Decimal(0)) + Decimal(item["open"]["amount"])
        return {number: str(amount) for number, amount in sorted(found.items())}

    # Issued on the 2nd; early money waits for its invoice; late money counts from its own day.
    assert await open_on(date(2027, 1, 1)) == {}
    assert await open_on(date(2027, 1, 3)) == {"F-1": "100.00", "F-2": "20.00", "F-3": "80.00"}
    assert await open_on(date(2027, 1, 4)) == {"F-1": "95.00", "F-2": "20.00", "F-3": "80.00"}
    assert await open_on(date(2027, 1, 13)) == {"F-1": "25.00", "F-2": "20.00", "F-3": "80.00"}
    assert await open_on(date(2027, 1, 15)) == {"F-1": "25.00", "F-2": "5.00", "F-3": "0.00"}
    # The cancellation frees the money, the return opens the debt again.
    assert await open_on(date(2027, 1, 22)) == {"F-1": "95.00", "F-2": "5.00", "F-3": "0.00"}


async def test_no_day_shows_a_balance_below_zero_and_all_days_add_up(ledger: Any, make: Any) -> None:
    await ledger.tell(*story(make))

    for day in (date(2026, 12, 15) + timedelta(days=n) for n in range(45)):
        for first, *rest in (await amounts(ledger, AsOf(on=day, by="value", ends_at=NEVER))).values():
            assert first == sum(rest)
            assert min(rest) >= 0


async def test_receipts_as_of_a_day_say_what_was_unapplied_then(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(*story(make))

    async def unapplied(day: str, **also: str) -> dict[str, str]:
        answer = (await client.get("/receipts", params={**ACME, "as_of": day, "kind": "cash", **also})).json()
        return {item["external_id"]: item["unapplied"]["amount"] for item in answer["items"]}

    assert await unapplied("2026-12-31") == {"P-early": "30.00"}
    assert await unapplied("2027-01-20") == {"P-3": "80.00", "P-1": "0.00", "P-late": "0.00", "P-early": "0.00"}
    assert await unapplied("2027-01-20", unapplied="true") == {"P-3": "80.00"}
    assert await unapplied("2027-01-20", value_from="2027-01-05", value_through="2027-01-13") == {"P-1": "0.00"}


async def test_a_statement_opens_where_the_one_before_closed(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(*story(make))

    async def statement(**asked: str) -> Any:
        return (await client.get("/customers/C1/statement", params={**ACME, **asked})).json()

    first = await statement(as_of="2027-01-12")
    second = await statement(as_of="2027-01-31", since="2027-01-13")

    mxn = {"amount": "125.00", "currency": "MXN"}
    assert first["balances"][0]["open"] == second["balances"][0]["opening"] == mxn
    for told in (first, second):
        for balance in told["balances"]:
            currency = balance["open"]["currency"]
            moved = [m for m in told["movements"] if m["amount"]["currency"] == currency]
            total = Decimal(balance["opening"]["amount"])
            for movement in moved:
                total += Decimal(movement["amount"]["amount"])
                assert Decimal(movement["balance"]["amount"]) == total
            assert Decimal(balance["open"]["amount"]) == total
        assert [m["effective_on"] for m in told["movements"]] == sorted(m["effective_on"] for m in told["movements"])
    assert second["is_complete"]
    assert second["as_of"] == "2027-01-31"


async def test_a_statement_cut_short_carries_the_rest_in_its_opening(
    ledger: Any, make: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.tell(*story(make))
    whole = (await client.get("/customers/C1/statement", params=ACME)).json()

    monkeypatch.setattr("cobranza.payments.api.ledger._MOVEMENTS", 3)
    cut = (await client.get("/customers/C1/statement", params=ACME)).json()

    assert (whole["is_complete"], cut["is_complete"]) == (True, False)
    assert cut["movements"] == whole["movements"][-3:]
    mine = [m for m in whole["movements"][:-3] if m["amount"]["currency"] == "MXN"]
    assert cut["balances"][0]["opening"] == mine[-1]["balance"]
    assert cut["balances"][0]["open"] == whole["balances"][0]["open"]


async def test_filters_are_a_closed_list(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(*story(make), make.of(customer="C2").invoice("G-1", "7.00"))

    async def numbers(**asked: str) -> list[str]:
        answer = await client.get("/receivables", params={**ACME, **asked})
        assert answer.status_code == 200, answer.text
        return [f"{item['number']}/{item['instalment']}" for item in answer.json()["items"]]

    assert await numbers(customer="C2") == ["G-1/1"]
    assert await numbers(number="F-1") == ["F-1/1", "F-1/2"]
    assert await numbers(number="F-1", due_from="2027-02-01") == ["F-1/2"]
    assert await numbers(number="F-1", due_through="2027-01-31") == ["F-1/1"]
    assert await numbers(invoice_id=str(make.invoice_id("F-2"))) == ["F-2/1"]
    assert await numbers(currency="USD") == ["U-1/1"]
    assert await numbers(kind="late_charge") == []
    assert await numbers(open="false") == ["F-3/1"]
    # As of the 13th it was still open.
    assert await numbers(open="false", as_of="2027-01-13") == ["F-1/1"]
    misspelt = await client.get("/receivables", params={**ACME, "curency": "USD"})
    assert (misspelt.status_code, misspelt.json()["type"]) == (400, "/problems/unknown-parameter")
    assert "did you mean 'currency'?" in misspelt.json()["detail"]


async def test_pages_as_of_a_day_give_every_row_once(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(*(make.invoice(f"F-{n}", "10.00") for n in range(7)))

    found: list[str] = []
    asked: dict[str, str] | None = {**ACME, "as_of": "2027-01-10", "limit": "3"}
    while asked:
        body = (await client.get("/receivables", params=asked)).json()
        found += [item["number"] for item in body["items"]]
        asked = {**asked, "cursor": body["next_cursor"]} if body["next_cursor"] else None

    assert sorted(found) == [f"F-{n}" for n in range(7)]


@pytest.mark.parametrize("path", ["/receivables", "/receipts", "/customers/C1/statement"])
async def test_files_hold_what_is_listed_with_company_day_and_currency(
    ledger: Any, make: Any, client: Any, path: str
) -> None:
    await ledger.tell(
        *story(make), make.invoice("=1+1", "3.00"), make.payment("@SUM(A1)", "1.00", value_on=date(2027, 1, 3))
    )
    asked = {**ACME, "as_of": "2027-01-31"}

    listed = (await client.get(path, params={**asked, "limit": "200"} if "statement" not in path else asked)).json()
    as_csv = await client.get(path, params={**asked, "format": "csv"})
    as_xlsx = await client.get(path, params={**asked, "format": "xlsx"})

    rows = list(csv.DictReader(io.StringIO(as_csv.text.removeprefix("\ufeff"), newline="")))
    book = openpyxl.load_workbook(io.BytesIO(as_xlsx.content))
    (header, *lines) = book.worksheets[0].iter_rows()
    amount = "open" if path == "/receivables" else "amount"
    expected = [item[amount]["amount"] for item in listed.get("items") or listed["movements"]]
    assert [row[amount] for row in rows] == expected
    place = [cell.value for cell in header].index(amount)
    assert [Decimal(str(line[place].value)) for line in lines] == [Decimal(text) for text in expected]
    assert {(row["company"], row["as_of"]) for row in rows} == {("acme-mx", "2027-01-31")}
    assert all(row["currency"] in {"MXN", "USD"} for row in rows)
    assert not [value for row in rows for value in row.values() if value[:1] in {"=", "@"}]
    assert {cell.data_type for line in lines for cell in line} <= {"s", "n", "d", "inlineStr"}
    assert ("as_of", datetime(2027, 1, 31)) in list(book["about"].iter_rows(values_only=True))  # noqa: DTZ001
    assert as_xlsx.headers["content-disposition"].endswith('-acme-mx-2027-01-31.xlsx"')


async def test_a_company_that_is_not_here_is_said_so(client: Any) -> None:
    for path in ("/receivables", "/receipts", "/customers/C1/statement"):
        answer = await client.get(path, params={"company": "nobody"})
        assert answer.status_code == 404
