"""Unapplied payments by HTTP, for programs and as the page Pagos sin aplicar: what is suggested, and people's answers."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from cobranza.chassis import page
from cobranza.chassis.http import CurrentPrincipal, Problem, Request, scope
from cobranza.chassis.ids import new_id
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money, PositiveMoney, to_decimal, to_minor
from cobranza.payments import repository
from cobranza.payments.api.imports import PAGES
from cobranza.payments.domain.errors import MatchRefusedError, PaymentsError
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Decider, Matcher, Share
from cobranza.payments.use_cases.decisions import Asked, typed_amount
from cobranza.payments.use_cases.matching import Done, Verb

_MOST_OPEN_ITEMS: Final = 100
_MOST_CLAIMS: Final = 50

CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]
Why = Annotated[str, Field(min_length=3, max_length=200, description="Kept with the name of who asks")]
WhyForm = Annotated[str, Form(min_length=3, max_length=200, pattern=r"^[^\x00]*$")]
ActionId = Annotated[UUID, Field(description="Made by the caller: the same again has no effect")]


class ShareOfSuggestion(BaseModel):
    """What a suggestion gives one receivable."""

    receivable_id: UUID
    amount: Money


class SuggestionAnswer(BaseModel):
    """One way to apply a payment, and why it is suggested."""

    suggestion_id: UUID
    rule: str
    confidence: Decimal
    customer: str | None
    shares: list[ShareOfSuggestion]
    inputs: dict[str, Any]


class UnappliedAnswer(BaseModel):
    """A payment that is not applied in full."""

    receipt_id: UUID
    system: str
    external_id: str
    customer: str | None
    value_on: date
    amount: Money
    unapplied: Money
    reason: str | None
    payer: dict[str, str | None] | None
    suggestions: list[SuggestionAnswer]


class Answer(Request):
    """Why a person accepts or rejects."""

    reason: Why


class ApplyLine(Request):
    """So much to one receivable."""

    receivable_id: UUID
    amount: PositiveMoney


class Application(Request):
    """Apply a payment to these receivables, or move it there from all others."""

    action_id: ActionId
    verb: Literal["apply", "move"] = "apply"
    lines: Annotated[tuple[ApplyLine, ...], Field(min_length=1, max_length=200)]
    reason: Why


class Undoing(Request):
    """Take back all that a payment is applied to."""

    action_id: ActionId
    reason: Why


class DoneAnswer(BaseModel):
    """What is left of the payment; `is_repeat`: it was done before."""

    receipt_id: UUID
    unapplied: Money
    is_repeat: bool


def add_matching(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the routes of unapplied payments."""
    matcher = Matcher(context.database, context.companies)
    _add_api(routes, context, matcher)
    _add_pages(routes, context, matcher)


def _add_api(routes: APIRouter, context: Context[PaymentsSettings], matcher: Matcher) -> None:
    @routes.get(
        "/v1/unapplied",
        operation_id="list_unapplied",
        tags=["matching"],
        dependencies=[scope("payments:read")],
        summary="Payments that are not applied in full, with what is suggested for them and why.",
    )
    async def list_unapplied(
        window: PageWindow, company: CompanyName, principal: CurrentPrincipal
    ) -> Page[UnappliedAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await repository.unapplied_receipts(connection, window, company=company)
            suggested = await repository.suggestions(
                connection, company=company, receipt_ids=[r.receipt_id for r in rows]
            )
        return window.page(rows, key=_place, item=lambda row: _unapplied(row, suggested[row.receipt_id]))

    @routes.post(
        "/v1/suggestions/{suggestion_id}/accept",
        operation_id="accept_suggestion",
        tags=["matching"],
        dependencies=[scope("payments:write")],
        summary="Apply a suggestion as it was made; once more has no effect.",
    )
    async def accept_suggestion(
        suggestion_id: UUID, asked: Answer, company: CompanyName, principal: CurrentPrincipal
    ) -> DoneAnswer:
        principal.require_company(company)
        async with context.database.transaction() as tx:
            done = await matcher.accept(
                tx, company=company, suggestion_id=suggestion_id, by=principal.name, reason=asked.reason
            )
        return _done(done)

    @routes.post(
        "/v1/suggestions/{suggestion_id}/reject",
        operation_id="reject_suggestion",
        tags=["matching"],
        dependencies=[scope("payments:write")],
        summary="Never suggest this again; people decide about the payment from then on.",
    )
    async def reject_suggestion(
        suggestion_id: UUID, asked: Answer, company: CompanyName, principal: CurrentPrincipal
    ) -> DoneAnswer:
        principal.require_company(company)
        async with context.database.transaction() as tx:
            done = await matcher.reject(
                tx, company=company, suggestion_id=suggestion_id, by=principal.name, reason=asked.reason
            )
        return _done(done)

    @routes.post(
        "/v1/receipts/{receipt_id}/allocations",
        operation_id="apply_receipt",
        tags=["matching"],
        dependencies=[scope("payments:write")],
        summary="Apply a payment to the receivables a person chose, or move it there.",
    )
    async def apply_receipt(
        receipt_id: UUID, asked: Application, company: CompanyName, principal: CurrentPrincipal
    ) -> DoneAnswer:
        principal.require_company(company)
        await _require_currency(context, company, receipt_id, asked.lines)
        async with context.database.transaction() as tx:
            done = await matcher.act(
                tx,
                asked.verb,
                company=company,
                receipt_id=receipt_id,
                shares=[Share(receivable_id=line.receivable_id, amount=line.amount.minor) for line in asked.lines],
                action_id=asked.action_id,
                by=principal.name,
                reason=asked.reason,
            )
        return _done(done)

    @routes.post(
        "/v1/receipts/{receipt_id}/undo",
        operation_id="undo_receipt",
        tags=["matching"],
        dependencies=[scope("payments:write")],
        summary="Take back all that a payment is applied to; its debts are open again.",
    )
    async def undo_receipt(
        receipt_id: UUID, asked: Undoing, company: CompanyName, principal: CurrentPrincipal
    ) -> DoneAnswer:
        principal.require_company(company)
        async with context.database.transaction() as tx:
            done = await matcher.act(
                tx,
                "undo",
                company=company,
                receipt_id=receipt_id,
                action_id=asked.action_id,
                by=principal.name,
                reason=asked.reason,
            )
        return _done(done)


def _add_pages(routes: APIRouter, context: Context[PaymentsSettings], matcher: Matcher) -> None:
    @routes.get("/unapplied", include_in_schema=False, dependencies=[scope("payments:read")])
    async def unapplied(request: HttpRequest, window: PageWindow) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            rows = await repository.unapplied_receipts(connection, window, company=company.company)
            suggested = await repository.suggestions(
                connection, company=company.company, receipt_ids=[row.receipt_id for row in rows]
            )
            claims = await repository.payment_claims(connection, company=company.company, most=_MOST_CLAIMS)
        shown = window.page(rows, key=_place, item=lambda row: _unapplied(row, suggested[row.receipt_id]))
        return PAGES.render(
            request,
            "unapplied.html",
            receipts=shown.items,
            claims=[
                (row.customer, row.until_on, None if row.unapplied is None else _money(row.unapplied, row.currency))
                for row in claims
            ],
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
        )

    async def one_page(
        request: HttpRequest, receipt_id: UUID, *, customer: str | None, refusal: PaymentsError | None = None
    ) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            row = await repository.one_receipt(connection, company=company.company, receipt_id=receipt_id)
            if row is None:
                raise Problem("not-found", f"no payment {receipt_id} of {company.company}")
            suggested = (await repository.suggestions(connection, company=company.company, receipt_ids=[receipt_id]))[
                receipt_id
            ]
            applied = await repository.live_allocations(connection, company=company.company, receipt_id=receipt_id)
            items = await repository.open_items(
                connection,
                company=company.company,
                customer=customer or row.customer,
                currency=row.currency,
                also=[UUID(i) for one in suggested for i in one.shares],
                most=_MOST_OPEN_ITEMS,
            )
            actions = await repository.match_actions(connection, company=company.company, receipt_id=receipt_id)
        return PAGES.render(
            request,
            "unapplied_one.html",
            status=200 if refusal is None else refusal.status,
            receipt=_unapplied(row, suggested),
            references=row.details.get("references") or [],
            applied=[(one, _money(one.amount, row.currency)) for one in applied],
            items=[(one, _money(one.open, row.currency)) for one in items],
            numbers={str(one.receivable_id): one.number for one in items},
            actions=actions,
            customer=customer or row.customer or "",
            action_id=new_id(),
            refusal=refusal,
            zone=company.zone,
        )

    @routes.get("/unapplied/{receipt_id}", include_in_schema=False, dependencies=[scope("payments:read")])
    async def one(
        request: HttpRequest,
        receipt_id: UUID,
        customer: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    ) -> HTMLResponse:
        return await one_page(request, receipt_id, customer=customer.strip() or None)

    @routes.post(
        "/unapplied/{receipt_id}/suggestions/{suggestion_id}",
        include_in_schema=False,
        dependencies=[scope("payments:write")],
    )
    async def answer_suggestion(
        request: HttpRequest,
        receipt_id: UUID,
        suggestion_id: UUID,
        principal: CurrentPrincipal,
        answer: Annotated[Literal["accept", "reject"], Form()],
        reason: WhyForm,
    ) -> Response:
        company = page.view_of(request).require_company().company
        decide = matcher.accept if answer == "accept" else matcher.reject
        try:
            async with context.database.transaction() as tx:
                await decide(tx, company=company, suggestion_id=suggestion_id, by=principal.name, reason=reason)
        except PaymentsError as refusal:
            return await one_page(request, receipt_id, customer=None, refusal=refusal)
        return _to(receipt_id, company)

    @routes.post("/unapplied/{receipt_id}/refund", include_in_schema=False, dependencies=[scope("payments:write")])
    async def refund(
        request: HttpRequest,
        receipt_id: UUID,
        principal: CurrentPrincipal,
        action_id: Annotated[UUID, Form()],
        note: WhyForm,
        amount: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        company = page.view_of(request).require_company().company
        async with context.database.reading() as connection:
            row = await repository.one_receipt(connection, company=company, receipt_id=receipt_id)
        if row is None:
            raise Problem("not-found", f"no payment {receipt_id} of {company}")
        try:
            asked = Asked(
                verb="refund",
                company=company,
                subject_id=receipt_id,
                action_id=action_id,
                amount=typed_amount(amount, row.currency),
                reason="overpaid",
                note=note,
                by=principal.name,
            )
            async with context.database.transaction() as tx:
                await Decider(context.companies).ask(tx, asked)
        except PaymentsError as refusal:
            return await one_page(request, receipt_id, customer=None, refusal=refusal)
        return _to(receipt_id, company)

    @routes.post("/unapplied/{receipt_id}", include_in_schema=False, dependencies=[scope("payments:write")])
    async def act(
        request: HttpRequest,
        receipt_id: UUID,
        principal: CurrentPrincipal,
        verb: Annotated[Verb, Form()],
        action_id: Annotated[UUID, Form()],
        reason: WhyForm,
    ) -> Response:
        company = page.view_of(request).require_company().company
        form = await request.form()
        async with context.database.reading() as connection:
            row = await repository.one_receipt(connection, company=company, receipt_id=receipt_id)
        if row is None:
            raise Problem("not-found", f"no payment {receipt_id} of {company}")
        try:
            shares = [] if verb == "undo" else _shares_of(form.multi_items(), row.currency)
            async with context.database.transaction() as tx:
                await matcher.act(
                    tx,
                    verb,
                    company=company,
                    receipt_id=receipt_id,
                    shares=shares,
                    action_id=action_id,
                    by=principal.name,
                    reason=reason,
                )
        except PaymentsError as refusal:
            return await one_page(request, receipt_id, customer=None, refusal=refusal)
        return _to(receipt_id, company)


async def _require_currency(
    context: Context[PaymentsSettings], company: str, receipt_id: UUID, lines: tuple[ApplyLine, ...]
) -> None:
    async with context.database.reading() as connection:
        row = await repository.one_receipt(connection, company=company, receipt_id=receipt_id)
    if row is None:
        raise Problem("not-found", f"no payment {receipt_id} of {company}")
    for place, line in enumerate(lines):
        if line.amount.currency != row.currency:
            raise MatchRefusedError(
                f"the payment is in {row.currency}, the line in {line.amount.currency}; there is no implicit exchange",
                pointer=f"/lines/{place}/amount/currency",
            )


def _shares_of(fields: list[tuple[str, Any]], currency: str) -> list[Share]:
    """The amounts a person typed beside the open items; empty ones are left alone."""
    shares = []
    for name, value in fields:
        if not name.startswith("amount-") or not str(value).strip():
            continue
        try:
            shares.append(Share(receivable_id=UUID(name[7:]), amount=to_minor(Decimal(str(value).strip()), currency)))
        except (ArithmeticError, ValueError) as error:
            raise MatchRefusedError(f"{value!r} is no amount in {currency}: write it as 1234.50") from error
    if not shares:
        raise MatchRefusedError("no amount was given: write one beside an open item")
    return shares


def _unapplied(row: Any, suggested: list[Any]) -> UnappliedAnswer:
    return UnappliedAnswer(
        receipt_id=row.receipt_id,
        system=row.system,
        external_id=row.external_id,
        customer=row.customer,
        value_on=row.value_on,
        amount=_money(row.amount, row.currency),
        unapplied=_money(row.unapplied, row.currency),
        reason=row.reason,
        payer=row.payer,
        suggestions=[
            SuggestionAnswer(
                suggestion_id=one.suggestion_id,
                rule=one.rule,
                confidence=one.confidence,
                customer=one.customer,
                shares=[
                    ShareOfSuggestion(receivable_id=UUID(i), amount=_money(minor, row.currency))
                    for i, minor in one.shares.items()
                ],
                inputs=_in_major(one.inputs, row.currency),
            )
            for one in suggested
        ],
    )


def _in_major(inputs: dict[str, Any], currency: str) -> dict[str, Any]:
    """What a rule saw, its amounts as people write them."""
    return {
        **inputs,
        "amount": str(to_decimal(inputs["amount"], currency)),
        "debts": [{**debt, "open": str(to_decimal(debt["open"], currency))} for debt in inputs["debts"]],
    }


def _money(minor: int, currency: str) -> Money:
    return Money.from_minor(minor, currency)


def _done(done: Done) -> DoneAnswer:
    return DoneAnswer(
        receipt_id=done.receipt_id, unapplied=_money(done.unapplied, done.currency), is_repeat=done.is_repeat
    )


def _place(row: Any) -> tuple[date, UUID]:
    return row.value_on, row.receipt_id


def _to(receipt_id: UUID, company: str) -> Response:
    return RedirectResponse(f"/payments/unapplied/{receipt_id}?company={company}", status_code=303)
