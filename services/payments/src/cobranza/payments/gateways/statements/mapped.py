"""CSV and XLSX, read by a mapping that says which column means what; nothing about dates or amounts is guessed."""

from __future__ import annotations

import csv
import math
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import openpyxl
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cobranza.contracts.money import exponent
from cobranza.contracts.payloads import Currency, Line, Prose, Slug
from cobranza.payments.domain.bank_transaction import (
    Format,
    Item,
    Kind,
    Movement,
    Statement,
    account_of,
    cleaned,
    cleaned_all,
    comparable,
    in_minor,
)
from cobranza.payments.domain.errors import StatementError
from cobranza.payments.gateways.statements.detect import encoding_of, lines_of

_MOST_FAULTS: Final = 20
_HEADER_WITHIN: Final = 60
_MOST_CELLS: Final = 200
#: Tables compress well, bombs better.
_MOST_RATIO: Final = 200
_LARGEST: Final = 10**15
_YEAR_DIGITS: Final = 4
_MOST_UNPACKED: Final = 512 * 1024 * 1024
_DATE: Final = re.compile(r"(\d{1,4})[/.\-](\d{1,2})[/.\-](\d{1,4})", re.ASCII)

_HEADERS = Annotated[tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...], Field(max_length=20)]


class Columns(BaseModel):
    """Which column means what; each by its header, or several that mean the same in a bank's editions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    booked_on: _HEADERS
    value_on: _HEADERS = ()
    amount: Annotated[_HEADERS, Field(description="One column: above zero is money in")] = ()
    credit: Annotated[_HEADERS, Field(description="With debit: two columns without signs")] = ()
    debit: _HEADERS = ()
    texts: Annotated[_HEADERS, Field(description="Every column named here is read")] = ()
    references: Annotated[_HEADERS, Field(description="What the payer names; every column named here is read")] = ()
    bank_ref: Annotated[_HEADERS, Field(description="The bank's own, unique in the account")] = ()
    payer_name: _HEADERS = ()
    payer_account: _HEADERS = ()
    payer_tax_id: _HEADERS = ()
    to_account: Annotated[_HEADERS, Field(description="Account that was paid to, where each customer has one")] = ()
    balance: Annotated[_HEADERS, Field(description="After each movement; then the file is checked by it")] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {name: (told,) if isinstance(told, str) else told for name, told in given.items()}
        return given

    @model_validator(mode="after")
    def _amounts(self) -> Self:
        if bool(self.amount) == bool(self.credit):
            raise ValueError("expected either 'amount' (with a sign) or 'credit' (with or without 'debit')")
        return self


class Mapping(BaseModel):
    """How one bank's CSV or XLSX is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    title: Line
    based_on: Annotated[Prose | None, Field(description="Where the columns are known from")] = None
    currency: Currency
    account: Annotated[Line | None, Field(description="Where the file does not say the account")] = None
    date_order: Literal["dmy", "mdy", "ymd"]
    decimal: Literal[",", "."]
    delimiter: Annotated[
        Literal[",", ";", "\t", "|"] | None, Field(description="Absent: the one that the header line has most of")
    ] = None
    encoding: Annotated[
        Literal["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "cp850"] | None,
        Field(description="Absent: found from the content"),
    ] = None
    columns: Columns


@cache
def presets() -> tuple[Mapping, ...]:
    """The mappings that are shipped; each file's head says what it is based on."""
    folder = resources.files("cobranza.payments") / "presets" / "bank_files"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(Mapping.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files)


def mapping_missing(path: Path, format_: Format) -> StatementError:
    """What to say when a table comes without a mapping: which shipped ones fit its header."""
    fitting = [m.name for m in presets() if _fits(path, format_, m)]
    hint = f"these fit its columns: {', '.join(fitting)}" if fitting else "no shipped mapping fits its columns"
    return StatementError(
        line=0, name="mapping", expected="the name of a mapping (--mapping), for a table does not say "
        "what its columns mean", found=f"none; {hint}"
    )  # fmt: skip


def _fits(path: Path, format_: Format, mapping: Mapping) -> bool:
    try:
        _header(_rows(path, format_, mapping), mapping)
    except (StatementError, OSError):
        return False
    return True


def read(path: Path, format_: Format, mapping: Mapping, *, account: str | None) -> Iterator[Item]:
    """Read the table; with a balance column every movement is held against it.

    Raises:
        StatementError: with up to 20 faults of rows.
    """
    chosen = account or mapping.account
    if not chosen or not account_of(chosen):
        raise _fault(0, "account", "the account (--account), which neither the file nor the mapping says", "none")
    rows = _rows(path, format_, mapping)
    layout = _header(rows, mapping)
    faults: list[StatementError] = []
    balances = _Balances(mapping)
    days: list[date] = []
    for line, cells in rows:
        if not any(cell not in {None, ""} for cell in cells):
            continue
        try:
            told = _movement(line, cells, layout, mapping, account_of(chosen))
        except StatementError as fault:
            faults.append(fault)
            if len(faults) >= _MOST_FAULTS:
                break
            continue
        if told is None:
            continue
        movement, balance = told
        balances.add(movement, balance)
        days.append(movement.booked_on)
        days[:] = [min(days), max(days)]
        if not faults:
            yield movement
    if faults:
        raise faults[0].beside(faults[1:])
    yield Statement(
        account=account_of(chosen),
        currency=mapping.currency,
        from_on=days[0] if days else None,
        through_on=days[1] if days else None,
        checks=balances.checked(),
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Places of the columns, from 0."""

    line: int
    places: dict[str, tuple[int, ...]]
    width: int

    def cell(self, cells: Sequence[Any], name: str) -> Any:
        """The first of the columns with that meaning, or None."""
        return next((cells[place] for place in self.places[name] if place < len(cells)), None)

    def cells(self, cells: Sequence[Any], name: str) -> list[str | None]:
        """All of the columns with that meaning, as texts."""
        return [_text(cells[place]) for place in self.places[name] if place < len(cells)]


def _header(rows: Iterable[tuple[int, Sequence[Any]]], mapping: Mapping) -> _Layout:
    wanted = mapping.columns
    needed = ["booked_on", "amount" if wanted.amount else "credit"]
    best: tuple[int, list[str], int] | None = None
    for count, (line, cells) in enumerate(rows):
        if count >= _HEADER_WITHIN:
            break
        known = {comparable(text): place for place, cell in reversed(list(enumerate(cells))) if (text := _text(cell))}
        places = {
            name: tuple(known[key] for header in headers if (key := comparable(header)) in known)
            for name, headers in wanted
        }
        missing = [name for name in needed if not places[name]]
        if not missing:
            lacking = [name for name, headers in wanted if headers and not places[name]]
            if lacking and lacking != ["value_on"]:
                # A column that the mapping names is a promise about the file: its absence would be silent.
                missing = lacking
            else:
                return _Layout(line, places, len(cells))
        if best is None or len(missing) < len(best[1]):
            best = (line, missing, len(cells))
    line, missing, _ = best or (0, needed, 0)
    columns = "; ".join(f"{name}: {' or '.join(getattr(wanted, name))}" for name in missing)
    raise _fault(
        line, "header", "a header with the columns that mapping {mapping} names ({columns})",
        "no such line; compare the mapping with the file's first lines", mapping=mapping.name, columns=columns,
    )  # fmt: skip


def _rows(path: Path, format_: Format, mapping: Mapping) -> Iterator[tuple[int, Sequence[Any]]]:
    if format_ == "xlsx":
        return _sheet_rows(path)
    return _csv_rows(path, mapping)


def _csv_rows(path: Path, mapping: Mapping) -> Iterator[tuple[int, Sequence[Any]]]:
    encoding = mapping.encoding or encoding_of(path)
    delimiter = mapping.delimiter or _delimiter(path, encoding, mapping)
    line = 0

    def texts() -> Iterator[str]:
        nonlocal line
        for line, text in lines_of(path, encoding=encoding):  # noqa: B007 - told with each row
            yield text.lstrip("\ufeff").replace("\0", " ") + "\n"

    try:
        for cells in csv.reader(texts(), delimiter=delimiter, strict=True):
            if len(cells) > _MOST_CELLS:
                raise _fault(line, "columns", "at most {most}", str(len(cells)), most=_MOST_CELLS)
            yield line, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise _fault(line, "row", "cells with closed quotation marks", str(error)) from error


def _delimiter(path: Path, encoding: str, mapping: Mapping) -> str:
    """The mark that parts the mapping's headers: of the line that has most of any."""
    headers = {comparable(header) for _, headers in mapping.columns for header in headers}
    best, found = 0, ","
    for count, (_, text) in enumerate(lines_of(path, encoding=encoding)):
        if count >= _HEADER_WITHIN:
            break
        for mark in ";,\t|":
            hits = sum(comparable(cell) in headers for cell in text.lstrip("\ufeff").split(mark))
            if hits > best:
                best, found = hits, mark
    return found


def _sheet_rows(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    try:
        _require_bounded(path)
        with warnings.catch_warnings():
            # Styles and extensions that it does not know are of no interest.
            warnings.simplefilter("ignore")
            # By the open file: by a path, the reader would judge the name.
            with path.open("rb") as file:
                book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
                yield from enumerate(book.worksheets[0].iter_rows(values_only=True, max_col=_MOST_CELLS), 1)
    except StatementError:
        raise
    # The reader of workbooks raises whatever a workbook's damage leads to.
    except Exception as error:
        raise _fault(0, "file", "a workbook (.xlsx) with a sheet", f"{type(error).__name__}: {error}") from error


def _require_bounded(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > _MOST_UNPACKED or unpacked > _MOST_RATIO * path.stat().st_size:
        raise _fault(
            0,
            "file",
            "at most {unpacked} MiB unpacked, and at most {ratio} times the file's size",
            f"{unpacked >> 20} MiB of {path.stat().st_size >> 10} KiB",
            unpacked=_MOST_UNPACKED >> 20,
            ratio=_MOST_RATIO,
        )


def _movement(
    line: int, cells: Sequence[Any], layout: _Layout, mapping: Mapping, account: str
) -> tuple[Movement, int | None] | None:
    booked = layout.cell(cells, "booked_on")
    if mapping.columns.amount:
        given = layout.cell(cells, "amount")
        if _is_empty(booked) and _is_empty(given):
            return None
        amount = _amount(given, mapping, line, "amount")
    else:
        credit, debit = layout.cell(cells, "credit"), layout.cell(cells, "debit")
        if _is_empty(booked) and _is_empty(credit) and _is_empty(debit):
            return None
        if _is_empty(credit) and _is_empty(debit):
            raise _fault(line, "credit", "an amount in credit or debit", "neither")
        amount = abs(_amount(credit, mapping, line, "credit")) if not _is_empty(credit) else 0
        if not _is_empty(debit):
            taken = abs(_amount(debit, mapping, line, "debit"))
            if amount and taken:
                raise _fault(line, "credit", "an amount in credit or debit", "both")
            amount -= taken
    booked_on = _date(booked, mapping, line, "booked_on")
    value = layout.cell(cells, "value_on")
    balance = layout.cell(cells, "balance")
    kind: Kind = "credit" if amount > 0 else "debit" if amount < 0 else "empty"
    movement = Movement(
        line=line,
        account=account,
        currency=mapping.currency,
        amount=abs(amount),
        kind=kind,
        booked_on=booked_on,
        value_on=booked_on if _is_empty(value) else _date(value, mapping, line, "value_on"),
        bank_ref=cleaned(_text(layout.cell(cells, "bank_ref"))),
        references=cleaned_all(layout.cells(cells, "references")),
        texts=cleaned_all(layout.cells(cells, "texts")),
        trace=cleaned_all((*layout.cells(cells, "bank_ref"), *layout.cells(cells, "references"))),
        payer_name=cleaned(_text(layout.cell(cells, "payer_name"))),
        payer_account=cleaned(_text(layout.cell(cells, "payer_account"))),
        payer_tax_id=cleaned(_text(layout.cell(cells, "payer_tax_id"))),
        to_account=cleaned(_text(layout.cell(cells, "to_account"))),
    )
    return movement, None if _is_empty(balance) else _amount(balance, mapping, line, "balance")


class _Balances:
    """Holds each movement against the balances, whether the file goes forward or back in time."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._before: tuple[int, int] | None = None
        self._fault: dict[str, StatementError] = {}
        self._pairs = 0

    def add(self, movement: Movement, balance: int | None) -> None:
        signed = movement.amount if movement.kind == "credit" else -movement.amount
        if balance is None:
            self._before = None
            return
        if self._before is not None:
            before, its_amount = self._before
            self._pairs += 1
            for direction, expected in (("forward", before + signed), ("back", before - its_amount)):
                if balance != expected and direction not in self._fault:
                    unit = Decimal(1).scaleb(-exponent(self._mapping.currency))
                    self._fault[direction] = _fault(
                        movement.line, "balance", "{balance}, by the movement",
                        f"{balance * unit}; the file lacks a line or was changed, ask the bank for it again",
                        balance=f"{expected * unit} {self._mapping.currency}",
                    )  # fmt: skip
        self._before = (balance, signed)

    def checked(self) -> tuple[str, ...]:
        if len(self._fault) > 1:
            raise max(self._fault.values(), key=lambda fault: fault.line)
        return ("running balance",) if self._pairs else ()


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _text(cell: Any) -> str | None:
    match cell:
        case None:
            return None
        case float() if cell.is_integer():
            return str(int(cell))
        case datetime():
            return cell.date().isoformat()
        case _:
            return str(cell)


def _amount(cell: Any, mapping: Mapping, line: int, name: str) -> int:
    """Minor units with the sign of the cell."""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        # A sheet's number is binary: 0.1 + 0.2 is read as the 0.30 that the sheet shows.
        text = f"{round(Decimal(cell), 6):f}" if math.isfinite(cell) and abs(cell) < _LARGEST else str(cell)
        sign, digits = ("-" if text.startswith("-") else ""), text.removeprefix("-")
    else:
        sign, digits = _plain(str(cell), mapping, line, name)
    return int(f"{sign}1") * in_minor(digits, mapping.currency, line=line, name=name)


def _plain(text: str, mapping: Mapping, line: int, name: str) -> tuple[str, str]:
    """Sign and digits with a decimal point."""
    bare = re.sub(r"[\s$€'\u2019]|" + re.escape(mapping.currency), "", text).replace("\u2212", "-")
    sign = ""
    if bare.startswith("(") and bare.endswith(")"):
        sign, bare = "-", bare[1:-1]
    elif bare.startswith(("-", "+")):
        sign, bare = bare[0].strip("+"), bare[1:]
    elif bare.endswith("-"):
        sign, bare = "-", bare[:-1]
    thousands = "." if mapping.decimal == "," else ","
    grouped = rf"\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|\d+"
    if not re.fullmatch(rf"(?:{grouped})?(?:{re.escape(mapping.decimal)}\d*)?", bare, re.ASCII) or not re.search(
        r"\d", bare
    ):
        raise _fault(
            line, name, "an amount with decimal {decimal}, as mapping {mapping} says (change its 'decimal' if the bank"
            " writes otherwise)", text, decimal=repr(mapping.decimal), mapping=mapping.name,
        )  # fmt: skip
    bare = bare.replace(thousands, "").replace(mapping.decimal, ".")
    return sign, f"0{bare}" if bare.startswith(".") else bare


def _date(cell: Any, mapping: Mapping, line: int, name: str) -> date:
    if isinstance(cell, datetime):
        return cell.date()
    text = "" if cell is None else str(cell).strip().split(" ")[0].split("T")[0]
    found = _DATE.fullmatch(text)
    order = {"dmy": "DD/MM/YYYY", "mdy": "MM/DD/YYYY", "ymd": "YYYY-MM-DD"}[mapping.date_order]
    fault = _fault(
        line,
        name,
        "a date {order}, as mapping {mapping} says (change its 'date_order' if the bank writes otherwise)",
        str(cell),
        order=order,
        mapping=mapping.name,
    )
    if found is None:
        raise fault
    # A date that begins with a four-digit year is in one order only.
    is_iso = len(found[1]) == _YEAR_DIGITS
    parts = dict(zip("ymd" if is_iso else mapping.date_order, found.groups(), strict=True))
    if len(parts["y"]) not in {2, _YEAR_DIGITS} or len(parts["d"]) == _YEAR_DIGITS:
        raise fault
    year = int(parts["y"])
    try:
        return date(year + (0 if len(parts["y"]) == _YEAR_DIGITS else 2000), int(parts["m"]), int(parts["d"]))
    except ValueError as error:
        raise fault from error


def _fault(line: int, name: str, expected: str, found: str, **values: object) -> StatementError:
    return StatementError(line=line, name=name, expected=expected, values=values, found=found)
