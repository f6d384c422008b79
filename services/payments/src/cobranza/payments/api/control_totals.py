"""Control totals by HTTP and as the page Totales de control: whether the ERP and the ledger see the same debts."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from cobranza.chassis import page
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money
from cobranza.payments import queries
from cobranza.payments.api.imports import PAGES
from cobranza.payments.settings import PaymentsSettings

CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]
Verdict = Literal["matched", "mismatch", "missing"]


class FiguresAnswer(BaseModel):
    """Open instalments and what they sum to."""

    open_count: int
    open_total: Money


class ControlTotalAnswer(BaseModel):
    """One run of a system's total of a day; without a verdict it was not compared yet."""

    control_total_id: UUID
    system: str
    currency: str
    total_on: date
    run_id: str | None
    parts: Annotated[int, Field(description="Messages of the run; 0: it did not come")]
    parts_received: int
    verdict: Verdict | None
    stated: Annotated[FiguresAnswer | None, Field(description="Absent when missing")]
    found: Annotated[FiguresAnswer | None, Field(description="In the ledger at the end of that day")]
    differing: Annotated[int | None, Field(description="How many customers differ")]
    checked_at: datetime | None


class CustomerDifferenceAnswer(BaseModel):
    """A customer of whom the ERP and the ledger do not see the same open total."""

    customer: str
    stated: Money
    found: Money
    difference: Annotated[Money, Field(description="Stated less found")]


def add_control_totals(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the routes of control totals."""
    _add_api(routes, context)
    _add_pages(routes, context)


def _add_api(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    @routes.get(
        "/v1/control-totals",
        operation_id="list_control_totals",
        tags=["control totals"],
        dependencies=[scope("payments:read")],
        summary="Control totals of a company against the ledger, newest day first.",
    )
    async def list_control_totals(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: CompanyName,
        currency: Annotated[str | None, Query(pattern=r"^[A-Z]{3}$")] = None,
        verdict: Verdict | None = None,
    ) -> Page[ControlTotalAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.control_totals(connection, window, company=company, currency=currency, verdict=verdict)
        return window.page(rows, key=_place, item=_control_total)

    @routes.get(
        "/v1/control-totals/{control_total_id}/differences",
        operation_id="list_control_differences",
        tags=["control totals"],
        dependencies=[scope("payments:read")],
        summary="Customers of a control total that differ, the largest difference first.",
    )
    async def list_control_differences(
        control_total_id: UUID, window: PageWindow, company: CompanyName, principal: CurrentPrincipal
    ) -> Page[CustomerDifferenceAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            one = await queries.one_control_total(connection, company=company, control_total_id=control_total_id)
            if one is None:
                raise Problem("not-found", detail=f"no control total {control_total_id} of {company}")
            rows = await queries.control_differences(connection, window, control_total_id=control_total_id)
        return window.page(rows, key=_size, item=lambda row: _difference(row, one.currency))


def _add_pages(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    @routes.get("/control-totals", include_in_schema=False, dependencies=[scope("payments:read")])
    async def control_totals(request: HttpRequest, window: PageWindow) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            rows = await queries.control_totals(
                connection, window, company=company.company, currency=None, verdict=None
            )
            standings = await queries.control_standings(connection, company.company)
        shown = window.page(rows, key=_place, item=_control_total)
        profile = context.companies.get(company.company)
        return PAGES.render(
            request,
            "control_totals.html",
            totals=shown.items,
            in_doubt=[(row.currency, row.standing) for row in standings if row.standing != "matched"],
            is_expected=profile is not None and profile.control_totals == "daily",
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
            zone=company.zone,
        )

    @routes.get("/control-totals/{control_total_id}", include_in_schema=False, dependencies=[scope("payments:read")])
    async def one(request: HttpRequest, control_total_id: UUID, window: PageWindow) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            row = await queries.one_control_total(
                connection, company=company.company, control_total_id=control_total_id
            )
            if row is None:
                raise Problem("not-found", f"no control total {control_total_id} of {company.company}")
            rows = await queries.control_differences(connection, window, control_total_id=control_total_id)
        shown = window.page(rows, key=_size, item=lambda found: _difference(found, row.currency))
        return PAGES.render(
            request,
            "control_total.html",
            total=_control_total(row),
            differences=shown.items,
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
            zone=company.zone,
        )


def _control_total(row: Any) -> ControlTotalAnswer:
    def figures(count: int | None, total: int | None) -> FiguresAnswer | None:
        if count is None or total is None:
            return None
        return FiguresAnswer(open_count=count, open_total=Money.from_minor(total, row.currency))

    return ControlTotalAnswer(
        control_total_id=row.control_total_id,
        system=row.system,
        currency=row.currency,
        total_on=row.total_on,
        run_id=row.run_id,
        parts=row.parts,
        parts_received=row.parts_received,
        verdict=row.verdict,
        stated=figures(row.stated_count, row.stated_total),
        found=figures(row.found_count, row.found_total),
        differing=row.differing,
        checked_at=row.checked_at,
    )


def _difference(row: Any, currency: str) -> CustomerDifferenceAnswer:
    return CustomerDifferenceAnswer(
        customer=row.customer,
        stated=Money.from_minor(row.stated, currency),
        found=Money.from_minor(row.found, currency),
        difference=Money.from_minor(row.stated - row.found, currency),
    )


def _place(row: Any) -> tuple[date, int]:
    return row.total_on, row.arrived


def _size(row: Any) -> tuple[int, str]:
    return row.distance, row.customer
