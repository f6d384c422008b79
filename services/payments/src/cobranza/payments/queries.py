"""Read-only queries of payments' API, command line and gauges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.pagination import Keyset, Window
from cobranza.payments.tables import (
    bank_import,
    bank_line,
    bank_mapping,
    charge_request,
    charge_rules,
    late_charge,
    late_charge_credit,
    receipt,
    receivable,
)

BY_DUE = Keyset((receivable.c.due_on, "asc"), (receivable.c.receivable_id, "asc"))
BY_CHECK = Keyset((bank_import.c.checked_at, "desc"), (bank_import.c.import_id, "desc"))
BY_ASSESSMENT = Keyset((late_charge.c.assessed_on, "desc"), (late_charge.c.receivable_id, "asc"))
BY_POSITION = Keyset((bank_line.c.position, "asc"))
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


async def late_charges(connection: AsyncConnection, window: Window, *, company: str, customer: str | None) -> list[Any]:
    """Late charges of a company, newest first, with their balances, one more than the page."""
    credited = (
        select(
            late_charge_credit.c.company,
            late_charge_credit.c.receivable_id,
            func.sum(late_charge_credit.c.amount)
            .filter(late_charge_credit.c.kind == "waiver")
            .cast(BigInteger)
            .label("waived"),
            func.sum(late_charge_credit.c.amount)
            .filter(late_charge_credit.c.kind == "withdrawal")
            .cast(BigInteger)
            .label("withdrawn"),
        )
        .group_by(late_charge_credit.c.company, late_charge_credit.c.receivable_id)
        .subquery()
    )
    query = (
        select(
            late_charge,
            receivable.c.open,
            receivable.c.allocated,
            receivable.c.number,
            func.coalesce(credited.c.waived, 0).label("waived"),
            func.coalesce(credited.c.withdrawn, 0).label("withdrawn"),
        )
        .join(
            receivable,
            (receivable.c.company == late_charge.c.company)
            & (receivable.c.receivable_id == late_charge.c.receivable_id),
        )
        .outerjoin(
            credited,
            (credited.c.company == late_charge.c.company) & (credited.c.receivable_id == late_charge.c.receivable_id),
        )
        .where(late_charge.c.company == company)
    )
    if customer is not None:
        query = query.where(late_charge.c.customer == customer)
    return list(await connection.execute(BY_ASSESSMENT.apply(query, after=window.after, limit=window.limit)))


async def charge_requests(
    connection: AsyncConnection, *, company: str, customer: str | None, is_unanswered: bool, most: int
) -> list[Any]:
    """The newest steps that asked for a charge; unanswered ones were refused in part or whole, or wait."""
    query = select(charge_request).where(charge_request.c.company == company)
    if customer is not None:
        query = query.where(charge_request.c.customer == customer)
    if is_unanswered:
        query = query.where(charge_request.c.state != "booked")
    return list(await connection.execute(query.order_by(charge_request.c.asked_at.desc()).limit(most)))


async def charge_looks(connection: AsyncConnection, *, company: str, most: int) -> list[Any]:
    """Debts whose charges cannot be kept right until a rate or rules are added."""
    rows = await connection.execute(
        text(
            """
            SELECT k.debt_id, k.reason, r.number, r.customer FROM charge_look k
            JOIN receivable r ON r.company = k.company AND r.receivable_id = k.debt_id
            WHERE k.company = :company AND k.reason IS NOT NULL ORDER BY r.number LIMIT :most
            """
        ),
        {"company": company, "most": most},
    )
    return list(rows)


async def ledger_actions(
    connection: AsyncConnection, *, company: str, customer: str | None, state: str | None, most: int
) -> list[Any]:
    """What people decided or asked for, newest first, with what it is about."""
    rows = await connection.execute(
        text(
            """
            SELECT a.*, coalesce(r.number, m.external_id) AS number, coalesce(r.customer, m.customer) AS customer
            FROM ledger_action a
            LEFT JOIN receivable r ON r.company = a.company AND r.receivable_id = a.subject_id AND a.verb <> 'refund'
            LEFT JOIN receipt m ON m.company = a.company AND m.receipt_id = a.subject_id AND a.verb = 'refund'
            WHERE a.company = :company AND (CAST(:state AS text) IS NULL OR a.state = :state)
                AND (CAST(:customer AS text) IS NULL OR coalesce(r.customer, m.customer) = :customer)
            ORDER BY a.asked_at DESC LIMIT :most
            """
        ),
        {"company": company, "customer": customer, "state": state, "most": most},
    )
    return list(rows)


async def charge_rules_of(connection: AsyncConnection, *, company: str) -> list[Any]:
    """Every version of charge rules that a company activated, newest first."""
    result = await connection.execute(
        select(charge_rules)
        .where(charge_rules.c.company == company)
        .order_by(charge_rules.c.rules, charge_rules.c.version.desc())
    )
    return list(result)
