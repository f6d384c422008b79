"""Dunning's routes and pages: decisions and why, cases, policies, holds."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from cobranza.chassis import page
from cobranza.chassis.calendars import company_calendar
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.http import CurrentPrincipal, Problem, answer, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money, to_decimal
from cobranza.contracts.payloads import Slug
from cobranza.contracts.reasons import Reason
from cobranza.dunning import queries
from cobranza.dunning.api.recording import add_recording
from cobranza.dunning.api.simulator import PAGES, add_simulator
from cobranza.dunning.api.trials import add_trials
from cobranza.dunning.domain.errors import UnknownInvoiceError
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import policies, recording
from cobranza.dunning.use_cases.evaluation import Desk

__all__ = ["PAGES", "router"]

_TONES: Final = {"held": "warn", "waiting": "warn", "ended": "warn", "closed": "good"}


class DecisionsAnswer(BaseModel):
    """Why something was, or was not, done about an invoice on a date."""

    invoice: str
    receivable_ids: list[UUID]
    since: date | None = Field(description="The date of the decision that still stood; absent: that very day.")
    decisions: list[dict[str, Any]]
    sentences: list[str]
    gates: list[list[str]] = Field(description="Of each decision every condition in words, those not met first.")


class CaseAnswer(BaseModel):
    """A case: what one debtor owes one company in one currency."""

    case_id: UUID
    company: str
    customer: str
    currency: str
    state: str
    policy: str | None
    policy_version: int | None
    opened_on: date
    closed_on: date | None
    outcome: str | None
    previous_case_id: UUID | None
    reason: str | None = Field(description="What it waits for, from the list of reasons.")
    next_check_on: date | None
    last_contact_on: date | None
    items: int
    open: Money
    oldest_due_on: date | None
    level: int = Field(description="The highest step issued for an open item; 0: none.")


class ItemAnswer(BaseModel):
    """An open receivable of a case."""

    receivable_id: UUID
    number: str
    due_on: date
    open: Money
    level: int
    last_notice_on: date | None


class RunAnswer(BaseModel):
    """One execution of a step and what became of it."""

    step: str
    run: int
    kind: str
    state: str
    reached_on: date
    answered_on: date | None
    reason: str | None
    decision_id: UUID
    receivable_ids: list[UUID]
    answer: dict[str, Any] | None


class CaseDetail(CaseAnswer):
    """A case with its open receivables and step runs."""

    receivables: list[ItemAnswer]
    runs: list[RunAnswer]


class TaskAnswer(BaseModel):
    """Something a person is asked to do, or was."""

    task_id: UUID
    company: str
    kind: str
    role: str
    customer: str | None
    case_id: UUID | None
    step: str | None
    run: int | None
    reason: str | None
    receivable_ids: list[UUID]
    created_on: date
    due_on: date
    completed_at: datetime | None
    disposition: str | None
    completed_by: str | None


class AgreementAnswer(BaseModel):
    """A promise, plan, dispute or hand-over as it stands."""

    agreement_id: UUID
    kind: str
    state: str = Field(description="open, or how it ended: kept, broken, withdrawn, completed, defaulted, upheld …")
    recorded_by: str
    approved_by: str | None
    told: dict[str, Any] = Field(description="What was told of it last, as the event has it.")


class AheadAnswer(BaseModel):
    """An effect that cannot be taken back from a debtor and comes to its day."""

    customer: str
    currency: str
    invoice: str
    step: str
    effect: str
    on_date: date


class PolicyAnswer(BaseModel):
    """A policy version."""

    company: str
    policy: str
    version: int
    title: str
    currency: str
    priority: int
    effective_from: date
    state: str
    sha256: str


class PolicyFault(BaseModel):
    """One fault of a policy file."""

    line: int
    column: int
    code: str
    key: str
    text: str


class PolicyReport(BaseModel):
    """What checking a policy file found, in line order."""

    ok: bool = Field(description="No errors; there may be warnings, whose codes begin with W.")
    faults: list[PolicyFault]
    not_checked: list[str] = Field(description="Codes for which there was nothing to compare with.")


def router(context: Context[DunningSettings]) -> APIRouter:
    """The routes under `/dunning`."""
    routes = APIRouter()
    _add_decisions(routes, context)
    add_trials(routes, context)
    _add_cases(routes, context)
    add_recording(routes, context)
    _add_tasks(routes, context)
    _add_pages(routes, context)
    add_simulator(routes, context)
    return routes


def _add_decisions(routes: APIRouter, context: Context[DunningSettings]) -> None:
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)

    @routes.get(
        "/v1/decisions",
        operation_id="list_decisions",
        tags=["decisions"],
        dependencies=[scope("decisions:read")],
        summary="Why a customer was, or was not, contacted about an invoice on a date.",
    )
    async def list_decisions(
        principal: CurrentPrincipal,
        company: str,
        invoice: Annotated[str, Query(max_length=200, description="Number or id.")],
        on: date,
        lang: Literal["es", "en"] = "es",
    ) -> DecisionsAnswer:
        principal.require_company(company)
        async with context.database.reading() as connection:
            found = await queries.why(connection, company=company, invoice=invoice, on=on)
        profile = context.companies.get(company)
        country = profile.country if profile else None
        gates = [
            [told.sentence for told in sorted(of_decision, key=lambda told: told.ok)]
            for of_decision in found.gates(lang, country)
        ]
        return DecisionsAnswer.model_validate(
            {**found.as_values(), "sentences": found.sentences(lang, country), "gates": gates}
        )

    @routes.post(
        "/v1/policies/check",
        operation_id="check_policy",
        tags=["policies"],
        dependencies=[scope("policies:read")],
        summary="Every fault of a policy file, with its place; nothing is kept. The body is the file, YAML or JSON.",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/yaml": {"schema": {"type": "string"}},
                    "application/json": {"schema": {"type": "object"}},
                },
            }
        },
    )
    async def check_policy(request: Request, principal: CurrentPrincipal, company: str) -> PolicyReport:
        principal.require_company(company)
        try:
            source = (await request.body()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Problem("malformed-request", detail="the body is not UTF-8") from error
        async with context.database.transaction() as tx:
            report = await policies.check_for(desk, tx, source, company=company)
        return PolicyReport.model_validate(policies.told_report(report))

    @routes.get(
        "/v1/policies",
        operation_id="list_policies",
        tags=["policies"],
        dependencies=[scope("policies:read")],
        summary="Policy versions of a company.",
    )
    async def list_policies(principal: CurrentPrincipal, company: str) -> list[PolicyAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.policies(connection, company=company)
        return [PolicyAnswer.model_validate(row, from_attributes=True) for row in rows]


def _add_cases(routes: APIRouter, context: Context[DunningSettings]) -> None:
    @routes.get(
        "/v1/cases",
        operation_id="list_cases",
        tags=["cases"],
        dependencies=[scope("cases:read")],
        summary="Cases of a company, the last opened first.",
    )
    async def list_cases(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        customer: Annotated[str | None, Query(max_length=64)] = None,
        state: Literal["preventive", "active", "waiting", "held", "ended", "handed_over", "closed"] | None = None,
    ) -> Page[CaseAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.cases(connection, window, company=company, customer=customer, state=state)
        return window.page(rows, key=lambda row: (row.opened_on, row.case_id), item=_case)

    @routes.get(
        "/v1/cases/{case_id}",
        operation_id="get_case",
        tags=["cases"],
        dependencies=[scope("cases:read")],
        response_model=CaseDetail,
        summary="One case with its open receivables and step runs.",
    )
    async def get_case(case_id: UUID, company: str, principal: CurrentPrincipal) -> Response:
        principal.require_company(company)
        async with context.database.reading() as connection:
            row = await queries.one_case(connection, company=company, case_id=case_id)
            if row is None:
                raise Problem("not-found", detail=f"no case {case_id} of {company}")
            items = await queries.items_of_account(connection, row.account_id)
            runs = await queries.runs_of_case(connection, case_id)
        detail = CaseDetail(
            **_case(row).model_dump(),
            receivables=[
                ItemAnswer(
                    receivable_id=item.receivable_id,
                    number=item.number,
                    due_on=item.due_on,
                    open=Money.from_minor(item.open, row.currency),
                    level=item.level,
                    last_notice_on=item.last_notice_on,
                )
                for item in items
            ],
            runs=[RunAnswer.model_validate(run, from_attributes=True) for run in runs],
        )
        return answer(detail)


def _add_tasks(routes: APIRouter, context: Context[DunningSettings]) -> None:
    @routes.get(
        "/v1/tasks",
        operation_id="list_tasks",
        tags=["tasks"],
        dependencies=[scope("tasks:read")],
        summary="Tasks of a company, the last asked for first.",
    )
    async def list_tasks(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        state: Literal["open", "done"] = "open",
        role: Slug | None = None,
        kind: Slug | None = None,
    ) -> Page[TaskAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.tasks(connection, window, company=company, state=state, role=role, kind=kind)
        return window.page(rows, key=lambda row: (row.task_id,), item=_task)

    @routes.get(
        "/v1/agreements",
        operation_id="list_agreements",
        tags=["agreements"],
        dependencies=[scope("agreements:read")],
        summary="Promises, plans, disputes and hand-overs of a company, the last made first.",
    )
    async def list_agreements(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        kind: Literal["promise", "plan", "dispute", "hand_over"] | None = None,
        state: Literal["open", "ended"] | None = None,
        customer: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Page[AgreementAnswer]:
        principal.require_company(company)
        is_open = None if state is None else state == "open"
        async with context.database.reading() as connection:
            rows = await queries.agreements(
                connection, window, company=company, kind=kind, is_open=is_open, customer=customer
            )
        return window.page(
            rows,
            key=lambda row: (row.agreement_id,),
            item=lambda row: AgreementAnswer.model_validate(row, from_attributes=True),
        )

    @routes.get(
        "/v1/irreversible",
        operation_id="list_irreversible",
        tags=["tasks"],
        dependencies=[scope("tasks:read")],
        summary="Effects that cannot be taken back and come to their day by the next business day; at most 500.",
    )
    async def list_irreversible(principal: CurrentPrincipal, company: str) -> list[AheadAnswer]:
        principal.require_company(company)
        on = _next_business_day(context, company)
        async with context.database.reading() as connection:
            rows = await queries.irreversible_ahead(connection, company=company, on=on)
        return [AheadAnswer.model_validate(row, from_attributes=True) for row in rows]


def _add_pages(routes: APIRouter, context: Context[DunningSettings]) -> None:
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)

    @routes.get("/why", include_in_schema=False, dependencies=[scope("decisions:read")])
    async def why(request: Request, invoice: Annotated[str, Query(max_length=200)] = "", on: str = "") -> HTMLResponse:
        view = page.view_of(request)
        company = view.require_company()
        day, faults = _day(on), []
        if on and day is None:
            faults.append("on")
        day = day or view.business_date
        found: queries.Answer | None = None
        is_unknown = False
        if invoice.strip() and day is not None and not faults:
            try:
                async with context.database.reading() as connection:
                    found = await queries.why(connection, company=company.company, invoice=invoice.strip(), on=day)
            except UnknownInvoiceError:
                is_unknown = True
        return PAGES.render(
            request,
            "why.html",
            status=404 if is_unknown else 200,
            invoice=invoice.strip(),
            on=day,
            faults=faults,
            is_unknown=is_unknown,
            found=found,
            sentences=found.sentences(view.language, company.country) if found is not None else [],
            gates=found.gates(view.language, company.country) if found is not None else [],
        )

    @routes.get("/cases", include_in_schema=False, dependencies=[scope("cases:read")])
    async def cases(
        request: Request,
        window: PageWindow,
        q: Annotated[str, Query(max_length=64)] = "",
        state: Literal["", "preventive", "active", "waiting", "held", "ended", "handed_over", "closed"] = "",
    ) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            rows = await queries.cases(
                connection, window, company=company.company, customer=q.strip() or None, state=state or None
            )
            counts = await queries.cases_by_state(connection, company=company.company)
            brake = (await queries.brakes(connection)).get(company.company)
            braked = (
                await queries.waiting_for(connection, company=company.company, reason=Reason.BRAKED) if brake else 0
            )
        listed = window.page(rows, key=lambda row: (row.opened_on, row.case_id), item=_listed)
        return PAGES.render(
            request,
            "cases.html",
            q=q.strip(),
            state=state,
            rows=listed.items,
            next_cursor=listed.next_cursor,
            open_cases=sum(counts.values()),
            brake=brake,
            braked=braked,
        )

    @routes.get("/tasks", include_in_schema=False, dependencies=[scope("tasks:read")])
    async def tasks(
        request: Request,
        window: PageWindow,
        state: Literal["open", "done"] = "open",
    ) -> HTMLResponse:
        view = page.view_of(request)
        company = view.require_company()
        async with context.database.reading() as connection:
            rows = await queries.tasks(connection, window, company=company.company, state=state, role=None, kind=None)
            ahead = await queries.irreversible_ahead(
                connection, company=company.company, on=_next_business_day(context, company.company)
            )
        listed = window.page(rows, key=lambda row: (row.task_id,), item=_task)
        return PAGES.render(
            request, "tasks.html", state=state, rows=listed.items, next_cursor=listed.next_cursor, ahead=ahead
        )

    @routes.post("/brake/release", include_in_schema=False, dependencies=[scope("brake:write")])
    async def release_brake(request: Request, principal: CurrentPrincipal) -> Response:
        company = page.view_of(request).require_company().company
        async with context.database.transaction() as tx:
            await recording.record(desk, tx, recording.BrakeRelease(company=company), by=principal.name)
        return RedirectResponse(f"/dunning/cases?company={company}", status_code=303)


def _case(row: Any) -> CaseAnswer:
    return CaseAnswer(
        case_id=row.case_id,
        company=row.company,
        customer=row.customer,
        currency=row.currency,
        state=row.state,
        policy=row.policy,
        policy_version=row.policy_version,
        opened_on=row.opened_on,
        closed_on=row.closed_on,
        outcome=row.outcome,
        previous_case_id=row.previous_case_id,
        reason=row.reason if row.closed_on is None else None,
        next_check_on=row.next_check_on if row.closed_on is None else None,
        last_contact_on=row.last_contact_on,
        items=row.items,
        open=Money.from_minor(int(row.open), row.currency),
        oldest_due_on=row.oldest_due_on,
        level=row.level,
    )


def _task(row: Any) -> TaskAnswer:
    return TaskAnswer.model_validate(
        {
            **dict.fromkeys(("customer", "case_id", "step", "run", "reason")),
            **row.state,
            "completed_at": row.completed_at,
            "disposition": row.disposition,
            "completed_by": row.completed_by,
        }
    )


def _listed(row: Any) -> dict[str, Any]:
    """A case as the list shows it."""
    return {
        "case_id": row.case_id,
        "customer": row.customer,
        "currency": row.currency,
        "state": row.state,
        "tone": _TONES.get(row.state, "plain"),
        "opened_on": row.opened_on,
        "next_check_on": row.next_check_on if row.closed_on is None else None,
        "last_contact_on": row.last_contact_on,
        "items": row.items,
        "open": to_decimal(int(row.open), row.currency),
        "oldest": row.oldest_number,
    }


def _next_business_day(context: Context[DunningSettings], company: str) -> date:
    hour = context.settings.evaluation_hour
    profile = Desk(context.companies, hour).profile(company)
    return company_calendar(profile).add(evaluation_date(context.clock.now(), profile.zone, from_hour=hour), 1)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
