"""Analytics' routes: figures to read, and to take away."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from cobranza.analytics import gateways, queries
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import to_decimal


class BucketAnswer(BaseModel):
    """What lies in one bucket."""

    amount: Decimal
    count: int


class AgeingLine(BaseModel):
    """One currency, or one customer in one currency."""

    customer: str | None = None
    name: str | None = None
    currency: str
    open: Decimal
    overdue: Decimal
    unapplied: Decimal
    open_count: int
    customers: int
    customers_overdue: int
    buckets: dict[str, BucketAnswer]


class AgeingAnswer(BaseModel):
    """Open amounts at the end of `as_of`, by value date; never summed across currencies."""

    company: str
    as_of: date
    by: str
    lines: list[AgeingLine]


class ReceivableAnswer(BaseModel):
    """A receivable as last told by payments."""

    receivable_id: UUID
    invoice_id: UUID | None
    instalment: int | None
    customer: str
    number: str
    kind: str
    currency: str
    issued_on: date
    due_on: date
    issued: Decimal
    allocated: Decimal
    credited: Decimal
    written_off: Decimal
    open: Decimal
    version: int


def router(context: Context[AnalyticsSettings]) -> APIRouter:
    """The routes under `/analytics`."""
    routes = APIRouter()

    def today(company: str) -> date:
        profile = context.companies.get(company)
        if profile is None:
            raise Problem("not-found", detail=f"no company {company!r} here")
        return evaluation_date(context.clock.now(), profile.zone, from_hour=context.settings.evaluation_hour)

    @routes.get(
        "/v1/ageing",
        operation_id="get_ageing",
        tags=["figures"],
        dependencies=[scope("figures:read")],
        response_model=AgeingAnswer,
        summary="What is open at the end of a day, in buckets of days past due; JSON or CSV.",
    )
    async def get_ageing(
        company: str,
        principal: CurrentPrincipal,
        as_of: date | None = None,
        by: Literal["currency", "customer"] = "currency",
        format: Literal["json", "csv"] = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | AgeingAnswer:
        principal.require_company(company)
        on = as_of or today(company)
        async with context.database.reading() as connection:
            query = queries.ageing_by_customer if by == "customer" else queries.ageing
            entries = await query(connection, company=company, as_of=on)
        if format == "csv":
            return Response(
                gateways.ageing_as_csv(entries, company=company, as_of=on),
                media_type="text/csv; charset=utf-8",
                headers={"Content-Disposition": f'attachment; filename="ageing-{company}-{on}.csv"'},
            )
        lines = [AgeingLine.model_validate(gateways.ageing_as_json(entry)) for entry in entries]
        return AgeingAnswer(company=company, as_of=on, by=by, lines=lines)

    @routes.get(
        "/v1/receivables",
        operation_id="list_receivables",
        tags=["figures"],
        dependencies=[scope("figures:read")],
        summary="Receivables by due date.",
    )
    async def list_receivables(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        customer: Annotated[str | None, Query(max_length=64)] = None,
        currency: Annotated[str | None, Query(max_length=3)] = None,
        state: Literal["open", "all"] = "open",
    ) -> Page[ReceivableAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.receivables(
                connection, window, company=company, customer=customer, currency=currency, only_open=state == "open"
            )
        return window.page(rows, key=lambda row: (row.due_on, row.receivable_id), item=_receivable)

    return routes


def _receivable(row: Any) -> ReceivableAnswer:
    amounts = {
        name: to_decimal(getattr(row, name), row.currency)
        for name in ("issued", "allocated", "credited", "written_off", "open")
    }
    names = (
        "receivable_id", "invoice_id", "instalment", "customer", "number", "kind", "currency", "issued_on", "due_on",
        "version",
    )  # fmt: skip
    return ReceivableAnswer(**{name: getattr(row, name) for name in names}, **amounts)
