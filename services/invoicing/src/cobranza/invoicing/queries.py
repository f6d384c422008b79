"""Read-only queries of invoicing's API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.pagination import Keyset, Window
from cobranza.invoicing.tables import invoice

BY_ISSUE = Keyset((invoice.c.issued_on, "desc"), (invoice.c.invoice_id, "asc"))


async def invoices(
    connection: AsyncConnection, window: Window, *, company: str, customer: str | None, number: str | None
) -> list[Any]:
    """Invoices of a company, newest first, one more than the page to see whether another follows."""
    query = select(
        invoice.c.invoice_id, invoice.c.issued_on, invoice.c.status, invoice.c.version, invoice.c.state
    ).where(invoice.c.company == company)
    if customer is not None:
        query = query.where(invoice.c.customer == customer)
    if number is not None:
        query = query.where(invoice.c.number == number)
    return list(await connection.execute(BY_ISSUE.apply(query, after=window.after, limit=window.limit)))


async def one_invoice(connection: AsyncConnection, *, company: str, invoice_id: UUID) -> Any | None:
    """One invoice, or None."""
    result = await connection.execute(
        select(invoice.c.invoice_id, invoice.c.status, invoice.c.version, invoice.c.state).where(
            invoice.c.company == company, invoice.c.invoice_id == invoice_id
        )
    )
    return result.one_or_none()
