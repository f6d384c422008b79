"""Notifications' routes: every notice with its state, its history and its text as sent."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict

from cobranza.chassis import page
from cobranza.chassis.http import CurrentPrincipal, Principal, Problem, answer, not_modified, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.payments import NoticePermitAnswer
from cobranza.notifications import queries
from cobranza.notifications.domain.letter import reference_of
from cobranza.notifications.domain.notice import State
from cobranza.notifications.settings import NotificationsSettings

PAGES = page.Pages("notifications", package="cobranza.notifications")
#: The letter is shown as a debtor would see it, but may run, load and reach nothing.
_LETTER_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"


class NoticeItem(BaseModel):
    """A notice and where it stands."""

    model_config = ConfigDict(from_attributes=True)

    notice_id: UUID
    customer: str
    purpose: str
    channel: str
    case_id: UUID | None
    step: str | None
    run: int | None
    template: str
    tone: str
    language: str
    state: State
    reason: str | None
    detail: str | None
    attempt: int
    requested_at: datetime
    expires_at: datetime
    handed_at: datetime | None
    told_on: date | None
    delivery: str | None
    subject: str | None
    version: int


class HistoryItem(BaseModel):
    """One moment of a notice's life; `permitted` stands for the permit that went before the intent."""

    model_config = ConfigDict(from_attributes=True)

    state: str
    reason: str | None
    detail: str | None
    attempt: int
    noted_at: datetime
    business_at: datetime


class NoticeAnswer(NoticeItem):
    """A notice with its text as sent."""

    body_text: str | None
    body_html: str | None
    headers: dict[str, str] | None
    permit: NoticePermitAnswer | None
    history: list[HistoryItem]


def router(context: Context[NotificationsSettings]) -> APIRouter:
    """The routes under `/notifications`."""
    routes = APIRouter()
    _add_api(routes, context)
    _add_pages(routes, context)
    return routes


def _add_api(routes: APIRouter, context: Context[NotificationsSettings]) -> None:
    @routes.get(
        "/v1/notices",
        operation_id="list_notices",
        tags=["notices"],
        dependencies=[scope("notices:read")],
        summary="Notices of a company, newest first.",
    )
    async def list_notices(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: str,
        state: State | None = None,
        customer: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Page[NoticeItem]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.notices(connection, window, company=company, state=state, customer=customer)
        return window.page(rows, key=_position, item=NoticeItem.model_validate)

    @routes.get(
        "/v1/notices/{notice_id}",
        operation_id="get_notice",
        tags=["notices"],
        dependencies=[scope("notices:read")],
        response_model=NoticeAnswer,
        summary="One notice with its text as sent and its history.",
    )
    async def get_notice(request: Request, notice_id: UUID, company: str, principal: CurrentPrincipal) -> Response:
        row, history = await _found(context, principal, company=company, notice_id=notice_id)
        # A waiting notice changes without an event; each moment of its history is a version of it here.
        shown = NoticeAnswer.model_validate({**row._mapping, "history": history})  # noqa: SLF001 - SQLAlchemy's public name
        return not_modified(request, version=len(history)) or answer(shown, version=len(history))


def _add_pages(routes: APIRouter, context: Context[NotificationsSettings]) -> None:
    @routes.get("/", include_in_schema=False, dependencies=[scope("notices:read")])
    async def messages(
        request: Request,
        window: PageWindow,
        state: State | Literal[""] = "",
        customer: Annotated[str | None, Query(max_length=64)] = None,
        q: Annotated[str, Query(max_length=100)] = "",
    ) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            counts = await queries.counts(connection, company=company.company)
            rows = await queries.notices(
                connection, window, company=company.company, state=state or None, customer=customer, search=q.strip()
            )
        shown = window.page(rows, key=_position, item=NoticeItem.model_validate)
        return PAGES.render(
            request,
            "messages.html",
            rows=rows[: len(shown.items)],
            counts=counts,
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
            state=state,
            states=list(State),
            q=q,
            zone=company.zone,
        )

    @routes.get("/messages/{notice_id}", include_in_schema=False, dependencies=[scope("notices:read")])
    async def message(request: Request, notice_id: UUID, principal: CurrentPrincipal) -> HTMLResponse:
        company = page.view_of(request).require_company()
        row, history = await _found(context, principal, company=company.company, notice_id=notice_id)
        return PAGES.render(
            request,
            "message.html",
            notice=row,
            history=history,
            reference=reference_of(notice_id),
            claimed=None if row.permit is None else NoticePermitAnswer.model_validate(row.permit).claimed,
            zone=company.zone,
            has_mailbox=context.settings.local_mode,
        )

    @routes.get("/messages/{notice_id}/html", include_in_schema=False, dependencies=[scope("notices:read")])
    async def letter(request: Request, notice_id: UUID, principal: CurrentPrincipal) -> HTMLResponse:
        company = page.view_of(request).require_company()
        row, _ = await _found(context, principal, company=company.company, notice_id=notice_id)
        if row.body_html is None:
            raise Problem("not-found", detail="this notice has no text yet")
        return HTMLResponse(
            row.body_html, headers={"Content-Security-Policy": _LETTER_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        )


async def _found(
    context: Context[NotificationsSettings], principal: Principal, *, company: str, notice_id: UUID
) -> tuple[Any, list[HistoryItem]]:
    principal.require_company(company)
    async with context.database.reading() as connection:
        row = await queries.one_notice(connection, company=company, notice_id=notice_id)
        if row is None:
            raise Problem("not-found", detail=f"no notice {notice_id} of {company}")
        history = await queries.history(connection, notice_id=notice_id)
    return row, [HistoryItem.model_validate(entry) for entry in history]


def _position(row: Any) -> tuple[datetime, UUID]:
    return row.requested_at, row.notice_id
