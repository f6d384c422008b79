"""Invoicing's routes: documents in by HTTP, documents out for reading."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from cobranza.chassis.database import Transaction
from cobranza.chassis.http import CurrentPrincipal, Problem, answer, not_modified, scope
from cobranza.chassis.ingress import Outcome, add_events_route
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.chassis.streams import Event
from cobranza.contracts.invoicing import InvoiceState
from cobranza.invoicing import metrics, queries
from cobranza.invoicing.settings import InvoicingSettings
from cobranza.invoicing.use_cases import Intake


class InvoiceAnswer(BaseModel):
    """An invoice as last stated by the ERP, with its status and version."""

    status: str
    version: int
    invoice: InvoiceState


def router(context: Context[InvoicingSettings]) -> APIRouter:
    """The routes under `/invoicing`."""
    routes = APIRouter()
    intake = Intake(context.companies, context.settings.evaluation_hour)

    async def accept(tx: Transaction, event: Event) -> Outcome:
        outcome = await intake.accept(tx, event)
        metrics.count_input(event, outcome)
        return outcome

    add_events_route(
        routes,
        topic_name="erp.invoicing",
        database=context.database,
        accept=accept,
        needs_scope="invoices:write",
    )

    @routes.get(
        "/v1/invoices",
        operation_id="list_invoices",
        tags=["invoices"],
        dependencies=[scope("invoices:read")],
        summary="Invoices of a company, newest first.",
    )
    async def list_invoices(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        customer: str | None = None,
        number: Annotated[str | None, Query(max_length=128)] = None,
    ) -> Page[InvoiceAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.invoices(connection, window, company=company, customer=customer, number=number)
        return window.page(rows, key=lambda row: (row.issued_on, row.invoice_id), item=_invoice)

    @routes.get(
        "/v1/invoices/{invoice_id}",
        operation_id="get_invoice",
        tags=["invoices"],
        dependencies=[scope("invoices:read")],
        response_model=InvoiceAnswer,
        summary="One invoice; its ETag is its version.",
    )
    async def get_invoice(request: Request, invoice_id: UUID, company: str, principal: CurrentPrincipal) -> Response:
        principal.require_company(company)
        async with context.database.reading() as connection:
            row = await queries.one_invoice(connection, company=company, invoice_id=invoice_id)
        if row is None:
            raise Problem("not-found", detail=f"no invoice {invoice_id} of {company}")
        return not_modified(request, version=row.version) or answer(_invoice(row), version=row.version)

    return routes


def _invoice(row: Any) -> InvoiceAnswer:
    return InvoiceAnswer(
        status=row.status, version=row.version, invoice=InvoiceState.model_validate(row.state, strict=False)
    )
