"""Fiscal receipts with their lines, locked with the ledger they follow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.payments.domain.fiscal_receipts import FiscalBooks, FiscalReceipt, Line
from cobranza.payments.repository.rows import as_columns, as_pairs, as_triples

_FISCAL_RECEIPT: Final = (
    "fiscal_receipt_id, company, customer, currency, period, number, method, received_on, deadline_on, state, version,"
    " alert, replaces, grouping_by AS grouping, answer ->> 'fiscal_id' AS issued_as, answer ->> 'code' AS code"
)


_FISCAL_LINE: Final = "invoice_id, receivable_id, payment_id, fiscal_id, place, part_number, previous, paid, state"


async def fiscal_facts(
    tx: Transaction, invoices: Iterable[tuple[str, UUID]]
) -> dict[UUID, tuple[str | None, str | None]]:
    """Fiscal id and payment method code of invoices that have any."""
    rows = await tx.execute(
        """
        SELECT f.invoice_id, f.fiscal_id, f.payment_method_code
        FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])) AS t(a, b)
        JOIN invoice_fiscal f ON f.company = t.a AND f.invoice_id = t.b
        """,
        as_pairs(invoices),
    )
    return {row.invoice_id: (row.fiscal_id, row.payment_method_code) for row in rows}


async def payable_beside(
    tx: Transaction, invoices: Iterable[tuple[str, UUID]], *, known: Sequence[UUID]
) -> dict[UUID, int]:
    """What invoices can still be paid in receivables other than the known ones, in minor units."""
    rows = await tx.execute(
        """
        SELECT r.invoice_id, sum(r.open + r.given_up)::bigint AS payable
        FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])) AS t(a, b)
        JOIN receivable r ON r.company = t.a AND r.invoice_id = t.b
        WHERE r.kind = 'invoice' AND r.receivable_id <> ALL(CAST(:known AS uuid[])) GROUP BY r.invoice_id
        """,
        {**as_pairs(invoices), "known": list(known)},
    )
    return {row.invoice_id: row.payable for row in rows}


async def methods_of(tx: Transaction, receipts: Iterable[tuple[str, UUID]]) -> dict[UUID, str]:
    """By which means each payment came."""
    rows = await tx.execute(
        """
        SELECT r.receipt_id, r.details ->> 'method' AS method FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])) AS t(a, b)
        JOIN receipt r ON r.company = t.a AND r.receipt_id = t.b
        """,
        as_pairs(receipts),
    )
    return {row.receipt_id: row.method for row in rows if row.method is not None}


async def open_fiscal_books(
    tx: Transaction, *, invoices: Iterable[tuple[str, UUID]], periods: Sequence[tuple[str, str, str]]
) -> FiscalBooks:
    """Lock and load every receipt with a line of the invoices, those gathering for the periods, and the numbers used.

    Args:
        periods: (company, customer, period).
    """
    rows = await tx.execute(
        f"""
        SELECT {_FISCAL_RECEIPT} FROM fiscal_receipt WHERE fiscal_receipt_id IN (
            SELECT l.fiscal_receipt_id FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])) AS t(a, b)
            JOIN fiscal_receipt_line l ON l.company = t.a AND l.invoice_id = t.b
            UNION ALL SELECT r.fiscal_receipt_id
            FROM unnest(CAST(:companies AS text[]), CAST(:customers AS text[]), CAST(:periods AS text[])) AS t(a, b, c)
            JOIN fiscal_receipt r ON r.company = t.a AND r.customer = t.b AND r.period = t.c AND r.state = 'gathering')
        ORDER BY fiscal_receipt_id FOR UPDATE
        """,  # noqa: S608 - constant columns
        {**as_pairs(invoices), **as_triples(periods)},
    )
    receipts = [FiscalReceipt(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name
    if receipts:
        of = {receipt.fiscal_receipt_id: receipt for receipt in receipts}
        lines = await tx.execute(
            f"""
            SELECT fiscal_receipt_id, {_FISCAL_LINE}, shares FROM fiscal_receipt_line
            WHERE fiscal_receipt_id = ANY(CAST(:ids AS uuid[])) ORDER BY fiscal_receipt_id, line
            """,  # noqa: S608 - constant columns
            {"ids": list(of)},
        )
        for row in lines:
            of[row.fiscal_receipt_id].lines.append(_fiscal_line(row))
    numbers = await tx.execute(
        """
        SELECT r.company, r.customer, r.period, max(r.number) AS number
        FROM (SELECT DISTINCT * FROM unnest(CAST(:companies AS text[]), CAST(:customers AS text[]),
            CAST(:periods AS text[]))) AS t(a, b, c)
        JOIN fiscal_receipt r ON r.company = t.a AND r.customer = t.b AND r.period = t.c GROUP BY 1, 2, 3
        """,
        as_triples([*periods, *((r.company, r.customer, r.period) for r in receipts)]),
    )
    return FiscalBooks(receipts, numbers={(row.company, row.customer, row.period): row.number for row in numbers})


def _fiscal_line(row: Any) -> Line:
    values = {name: getattr(row, name) for name in _FISCAL_LINE.split(", ")}
    return Line(**values, shares={UUID(allocation): amount for allocation, amount in row.shares.items()})


async def lock_fiscal_receipt(tx: Transaction, fiscal_receipt_id: UUID) -> tuple[FiscalReceipt, Any] | None:
    """Lock one receipt; returns it with the answer it had, or None."""
    rows = await tx.execute(
        f"""
        SELECT {_FISCAL_RECEIPT}, answer FROM fiscal_receipt WHERE fiscal_receipt_id = :id
        FOR UPDATE
        """,  # noqa: S608 - constant columns
        {"id": fiscal_receipt_id},
    )
    row = rows.one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    answer = values.pop("answer")
    receipt = FiscalReceipt(**values)
    lines = await tx.execute(
        f"""
        SELECT {_FISCAL_LINE}, shares FROM fiscal_receipt_line WHERE fiscal_receipt_id = :id ORDER BY line
        """,  # noqa: S608 - constant columns
        {"id": fiscal_receipt_id},
    )
    receipt.lines.extend(map(_fiscal_line, lines))
    return receipt, answer


async def save_fiscal_receipts(tx: Transaction, receipts: Sequence[FiscalReceipt]) -> None:
    """Write receipts and their lines as they are now."""
    await tx.execute(
        """
        INSERT INTO fiscal_receipt (fiscal_receipt_id, company, customer, currency, grouping_by, period, number, method,
            received_on, deadline_on, state, version, alert, replaces)
        SELECT * FROM unnest(CAST(:fiscal_receipt_id AS uuid[]), CAST(:company AS text[]), CAST(:customer AS text[]),
            CAST(:currency AS text[]), CAST(:grouping AS text[]), CAST(:period AS text[]), CAST(:number AS int[]),
            CAST(:method AS text[]), CAST(:received_on AS date[]), CAST(:deadline_on AS date[]), CAST(:state AS text[]),
            CAST(:version AS bigint[]), CAST(:alert AS text[]), CAST(:replaces AS uuid[]))
        ON CONFLICT (fiscal_receipt_id) DO UPDATE SET method = excluded.method, received_on = excluded.received_on,
            state = excluded.state, version = excluded.version, alert = excluded.alert
        """,
        as_columns(
            "fiscal_receipt_id, company, customer, currency, grouping, period, number, method, received_on, deadline_on,"
            " state, version, alert, replaces",
            receipts,
        ),
    )
    lines = [(receipt, number, line) for receipt in receipts for number, line in enumerate(receipt.lines, 1)]
    await tx.execute(
        """
        INSERT INTO fiscal_receipt_line (fiscal_receipt_id, line, company, invoice_id, receivable_id, payment_id, fiscal_id,
            place, part_number, previous, paid, state, shares)
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS int[]), CAST(:companies AS text[]),
            CAST(:invoice_id AS uuid[]), CAST(:receivable_id AS uuid[]), CAST(:payment_id AS uuid[]),
            CAST(:fiscal_id AS text[]), CAST(:place AS int[]), CAST(:part_number AS int[]), CAST(:previous AS bigint[]),
            CAST(:paid AS bigint[]), CAST(:state AS text[]), CAST(:shares AS jsonb[]))
        ON CONFLICT (fiscal_receipt_id, line) DO UPDATE SET part_number = excluded.part_number,
            previous = excluded.previous, paid = excluded.paid, state = excluded.state, shares = excluded.shares
        """,
        {
            **as_columns(_FISCAL_LINE, [line for _, _, line in lines]),
            "ids": [receipt.fiscal_receipt_id for receipt, _, _ in lines],
            "numbers": [number for _, number, _ in lines],
            "companies": [receipt.company for receipt, _, _ in lines],
            "shares": [json.dumps({str(i): minor for i, minor in line.shares.items()}) for _, _, line in lines],
        },
    )


async def keep_fiscal_answer(tx: Transaction, *, fiscal_receipt_id: UUID, told: str) -> None:
    """Keep what the ERP answered to a receipt."""
    await tx.execute(
        "UPDATE fiscal_receipt SET answer = CAST(:told AS jsonb) WHERE fiscal_receipt_id = :id",
        {"id": fiscal_receipt_id, "told": told},
    )
