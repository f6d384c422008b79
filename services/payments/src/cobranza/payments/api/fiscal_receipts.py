"""Fiscal receipts by HTTP and as the page Recibos fiscales: which are owed, and by when."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis import page
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.pagination import Page, PageWindow, Window
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money
from cobranza.payments import queries
from cobranza.payments.api.imports import PAGES
from cobranza.payments.domain.fiscal_receipts import alert_of
from cobranza.payments.settings import PaymentsSettings

CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]
State = Literal["gathering", "due", "answered", "rejected", "cancelled"]
#: What a filter of the page shows.
_SHOWN: Final[dict[str, tuple[State, ...]]] = {
    "open": ("due", "rejected"),
    "gathering": ("gathering",),
    "answered": ("answered",),
    "cancelled": ("cancelled",),
}
_ALL: Final[tuple[State, ...]] = ("gathering", "due", "answered", "rejected", "cancelled")


class FiscalLineAnswer(BaseModel):
    """What a payment gave one invoice; previous - paid = remaining."""

    invoice_id: UUID
    number: str
    fiscal_id: str | None
    payment_id: UUID
    part_number: Annotated[int, Field(description="Count of payments of the invoice so far")]
    previous: Money
    paid: Money
    remaining: Money


class FiscalReceiptAnswer(BaseModel):
    """A receipt that is owed, or was."""

    fiscal_receipt_id: UUID
    customer: str
    grouping: Literal["per_payment", "monthly"]
    state: Annotated[State, Field(description="gathering: of a month that is not over")]
    alert: Annotated[str | None, Field(description="d3, d1, d0 or overdue while it is not issued")]
    received_on: date
    deadline_on: date
    method: str
    amount: Money
    fiscal_id: str | None
    code: Annotated[str | None, Field(description="Why it was rejected")]
    replaces: UUID | None
    lines: list[FiscalLineAnswer]


def add_fiscal_receipts(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the routes of fiscal receipts."""

    def today(company: str) -> date:
        profile = context.companies.get(company)
        if profile is None:
            raise Problem("not-found", detail=f"no company {company!r} here")
        return context.clock.now().astimezone(profile.zone).date()

    async def read(
        connection: AsyncConnection, window: Window, *, company: str, customer: str | None, states: tuple[State, ...]
    ) -> Page[FiscalReceiptAnswer]:
        rows = await queries.fiscal_receipts(connection, window, company=company, customer=customer, states=states)
        lines = await queries.fiscal_receipt_lines(connection, [row.fiscal_receipt_id for row in rows])
        return window.page(
            rows,
            key=lambda row: (row.deadline_on, row.fiscal_receipt_id),
            item=lambda row: _fiscal_receipt(row, lines[row.fiscal_receipt_id], today(company)),
        )

    @routes.get(
        "/v1/fiscal-receipts",
        operation_id="list_fiscal_receipts",
        tags=["fiscal receipts"],
        dependencies=[scope("payments:read")],
        summary="Fiscal receipts of a company by deadline.",
    )
    async def list_fiscal_receipts(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: CompanyName,
        customer: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")] = None,
        state: State | None = None,
    ) -> Page[FiscalReceiptAnswer]:
        principal.require_company(company)
        states = _ALL if state is None else (state,)
        async with context.database.reading() as connection:
            return await read(connection, window, company=company, customer=customer, states=states)

    @routes.get("/fiscal-receipts", include_in_schema=False, dependencies=[scope("payments:read")])
    async def fiscal_receipts(
        request: HttpRequest,
        window: PageWindow,
        show: Literal["open", "gathering", "answered", "cancelled"] = "open",
    ) -> HTMLResponse:
        company = page.view_of(request).require_company().company
        async with context.database.reading() as connection:
            shown = await read(connection, window, company=company, customer=None, states=_SHOWN[show])
            deadlines = await queries.fiscal_deadlines(connection, company)
        on = today(company)
        return PAGES.render(
            request,
            "fiscal_receipts.html",
            receipts=shown.items,
            show=show,
            waiting=sum(row.receipts for row in deadlines),
            overdue=sum(row.receipts for row in deadlines if row.deadline_on < on),
            next_deadline=next((row.deadline_on for row in deadlines if row.deadline_on >= on), None),
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
        )

    @routes.get("/fiscal-receipts/{fiscal_receipt_id}", include_in_schema=False, dependencies=[scope("payments:read")])
    async def one(request: HttpRequest, fiscal_receipt_id: UUID) -> HTMLResponse:
        company = page.view_of(request).require_company().company
        async with context.database.reading() as connection:
            row = await queries.one_fiscal_receipt(connection, company=company, fiscal_receipt_id=fiscal_receipt_id)
            if row is None:
                raise Problem("not-found", f"no fiscal receipt {fiscal_receipt_id} of {company}")
            lines = await queries.fiscal_receipt_lines(connection, [fiscal_receipt_id])
        return PAGES.render(
            request,
            "fiscal_receipt.html",
            receipt=_fiscal_receipt(row, lines[fiscal_receipt_id], today(company)),
        )


def _fiscal_receipt(row: Any, lines: list[Any], today: date) -> FiscalReceiptAnswer:
    def money(minor: int) -> Money:
        return Money.from_minor(minor, row.currency)

    answer = row.answer or {}
    is_open = row.state in ("due", "rejected")
    return FiscalReceiptAnswer(
        fiscal_receipt_id=row.fiscal_receipt_id,
        customer=row.customer,
        grouping=row.grouping_by,
        state=row.state,
        alert=alert_of(row.deadline_on, today) if is_open else None,
        received_on=row.received_on,
        deadline_on=row.deadline_on,
        method=row.method,
        amount=money(sum(line.paid for line in lines)),
        fiscal_id=answer.get("fiscal_id"),
        code=answer.get("code"),
        replaces=row.replaces,
        lines=[
            FiscalLineAnswer(
                invoice_id=line.invoice_id,
                number=line.number,
                fiscal_id=line.fiscal_id,
                payment_id=line.payment_id,
                part_number=line.part_number,
                previous=money(line.previous),
                paid=money(line.paid),
                remaining=money(line.remaining),
            )
            for line in lines
        ],
    )
