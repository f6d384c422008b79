"""The pages of late charges: accrual beside what was posted, and people's waivers, write-offs and approvals."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cobranza.chassis import page
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.ids import new_id
from cobranza.chassis.pagination import PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Slug
from cobranza.payments import queries, repository
from cobranza.payments.api.imports import PAGES
from cobranza.payments.api.late_charges import (
    MOST_DEBTS,
    accrual_answer,
    charge_answer,
    request_answer,
    today,
    waiting_decision,
)
from cobranza.payments.domain.errors import PaymentsError
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Decider
from cobranza.payments.use_cases.decisions import Asked, typed_amount
from cobranza.payments.use_cases.late_charges import Accrued, accrued

_MOST_LISTED: Final = 50

NoteForm = Annotated[str, Form(min_length=3, max_length=200, pattern=r"^[^\x00]*$")]


def add_charge_pages(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the pages of late charges."""
    decider = Decider(context.companies)

    @routes.get("/charges", include_in_schema=False, dependencies=[scope("payments:read")])
    async def charges(
        request: HttpRequest,
        window: PageWindow,
        customer: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    ) -> HTMLResponse:
        return await list_page(request, window, customer.strip() or None)

    async def list_page(
        request: HttpRequest,
        window: PageWindow,
        customer: str | None,
        refusal: PaymentsError | None = None,
    ) -> HTMLResponse:
        company = page.view_of(request).require_company().company
        on = today(context, company)
        async with context.database.reading() as connection:
            rows = await queries.late_charges(connection, window, company=company, customer=customer)
            asked = await queries.charge_requests(
                connection, company=company, customer=customer, is_unanswered=True, most=_MOST_LISTED
            )
            looks = await queries.charge_looks(connection, company=company, most=_MOST_LISTED)
            waiting = await queries.ledger_actions(
                connection, company=company, customer=customer, state="waiting", most=_MOST_LISTED
            )
            debts = (
                []
                if customer is None
                else await repository.debts_that_accrue(
                    connection, company=company, on=on, customer=customer, most=MOST_DEBTS
                )
            )
            found = await accrued(connection, company=company, debts=debts, on=on, named=None)
            named = [
                UUID(line["receivable_id"]) for row in asked for line in row.lines if line["receivable_id"] is not None
            ]
            numbers = {
                debt.receivable_id: debt.number
                for debt in await repository.receivables_of(connection, company=company, ids=named)
            }
        shown = window.page(rows, key=lambda row: (row.assessed_on, row.receivable_id), item=charge_answer)
        return PAGES.render(
            request,
            "charges.html",
            status=200 if refusal is None else refusal.status,
            charges=shown.items,
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
            customer=customer or "",
            on=on,
            accruals=[_told(one) for one in found],
            requests=[request_answer(row) for row in asked],
            looks=looks,
            waiting=[waiting_decision(row) for row in waiting],
            numbers=numbers,
            refusal=refusal,
        )

    async def one_page(request: HttpRequest, receivable_id: UUID, refusal: PaymentsError | None = None) -> HTMLResponse:
        company = page.view_of(request).require_company()
        on = today(context, company.company)
        async with context.database.reading() as connection:
            row = await queries.one_receivable(connection, company=company.company, receivable_id=receivable_id)
            if row is None:
                raise Problem("not-found", f"no receivable {receivable_id} of {company.company}")
            charge = await repository.one_charge(connection, company=company.company, receivable_id=receivable_id)
            debts = await repository.debts_that_accrue(
                connection, company=company.company, on=on, receivable_id=receivable_id
            )
            found = await accrued(connection, company=company.company, debts=debts, on=on, named=None)
            on_it = await repository.charges_on(connection, company=company.company, debts=[receivable_id])
            actions = await queries.ledger_actions(
                connection, company=company.company, customer=row.customer, state=None, most=_MOST_LISTED
            )
        return PAGES.render(
            request,
            "charges_one.html",
            status=200 if refusal is None else refusal.status,
            debt=row,
            open=Money.from_minor(row.open, row.currency),
            amounts={
                name: Money.from_minor(getattr(row, name), row.currency)
                for name in ("issued", "allocated", "credited", "written_off")
            },
            charge=None if charge is None else charge_answer(charge),
            accruals=[_told(one) for one in found],
            charges=[charge_answer(one) for one in on_it],
            actions=[waiting_decision(one) for one in actions if one.subject_id == receivable_id],
            action_id=new_id(),
            on=on,
            refusal=refusal,
            zone=company.zone,
        )

    @routes.get("/charges/{receivable_id}", include_in_schema=False, dependencies=[scope("payments:read")])
    async def one(request: HttpRequest, receivable_id: UUID) -> HTMLResponse:
        return await one_page(request, receivable_id)

    @routes.post("/charges/{receivable_id}", include_in_schema=False, dependencies=[scope("payments:write")])
    async def decide(
        request: HttpRequest,
        receivable_id: UUID,
        principal: CurrentPrincipal,
        verb: Annotated[Literal["waive", "write_off"], Form()],
        action_id: Annotated[UUID, Form()],
        reason: Annotated[Slug, Form()],
        note: NoteForm,
        amount: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        company = page.view_of(request).require_company().company
        async with context.database.reading() as connection:
            row = await queries.one_receivable(connection, company=company, receivable_id=receivable_id)
        if row is None:
            raise Problem("not-found", f"no receivable {receivable_id} of {company}")
        try:
            asked = Asked(
                verb=verb,
                company=company,
                subject_id=receivable_id,
                action_id=action_id,
                amount=typed_amount(amount, row.currency),
                reason=reason,
                note=note,
                by=principal.name,
            )
            async with context.database.transaction() as tx:
                await decider.ask(tx, asked)
        except PaymentsError as refusal:
            return await one_page(request, receivable_id, refusal)
        return RedirectResponse(f"/payments/charges/{receivable_id}?company={company}", status_code=303)

    @routes.post("/charges/decisions/{action_id}", include_in_schema=False, dependencies=[scope("payments:write")])
    async def answer(
        request: HttpRequest,
        window: PageWindow,
        action_id: UUID,
        principal: CurrentPrincipal,
        approve: Annotated[Literal["approve", "refuse"], Form()],
        note: NoteForm,
    ) -> Response:
        company = page.view_of(request).require_company().company
        try:
            async with context.database.transaction() as tx:
                await decider.answer(
                    tx, company=company, action_id=action_id, approve=approve, by=principal.name, note=note
                )
        except PaymentsError as refusal:
            return await list_page(request, window, None, refusal)
        return RedirectResponse(f"/payments/charges?company={company}", status_code=303)


def _told(found: Any) -> dict[str, Any]:
    """An accrual, or why it cannot be told, as the page shows it."""
    if isinstance(found, Accrued):
        return {"debt": found.debt, "accrual": accrual_answer(found), "why": None}
    return {"debt": found.debt, "accrual": None, "why": found.why}
