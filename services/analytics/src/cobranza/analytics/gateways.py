"""Exports: the one function that writes figures for spreadsheet programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from cobranza.analytics.domain.ageing import Ageing, Bucket
from cobranza.contracts.money import to_decimal

BYTE_ORDER_MARK: Final = "\ufeff"
Cell = str | int | Decimal | date | None

#: A text that begins with one of these is a formula to some spreadsheet program, full-width forms too.
_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def harmless(text: str) -> str:
    """The text with `'` before it when a spreadsheet program would take it for a formula."""
    stripped = text.lstrip(" \u3000")
    return f"'{text}" if text[:1] in _FORMULA_STARTS or stripped[:1] in _FORMULA_STARTS else text


def csv_lines(rows: Iterable[Sequence[Cell]]) -> str:
    """Lines of a CSV document (RFC 4180).

    Numbers and dates are written as they are; texts are made harmless.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        writer.writerow(
            [harmless(cell) if isinstance(cell, str) else "" if cell is None else str(cell) for cell in row]
        )
    return out.getvalue()


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A CSV document, in UTF-8 with a byte-order mark so that spreadsheet programs read accents."""
    return BYTE_ORDER_MARK + csv_lines([header]) + csv_lines(rows)


def ageing_as_json(entry: Ageing) -> dict[str, Any]:
    """One line of an ageing as it goes out: amounts as decimal text, counts as numbers."""

    def amount(minor: int) -> str:
        return str(to_decimal(minor, entry.currency))

    who = {"customer": entry.customer, "name": entry.name} if entry.customer is not None else {}
    return {
        **who,
        "currency": entry.currency,
        "open": amount(entry.open),
        "overdue": amount(entry.overdue),
        "unapplied": amount(entry.unapplied),
        "open_count": entry.open_count,
        "customers": entry.customers,
        "customers_overdue": entry.customers_overdue,
        "buckets": {
            bucket.value: {"amount": amount(entry.amounts[bucket]), "count": entry.counts[bucket]} for bucket in Bucket
        },
    }


def ageing_as_csv(entries: Iterable[Ageing], *, company: str, as_of: date) -> str:
    """An ageing for a spreadsheet; every line says company, day and currency."""
    header = [
        "company", "as_of", "customer", "name", "currency", "open", "overdue", "unapplied", "open_count",
        *(bucket.value for bucket in Bucket),
    ]  # fmt: skip
    return to_csv(
        header,
        (
            [
                company, as_of, entry.customer, entry.name, entry.currency, to_decimal(entry.open, entry.currency),
                to_decimal(entry.overdue, entry.currency), to_decimal(entry.unapplied, entry.currency),
                entry.open_count, *(to_decimal(entry.amounts[bucket], entry.currency) for bucket in Bucket),
            ]
            for entry in entries
        ),
    )  # fmt: skip


RECEIVABLE_COLUMNS: Final = (
    "company", "customer", "number", "kind", "currency", "issued_on", "due_on", "issued", "allocated", "credited",
    "written_off", "open",
)  # fmt: skip
PAYMENT_COLUMNS: Final = ("company", "value_on", "customer", "name", "currency", "amount", "reversed_on")
NOTICE_COLUMNS: Final = (
    "company", "on_date", "customer", "name", "purpose", "step", "channel", "state", "reason", "currency", "claimed",
)  # fmt: skip
_MINOR: Final = frozenset({"issued", "allocated", "credited", "written_off", "open", "amount", "claimed"})


def cells(row: Any, columns: Sequence[str]) -> list[Cell]:
    """A row of the read model as cells: minor units become decimals of the row's currency."""
    return [
        to_decimal(value, row.currency) if name in _MINOR and value is not None else value
        for name in columns
        for value in (getattr(row, name),)
    ]
