"""Rows as the domain's objects, and objects as columns for `unnest`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cobranza.payments.domain.ledger import Receipt, Receivable

Pairs = Iterable[tuple[str, Any]]


RECEIVABLE_COLUMNS: Final = (
    "company, receivable_id, customer, invoice_id, instalment, number, kind, currency, issued, allocated, credited,"
    " written_off, given_up, issued_on, due_on, version"
)


RECEIPT_COLUMNS: Final = (
    "company, receipt_id, customer, told_customer, kind, currency, system, external_id, sha256, amount, allocated,"
    " refunded, reversed, value_on, reason, version"
)


ALLOCATION_COLUMNS: Final = (
    "allocation_id, company, receipt_id, receivable_id, currency, amount, reverses, rule, cause_event_id, discount,"
    " written_off"
)


def receivable_of(row: Any) -> Receivable:
    """A row of `RECEIVABLE_COLUMNS`."""
    return Receivable(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def receipt_of(row: Any) -> Receipt:
    """A row of `RECEIPT_COLUMNS`."""
    return Receipt(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def as_pairs(pairs: Pairs, names: str = "ab") -> dict[str, list[Any]]:
    """Pairs as two arrays, for `unnest`."""
    listed = list(pairs)
    return {names[0]: [first for first, _ in listed], names[1]: [second for _, second in listed]}


def as_columns(names: str, rows: Sequence[Any]) -> Mapping[str, list[Any]]:
    """One array per column, for `unnest`."""
    return {name: [getattr(row, name) for row in rows] for name in names.split(", ")}


def prefixed(columns: str, table: str) -> str:
    """The columns, each of that table."""
    return ", ".join(f"{table}.{name}" for name in columns.split(", "))


def as_triples(triples: Iterable[tuple[str, str, str]]) -> dict[str, list[str]]:
    """Company, customer and period as three arrays, for `unnest`."""
    listed = list(triples)
    return {
        "companies": [company for company, _, _ in listed],
        "customers": [customer for _, customer, _ in listed],
        "periods": [period for _, _, period in listed],
    }
