"""The figures as JSON for programs and as CSV for spreadsheets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from cobranza.analytics import gateways, queries
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.database import Database
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import to_decimal

_CSV: Final = "text/csv; charset=utf-8"


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


def add_routes(routes: APIRouter, context: Context[AnalyticsSettings]) -> None:
    """The routes under `/analytics/v1`."""

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
            return csv_answer(gateways.ageing_as_csv(entries, company=company, as_of=on), f"ageing-{company}-{on}")
        lines = [AgeingLine.model_validate(gateways.ageing_as_json(entry)) for entry in entries]
        return AgeingAnswer(company=company, as_of=on, by=by, lines=lines)

    @routes.get(
        "/v1/receivables",
        operation_id="list_receivables",
        tags=["figures"],
        dependencies=[scope("figures:read")],
        response_model=Page[ReceivableAnswer],
        summary="Receivables by due date; JSON by pages, or all of them as CSV.",
    )
    async def list_receivables(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        customer: Annotated[str | None, Query(max_length=64)] = None,
        currency: Annotated[str | None, Query(max_length=3)] = None,
        state: Literal["open", "all"] = "open",
        format: Literal["json", "csv"] = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | Page[ReceivableAnswer]:
        principal.require_company(company)
        if format == "csv":
            return receivables_as_csv(
                context.database, company=company, customer=customer, currency=currency, only_open=state == "open"
            )
        async with context.database.reading() as connection:
            rows = await queries.receivables(
                connection, window, company=company, customer=customer, currency=currency, only_open=state == "open"
            )
        return window.page(rows, key=lambda row: (row.due_on, row.receivable_id), item=_receivable)


def csv_answer(content: str | AsyncIterator[str], name: str) -> Response:
    """A CSV document to keep, as a whole or as it comes from the database."""
    kept = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    if isinstance(content, str):
        return Response(content, media_type=_CSV, headers=kept)
    return StreamingResponse(content, media_type=_CSV, headers=kept)


def receivables_as_csv(
    database: Database, *, company: str, customer: str | None, currency: str | None, only_open: bool
) -> Response:
    """Receivables to the last, without holding them all in memory."""

    async def lines() -> AsyncIterator[str]:
        columns = gateways.RECEIVABLE_COLUMNS
        yield gateways.to_csv(columns, ())
        async with database.reading() as connection:
            parts = queries.all_receivables(
                connection, company=company, customer=customer, currency=currency, only_open=only_open
            )
            async for part in parts:
                yield gateways.csv_lines(gateways.cells(row, columns) for row in part)

    return csv_answer(lines(), f"receivables-{company}")


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
