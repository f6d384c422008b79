"""Read-only queries of payments' API, command line and gauges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.pagination import Keyset, Window
from cobranza.payments.tables import (
    bank_import,
    bank_line,
    bank_mapping,
    control_total,
    control_total_difference,
    control_total_part,
    fiscal_receipt,
    fiscal_receipt_line,
    invoice,
    receipt,
    receivable,
)

BY_DUE = Keyset((receivable.c.due_on, "asc"), (receivable.c.receivable_id, "asc"))
BY_CHECK = Keyset((bank_import.c.checked_at, "desc"), (bank_import.c.import_id, "desc"))
BY_POSITION = Keyset((bank_line.c.position, "asc"))
BY_DAY = Keyset((control_total.c.total_on, "desc"), (control_total.c.arrived, "desc"))
BY_SIZE = Keyset((control_total_difference.c.distance, "desc"), (control_total_difference.c.customer, "asc"))
BY_DEADLINE = Keyset((fiscal_receipt.c.deadline_on, "asc"), (fiscal_receipt.c.fiscal_receipt_id, "asc"))
BY_VALUE = Keyset((receipt.c.value_on, "desc"), (receipt.c.receipt_id, "asc"))


async def receivables(
    connection: AsyncConnection, window: Window, *, company: str, customer: str | None, is_open: bool | None
) -> list[Any]:
    """Receivables of a company by due date, one more than the page to see whether another follows."""
    query = select(receivable).where(receivable.c.company == company)
    if customer is not None:
        query = query.where(receivable.c.customer == customer)
    if is_open is not None:
        query = query.where(receivable.c.open > 0 if is_open else receivable.c.open == 0)
    return list(await connection.execute(BY_DUE.apply(query, after=window.after, limit=window.limit)))


async def one_receivable(connection: AsyncConnection, *, company: str, receivable_id: UUID) -> Any | None:
    """One receivable, or None."""
    result = await connection.execute(
        select(receivable).where(receivable.c.company == company, receivable.c.receivable_id == receivable_id)
    )
    return result.one_or_none()


async def receipts(
    connection: AsyncConnection, window: Window, *, company: str, customer: str | None, is_unapplied: bool | None
) -> list[Any]:
    """Receipts of a company, newest value date first, one more than the page."""
    query = select(receipt).where(receipt.c.company == company)
    if customer is not None:
        query = query.where(receipt.c.customer == customer)
    if is_unapplied is not None:
        query = query.where(receipt.c.unapplied > 0 if is_unapplied else receipt.c.unapplied == 0)
    return list(await connection.execute(BY_VALUE.apply(query, after=window.after, limit=window.limit)))


async def balances(connection: AsyncConnection, *, company: str, customer: str) -> list[Any]:
    """Open and unapplied of a customer by currency, in minor units."""
    result = await connection.execute(
        text(
            """
            SELECT currency, sum(open) AS open, sum(unapplied) AS unapplied FROM (
                SELECT currency, open, 0 AS unapplied FROM receivable WHERE company = :company AND customer = :customer
                UNION ALL SELECT currency, 0, unapplied FROM credit WHERE company = :company AND customer = :customer) b
            GROUP BY currency ORDER BY currency
            """
        ),
        {"company": company, "customer": customer},
    )
    return list(result)


async def movements(connection: AsyncConnection, *, company: str, customer: str, most: int) -> list[Any]:
    """The customer's newest movements of debt: debits above zero, credits below, in minor units."""
    result = await connection.execute(
        text(
            """
            SELECT e.effective_on, e.booked_at, e.kind, l.currency, l.amount, l.receivable_id, r.number
            FROM receivable r JOIN journal_line l ON l.receivable_id = r.receivable_id AND l.account = 'AR'
            JOIN journal_entry e ON e.entry_id = l.entry_id
            WHERE r.company = :company AND r.customer = :customer
            ORDER BY e.effective_on DESC, e.booked_at DESC, l.entry_id, l.line LIMIT :most
            """
        ),
        {"company": company, "customer": customer, "most": most},
    )
    return list(result)


async def totals(connection: AsyncConnection) -> list[Any]:
    """Open and unapplied of every company by currency, in minor units."""
    result = await connection.execute(
        text(
            """
            SELECT company, currency, sum(open) AS open, sum(unapplied) AS unapplied FROM (
                SELECT company, currency, open, 0 AS unapplied FROM receivable WHERE open > 0
                UNION ALL SELECT company, currency, 0, unapplied FROM credit WHERE unapplied > 0) b
            GROUP BY company, currency
            """
        )
    )
    return list(result)


async def watermarks(connection: AsyncConnection) -> list[Any]:
    """The day through which the cash of each company is known."""
    result = await connection.execute(
        text(
            """
            SELECT company, greatest(max(through_on) FILTER (WHERE feed = '-'), min(through_on) FILTER (WHERE feed <> '-'))
                AS through_on FROM cash_feed GROUP BY company
            """
        )
    )
    return list(result)


async def bank_imports(connection: AsyncConnection, window: Window, *, company: str) -> list[Any]:
    """Bank files of a company, newest first, one more than the page."""
    query = select(bank_import).where(bank_import.c.company == company)
    return list(await connection.execute(BY_CHECK.apply(query, after=window.after, limit=window.limit)))


async def newest_bank_imports(connection: AsyncConnection, *, company: str, most: int) -> list[Any]:
    """The newest bank files of a company."""
    query = select(bank_import).where(bank_import.c.company == company)
    return list(await connection.execute(BY_CHECK.apply(query, after=None, limit=most - 1)))


async def one_bank_import(connection: AsyncConnection, *, company: str, import_id: UUID) -> Any | None:
    """One bank file, or None."""
    result = await connection.execute(
        select(bank_import).where(bank_import.c.company == company, bank_import.c.import_id == import_id)
    )
    return result.one_or_none()


async def bank_lines(
    connection: AsyncConnection, window: Window, *, company: str, import_id: UUID, verdict: str | None
) -> list[Any]:
    """Lines of a bank file in its order, one more than the page."""
    query = select(bank_line).where(bank_line.c.company == company, bank_line.c.import_id == import_id)
    if verdict is not None:
        query = query.where(bank_line.c.verdict == verdict)
    return list(await connection.execute(BY_POSITION.apply(query, after=window.after, limit=window.limit)))


async def bank_counts(connection: AsyncConnection, import_ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """How many lines of which kind and verdict each import has, and their sums in minor units."""
    rows = await connection.execute(
        text(
            """
            SELECT import_id, kind, verdict, currency, count(*) AS count, sum(amount)::bigint AS amount FROM bank_line
            WHERE import_id = ANY(CAST(:ids AS uuid[])) GROUP BY import_id, kind, verdict, currency
            ORDER BY kind, verdict, currency
            """
        ),
        {"ids": list(import_ids)},
    )
    found: dict[UUID, list[Any]] = {import_id: [] for import_id in import_ids}
    for row in rows:
        found[row.import_id].append(row)
    return found


async def bank_mappings(connection: AsyncConnection, *, company: str) -> list[Any]:
    """The saved mappings of a company by name."""
    result = await connection.execute(
        select(bank_mapping).where(bank_mapping.c.company == company).order_by(bank_mapping.c.name)
    )
    return list(result)


async def control_totals(
    connection: AsyncConnection, window: Window, *, company: str, currency: str | None, verdict: str | None
) -> list[Any]:
    """Runs of control totals of a company, newest day first, one more than the page."""
    query = _control_totals(company)
    if currency is not None:
        query = query.where(control_total.c.currency == currency)
    if verdict is not None:
        query = query.where(control_total.c.verdict == verdict)
    return list(await connection.execute(BY_DAY.apply(query, after=window.after, limit=window.limit)))


async def one_control_total(connection: AsyncConnection, *, company: str, control_total_id: UUID) -> Any | None:
    """One run of a control total, or None."""
    query = _control_totals(company).where(control_total.c.control_total_id == control_total_id)
    return (await connection.execute(query)).one_or_none()


def _control_totals(company: str) -> Select[Any]:
    received = (
        select(func.count())
        .where(control_total_part.c.control_total_id == control_total.c.control_total_id)
        .scalar_subquery()
    )
    return select(control_total, received.label("parts_received")).where(control_total.c.company == company)


async def control_differences(connection: AsyncConnection, window: Window, *, control_total_id: UUID) -> list[Any]:
    """Customers of a run that differ, the largest difference first, one more than the page."""
    query = select(control_total_difference).where(control_total_difference.c.control_total_id == control_total_id)
    return list(await connection.execute(BY_SIZE.apply(query, after=window.after, limit=window.limit)))


async def control_standings(connection: AsyncConnection, company: str | None = None) -> list[Any]:
    """What the last control totals came to, by company and currency."""
    result = await connection.execute(
        text(
            """
            SELECT company, currency, standing FROM control_standing
            WHERE standing IS NOT NULL AND (CAST(:company AS text) IS NULL OR company = :company)
            ORDER BY company, currency
            """
        ),
        {"company": company},
    )
    return list(result)


async def fiscal_receipts(
    connection: AsyncConnection, window: Window, *, company: str, customer: str | None, states: Sequence[str]
) -> list[Any]:
    """Fiscal receipts of a company in these states by deadline, one more than the page."""
    query = select(fiscal_receipt).where(fiscal_receipt.c.company == company, fiscal_receipt.c.state.in_(states))
    if customer is not None:
        query = query.where(fiscal_receipt.c.customer == customer)
    return list(await connection.execute(BY_DEADLINE.apply(query, after=window.after, limit=window.limit)))


async def one_fiscal_receipt(connection: AsyncConnection, *, company: str, fiscal_receipt_id: UUID) -> Any | None:
    """One fiscal receipt, or None."""
    query = select(fiscal_receipt).where(
        fiscal_receipt.c.company == company, fiscal_receipt.c.fiscal_receipt_id == fiscal_receipt_id
    )
    return (await connection.execute(query)).one_or_none()


async def fiscal_receipt_lines(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """The lines each receipt is for, of a cancelled one those it was for, with their invoice's number."""
    rows = await connection.execute(
        select(fiscal_receipt_line, invoice.c.number)
        .join(fiscal_receipt, fiscal_receipt.c.fiscal_receipt_id == fiscal_receipt_line.c.fiscal_receipt_id)
        .join(
            invoice,
            (invoice.c.company == fiscal_receipt_line.c.company)
            & (invoice.c.invoice_id == fiscal_receipt_line.c.invoice_id),
        )
        .where(
            fiscal_receipt_line.c.fiscal_receipt_id.in_(ids),
            fiscal_receipt_line.c.state == case((fiscal_receipt.c.state == "cancelled", "cancelled"), else_="live"),
        )
        .order_by(fiscal_receipt_line.c.fiscal_receipt_id, fiscal_receipt_line.c.line)
    )
    found: dict[UUID, list[Any]] = {fiscal_receipt_id: [] for fiscal_receipt_id in ids}
    for row in rows:
        found[row.fiscal_receipt_id].append(row)
    return found


async def fiscal_deadlines(connection: AsyncConnection, company: str | None = None) -> list[Any]:
    """How many receipts wait for the ERP by company and deadline."""
    result = await connection.execute(
        text(
            """
            SELECT company, deadline_on, count(*) AS receipts FROM fiscal_receipt
            WHERE state IN ('due', 'rejected') AND (CAST(:company AS text) IS NULL OR company = :company)
            GROUP BY company, deadline_on ORDER BY company, deadline_on
            """
        ),
        {"company": company},
    )
    return list(result)
