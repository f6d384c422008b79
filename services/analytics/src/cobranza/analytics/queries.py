"""Questions to the read model; read-only, each in one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.analytics.domain.ageing import Ageing, Bucket, bucket_of
from cobranza.analytics.tables import customer as customer_table
from cobranza.analytics.tables import notice, payment, receivable
from cobranza.chassis.pagination import Keyset, Window
from cobranza.contracts.identifiers import NO_CUSTOMER
from cobranza.contracts.money import Money

_BUCKET = """CASE WHEN CAST(:as_of AS date) - due_on <= 0 THEN 'current' WHEN CAST(:as_of AS date) - due_on <= 30 THEN '1-30'
    WHEN CAST(:as_of AS date) - due_on <= 60 THEN '31-60' WHEN CAST(:as_of AS date) - due_on <= 90 THEN '61-90'
    ELSE '90+' END"""

BY_DUE_DATE = Keyset((receivable.c.due_on, "asc"), (receivable.c.receivable_id, "asc"))
LATEST_PAYMENT = Keyset((payment.c.value_on, "desc"), (payment.c.payment_id, "asc"))
LATEST_NOTICE = Keyset((notice.c.on_date, "desc"), (notice.c.notice_id, "asc"))
_ROWS_AT_A_TIME: Final = 2000


async def ageing(connection: AsyncConnection, *, company: str, as_of: date) -> list[Ageing]:
    """Ageing of a company by currency at the end of `as_of`, by value date."""
    found: dict[str, Ageing] = {}
    by_due_date = await connection.execute(
        text(
            """
            SELECT currency, due_on, sum(amount) AS amount, count(*) AS open_count
            FROM receivable_balance WHERE company = :company AND from_on <= :as_of AND until_on > :as_of
            GROUP BY 1, 2
            """
        ),
        {"company": company, "as_of": as_of},
    )
    for row in by_due_date:
        entry = found.setdefault(row.currency, Ageing(row.currency))
        bucket = bucket_of(row.due_on, as_of=as_of)
        entry.amounts[bucket] += int(row.amount)
        entry.counts[bucket] += row.open_count
    # One walk along the index of customers, in order, takes half the time of several processes that read the whole
    # table and sort, which the planner would choose; the amounts above need the table.
    await connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
    customers = await connection.execute(
        text(
            """
            SELECT currency, count(*) AS customers, count(*) FILTER (WHERE oldest < :as_of) AS customers_overdue
            FROM (
                SELECT customer, currency, min(due_on) AS oldest
                FROM receivable_balance WHERE company = :company AND from_on <= :as_of AND until_on > :as_of
                GROUP BY 1, 2
            ) AS owing
            GROUP BY 1
            """
        ),
        {"company": company, "as_of": as_of},
    )
    await connection.execute(text("SET LOCAL max_parallel_workers_per_gather TO DEFAULT"))
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
    connection: AsyncConnection,
    *,
    company: str,
    as_of: date,
    currency: str | None = None,
    customer: str | None = None,
) -> list[Ageing]:
    """Ageing by customer and currency, the largest overdue amount first."""
    found: dict[tuple[str, str], Ageing] = {}
    parameters = {"company": company, "as_of": as_of, "currency": currency, "customer": customer}
    rows = await connection.execute(
        text(
            f"""
            SELECT customer, currency, {_BUCKET} AS bucket, sum(amount) AS amount, count(*) AS open_count
            FROM receivable_balance WHERE company = :company AND from_on <= :as_of AND until_on > :as_of
                AND (CAST(:currency AS text) IS NULL OR currency = :currency)
                AND (CAST(:customer AS text) IS NULL OR customer = :customer)
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
                AND (CAST(:customer AS text) IS NULL OR customer = :customer)
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
        entry.customers = int(entry.open != 0)
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
    query = _receivables(company=company, customer=customer, currency=currency, only_open=only_open)
    return list(await connection.execute(BY_DUE_DATE.apply(query, after=window.after, limit=window.limit)))


async def all_receivables(
    connection: AsyncConnection, *, company: str, customer: str | None, currency: str | None, only_open: bool
) -> AsyncIterator[Sequence[Any]]:
    """The same receivables to the last, in parts."""
    query = _receivables(company=company, customer=customer, currency=currency, only_open=only_open)
    rows = await connection.stream(query.order_by(receivable.c.due_on, receivable.c.receivable_id))
    async for part in rows.partitions(_ROWS_AT_A_TIME):
        yield part


def _receivables(*, company: str, customer: str | None, currency: str | None, only_open: bool) -> Select[Any]:
    query = select(receivable).where(receivable.c.company == company)
    if customer is not None:
        query = query.where(receivable.c.customer == customer)
    if currency is not None:
        query = query.where(receivable.c.currency == currency)
    return query.where(receivable.c.open > 0) if only_open else query


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


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One thing that happened, as a page tells it."""

    seq: int
    customer: str | None
    name: str | None
    type: str
    happened_on: date | None
    at: datetime
    money: Money | None
    facts: Mapping[str, str]


async def feed(connection: AsyncConnection, *, company: str, most: int) -> list[FeedItem]:
    """What happened last, newest first."""
    rows = await connection.execute(
        text(f"{_FEED} WHERE f.company = :company ORDER BY f.seq DESC LIMIT :most"),
        {"company": company, "most": most},
    )
    return [_feed_item(row) for row in rows]


async def time_line(connection: AsyncConnection, *, company: str, customer: str, most: int) -> list[FeedItem]:
    """What happened with a customer, the latest business date first."""
    rows = await connection.execute(
        text(
            f"""{_FEED} WHERE f.company = :company AND f.customer = :customer
            ORDER BY f.happened_on DESC NULLS LAST, f.seq DESC LIMIT :most"""
        ),
        {"company": company, "customer": customer, "most": most},
    )
    return [_feed_item(row) for row in rows]


_FEED = """SELECT f.seq, f.customer, c.name, f.type, f.happened_on, f.at, f.facts FROM feed f
    LEFT JOIN customer c ON c.company = f.company AND c.customer = f.customer"""


def _feed_item(row: Any) -> FeedItem:
    facts = {name: str(value) for name, value in row.facts.items() if value is not None}
    amount, currency = facts.get("amount"), facts.get("currency")
    return FeedItem(
        seq=row.seq,
        customer=row.customer,
        name=row.name,
        type=row.type,
        happened_on=row.happened_on,
        at=row.at,
        money=Money.of(amount, currency) if amount is not None and currency is not None else None,
        facts=facts,
    )


async def payments(
    connection: AsyncConnection,
    window: Window,
    *,
    company: str,
    currency: str | None,
    on: date | None,
    customer: str | None,
) -> Sequence[Any]:
    """Payments by value date, the latest first; `customer` "-" stands for an unknown payer."""
    query = (
        select(payment, customer_table.c.name)
        .outerjoin(
            customer_table,
            (customer_table.c.company == payment.c.company) & (customer_table.c.customer == payment.c.customer),
        )
        .where(payment.c.company == company)
    )
    if currency is not None:
        query = query.where(payment.c.currency == currency)
    if on is not None:
        query = query.where(payment.c.value_on == on)
    if customer == NO_CUSTOMER:
        query = query.where(payment.c.customer.is_(None))
    elif customer is not None:
        query = query.where(payment.c.customer == customer)
    return list(await connection.execute(LATEST_PAYMENT.apply(query, after=window.after, limit=window.limit)))


async def notices(
    connection: AsyncConnection, window: Window, *, company: str, on: date | None, state: str | None
) -> Sequence[Any]:
    """Notices by the day of their last change, the latest first."""
    query = (
        select(notice, customer_table.c.name)
        .outerjoin(
            customer_table,
            (customer_table.c.company == notice.c.company) & (customer_table.c.customer == notice.c.customer),
        )
        .where(notice.c.company == company)
    )
    if on is not None:
        query = query.where(notice.c.on_date == on)
    if state is not None:
        query = query.where(notice.c.state == state)
    return list(await connection.execute(LATEST_NOTICE.apply(query, after=window.after, limit=window.limit)))


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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the read model is: it has changed when `position`, a count of events dealt with, has."""

    position: int
    caught_up_at: datetime | None


async def progress(connection: AsyncConnection) -> Progress:
    """How far all topics are read together.

    `caught_up_at` is the real instant at which the slowest partition was last caught up; None
    before all of them were.
    """
    result = await connection.execute(
        text(
            """
            SELECT coalesce(sum(next_offset), 0) + (SELECT count(*) FROM parked WHERE closed_at IS NOT NULL) AS position,
                CASE WHEN bool_and(caught_up_at IS NOT NULL) THEN min(caught_up_at) END AS caught_up_at
            FROM progress WHERE consumer = 'analytics'
            """
        )
    )
    row = result.one()
    return Progress(int(row.position), row.caught_up_at)


@dataclass(frozen=True, slots=True)
class Today:
    """All that the page of a company's day shows, in every currency."""

    on: date
    position: int
    caught_up_at: datetime | None
    ageing: Mapping[str, Ageing]
    week_before: Mapping[str, Ageing]
    collected: Mapping[str, DayTotals]
    notices: Mapping[str, int]
    cases_open: int
    newest: tuple[int, ...]


#: The feed's newest entries that are looked at to say how many a reader has not seen.
NEWEST: Final = 100
WEEK: Final = timedelta(days=7)


async def today(connection: AsyncConnection, *, company: str, on: date) -> Today:
    """The figures of a day, with those of a week before to compare."""
    reached = await progress(connection)
    newest = await connection.execute(
        text("SELECT seq FROM feed WHERE company = :company ORDER BY seq DESC LIMIT :most"),
        {"company": company, "most": NEWEST},
    )
    return Today(
        on=on,
        position=reached.position,
        caught_up_at=reached.caught_up_at,
        ageing={entry.currency: entry for entry in await ageing(connection, company=company, as_of=on)},
        week_before={entry.currency: entry for entry in await ageing(connection, company=company, as_of=on - WEEK)},
        collected={entry.currency: entry for entry in await collected_on(connection, company=company, on=on)},
        notices=await notices_on(connection, company=company, on=on),
        cases_open=await cases_open(connection, company=company),
        newest=tuple(newest.scalars()),
    )
