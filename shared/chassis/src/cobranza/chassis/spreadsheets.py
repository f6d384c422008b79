"""Tables as CSV and XLSX documents: written part by part, with no cell that a program takes for a formula."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, Literal
from uuid import UUID

from fastapi import Response
from fastapi.responses import StreamingResponse
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

Cell = str | int | Decimal | date | datetime | UUID | None
Format = Literal["csv", "xlsx"]

BYTE_ORDER_MARK: Final = "\ufeff"
#: Rows a sheet can hold beside its header; what is more goes on in another sheet.
MOST_ROWS_IN_SHEET: Final = 1_048_575
_MOST_CHARACTERS_IN_TITLE: Final = 31
_MOST_CHARACTERS_IN_CELL: Final = 32_767
_KEPT_IN_MEMORY: Final = 8_000_000
_SENT_AT_ONCE: Final = 256_000
_COLUMN_WIDTH: Final = 16
_CSV: Final = "text/csv; charset=utf-8"
_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

#: A text that begins with one of these is a formula to some spreadsheet program, full-width forms too.
_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A table to be kept as a file.

    `parts` are lists of rows as they come from the database; `about` says what was asked for: the
    company, the day, the filter. `name` is the file's, without its ending.
    """

    name: str
    columns: Sequence[str]
    parts: AsyncIterator[Sequence[Sequence[Cell]]]
    about: Mapping[str, Cell]


async def answer(export: Export, file_format: Format) -> Response:
    """The file: CSV as it is read; XLSX once it is complete, from a temporary file."""
    kept = {"Content-Disposition": f'attachment; filename="{export.name}.{file_format}"'}
    if file_format == "csv":
        return StreamingResponse(_csv(export), media_type=_CSV, headers=kept)
    document = await _xlsx(export)
    return StreamingResponse(_read(document), media_type=_XLSX, headers=kept)


async def content(export: Export, file_format: Format) -> bytes:
    """The whole file."""
    if file_format == "csv":
        return "".join([part async for part in _csv(export)]).encode()
    return b"".join(_read(await _xlsx(export)))


def format_of(path: Path) -> Format:
    """What a file is by its ending, .csv or .xlsx.

    Raises:
        ValueError: it ends in something else.
    """
    match path.suffix.lower():
        case ".csv":
            return "csv"
        case ".xlsx":
            return "xlsx"
        case _:
            raise ValueError(f"{path.name} must end in .csv or .xlsx")


async def in_one_part(rows: Iterable[Sequence[Cell]]) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    """Rows that are all there already."""
    yield list(rows)


def is_like_formula(text: str) -> bool:
    """Whether some spreadsheet program would compute the text instead of showing it."""
    return text[:1] in _FORMULA_STARTS or text.lstrip(" \u3000")[:1] in _FORMULA_STARTS


def csv_lines(rows: Iterable[Sequence[Cell]]) -> str:
    """Lines of a CSV document (RFC 4180).

    Numbers and dates are written as they are; a text like a formula gets `'` before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_csv_cell(cell) for cell in row])
    return out.getvalue()


def _csv_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"'{cell}" if is_like_formula(cell) else cell
    return "" if cell is None else str(cell)


async def _csv(export: Export) -> AsyncIterator[str]:
    # The mark tells spreadsheet programs that accents are UTF-8.
    yield BYTE_ORDER_MARK + csv_lines([export.columns])
    async for part in export.parts:
        yield csv_lines(part)


async def _xlsx(export: Export) -> IO[bytes]:
    book = Workbook(write_only=True)
    try:
        await _fill(book, export)
        document = tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY)  # noqa: SIM115 - closed when it was sent
        await asyncio.to_thread(book.save, document)
    except BaseException:
        for sheet in book.worksheets:
            sheet.close()
        raise
    document.seek(0)
    return document


async def _fill(book: Workbook, export: Export) -> None:
    sheet, room = _sheet(book, export, title=export.name[:_MOST_CHARACTERS_IN_TITLE]), MOST_ROWS_IN_SHEET
    async for part in export.parts:
        rows = list(part)
        while rows:
            if not room:
                title = f"{export.name[: _MOST_CHARACTERS_IN_TITLE - 5]} {len(book.worksheets) + 1}"
                sheet, room = _sheet(book, export, title=title), MOST_ROWS_IN_SHEET
            fitting, rows = rows[:room], rows[room:]
            room -= len(fitting)
            # Elsewhere than on the loop: other requests go on meanwhile.
            await asyncio.to_thread(_append, sheet, fitting)
    about = book.create_sheet("about")
    for name, value in export.about.items():
        about.append([_bold(about, name), _xlsx_cell(about, value)])


def _sheet(book: Workbook, export: Export, *, title: str) -> Any:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    for position in range(1, len(export.columns) + 1):
        sheet.column_dimensions[get_column_letter(position)].width = _COLUMN_WIDTH
    sheet.append([_bold(sheet, column) for column in export.columns])
    return sheet


def _append(sheet: Any, rows: Iterable[Sequence[Cell]]) -> None:
    for row in rows:
        sheet.append([_xlsx_cell(sheet, cell) for cell in row])


def _xlsx_cell(sheet: Any, value: Cell) -> Any:
    match value:
        case str() | UUID():
            text = ILLEGAL_CHARACTERS_RE.sub("", str(value))[:_MOST_CHARACTERS_IN_CELL]
            cell = WriteOnlyCell(sheet, text)
            # Text whatever it looks like, also after a person has edited the cell.
            cell.data_type = "s"
            cell.quotePrefix = is_like_formula(text)
            return cell
        case datetime():
            # Excel knows no time zones: the instant is written as text.
            return _xlsx_cell(sheet, value.isoformat())
        case date():
            cell = WriteOnlyCell(sheet, datetime(value.year, value.month, value.day))  # noqa: DTZ001 - a date has no zone
            cell.number_format = "yyyy-mm-dd"
            return cell
        case _:
            return value


def _bold(sheet: Any, text: str) -> Any:
    cell = _xlsx_cell(sheet, text)
    cell.font = Font(bold=True)
    return cell


def _read(document: IO[bytes]) -> Iterable[bytes]:
    with document:
        while part := document.read(_SENT_AT_ONCE):
            yield part
