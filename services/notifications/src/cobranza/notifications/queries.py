"""Read-only queries of notifications' API and pages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import String, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.pagination import Keyset, Window
from cobranza.notifications.tables import customer as customers
from cobranza.notifications.tables import notice, notice_history

NEWEST = Keyset((notice.c.requested_at, "desc"), (notice.c.notice_id, "asc"))


async def notices(
    connection: AsyncConnection,
    window: Window,
    *,
    company: str,
    state: str | None = None,
    customer: str | None = None,
    search: str = "",
) -> list[Any]:
    """Notices of a company, newest first, one more than the page to see whether another follows.

    Args:
        search: a customer's code or name, a word of the subject, or the beginning of the id.
    """
    query = (
        select(notice, customers.c.state["name"].astext.label("customer_name"))
        .outerjoin(customers, (customers.c.company == notice.c.company) & (customers.c.customer == notice.c.customer))
        .where(notice.c.company == company)
    )
    if state is not None:
        query = query.where(notice.c.state == state)
    if customer is not None:
        query = query.where(notice.c.customer == customer)
    if search:
        query = query.where(
            or_(
                notice.c.customer.icontains(search, autoescape=True),
                customers.c.state["name"].astext.icontains(search, autoescape=True),
                notice.c.subject.icontains(search, autoescape=True),
                cast(notice.c.notice_id, String).istartswith(search.replace("-", "")[:8], autoescape=True),
            )
        )
    return list(await connection.execute(NEWEST.apply(query, after=window.after, limit=window.limit)))


async def counts(connection: AsyncConnection, *, company: str) -> dict[str, int]:
    """How many notices of a company are in each state."""
    rows = await connection.execute(
        select(notice.c.state, func.count().label("total")).where(notice.c.company == company).group_by(notice.c.state)
    )
    return {row.state: row.total for row in rows}


async def one_notice(connection: AsyncConnection, *, company: str, notice_id: UUID) -> Any | None:
    """One notice with all that was kept of it, or None."""
    result = await connection.execute(
        select(notice, customers.c.state["name"].astext.label("customer_name"))
        .outerjoin(customers, (customers.c.company == notice.c.company) & (customers.c.customer == notice.c.customer))
        .where(notice.c.company == company, notice.c.notice_id == notice_id)
    )
    return result.one_or_none()


async def history(connection: AsyncConnection, *, notice_id: UUID) -> list[Any]:
    """What happened to a notice, in order."""
    rows = await connection.execute(
        select(notice_history).where(notice_history.c.notice_id == notice_id).order_by(notice_history.c.id)
    )
    return list(rows)
