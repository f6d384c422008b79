"""Late charges by HTTP: what accrued beside what was posted, what was refused, and people's waivers, write-offs, refunds."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from cobranza.chassis.http import CurrentPrincipal, Problem, Request, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money, PositiveMoney, exponent
from cobranza.contracts.payloads import Slug
from cobranza.payments import queries, repository
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Decider
from cobranza.payments.use_cases.decisions import Asked, Decision, State, Verb
from cobranza.payments.use_cases.late_charges import Accrued, NotAccrued, accrued

#: Most debts of one customer whose accrual is told at once.
MOST_DEBTS: Final = 200
_MOST_LISTED: Final = 200
_MOST_DAYS_AHEAD: Final = 366

CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]
CustomerName = Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")]
Note = Annotated[str, Field(min_length=3, max_length=200, description="Kept with the name of who asks")]
On = Annotated[date | None, Query(description="The day it is computed for, inclusive; the company's today")]
RulesName = Annotated[Slug | None, Query(description="Rules to compute by, where several are in force")]


class IntervalAnswer(BaseModel):
    """Days, both inclusive, with one open principal and one rate."""

    first_on: date
    last_on: date
    days: int
    principal: Money
    percent: Annotated[Decimal, Field(description="Per cent a year")]
    interest: Annotated[Decimal, Field(description="Not rounded: the sum is, once, where the rules say so")]


class AccrualAnswer(BaseModel):
    """What lateness of a debt costs by a day; difference = accrued - posted."""

    receivable_id: UUID
    number: str
    customer: str
    due_on: date
    open: Money
    through_on: date
    rule: str
    day_count: str
    days: int
    accrued: Money
    posted: Annotated[Money, Field(description="Charged so far, less what was withdrawn")]
    waived: Annotated[Money, Field(description="The part of posted that was forgiven")]
    difference: Annotated[Money, Field(description="What the next charge posts; below zero: too much is posted")]
    intervals: list[IntervalAnswer]


class NotAccruedAnswer(BaseModel):
    """Why the cost of a debt's lateness cannot be told."""

    receivable_id: UUID
    number: str
    code: str
    detail: str


class CustomerAccrualAnswer(BaseModel):
    """The accruals of a customer's late debts, and those that cannot be told."""

    company: str
    customer: str
    on: date
    debts: list[AccrualAnswer]
    refused: list[NotAccruedAnswer]


class LateChargeAnswer(BaseModel):
    """A late charge, which is a receivable of its own; amount = open + paid + waived + withdrawn + other credits."""

    receivable_id: UUID
    customer: str
    number: str
    kind: str
    code: str
    step: str
    run: int
    case_id: UUID
    debt_id: Annotated[UUID | None, Field(description="The debt it is on; none: the whole case")]
    rule: str
    from_on: date | None
    through_on: date | None
    assessed_on: date
    settle: str
    amount: Money
    open: Money
    paid: Money
    waived: Money
    withdrawn: Money


class RequestLine(BaseModel):
    """What became of one debt of a step: an amount, or the reason why nothing was charged."""

    receivable_id: UUID | None
    code: str
    amount: Money
    reason: str | None
    detail: str


class ChargeRequestAnswer(BaseModel):
    """A step that asked for a charge; one that waits is tried again when rules or rates are added."""

    case_id: UUID
    step: str
    run: int
    customer: str
    effect: str
    reached_on: date
    state: Literal["asked", "booked", "partly", "refused", "waits"]
    lines: list[RequestLine]


class DecisionRequest(Request):
    """What a person decides, and why."""

    action_id: Annotated[UUID, Field(description="Made by the caller: the same again has no effect")]
    amount: Annotated[PositiveMoney | None, Field(description="Absent: all that is open or unapplied")] = None
    reason: Annotated[Slug, Field(description="Open set; known: goodwill, settlement, error, uncollectable, overpaid")]
    note: Note


class DecisionAnswer(BaseModel):
    """Done, or waiting for a second person's approval; `is_repeat`: it was asked or decided before."""

    action_id: UUID
    verb: Verb
    subject_id: UUID
    state: State
    amount: Money
    is_repeat: bool


class WaitingDecision(BaseModel):
    """What a person decided or asked for."""

    action_id: UUID
    verb: Verb
    subject_id: UUID
    number: str | None
    customer: str | None
    amount: Money
    reason: str
    note: str
    asked_by: str
    asked_at: datetime
    state: State
    decided_by: str | None
    decision_note: str | None


class Answer(Request):
    """Why a second person approves or refuses."""

    note: Note


def add_late_charges(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the routes of late charges and of decisions."""
    _add_reads(routes, context)
    _add_decisions(routes, context)


def _add_reads(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    @routes.get(
        "/v1/receivables/{receivable_id}/accrual",
        operation_id="get_accrual",
        tags=["late charges"],
        dependencies=[scope("payments:read")],
        summary="Late interest of a debt by a day beside what was posted, with every interval of principal and rate.",
    )
    async def get_accrual(
        receivable_id: UUID,
        company: CompanyName,
        principal: CurrentPrincipal,
        on: On = None,
        rules: RulesName = None,
    ) -> AccrualAnswer:
        principal.require_company(company)
        day = _day(context, company, on)
        async with context.database.reading() as connection:
            debts = await repository.debts_that_accrue(connection, company=company, on=day, receivable_id=receivable_id)
            if not debts:
                raise Problem("not-found", detail=f"no receivable of an invoice {receivable_id} of {company}")
            (found,) = await accrued(connection, company=company, debts=debts, on=day, named=rules)
        if isinstance(found, NotAccrued):
            raise found.why
        return accrual_answer(found)

    @routes.get(
        "/v1/customers/{customer}/accrual",
        operation_id="get_customer_accrual",
        tags=["late charges"],
        dependencies=[scope("payments:read")],
        summary="Late interest of all late debts of a customer by a day, beside what was posted.",
    )
    async def get_customer_accrual(
        customer: Annotated[str, Path(max_length=64, pattern=r"^[^\x00]*$")],
        company: CompanyName,
        principal: CurrentPrincipal,
        on: On = None,
        rules: RulesName = None,
    ) -> CustomerAccrualAnswer:
        principal.require_company(company)
        day = _day(context, company, on)
        async with context.database.reading() as connection:
            debts = await repository.debts_that_accrue(
                connection, company=company, on=day, customer=customer, most=MOST_DEBTS
            )
            found = await accrued(connection, company=company, debts=debts, on=day, named=rules)
        return CustomerAccrualAnswer(
            company=company,
            customer=customer,
            on=day,
            debts=[accrual_answer(one) for one in found if isinstance(one, Accrued)],
            refused=[
                NotAccruedAnswer(
                    receivable_id=one.debt.receivable_id,
                    number=one.debt.number,
                    code=one.why.code,
                    detail=one.why.detail,
                )
                for one in found
                if isinstance(one, NotAccrued)
            ],
        )

    @routes.get(
        "/v1/late-charges",
        operation_id="list_late_charges",
        tags=["late charges"],
        dependencies=[scope("payments:read")],
        summary="Late charges of a company, newest first.",
    )
    async def list_late_charges(
        window: PageWindow, principal: CurrentPrincipal, company: CompanyName, customer: CustomerName = None
    ) -> Page[LateChargeAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.late_charges(connection, window, company=company, customer=customer)
        return window.page(rows, key=lambda row: (row.assessed_on, row.receivable_id), item=charge_answer)

    @routes.get(
        "/v1/charge-requests",
        operation_id="list_charge_requests",
        tags=["late charges"],
        dependencies=[scope("payments:read")],
        summary="The newest steps that asked for a charge, with what became of every debt.",
    )
    async def list_charge_requests(
        principal: CurrentPrincipal,
        company: CompanyName,
        customer: CustomerName = None,
        is_unanswered: Annotated[
            bool | None, Query(alias="unanswered", description="Only those refused in part or whole, or waiting")
        ] = None,
    ) -> list[ChargeRequestAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.charge_requests(
                connection, company=company, customer=customer, is_unanswered=bool(is_unanswered), most=_MOST_LISTED
            )
        return [request_answer(row) for row in rows]


def _add_decisions(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    decider = Decider(context.companies)

    async def ask(
        verb: Verb, subject_id: UUID, asked: DecisionRequest, company: str, principal: CurrentPrincipal
    ) -> DecisionAnswer:
        principal.require_company(company)
        async with context.database.transaction() as tx:
            return decision_answer(
                await decider.ask(
                    tx,
                    Asked(
                        verb=verb,
                        company=company,
                        subject_id=subject_id,
                        action_id=asked.action_id,
                        amount=None if asked.amount is None else asked.amount.minor,
                        currency=None if asked.amount is None else asked.amount.currency,
                        reason=asked.reason,
                        note=asked.note,
                        by=principal.name,
                    ),
                )
            )

    @routes.post(
        "/v1/late-charges/{receivable_id}/waive",
        operation_id="waive_late_charge",
        tags=["late charges"],
        dependencies=[scope("payments:write")],
        summary="Forgive a late charge, in whole or in part; above the company's limit a second person approves.",
    )
    async def waive(
        receivable_id: UUID, asked: DecisionRequest, company: CompanyName, principal: CurrentPrincipal
    ) -> DecisionAnswer:
        return await ask("waive", receivable_id, asked, company, principal)

    @routes.post(
        "/v1/receivables/{receivable_id}/write-off",
        operation_id="write_off_receivable",
        tags=["receivables"],
        dependencies=[scope("payments:write")],
        summary="Give a debt up; above the company's limit a second person approves. Later money is a recovery.",
    )
    async def write_off(
        receivable_id: UUID, asked: DecisionRequest, company: CompanyName, principal: CurrentPrincipal
    ) -> DecisionAnswer:
        return await ask("write_off", receivable_id, asked, company, principal)

    @routes.post(
        "/v1/receipts/{receipt_id}/refund",
        operation_id="refund_receipt",
        tags=["receipts"],
        dependencies=[scope("payments:write")],
        summary="Note that unapplied money of a payment was given back.",
    )
    async def refund(
        receipt_id: UUID, asked: DecisionRequest, company: CompanyName, principal: CurrentPrincipal
    ) -> DecisionAnswer:
        return await ask("refund", receipt_id, asked, company, principal)

    @routes.get(
        "/v1/decisions",
        operation_id="list_decisions",
        tags=["decisions"],
        dependencies=[scope("payments:read")],
        summary="The newest waivers, write-offs and refunds, done or waiting for a second person.",
    )
    async def list_decisions(
        principal: CurrentPrincipal, company: CompanyName, state: State | None = None
    ) -> list[WaitingDecision]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.ledger_actions(
                connection, company=company, customer=None, state=state, most=_MOST_LISTED
            )
        return [waiting_decision(row) for row in rows]

    @routes.post(
        "/v1/decisions/{action_id}/{answer}",
        operation_id="answer_decision",
        tags=["decisions"],
        dependencies=[scope("payments:write")],
        summary="A second person approves, and it is carried out, or refuses.",
    )
    async def answer_decision(
        action_id: UUID,
        answer: Literal["approve", "refuse"],
        told: Answer,
        company: CompanyName,
        principal: CurrentPrincipal,
    ) -> DecisionAnswer:
        principal.require_company(company)
        async with context.database.transaction() as tx:
            return decision_answer(
                await decider.answer(
                    tx, company=company, action_id=action_id, approve=answer, by=principal.name, note=told.note
                )
            )


def today(context: Context[PaymentsSettings], company: str) -> date:
    """The company's date.

    Raises:
        Problem: this deployment has no such company.
    """
    profile = context.companies.get(company)
    if profile is None:
        raise Problem("not-found", detail=f"no company {company!r} here")
    return context.clock.now().astimezone(profile.zone).date()


def _day(context: Context[PaymentsSettings], company: str, on: date | None) -> date:
    """The day asked for, which is at most a year ahead.

    Raises:
        Problem: it is later.
    """
    now = today(context, company)
    if on is not None and (on - now).days > _MOST_DAYS_AHEAD:
        raise Problem("validation-failed", detail=f"on: at most a year after {now}, not {on}")
    return on or now


def accrual_answer(found: Accrued) -> AccrualAnswer:
    """An accrual with its explanation, for reading."""
    debt, currency = found.debt, found.debt.currency

    def money(minor: int) -> Money:
        return Money.from_minor(minor, currency)

    return AccrualAnswer(
        receivable_id=debt.receivable_id,
        number=debt.number,
        customer=debt.customer,
        due_on=debt.due_on,
        open=money(debt.open),
        through_on=found.through_on,
        rule=found.rules.rule.name,
        day_count=found.rules.rule.day_count,
        days=found.accrual.days,
        accrued=money(found.accrual.interest),
        posted=money(found.posted),
        waived=money(found.waived),
        difference=money(found.difference),
        intervals=[
            IntervalAnswer(
                first_on=part.first_on,
                last_on=part.last_on,
                days=part.days,
                principal=money(part.principal),
                percent=part.percent,
                interest=_unrounded(part.interest, currency),
            )
            for part in found.accrual.segments
        ],
    )


def charge_answer(row: Any) -> LateChargeAnswer:
    """A late charge, for reading."""
    amounts = {
        name: Money.from_minor(int(value), row.currency)
        for name, value in (
            ("amount", row.amount),
            ("open", row.open),
            ("paid", row.allocated),
            ("waived", row.waived),
            ("withdrawn", row.withdrawn),
        )
    }
    return LateChargeAnswer.model_validate({**row._mapping, **amounts})  # noqa: SLF001 - SQLAlchemy's public name


def request_answer(row: Any) -> ChargeRequestAnswer:
    """What became of a step's charge, for reading."""
    return ChargeRequestAnswer.model_validate(
        {
            **row._mapping,  # noqa: SLF001 - SQLAlchemy's public name
            "lines": [{**line, "amount": Money.from_minor(line["amount"], row.currency)} for line in row.lines],
        }
    )


def decision_answer(decision: Decision) -> DecisionAnswer:
    """A decision, for reading."""
    return DecisionAnswer(
        action_id=decision.action_id,
        verb=decision.verb,
        subject_id=decision.subject_id,
        state=decision.state,
        amount=Money.from_minor(decision.amount, decision.currency),
        is_repeat=decision.is_repeat,
    )


def waiting_decision(row: Any) -> WaitingDecision:
    """What was asked for, for reading."""
    return WaitingDecision.model_validate(
        {**row._mapping, "amount": Money.from_minor(row.amount, row.currency)}  # noqa: SLF001 - SQLAlchemy's public name
    )


def _unrounded(minor: Fraction, currency: str) -> Decimal:
    """Major units with four places more than money has, so that a person can follow the sum."""
    places = exponent(currency)
    precise: Decimal = Decimal(minor.numerator) / Decimal(minor.denominator) / 10**places
    return precise.quantize(Decimal(1).scaleb(-places - 4))
