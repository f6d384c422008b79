"""Bank files: the whole file or nothing, each movement once, and out again."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cobranza.payments.commands import commands
from cobranza.payments.domain.errors import BankImportRefusedError, StatementError
from cobranza.payments.use_cases import Importer, Report
from cobranza.payments.use_cases.imports import read_mapping

_SPEC = importlib.util.spec_from_file_location("bank_files", Path(__file__).parents[1] / "bank_files.py")
assert _SPEC is not None
assert _SPEC.loader is not None
bank = sys.modules["bank_files"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bank)
Entry = bank.Entry

Take = Callable[..., Awaitable[Report]]


@pytest.fixture
def importer(ledger: Any) -> Importer:
    return Importer(ledger.database, ledger.context.companies, 6)


@pytest.fixture
def check(importer: Importer, tmp_path: Path) -> Take:
    async def check(
        content: str | bytes, *, name: str = "bank.txt", company: str = "acme-mx", **options: Any
    ) -> Report:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return await importer.check(path, name=name, by="ana", company=company, **options)

    return check


@pytest.fixture
def take(importer: Importer, check: Take) -> Take:
    async def take(content: str | bytes, **options: Any) -> Report:
        report = await check(content, **options)
        return report if report.is_repeat else await importer.run(report.import_id)

    return take


async def receipts(ledger: Any) -> list[tuple[int, int]]:
    rows = await ledger.rows("SELECT amount, unapplied FROM receipt ORDER BY amount")
    return [(row.amount, row.unapplied) for row in rows]


async def test_a_statement_pays_the_invoice_that_it_names(
    ledger: Any, make: Any, check: Take, importer: Importer
) -> None:
    await ledger.tell(make.invoice("F-1", "60.00", currency="USD"))
    file = bank.camt(Entry("60.00", "A1", invoice="F-1"), Entry("9.00", "A2", mark="DBIT"), currency="USD")

    dry = await check(file)
    assert (dry.state, dry.count("new"), await receipts(ledger)) == ("checked", 1, [])
    assert dry.ignored == ({"kind": "debit", "currency": "USD", "count": 1, "amount": "9.00"},)
    done = await importer.run(dry.import_id)

    assert done.state == "imported"
    assert await ledger.open("F-1") == 0
    assert await receipts(ledger) == [(6000, 0)]
    assert done.statements[0]["checks"] == ["TtlNtries/NbOfNtries", "closing balance"]


async def test_what_the_bank_says_beside_the_reference_is_kept(ledger: Any, take: Take) -> None:
    await take(bank.camt(Entry("60.00", "A1", text="Pago de enero"), currency="USD"))

    kept = await ledger.rows("SELECT l.texts, r.payer FROM bank_line l JOIN receipt r ON r.receipt_id = l.receipt_id")
    assert kept[0].texts == ["Pago de enero"]
    assert kept[0].payer == {"name": "Ferretería Núñez", "account": None, "tax_id": None, "to_account": None}


async def test_the_same_file_again_has_no_effect(ledger: Any, take: Take) -> None:
    file = bank.camt(Entry("60.00", "A1"))
    first = await take(file)

    again = await take(file, name="other name.xml")

    assert again.is_repeat
    assert again.import_id == first.import_id
    assert f"already imported on {first.imported_at:%Y-%m-%d} ({first.import_id})" in again.sentences()[0]
    assert len(await receipts(ledger)) == 1


async def test_overlapping_files_import_each_movement_once(ledger: Any, take: Take) -> None:
    same = Entry("5.00", text="cuota")
    await take(bank.camt(Entry("60.00", "A1"), same, same))

    second = await take(bank.camt(Entry("60.00", "A1"), same, same, same, Entry("7.00", "A3")))

    assert (second.count("known"), second.count("new")) == (3, 2)
    assert await receipts(ledger) == [(500, 500)] * 3 + [(700, 700), (6000, 6000)]


async def test_a_notification_and_the_statement_tell_the_same_entry_once(ledger: Any, take: Take) -> None:
    await take(bank.camt(Entry("60.00", "A1"), kind="054"))

    statement = await take(bank.camt(Entry("60.00", "A1", text="more words")))

    assert (statement.count("known"), len(await receipts(ledger))) == (1, 1)


async def test_a_batch_told_in_parts_before_is_known_as_one_sum(ledger: Any, take: Take) -> None:
    parts = (("10.00", "F-1"), ("20.00", "F-2"), ("30.00", "F-3"))
    await take(bank.camt(Entry("60.00", "B1", parts=parts), kind="054"))

    statement = await take(bank.camt(Entry("60.00", "B1", parts=(("", ""),))))

    assert statement.count("known") == 1
    assert await receipts(ledger) == [(1000, 1000), (2000, 2000), (3000, 3000)]


async def test_a_changed_line_is_a_conflict_and_not_imported(ledger: Any, take: Take) -> None:
    first = await take(bank.camt(Entry("60.00", "A1")))

    changed = await take(bank.camt(Entry("61.00", "A1")))

    assert (changed.count("conflict"), changed.count("new")) == (1, 0)
    assert await receipts(ledger) == [(6000, 6000)]
    row = (await ledger.rows("SELECT note, other_import FROM bank_line WHERE verdict = 'conflict'"))[0]
    assert row.other_import == first.import_id
    assert row.note == "6000 EUR 2027-01-12"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"closing": "999.00"}, "closing balance"), ({"count": "3"}, "TtlNtries/NbOfNtries")],
)
async def test_a_total_that_differs_refuses_the_whole_file(
    ledger: Any, check: Take, wrong: dict[str, str], field: str
) -> None:
    with pytest.raises(StatementError) as refused:
        await check(bank.camt(Entry("60.00", "A1"), Entry("7.00", "A2"), **wrong))

    assert refused.value.name == field
    assert refused.value.file == "bank.txt"
    assert await ledger.value("SELECT count(*) FROM bank_import") == 0


async def test_a_reversal_takes_the_known_movement_back(ledger: Any, make: Any, take: Take) -> None:
    await ledger.tell(make.invoice("F-1", "60.00", currency="USD"))
    await take(bank.camt(Entry("60.00", "A1", invoice="F-1", end_to_end="E-77"), currency="USD"))

    back = await take(bank.camt(Entry("60.00", "A9", mark="DBIT", reversal=True, end_to_end="E-77"), currency="USD"))

    assert back.count("new", "reversal") == 1
    assert await ledger.open("F-1") == 6000
    assert await ledger.value("SELECT reversed FROM receipt") == 6000


async def test_a_reversal_of_no_known_movement_is_listed(ledger: Any, take: Take) -> None:
    await take(bank.camt(Entry("60.00", "A1", end_to_end="E-77")))

    back = await take(bank.camt(Entry("60.00", "A9", mark="DBIT", reversal=True, end_to_end="E-78")))

    assert back.count("unmatched") == 1
    assert await ledger.value("SELECT reversed FROM receipt") == 0


async def test_a_reversal_in_the_same_file_takes_back_once(ledger: Any, take: Take) -> None:
    back = Entry("60.00", "A9", mark="DBIT", reversal=True, end_to_end="E-77")
    done = await take(bank.camt(Entry("60.00", "A1", end_to_end="E-77"), back, dataclasses.replace(back, ref="A10")))

    assert (done.count("new", "reversal"), done.count("unmatched")) == (1, 1)
    assert await ledger.value("SELECT reversed FROM receipt") == 6000


async def test_pending_entries_are_left_alone_with_a_count(ledger: Any, take: Take) -> None:
    done = await take(bank.camt(Entry("60.00", "A1"), Entry("8.00", "A2", status="PDNG")))

    assert [(one["kind"], one["count"], one["amount"]) for one in done.ignored] == [("pending", 1, "8.00")]


async def test_an_import_can_be_undone_and_made_again(ledger: Any, make: Any, take: Take, importer: Importer) -> None:
    await ledger.tell(make.invoice("F-1", "60.00", currency="USD"))
    file = bank.camt(Entry("60.00", "A1", invoice="F-1"), Entry("5.00", "A2"), currency="USD")
    first = await take(file)

    undone = await importer.undo(first.import_id, by="ana")
    again = await importer.undo(first.import_id, by="ana")

    assert (undone.state, again.state, again.is_repeat) == ("undone", "undone", True)
    assert await ledger.open("F-1") == 6000
    assert await ledger.value("SELECT sum(reversed) FROM receipt") == 6500
    second = await take(file)
    assert (second.count("new"), second.import_id != first.import_id) == (2, True)
    assert await ledger.open("F-1") == 0
    assert await ledger.value("SELECT sum(amount - reversed) FROM receipt") == 6500


async def test_an_import_whose_money_was_refunded_is_not_undone(ledger: Any, take: Take, importer: Importer) -> None:
    done = await take(bank.camt(Entry("60.00", "A1")))
    from cobranza.chassis.clock import BusinessClock
    from cobranza.chassis.database import Database

    owner = Database(ledger.owner_url, service="payments", clock=BusinessClock(None))
    async with owner.transaction() as tx:
        await tx.execute("UPDATE receipt SET refunded = 100")
        await tx.execute("UPDATE credit SET unapplied = unapplied - 100")
    await owner.close()
    ledger.expected_broken = await ledger.broken()

    with pytest.raises(BankImportRefusedError, match="was refunded"):
        await importer.undo(done.import_id, by="ana")


async def test_an_import_that_reversed_another_imports_payment_is_not_undone(take: Take, importer: Importer) -> None:
    await take(bank.camt(Entry("60.00", "A1", end_to_end="E-77")))
    back = await take(bank.camt(Entry("60.00", "A9", mark="DBIT", reversal=True, end_to_end="E-77")))

    with pytest.raises(BankImportRefusedError, match="a reversal cannot be taken back"):
        await importer.undo(back.import_id, by="ana")


async def test_an_import_cut_short_goes_on_and_nobody_overtakes_it(
    ledger: Any, check: Take, importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cobranza.payments.use_cases.imports._BOOK_AT_ONCE", 2)
    file = await check(bank.camt(*(Entry("5.00", f"A{n}") for n in range(5))))
    other = await check(bank.camt(Entry("5.00", "A1"), Entry("6.00", "B1")), name="other")
    booked = importer.import_some

    calls = 0

    async def crash(self: Importer, import_id: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ConnectionError("killed")
        return await booked(import_id)

    with monkeypatch.context() as patched:
        patched.setattr(Importer, "import_some", crash)
        with pytest.raises(ConnectionError):
            await importer.run(file.import_id)
    assert len(await receipts(ledger)) == 2
    with pytest.raises(BankImportRefusedError, match="on its way"):
        await importer.run(other.import_id)

    while await importer.resume():
        pass

    assert len(await receipts(ledger)) == 5
    last = await importer.run(other.import_id)
    assert (last.count("known"), last.count("new")) == (1, 1)


async def test_a_statement_moves_the_watermark_of_its_account_where_it_is_told_of(ledger: Any, take: Take) -> None:
    unknown = await take(bank.camt(Entry("5.00", "A1"), day="2027-01-02"))
    await ledger.run(
        "INSERT INTO cash_feed (company, feed, through_on, stated_at, version) VALUES ('acme-mx', :f, '2027-01-01',"
        " clock_timestamp(), 1)",
        f=bank.IBAN.lower(),
    )
    known = await take(bank.camt(Entry("5.00", "A2"), day="2027-01-02"))
    future = await take(bank.camt(Entry("5.00", "A3"), day="2027-01-12"))

    assert unknown.watermark is not None
    assert "not moved" in unknown.watermark
    assert known.watermark == f"feed {bank.IBAN.lower()}: through 2027-01-02"
    # Today is not complete yet.
    assert future.watermark == f"feed {bank.IBAN.lower()}: through 2027-01-03"


async def test_norma_43_is_imported_by_its_references(ledger: Any, make: Any, take: Take) -> None:
    file = bank.norma43(("270112", "200000000006000", "F-1"), ("270112", "100000000000900", "")).encode("cp850")

    done = await take(file)

    assert (done.format, done.count("new")) == ("norma43", 1)
    assert done.statements[0]["closing"] == "151.00"
    assert await ledger.value("SELECT details ->> 'references' FROM receipt") == '["F-1"]'
    assert await ledger.value("SELECT texts ->> 0 FROM bank_line") == "TRANSFERENCIA NÚÑEZ"


async def test_mt940_is_imported_with_the_year_of_its_entry_date(ledger: Any, take: Take) -> None:
    file = bank.mt940(
        ":61:2701021231C60,00NTRFF-1//BANK1", ":86:?20EREF+E-1?21SVWZ+Pago?32Ferreteria", closing="C270112EUR160,00"
    )

    done = await take(file)

    assert (done.format, done.count("new")) == ("mt940", 1)
    row = (await ledger.rows("SELECT booked_on, value_on, told FROM bank_line"))[0]
    assert (str(row.booked_on), str(row.value_on)) == ("2026-12-31", "2027-01-02")
    assert row.told["payer"]["name"] == "Ferreteria"
    assert row.told["references"] == ["F-1", "E-1"]


async def test_a_saved_mapping_reads_a_csv_in_latin_1(ledger: Any, take: Take, importer: Importer) -> None:
    mapping = read_mapping(
        "{name: mine, title: Mine, currency: EUR, date_order: dmy, decimal: ',', "
        "columns: {booked_on: Día, texts: Descripción, amount: Importe, references: Factura, balance: Saldo}}"
    )
    await importer.save_mapping("acme-mx", mapping, by="ana")
    file = (
        "Movimientos de la cuenta;;;;\r\nDía;Descripción;Factura;Importe;Saldo\r\n"
        '03/02/27;"Pago; Núñez";F-1;1.234,50;1.334,50\r\n04/02/27;Comisión;;-3,00;1.331,50\r\n'
    )

    done = await take(file.encode("latin-1"), mapping="mine", account="123456789")

    assert (done.format, done.count("new"), done.mapping) == ("csv", 1, "mine")
    row = (await ledger.rows("SELECT booked_on, amount, told, texts FROM bank_line"))[0]
    assert (str(row.booked_on), row.amount, row.texts) == ("2027-02-03", 123450, ["Pago; Núñez"])
    assert row.told["references"] == ["F-1"]
    assert done.statements[0]["checks"] == ["running balance"]


async def test_the_companies_own_accounts_decide_whose_file_it_is(importer: Importer, check: Take) -> None:
    with pytest.raises(StatementError, match="--company"):
        await check(bank.camt(Entry("5.00", "A1")), company=None)


@pytest.fixture
def cobranza(ledger: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`cobranza payments …` against the test's own database."""
    companies = {
        "companies": {
            "acme-mx": {
                "name": "Acme", "tax_id": "X", "country": "MX", "zone": "America/Mexico_City", "currencies": ["MXN"],
                "payment_instructions": [
                    {"currency": "MXN", "bank": "B", "holder": "H", "account": "IBAN " + bank.IBAN}
                ],
                "contact": {"name": "A", "email": "a@example.test"}, "sender": {"name": "A", "email": "a@example.test"},
            },
            "other-mx": {
                "name": "Other", "tax_id": "X", "country": "MX", "zone": "America/Mexico_City", "currencies": ["MXN"],
                "contact": {"name": "A", "email": "a@example.test"}, "sender": {"name": "A", "email": "a@example.test"},
            },
        }
    }  # fmt: skip
    (tmp_path / "companies.yaml").write_text(json.dumps(companies))
    monkeypatch.setenv("PAYMENTS_DATABASE_URL", ledger.app_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(tmp_path / "companies.yaml"))

    async def cobranza(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, commands, list(arguments), catch_exceptions=False)

    return cobranza


async def test_the_command_imports_and_undoes_and_finds_the_company_by_its_account(
    ledger: Any, make: Any, cobranza: Any, tmp_path: Path
) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"))
    file = tmp_path / "enero.xml"
    file.write_text(bank.camt(Entry("60.00", "A1", invoice="F-1"), currency="MXN", day="2027-01-03"))

    dry = await cobranza("import", str(file), "--dry-run")
    assert (dry.exit_code, await ledger.open("F-1")) == (0, 6000)
    done = await cobranza("import", str(file), "--json")
    told = json.loads(done.stdout)
    again = await cobranza("import", str(file))
    listed = await cobranza("imports", "--company", "acme-mx", "--json")

    assert (done.exit_code, told["state"], told["company"], await ledger.open("F-1")) == (0, "imported", "acme-mx", 0)
    # The company's only account: its cash is known through the statement's last complete day.
    assert told["watermark"].startswith(f"feed {bank.IBAN.lower()}: through 20")
    assert "already imported on" in again.stdout
    assert [one["state"] for one in json.loads(listed.stdout)] == ["imported", "checked"]
    undone = await cobranza("undo-import", told["import_id"])
    assert (undone.exit_code, await ledger.open("F-1")) == (0, 6000)
    unknown = await cobranza("undo-import", "00000000-0000-0000-0000-000000000000")
    assert (unknown.exit_code, "no import" in unknown.stderr) == (4, True)


async def test_the_command_refuses_another_companys_account(cobranza: Any, tmp_path: Path) -> None:
    file = tmp_path / "enero.xml"
    file.write_text(bank.camt(Entry("60.00", "A1")))

    refused = await cobranza("import", str(file), "--company", "other-mx")

    assert refused.exit_code == 4
    assert "which is an account of acme-mx" in refused.stderr


async def test_the_command_tells_every_fault_and_imports_nothing(ledger: Any, cobranza: Any, tmp_path: Path) -> None:
    mapping, file = tmp_path / "mine.yaml", tmp_path / "enero.csv"
    mapping.write_text(
        "{name: mine, title: M, currency: MXN, date_order: dmy, decimal: '.', columns: {booked_on: Fecha, amount: Importe}}"
    )
    file.write_text("Fecha,Importe\n01/02/2027,1.00\n01/13/2027,1.00\n01/02/2027,x\n")

    assert (await cobranza("mapping", "save", str(mapping), "--company", "acme-mx")).exit_code == 0
    assert "mine" in (await cobranza("mapping", "list", "--company", "acme-mx")).stdout
    options = ("--company", "acme-mx", "--mapping", "mine", "--account", "123456789")
    refused = await cobranza("import", str(file), *options)
    as_json = await cobranza("import", str(file), *options, "--json")
    without = await cobranza("import", str(file), "--company", "acme-mx")

    assert refused.exit_code == as_json.exit_code == without.exit_code == 4
    assert "enero.csv, line 3, booked_on: expected a date DD/MM/YYYY" in refused.stderr
    assert [(one["line"], one["field"]) for one in json.loads(as_json.stdout)["errors"]] == [
        (3, "booked_on"),
        (4, "amount"),
    ]
    assert "--mapping" in without.stderr
    assert await ledger.value("SELECT count(*) FROM bank_line") == 0
