"""Every format of bank file: what is read, what is refused, and where the fault is said to be."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cobranza.contracts.money import to_decimal
from cobranza.payments.domain.bank_transaction import Identifier, Item, Movement, Statement, in_minor
from cobranza.payments.domain.errors import StatementError
from cobranza.payments.gateways.statements import FORMATS, Mapping, detect_format, presets, read

_SPEC = importlib.util.spec_from_file_location("bank_files", Path(__file__).parents[1] / "bank_files.py")
assert _SPEC is not None
assert _SPEC.loader is not None
bank = sys.modules["bank_files"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bank)
Entry = bank.Entry

MINE = Mapping.model_validate(
    {
        "name": "mine", "title": "Mine", "currency": "MXN", "account": "123456789", "date_order": "dmy", "decimal": ".",
        "columns": {"booked_on": "Fecha", "texts": "Concepto", "amount": "Importe"},
    }
)  # fmt: skip


def parse(tmp_path: Path, content: str | bytes, **options: Any) -> list[Item]:
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    format_ = options.pop("format_", None) or detect_format(path, name="file")
    return list(read(path, name="file", format_=format_, **options))


def movements(items: list[Item]) -> list[Movement]:
    return [item for item in items if isinstance(item, Movement)]


def fault(tmp_path: Path, content: str | bytes, **options: Any) -> StatementError:
    with pytest.raises(StatementError) as refused:
        parse(tmp_path, content, **options)
    return refused.value


def outcome(tmp_path: Path, content: bytes, format_: Any) -> StatementError | None:
    """The refusal of a file, or None when it was read."""
    try:
        parse(tmp_path, content, format_=format_, mapping=MINE)
    except StatementError as refused:
        return refused
    return None


def sheet(*rows: tuple[Any, ...]) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet()
    for row in rows:
        page.append(row)
    kept = io.BytesIO()
    book.save(kept)
    return kept.getvalue()


# ---------------------------------------------------------------------- detection


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (bank.camt(Entry("1.00")), "camt.053"),
        (bank.camt(Entry("1.00"), kind="054"), "camt.054"),
        (bank.camt(Entry("1.00")).replace("UTF-8", "UTF-16").encode("utf-16"), "camt.053"),
        (bank.mt940(":61:2701120112C1,00NTRFX", closing="C270112EUR101,00"), "mt940"),
        ("{1:F01BANK}{2:I940}{4:\n" + bank.mt940(closing="C270112EUR100,00"), "mt940"),
        (bank.norma43(("270112", "200000000000100", "X")), "norma43"),
        ("Fecha;Importe\n", "csv"),
        (sheet(("Fecha", "Importe")), "xlsx"),
    ],
)
def test_the_format_is_found_from_the_content(tmp_path: Path, content: str | bytes, format_: str) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert detect_format(path, name=path.name) == format_


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xd0\xcf\x11\xe0", "save it as .xlsx or CSV"),
        (b"PK\x03\x04broken", "a damaged archive"),
        (b"<html></html>", "XML that is neither"),
        (b"hello", "--format says what it is"),
        (bytes(range(256)), "--format"),
    ],
)
def test_what_is_no_bank_file_is_refused_with_the_remedy(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in str(fault(tmp_path, content))


# ---------------------------------------------------------------------- camt


def test_a_batch_is_read_part_by_part(tmp_path: Path) -> None:
    found = movements(parse(tmp_path, bank.camt(Entry("60.00", "B1", parts=(("10.00", "F-1"), ("50.00", "F-2"))))))

    assert [(m.amount, m.references, m.entry_ref) for m in found] == [(1000, ("F-1",), "B1"), (5000, ("F-2",), "B1")]


def test_a_batch_whose_parts_do_not_sum_is_refused(tmp_path: Path) -> None:
    refused = fault(tmp_path, bank.camt(Entry("60.00", "B1", parts=(("10.00", "F-1"), ("49.00", "F-2")))))

    assert (refused.name, refused.line) == ("sum of TxDtls", 4)
    assert "60.00 EUR" in refused.expected
    assert "59.00 EUR" in refused.found


@pytest.mark.parametrize(
    ("mark", "is_reversal", "kind"),
    [("CRDT", False, "credit"), ("DBIT", False, "debit"), ("DBIT", True, "reversal"), ("CRDT", True, "returned_debit")],
)
def test_the_mark_and_the_reversal_say_what_an_entry_is(tmp_path: Path, mark: str, is_reversal: Any, kind: str) -> None:
    found = movements(parse(tmp_path, bank.camt(Entry("60.00", "A", mark=mark, reversal=is_reversal))))

    assert found[0].kind == kind


def test_no_entity_of_a_document_type_is_ever_read(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;">]>' + bank.camt().split("\n", 1)[1]

    assert fault(tmp_path, bomb, format_="camt.053").name == "DOCTYPE"


def test_deep_xml_is_refused(tmp_path: Path) -> None:
    assert "40 elements" in str(fault(tmp_path, "<a>" * 100_000, format_="camt.053"))


def test_a_long_statement_is_not_taken_for_a_long_text(tmp_path: Path) -> None:
    indented = bank.camt(Entry("60.00", "A")).replace("<Ntry>", " " * 200_000 + "<Ntry>")

    assert len(movements(parse(tmp_path, indented, format_="camt.053"))) == 1


def test_a_cut_off_file_is_refused_with_its_line(tmp_path: Path) -> None:
    refused = fault(tmp_path, bank.camt(Entry("60.00", "A"), Entry("5.00", "B"))[:-200])

    assert refused.name == "XML"
    assert refused.line >= 4


# ---------------------------------------------------------------------- Norma 43


@pytest.mark.parametrize("encoding", ["latin-1", "cp850", "utf-8"])
def test_norma_43_keeps_its_letters_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    file = bank.norma43(("270112", "200000000006000", "F-100")).encode(encoding)

    found = movements(parse(tmp_path, file))

    assert found[0].texts[0] == "TRANSFERENCIA NÚÑEZ"
    assert (found[0].amount, found[0].references, found[0].account) == (6000, ("F-100",), "210004180200051332")


@pytest.mark.parametrize(
    ("changes", "field"), [({"closing": "1"}, "closing balance"), ({"count": "7"}, "record count")]
)
def test_norma_43_that_disagrees_with_its_totals_is_refused(
    tmp_path: Path, changes: dict[str, str], field: str
) -> None:
    assert fault(tmp_path, bank.norma43(("270112", "200000000006000", "F-1"), **changes)).name == field


def test_norma_43_without_its_end_is_cut_off(tmp_path: Path) -> None:
    cut = bank.norma43(("270112", "200000000006000", "F-1")).rsplit("88", 1)[0]

    assert "record 88" in fault(tmp_path, cut).expected


# ---------------------------------------------------------------------- MT940


@pytest.mark.parametrize(
    ("value", "entry", "booked"),
    [("270102", "1231", "2026-12-31"), ("261231", "0102", "2027-01-02"), ("270112", "0112", "2027-01-12"),
     ("280228", "0229", "2028-02-29")],
)  # fmt: skip
def test_the_entry_dates_year_is_the_nearest(tmp_path: Path, value: str, entry: str, booked: str) -> None:
    file = bank.mt940(f":61:{value}{entry}C5,NTRFX", closing="C270112EUR105,")

    assert movements(parse(tmp_path, file))[0].booked_on == date.fromisoformat(booked)


def test_mt940_reversals_count_against_their_direction(tmp_path: Path) -> None:
    file = bank.mt940(
        ":61:270112C50,00NTRFA//1", ":61:270112RC50,00NTRFA//2", ":61:270112RD7,00NTRFB", ":61:270112D3,00NTRFC",
        closing="C270112EUR104,00",
    )  # fmt: skip

    assert [m.kind for m in movements(parse(tmp_path, file))] == ["credit", "reversal", "returned_debit", "debit"]


def test_mt940_that_disagrees_with_its_balance_is_refused_with_both(tmp_path: Path) -> None:
    refused = fault(tmp_path, bank.mt940(":61:270112C50,00NTRFA", closing="C270112EUR151,00"))

    assert (refused.line, "151.00 EUR" in refused.expected, "150.00 EUR" in refused.found) == (6, True, True)


def test_mt940_without_a_closing_balance_is_cut_off(tmp_path: Path) -> None:
    assert fault(tmp_path, ":20:A\n:25:1\n:60F:C270112EUR1,00\n:61:270112C5,NTRFX\n").name == ":62F:"


# ---------------------------------------------------------------------- CSV and XLSX


def test_a_table_without_a_mapping_says_which_fit(tmp_path: Path) -> None:
    refused = fault(tmp_path, "Fecha;Concepto;Abono;Cargo;Saldo\n01/02/2027;x;5.00;;5.00\n")

    assert "--mapping" in refused.expected
    assert "bbva-mx" in refused.found


@pytest.mark.parametrize(
    ("decimal", "text", "minor"),
    [(".", "1,234.50", 123450), (",", "1.234,50", 123450), (",", "-1.234,5", -123450), (".", "(12.00)", -1200),
     (".", "$ 12", 1200), (".", "12.00-", -1200), (".", "+.5", 50), (".", "MXN 1,000", 100000)],
)  # fmt: skip
def test_amounts_are_read_as_the_mapping_says(tmp_path: Path, decimal: str, text: str, minor: int) -> None:
    mapping = MINE.model_copy(update={"decimal": decimal})

    found = movements(parse(tmp_path, f'Fecha;Importe;Concepto\n1/2/27;"{text}";x\n', mapping=mapping))[0]

    assert found.amount * (1 if found.kind == "credit" else -1) == minor


@pytest.mark.parametrize("text", ["1,23", "12,34.5", "1.234", "1.2.3", "abc", "1e5", "NaN", "--5", "٣"])
def test_an_amount_in_another_notation_is_refused_not_guessed(tmp_path: Path, text: str) -> None:
    refused = fault(tmp_path, f'Fecha;Importe;Concepto\n1/2/27;"{text}";x\n', mapping=MINE)

    assert (refused.line, refused.name, refused.found) == (2, "amount", text)


def test_a_date_in_the_other_order_is_refused_with_the_remedy(tmp_path: Path) -> None:
    refused = fault(tmp_path, "Fecha;Importe;Concepto\n01/25/2027;5.00;x\n", mapping=MINE)

    assert "DD/MM/YYYY" in refused.expected
    assert "date_order" in refused.expected


def test_the_same_date_is_another_day_by_another_mapping(tmp_path: Path) -> None:
    file = "Fecha;Importe;Concepto\n02/03/2027;5.00;x\n"

    days = [
        movements(parse(tmp_path, file, mapping=MINE.model_copy(update={"date_order": order})))[0].booked_on
        for order in ("dmy", "mdy")
    ]

    assert days == [date(2027, 3, 2), date(2027, 2, 3)]


def test_every_faulty_row_is_told_up_to_twenty(tmp_path: Path) -> None:
    rows = "".join(f"{n}/13/2027;5.00;x\n" for n in range(1, 31))

    refused = fault(tmp_path, f"Fecha;Importe;Concepto\n{rows}", mapping=MINE)

    assert [one.line for one in refused.all()] == list(range(2, 22))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp850", "utf-16"])
def test_letters_survive_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = "Fecha;Importe;Concepto\n01/02/2027;5.00;Señor Ibáñez y Núñez, peluquería\n"

    found = movements(parse(tmp_path, text.encode(encoding), mapping=MINE))

    assert found[0].texts == ("Señor Ibáñez y Núñez, peluquería",)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_parts_the_header(tmp_path: Path, mark: str) -> None:
    file = mark.join(("Fecha", "Importe", "Concepto")) + "\n" + mark.join(("01/02/2027", "5.00", "a/b")) + "\n"

    assert movements(parse(tmp_path, file, mapping=MINE))[0].amount == 500


@pytest.mark.parametrize("balances", [("105.00", "100.00", "97.00"), ("100.00", "105.00", "95.00")])
def test_a_running_balance_must_fit_in_one_direction(tmp_path: Path, balances: tuple[str, ...]) -> None:
    mapping = MINE.model_copy(update={"columns": MINE.columns.model_copy(update={"balance": ("Saldo",)})})
    rows = "".join(f"01/02/2027;{a};x;{b}\n" for a, b in zip(("5.00", "3.00", "-10.00"), balances, strict=True))

    content = f"Fecha;Importe;Concepto;Saldo\n{rows}"

    if balances[0] == "105.00":  # newest first: 97 + 3 = 100, and 100 + 5 = 105
        assert [item.checks for item in parse(tmp_path, content, mapping=mapping) if isinstance(item, Statement)] == [
            ("running balance",)
        ]
    else:
        assert fault(tmp_path, content, mapping=mapping).name == "balance"


def test_a_sheet_is_read_with_its_numbers_and_dates(tmp_path: Path) -> None:
    content = sheet(
        ("Banco",), ("Fecha", "Importe", "Concepto"), (datetime(2027, 2, 3), 0.1 + 0.2, "a"),  # noqa: DTZ001 - as Excel has it
        ("04/02/2027", "1,000.00", 77), (None, None, None),
    )  # fmt: skip

    found = movements(parse(tmp_path, content, mapping=MINE))

    assert [(m.booked_on, m.amount, m.texts) for m in found] == [
        (date(2027, 2, 3), 30, ("a",)), (date(2027, 2, 4), 100_000, ("77",)),
    ]  # fmt: skip


def test_a_sheet_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"0" * 30_000_000)

    assert "times the file's size" in fault(tmp_path, kept.getvalue(), mapping=MINE).expected


def test_every_shipped_mapping_says_that_its_columns_are_to_be_checked() -> None:
    assert {mapping.name for mapping in presets()} >= {"bbva-mx", "santander-cl", "bancolombia", "es-bank"}
    assert all("dry run" in (mapping.based_on or "") for mapping in presets())


# ---------------------------------------------------------------------- properties


@given(st.lists(st.integers(1, 10**12), max_size=30), st.integers(0, 10**12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_amount_of_a_statement_is_read_to_the_cent(tmp_path: Path, amounts: list[int], opening: int) -> None:
    told = [f"{to_decimal(amount, 'EUR')}" for amount in amounts]

    items = parse(tmp_path, bank.camt(*(Entry(text) for text in told), opening=str(to_decimal(opening, "EUR"))))

    assert [m.amount for m in movements(items)] == amounts
    assert items[-1].closing == opening + sum(amounts)  # type: ignore[union-attr]


@given(st.integers(0, 10**15 - 1), st.sampled_from(["MXN", "CLP", "KWD", "EUR"]))
def test_an_amount_is_what_its_text_says(minor: int, currency: str) -> None:
    assert in_minor(str(to_decimal(minor, currency)), currency, line=1, name="amount") == minor


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=20), st.lists(st.sampled_from(["a", "b", "c"]), max_size=20))
def test_overlapping_files_share_exactly_their_common_movements(one: list[str], two: list[str]) -> None:
    def identities(texts: list[str]) -> set[str]:
        identifier = Identifier()
        return {
            identifier.identify(
                Movement(
                    line=n,
                    account="X",
                    currency="EUR",
                    amount=1,
                    kind="credit",
                    texts=(text,),
                    booked_on=date(2027, 1, 2),
                    value_on=date(2027, 1, 2),
                )
            ).identity
            for n, text in enumerate(texts)
        }

    common = sum(min(one.count(text), two.count(text)) for text in "abc")

    assert len(identities(one)) == len(one)
    assert len(identities(one) & identities(two)) == common


_CORPUS = (
    bank.camt(Entry("60.00", "A1", invoice="F-1"), Entry("9.00", "A2", mark="DBIT")).encode(),
    bank.mt940(":61:2701120112C60,00NTRFF-1//B", ":86:?20EREF+E?32N", closing="C270112EUR160,00").encode(),
    bank.norma43(("270112", "200000000006000", "F-1")).encode("latin-1"),
    b"Fecha;Importe;Concepto\n01/02/2027;5.00;x\n02/02/2027;-5.00;y\n",
    sheet(("Fecha", "Importe", "Concepto"), ("01/02/2027", 5, "x")),
)


@given(
    st.sampled_from(_CORPUS),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 8)), max_size=6),
    st.sampled_from([None, *FORMATS]),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
def test_a_damaged_file_is_read_or_refused_and_never_crashes(
    tmp_path: Path, content: bytes, damage: list[tuple[int, bytes, int]], format_: Any
) -> None:
    damaged = bytearray(content)
    for place, written, removed in damage:
        at = place % (len(damaged) + 1)
        damaged[at : at + removed] = written

    refused = outcome(tmp_path, bytes(damaged), format_)

    assert refused is None or (str(refused).startswith("file") and refused.expected)


@given(st.binary(max_size=400), st.sampled_from([None, *FORMATS]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
def test_any_bytes_are_refused_or_read(tmp_path: Path, content: bytes, format_: Any) -> None:
    refused = outcome(tmp_path, content, format_)

    assert refused is None or (str(refused).startswith("file") and refused.expected)


def test_camt_tells_the_account_that_was_paid_to(tmp_path: Path) -> None:
    clabe = "646180111122223333"
    items = parse(tmp_path, bank.camt(Entry("10.00", ref="R1", to_account=clabe), Entry("20.00", ref="R2")))

    assert [movement.to_account for movement in movements(items)] == [clabe, None]


def test_a_fault_is_told_in_english_where_no_language_is_asked_for() -> None:
    fault = StatementError(line=3, name="Amt", expected="at most {most} characters", values={"most": 5}, found="more")

    assert str(fault.of_file("a.xml")) == "a.xml, line 3, Amt: expected at most 5 characters; found more"
    with pytest.raises(KeyError):
        fault.in_words("a lo sumo {otro}")
