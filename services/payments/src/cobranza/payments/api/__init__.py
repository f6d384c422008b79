"""Payments' routes: money in by HTTP, the ledger for reading, and the notice permit."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from cobranza.chassis.database import Transaction
from cobranza.chassis.http import CurrentPrincipal, Problem, answer, not_modified, scope
from cobranza.chassis.ingress import Outcome, add_events_route
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.chassis.streams import Event
from cobranza.contracts.money import Money
from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest
from cobranza.payments import queries
from cobranza.payments.api.charge_pages import add_charge_pages
from cobranza.payments.api.imports import PAGES, add_imports
from cobranza.payments.api.late_charges import add_late_charges
from cobranza.payments.api.matching import add_matching
from cobranza.payments.api.webhooks import add_webhooks
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Bookkeeper, Gatekeeper

__all__ = ["PAGES", "router"]

#: Most movements in a statement.
_MOVEMENTS = 200

Customer = Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")]
CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]


class ReceivableAnswer(BaseModel):
    """What is owed of one instalment; issued = allocated + credited + written_off + open."""

    receivable_id: UUID
    invoice_id: UUID | None
    instalment: int | None
    customer: str
    number: str
    kind: str
    issued_on: date
    due_on: date
    issued: Money
    allocated: Money
    credited: Money
    written_off: Money
    open: Money
    version: int


class ReceiptAnswer(BaseModel):
    """Money that came in; amount = allocated + unapplied + refunded + reversed."""

    receipt_id: UUID
    kind: str
    customer: str | None
    system: str
    external_id: str
    value_on: date
    amount: Money
    allocated: Money
    unapplied: Money
    refunded: Money
    reversed: Money
    reason: Annotated[str | None, Field(description="What stands in the way of applying the rest")]
    details: dict[str, Any]


class BalanceAnswer(BaseModel):
    """A customer's balance in one currency."""

    open: Money
    unapplied: Money


class MovementAnswer(BaseModel):
    """One movement of debt: above zero it rose, below it fell."""

    effective_on: date
    booked_at: datetime
    kind: str
    receivable_id: UUID
    number: str
    amount: Money


class StatementAnswer(BaseModel):
    """A customer's balances and newest movements."""

    company: str
    customer: str
    balances: list[BalanceAnswer]
    movements: list[MovementAnswer]


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

    @routes.get(
        "/v1/receivables",
        operation_id="list_receivables",
        tags=["receivables"],
        dependencies=[scope("payments:read")],
        summary="Receivables of a company by due date.",
    )
    async def list_receivables(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: CompanyName,
        customer: Customer = None,
        is_open: Annotated[bool | None, Query(alias="open")] = None,
    ) -> Page[ReceivableAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.receivables(connection, window, company=company, customer=customer, is_open=is_open)
        return window.page(rows, key=lambda row: (row.due_on, row.receivable_id), item=_receivable)

    @routes.get(
        "/v1/receivables/{receivable_id}",
        operation_id="get_receivable",
        tags=["receivables"],
        dependencies=[scope("payments:read")],
        response_model=ReceivableAnswer,
        summary="One receivable; its ETag is its version.",
    )
    async def get_receivable(
        request: Request, receivable_id: UUID, company: CompanyName, principal: CurrentPrincipal
    ) -> Response:
        principal.require_company(company)
        async with context.database.reading() as connection:
            row = await queries.one_receivable(connection, company=company, receivable_id=receivable_id)
        if row is None:
            raise Problem("not-found", detail=f"no receivable {receivable_id} of {company}")
        return not_modified(request, version=row.version) or answer(_receivable(row), version=row.version)

    @routes.get(
        "/v1/receipts",
        operation_id="list_receipts",
        tags=["receipts"],
        dependencies=[scope("payments:read")],
        summary="Receipts of a company, newest value date first.",
    )
    async def list_receipts(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: CompanyName,
        customer: Customer = None,
        is_unapplied: Annotated[bool | None, Query(alias="unapplied")] = None,
    ) -> Page[ReceiptAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.receipts(
                connection, window, company=company, customer=customer, is_unapplied=is_unapplied
            )
        return window.page(rows, key=lambda row: (row.value_on, row.receipt_id), item=_receipt)

    @routes.get(
        "/v1/customers/{customer}/statement",
        operation_id="get_statement",
        tags=["customers"],
        dependencies=[scope("payments:read")],
        summary="A customer's balances by currency and newest movements.",
    )
    async def get_statement(
        customer: Annotated[str, Path(max_length=64, pattern=r"^[^\x00]*$")],
        company: CompanyName,
        principal: CurrentPrincipal,
    ) -> StatementAnswer:
        principal.require_company(company)
        async with context.database.reading() as connection:
            balances = await queries.balances(connection, company=company, customer=customer)
            movements = await queries.movements(connection, company=company, customer=customer, most=_MOVEMENTS)
        if not balances:
            raise Problem("not-found", detail=f"no customer {customer!r} of {company} in the ledger")
        return StatementAnswer(
            company=company,
            customer=customer,
            balances=[
                BalanceAnswer(
                    open=Money.from_minor(int(row.open), row.currency),
                    unapplied=Money.from_minor(int(row.unapplied), row.currency),
                )
                for row in balances
            ],
            movements=[
                MovementAnswer(
                    effective_on=row.effective_on,
                    booked_at=row.booked_at,
                    kind=row.kind,
                    receivable_id=row.receivable_id,
                    number=row.number,
                    amount=Money.from_minor(row.amount, row.currency),
                )
                for row in movements
            ],
        )

    add_imports(routes, context)
    add_matching(routes, context)
    add_late_charges(routes, context)
    add_charge_pages(routes, context)
    add_webhooks(routes, context)
    return routes


_RECEIVABLE_AMOUNTS = ("issued", "allocated", "credited", "written_off", "open")
_RECEIPT_AMOUNTS = ("amount", "allocated", "unapplied", "refunded", "reversed")


def _receivable(row: Any) -> ReceivableAnswer:
    return ReceivableAnswer.model_validate({**row._mapping, **_amounts(row, _RECEIVABLE_AMOUNTS)})  # noqa: SLF001


def _receipt(row: Any) -> ReceiptAnswer:
    return ReceiptAnswer.model_validate({**row._mapping, **_amounts(row, _RECEIPT_AMOUNTS)})  # noqa: SLF001


def _amounts(row: Any, names: tuple[str, ...]) -> dict[str, Money]:
    return {name: Money.from_minor(row._mapping[name], row.currency) for name in names}  # noqa: SLF001
