"""Exports: which columns the figures have in a spreadsheet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import date
from typing import Any, Final

from cobranza.analytics.domain.ageing import Ageing, Bucket
from cobranza.chassis.spreadsheets import Cell, Export, in_one_part
from cobranza.contracts.money import to_decimal


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


def ageing_export(entries: Iterable[Ageing], *, company: str, as_of: date, name: str, **asked: Cell) -> Export:
    """An ageing for a spreadsheet; every line says company, day and currency."""
    return Export(
        name=name,
        columns=(
            "company", "as_of", "customer", "name", "currency", "open", "overdue", "unapplied", "open_count",
            *(bucket.value for bucket in Bucket),
        ),
        parts=in_one_part(
            [
                company, as_of, entry.customer, entry.name, entry.currency, to_decimal(entry.open, entry.currency),
                to_decimal(entry.overdue, entry.currency), to_decimal(entry.unapplied, entry.currency),
                entry.open_count, *(to_decimal(entry.amounts[bucket], entry.currency) for bucket in Bucket),
            ]
            for entry in entries
        ),
        about={"company": company, "as_of": as_of, **asked},
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


def rows_export(parts: AsyncIterator[Sequence[Any]], columns: Sequence[str], *, name: str, **asked: Cell) -> Export:
    """Rows of the read model for a spreadsheet."""

    async def lines() -> AsyncIterator[Sequence[Sequence[Cell]]]:
        async for part in parts:
            yield [cells(row, columns) for row in part]

    return Export(name=name, columns=columns, parts=lines(), about=asked)


def cells(row: Any, columns: Sequence[str]) -> list[Cell]:
    """A row of the read model as cells: minor units become decimals of the row's currency."""
    return [
        to_decimal(value, row.currency) if name in _MINOR and value is not None else value
        for name in columns
        for value in (getattr(row, name),)
    ]
