"""The figures as JSON for programs, as CSV and XLSX for spreadsheets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from cobranza.analytics import gateways, queries
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis import spreadsheets
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.database import Database
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.chassis.spreadsheets import Export
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
        summary="What is open at the end of a day, in buckets of days past due; JSON, CSV or XLSX.",
    )
    async def get_ageing(
        company: str,
        principal: CurrentPrincipal,
        as_of: date | None = None,
        by: Literal["currency", "customer"] = "currency",
        format: Literal["json", "csv", "xlsx"] = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | AgeingAnswer:
        principal.require_company(company)
        on = as_of or today(company)
        async with context.database.reading() as connection:
            query = queries.ageing_by_customer if by == "customer" else queries.ageing
            entries = await query(connection, company=company, as_of=on)
        if format != "json":
            export = gateways.ageing_export(entries, company=company, as_of=on, name=f"ageing-{company}-{on}", by=by)
            return await spreadsheets.answer(export, format)
        lines = [AgeingLine.model_validate(gateways.ageing_as_json(entry)) for entry in entries]
        return AgeingAnswer(company=company, as_of=on, by=by, lines=lines)

    @routes.get(
        "/v1/receivables",
        operation_id="list_receivables",
        tags=["figures"],
        dependencies=[scope("figures:read")],
        response_model=Page[ReceivableAnswer],
        summary="Receivables by due date; JSON by pages, or all of them as CSV or XLSX.",
    )
    async def list_receivables(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        customer: Annotated[str | None, Query(max_length=64)] = None,
        currency: Annotated[str | None, Query(max_length=3)] = None,
        state: Literal["open", "all"] = "open",
        format: Literal["json", "csv", "xlsx"] = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | Page[ReceivableAnswer]:
        principal.require_company(company)
        if format != "json":
            export = receivables_export(
                context.database, company=company, customer=customer, currency=currency, only_open=state == "open"
            )
            return await spreadsheets.answer(export, format)
        async with context.database.reading() as connection:
            rows = await queries.receivables(
                connection, window, company=company, customer=customer, currency=currency, only_open=state == "open"
            )
        return window.page(rows, key=lambda row: (row.due_on, row.receivable_id), item=_receivable)


def receivables_export(
    database: Database, *, company: str, customer: str | None, currency: str | None, only_open: bool
) -> Export:
    """Receivables to the last, without holding them all in memory."""

    async def parts() -> AsyncIterator[Sequence[Any]]:
        async with database.reading() as connection:
            async for part in queries.all_receivables(
                connection, company=company, customer=customer, currency=currency, only_open=only_open
            ):
                yield part

    return gateways.rows_export(
        parts(),
        gateways.RECEIVABLE_COLUMNS,
        name=f"receivables-{company}",
        company=company,
        customer=customer,
        currency=currency,
        state="open" if only_open else "all",
    )


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
