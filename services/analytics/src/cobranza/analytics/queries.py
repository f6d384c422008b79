"""Questions to the read model; read-only, each in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.analytics.domain.ageing import Ageing, Bucket
from cobranza.analytics.tables import receivable
from cobranza.chassis.pagination import Keyset, Window

_BUCKET = """CASE WHEN CAST(:as_of AS date) - due_on <= 0 THEN 'current' WHEN CAST(:as_of AS date) - due_on <= 30 THEN '1-30'
    WHEN CAST(:as_of AS date) - due_on <= 60 THEN '31-60' WHEN CAST(:as_of AS date) - due_on <= 90 THEN '61-90'
    ELSE '90+' END"""

BY_DUE_DATE = Keyset((receivable.c.due_on, "asc"), (receivable.c.receivable_id, "asc"))


async def ageing(connection: AsyncConnection, *, company: str, as_of: date) -> list[Ageing]:
    """Ageing of a company by currency at the end of `as_of`, by value date."""
    found: dict[str, Ageing] = {}
    rows = await connection.execute(
        text(
            f"""
            SELECT currency, {_BUCKET} AS bucket, sum(amount) AS amount, count(*) AS open_count
            FROM receivable_balance WHERE company = :company AND from_on <= :as_of AND until_on > :as_of
            GROUP BY 1, 2
            """  # noqa: S608 - constant
        ),
        {"company": company, "as_of": as_of},
    )
    for row in rows:
        entry = found.setdefault(row.currency, Ageing(row.currency))
        entry.amounts[Bucket(row.bucket)] = int(row.amount)
        entry.counts[Bucket(row.bucket)] = int(row.open_count)
    customers = await connection.execute(
        text(
            """
            SELECT currency, count(DISTINCT customer) AS customers,
                count(DISTINCT customer) FILTER (WHERE due_on < :as_of) AS customers_overdue
            FROM receivable_balance WHERE company = :company AND from_on <= :as_of AND until_on > :as_of GROUP BY 1
            """
        ),
        {"company": company, "as_of": as_of},
    )
    for row in customers:
        found[row.currency].customers = row.customers
        found[row.currency].customers_overdue = row.customers_overdue
    unapplied = await connection.execute(
        text(
            """
            SELECT currency, sum(amount) AS amount FROM credit_balance
            WHERE company = :company AND from_on <= :as_of AND until_on > :as_of GROUP BY 1
            """
        ),
        {"company": company, "as_of": as_of},
    )
    for row in unapplied:
        found.setdefault(row.currency, Ageing(row.currency)).unapplied = int(row.amount)
    return [found[currency] for currency in sorted(found)]


async def ageing_by_customer(
    connection: AsyncConnection, *, company: str, as_of: date, currency: str | None = None
) -> list[Ageing]:
    """Ageing by customer and currency, the largest overdue amount first."""
    found: dict[tuple[str, str], Ageing] = {}
    parameters = {"company": company, "as_of": as_of, "currency": currency}
    rows = await connection.execute(
        text(
            f"""
            SELECT customer, currency, {_BUCKET} AS bucket, sum(amount) AS amount, count(*) AS open_count
            FROM receivable_balance WHERE company = :company AND from_on <= :as_of AND until_on > :as_of
                AND (CAST(:currency AS text) IS NULL OR currency = :currency)
            GROUP BY 1, 2, 3
            """  # noqa: S608 - constant
        ),
        parameters,
    )
    for row in rows:
        entry = found.setdefault((row.customer, row.currency), Ageing(row.currency, row.customer))
        entry.amounts[Bucket(row.bucket)] = int(row.amount)
        entry.counts[Bucket(row.bucket)] = int(row.open_count)
    unapplied = await connection.execute(
        text(
            """
            SELECT customer, currency, amount FROM credit_balance WHERE company = :company AND from_on <= :as_of
                AND until_on > :as_of AND (CAST(:currency AS text) IS NULL OR currency = :currency)
            """
        ),
        parameters,
    )
    for row in unapplied:
        key = (row.customer, row.currency)
        found.setdefault(key, Ageing(row.currency, row.customer)).unapplied = int(row.amount)
    names = await connection.execute(
        text("SELECT customer, name FROM customer WHERE company = :company"), {"company": company}
    )
    known = {row.customer: row.name for row in names}
    for entry in found.values():
        entry.name = known.get(entry.customer or "")
        entry.customers = 1
        entry.customers_overdue = int(entry.overdue > 0)
    return sorted(found.values(), key=lambda e: (-e.overdue, -e.open, e.customer or "", e.currency))


async def receivables(
    connection: AsyncConnection,
    window: Window,
    *,
    company: str,
    customer: str | None,
    currency: str | None,
    only_open: bool,
) -> Sequence[Any]:
    """Receivables as last told, by due date."""
    query = select(receivable).where(receivable.c.company == company)
    if customer is not None:
        query = query.where(receivable.c.customer == customer)
    if currency is not None:
        query = query.where(receivable.c.currency == currency)
    if only_open:
        query = query.where(receivable.c.open > 0)
    return list(await connection.execute(BY_DUE_DATE.apply(query, after=window.after, limit=window.limit)))


@dataclass(frozen=True, slots=True)
class DayTotals:
    """What one day brought in one currency, in minor units."""

    currency: str
    collected: int
    payments: int


async def collected_on(connection: AsyncConnection, *, company: str, on: date) -> list[DayTotals]:
    """Payments by value date, without those reversed since."""
    rows = await connection.execute(
        text(
            """
            SELECT currency, sum(amount) AS amount, count(*) AS payments FROM payment
            WHERE company = :company AND value_on = :on AND reversed_on IS NULL GROUP BY 1 ORDER BY 1
            """
        ),
        {"company": company, "on": on},
    )
    return [DayTotals(row.currency, int(row.amount), row.payments) for row in rows]


async def notices_on(connection: AsyncConnection, *, company: str, on: date) -> dict[str, int]:
    """Notices of a day by state."""
    rows = await connection.execute(
        text("SELECT state, count(*) AS notices FROM notice WHERE company = :company AND on_date = :on GROUP BY 1"),
        {"company": company, "on": on},
    )
    return {row.state: row.notices for row in rows}


async def cases_open(connection: AsyncConnection, *, company: str) -> int:
    """Cases that are open now."""
    result = await connection.execute(
        text("SELECT count(*) FROM collection_case WHERE company = :company AND closed_on IS NULL"),
        {"company": company},
    )
    return int(result.scalar_one())


async def feed(
    connection: AsyncConnection,
    *,
    company: str,
    customer: str | None = None,
    after: int | None = None,
    most: int = 50,
) -> list[Any]:
    """What happened, newest first; with `after`, only what came later than that entry."""
    rows = await connection.execute(
        text(
            """
            SELECT f.seq, f.company, f.customer, c.name, f.type, f.happened_on, f.at, f.facts FROM feed f
            LEFT JOIN customer c ON c.company = f.company AND c.customer = f.customer
            WHERE f.company = :company AND (CAST(:customer AS text) IS NULL OR f.customer = :customer)
                AND f.seq > :after ORDER BY f.seq DESC LIMIT :most
            """
        ),
        {"company": company, "customer": customer, "after": after or 0, "most": most},
    )
    return list(rows)


async def customer(connection: AsyncConnection, *, company: str, code: str) -> Any | None:
    """A customer, or None."""
    rows = await connection.execute(
        text("SELECT customer, name, segment, country FROM customer WHERE company = :company AND customer = :code"),
        {"company": company, "code": code},
    )
    return rows.one_or_none()


@dataclass(frozen=True, slots=True)
class Totals:
    """All that was ever invoiced and collected in one currency, in minor units."""

    currency: str
    invoices: int
    invoiced: int
    collected: int


async def totals(connection: AsyncConnection, *, company: str) -> list[Totals]:
    """Totals of a company by currency; reversed payments do not count as collected."""
    rows = await connection.execute(
        text(
            """
            WITH invoiced AS (SELECT currency, count(DISTINCT invoice_id) AS invoices, sum(issued) AS amount FROM receivable
                    WHERE company = :company AND kind = 'invoice' GROUP BY 1),
                collected AS (SELECT currency, sum(amount) AS amount FROM payment
                    WHERE company = :company AND reversed_on IS NULL GROUP BY 1)
            SELECT currency, coalesce(i.invoices, 0) AS invoices, coalesce(i.amount, 0) AS invoiced,
                coalesce(c.amount, 0) AS collected
            FROM invoiced i FULL JOIN collected c USING (currency) ORDER BY 1
            """
        ),
        {"company": company},
    )
    return [Totals(row.currency, row.invoices, int(row.invoiced), int(row.collected)) for row in rows]


async def figures_as_of(connection: AsyncConnection) -> Any | None:
    """The instant at which the slowest topic was last caught up; None before the first."""
    result = await connection.execute(
        text(
            "SELECT min(caught_up_at) FROM progress WHERE consumer = 'analytics' HAVING bool_and(caught_up_at IS NOT NULL)"
        )
    )
    return result.scalar_one_or_none()
