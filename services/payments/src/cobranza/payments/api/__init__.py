"""Payments' routes: money in by HTTP, the ledger for reading, and the notice permit."""

from __future__ import annotations

from fastapi import APIRouter

from cobranza.chassis.database import Transaction
from cobranza.chassis.http import CurrentPrincipal, scope
from cobranza.chassis.ingress import Outcome, add_events_route
from cobranza.chassis.service import Context
from cobranza.chassis.streams import Event
from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest
from cobranza.payments.api.charge_pages import add_charge_pages
from cobranza.payments.api.control_totals import add_control_totals
from cobranza.payments.api.fiscal_receipts import add_fiscal_receipts
from cobranza.payments.api.imports import PAGES, add_imports
from cobranza.payments.api.late_charges import add_late_charges
from cobranza.payments.api.ledger import add_ledger
from cobranza.payments.api.matching import add_matching
from cobranza.payments.api.webhooks import add_webhooks
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Bookkeeper, Gatekeeper

__all__ = ["PAGES", "router"]


def router(context: Context[PaymentsSettings]) -> APIRouter:
    """The routes under `/payments`."""
    routes = APIRouter()
    bookkeeper = Bookkeeper(context.companies)
    gatekeeper = Gatekeeper(context.companies, context.settings.evaluation_hour)

    async def accept(tx: Transaction, event: Event) -> Outcome:
        return await bookkeeper.accept(tx, event)

    add_events_route(
        routes,
        topic_name="erp.payments",
        database=context.database,
        accept=accept,
        needs_scope="payments:write",
    )

    @routes.post(
        "/v1/notice-permits",
        operation_id="create_notice_permit",
        tags=["permits"],
        dependencies=[scope("permits:write")],
        summary="Ask whether a notice may ask for money now; the same notice and attempt gets the same answer.",
    )
    async def create_notice_permit(asked: NoticePermitRequest, principal: CurrentPrincipal) -> NoticePermitAnswer:
        principal.require_company(asked.company)
        async with context.database.transaction() as tx:
            return await gatekeeper.ask(tx, asked)

    add_control_totals(routes, context)
    add_fiscal_receipts(routes, context)
    add_ledger(routes, context)
    add_imports(routes, context)
    add_matching(routes, context)
    add_late_charges(routes, context)
    add_charge_pages(routes, context)
    add_webhooks(routes, context)
    return routes
