"""What is exported reads back as it was, and no cell of it is a formula, in CSV and in XLSX."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from fastapi.responses import StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from cobranza.chassis import spreadsheets
from cobranza.chassis.spreadsheets import Cell, Export, Format, csv_lines, in_one_part

TEXTS = st.text(alphabet=st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]))
LIKE_FORMULAS = [
    '=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "\uff0b1", "\uff20x",
]  # fmt: skip


def export(rows: Sequence[Sequence[Cell]], columns: Sequence[str] = ("a", "b")) -> Export:
    return Export(name="debts", columns=columns, parts=in_one_part(rows), about={"company": "acme", "as_of": None})


def document(table: Export, file_format: Format) -> bytes:
    async def read() -> bytes:
        answer = await spreadsheets.answer(table, file_format)
        assert isinstance(answer, StreamingResponse)
        parts = [part async for part in answer.body_iterator]
        return b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)

    return asyncio.run(read())


def as_csv(table: Export) -> list[list[str]]:
    text = document(table, "csv").decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


def as_xlsx(table: Export) -> list[list[Any]]:
    book = openpyxl.load_workbook(io.BytesIO(document(table, "xlsx")))
    return [list(row) for row in book["debts"].iter_rows()]


@pytest.mark.parametrize("text", LIKE_FORMULAS)
def test_a_text_that_some_program_takes_for_a_formula_is_quoted(text: str) -> None:
    assert as_csv(export([["x", text]]))[1][1] == f"'{text}"


@given(st.text())
def test_no_text_in_csv_begins_like_a_formula(text: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_lines([["x", text]]), newline=""))

    first = row[1].lstrip(" \u3000")[:1]
    assert first not in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@given(TEXTS)
def test_harmless_texts_read_back_from_csv_as_they_were(text: str) -> None:
    assert as_csv(export([["x", text]]))[1][1] in (text, f"'{text}")


@given(st.one_of(TEXTS, st.sampled_from([*LIKE_FORMULAS, "#N/A", "TRUE", "1e5", "2027-01-01"])))
def test_texts_read_back_from_xlsx_as_texts(text: str) -> None:
    cell = as_xlsx(export([["x", text]]))[1][1]

    # What XML cannot carry is left out; line ends are as XML reads them.
    expected = ILLEGAL_CHARACTERS_RE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    assert cell.data_type != "f"
    assert isinstance(cell.value, str | None)
    assert (cell.value or "").replace("_x000D_", "\n").replace("\r", "\n") == expected or not expected.strip()


@pytest.mark.parametrize("text", LIKE_FORMULAS)
def test_a_text_like_a_formula_stays_text_in_xlsx_when_a_person_edits_it(text: str) -> None:
    assert as_xlsx(export([["x", text]]))[1][1].quotePrefix


def test_numbers_and_dates_stay_numbers_and_dates() -> None:
    row: list[Cell] = [Decimal("-12.50"), None, 3, date(2027, 1, 4), datetime(2027, 1, 4, 18, tzinfo=UTC)]
    columns = ["amount", "none", "count", "on", "at"]

    assert as_csv(export([row], columns))[1] == ["-12.50", "", "3", "2027-01-04", "2027-01-04 18:00:00+00:00"]
    cells = as_xlsx(export([row], columns))[1]
    assert [cells[0].value, cells[1].value, cells[2].value] == [-12.5, None, 3]
    assert cells[3].value == datetime(2027, 1, 4)  # noqa: DTZ001 - what a sheet gives back
    assert cells[3].number_format == "yyyy-mm-dd"
    assert cells[4].value == "2027-01-04T18:00:00+00:00"


def test_a_sheet_says_what_was_asked_for() -> None:
    book = openpyxl.load_workbook(io.BytesIO(document(export([]), "xlsx")))

    assert [[cell.value for cell in row] for row in book["about"].iter_rows()] == [["company", "acme"], ["as_of", None]]
    assert [cell.value for cell in book["debts"][1]] == ["a", "b"]


def test_what_one_sheet_cannot_hold_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "MOST_ROWS_IN_SHEET", 2)

    book = openpyxl.load_workbook(io.BytesIO(document(export([["x", n] for n in range(5)]), "xlsx")))

    assert book.sheetnames == ["debts", "debts 2", "debts 3", "about"]
    rows = [list(sheet.values) for sheet in book.worksheets[:3]]
    assert [part[0] for part in rows] == [("a", "b")] * 3
    assert [row for part in rows for row in part[1:]] == [("x", n) for n in range(5)]


def test_a_table_that_breaks_off_leaves_no_half_file() -> None:
    async def parts() -> AsyncIterator[Sequence[Sequence[Cell]]]:
        yield [["x", "y"]]
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        document(Export(name="debts", columns=["a", "b"], parts=parts(), about={}), "xlsx")


async def test_a_whole_file_is_what_is_answered() -> None:
    assert await spreadsheets.content(export([["x", "y"]]), "csv") == "\ufeffa,b\r\nx,y\r\n".encode()
    sheet = openpyxl.load_workbook(io.BytesIO(await spreadsheets.content(export([["x", "y"]]), "xlsx")))["debts"]
    assert sheet["B2"].value == "y"


def test_the_ending_of_a_file_says_what_it_is() -> None:
    assert spreadsheets.format_of(Path("debts.CSV")) == "csv"
    assert spreadsheets.format_of(Path("debts.xlsx")) == "xlsx"
    with pytest.raises(ValueError, match=r"debts.ods must end in .csv or .xlsx"):
        spreadsheets.format_of(Path("debts.ods"))
