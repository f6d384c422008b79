"""The ledger for reading: receivables, receipts and statements, now or at the end of any day, and as files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis import spreadsheets
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.http import CurrentPrincipal, Problem, answer, not_modified, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.chassis.spreadsheets import Cell, Export
from cobranza.contracts.money import Money, to_decimal
from cobranza.payments import queries
from cobranza.payments.queries import AsOf, ReceiptFilter, ReceivableFilter
from cobranza.payments.settings import PaymentsSettings

#: Most movements in a statement as JSON; as a file it has all.
_MOVEMENTS: Final = 200

Text = Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")]
CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]
Currency = Annotated[str | None, Query(pattern="^[A-Z]{3}$")]
Day = Annotated[date | None, Query(description="The end of this day, instead of now")]
By = Annotated[
    Literal["value", "record"], Query(description="With as_of: what took effect until then, or what was booked by then")
]
FileFormat = Annotated[Literal["json", "csv", "xlsx"], Query(description="JSON by pages; a file has every row")]


class ReceivableAnswer(BaseModel):
    """What is owed of one instalment; issued = allocated + credited + written_off + open."""

    receivable_id: UUID
    invoice_id: UUID | None
    instalment: int | None
    customer: str
    number: str
    kind: str
    issued_on: date
    due_on: date
    issued: Money
    allocated: Money
    credited: Money
    written_off: Money
    open: Money
    version: int


class ReceiptAnswer(BaseModel):
    """Money that came in; amount = allocated + unapplied + refunded + reversed."""

    receipt_id: UUID
    kind: str
    customer: str | None
    system: str
    external_id: str
    value_on: date
    amount: Money
    allocated: Money
    unapplied: Money
    refunded: Money
    reversed: Money
    reason: Annotated[str | None, Field(description="What stands in the way of applying the rest")]
    details: dict[str, Any]


class BalanceAnswer(BaseModel):
    """A customer's balance in one currency; opening + the movements listed = open."""

    opening: Annotated[Money, Field(description="Open before the first movement listed")]
    open: Money
    unapplied: Money


class MovementAnswer(BaseModel):
    """One movement of debt: above zero it rose, below it fell."""

    effective_on: date
    booked_at: datetime
    kind: str
    receivable_id: UUID
    number: str
    instalment: int | None
    amount: Money
    balance: Annotated[Money, Field(description="Open after it, in its currency")]


class StatementAnswer(BaseModel):
    """A customer's balances at the end of a day, and the movements that led to them, oldest first."""

    company: str
    customer: str
    as_of: date
    by: Literal["value", "record"]
    balances: list[BalanceAnswer]
    movements: list[MovementAnswer]
    is_complete: Annotated[bool, Field(description="false: older movements are in opening; a file has them all")]


def add_ledger(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """The routes under `/payments/v1` that read the ledger."""
    _add_receivables(routes, context)
    _add_receipts(routes, context)
    _add_statement(routes, context)


def _add_receivables(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    @routes.get(
        "/v1/receivables",
        operation_id="list_receivables",
        tags=["receivables"],
        dependencies=[scope("payments:read")],
        response_model=Page[ReceivableAnswer],
        summary="Receivables of a company by due date, now or as of a day; by pages, or all of them as CSV or XLSX.",
    )
    async def list_receivables(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: CompanyName,
        customer: Text = None,
        currency: Currency = None,
        kind: Literal["invoice", "late_charge"] | None = None,
        number: Text = None,
        invoice_id: UUID | None = None,
        is_open: Annotated[bool | None, Query(alias="open")] = None,
        due_from: date | None = None,
        due_through: date | None = None,
        as_of: Day = None,
        by: By = "value",
        format: FileFormat = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | Page[ReceivableAnswer]:
        principal.require_company(company)
        at = _point(context, company, as_of, by)
        which = ReceivableFilter(
            customer=customer, currency=currency, kind=kind, number=number, invoice_id=invoice_id, is_open=is_open,
            due_from=due_from, due_through=due_through,
        )  # fmt: skip
        if format != "json":
            export = _export(
                context,
                lambda connection: queries.all_receivables(connection, company=company, which=which, as_of=at.as_of),
                columns=_RECEIVABLE_COLUMNS, name="receivables", company=company, at=at, **which._asdict(),
            )  # fmt: skip
            return await spreadsheets.answer(export, format)
        async with context.database.reading() as connection:
            rows = await queries.receivables(connection, window, company=company, which=which, as_of=at.as_of)
        return window.page(rows, key=lambda row: (row.due_on, row.receivable_id), item=_receivable)

    @routes.get(
        "/v1/receivables/{receivable_id}",
        operation_id="get_receivable",
        tags=["receivables"],
        dependencies=[scope("payments:read")],
        response_model=ReceivableAnswer,
        summary="One receivable; its ETag is its version.",
    )
    async def get_receivable(
        request: Request, receivable_id: UUID, company: CompanyName, principal: CurrentPrincipal
    ) -> Response:
        principal.require_company(company)
        async with context.database.reading() as connection:
            row = await queries.one_receivable(connection, company=company, receivable_id=receivable_id)
        if row is None:
            raise Problem("not-found", detail=f"no receivable {receivable_id} of {company}")
        return not_modified(request, version=row.version) or answer(_receivable(row), version=row.version)


def _add_receipts(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    @routes.get(
        "/v1/receipts",
        operation_id="list_receipts",
        tags=["receipts"],
        dependencies=[scope("payments:read")],
        response_model=Page[ReceiptAnswer],
        summary="Receipts of a company, newest value date first, now or as of a day; by pages, or all as CSV or XLSX.",
    )
    async def list_receipts(
        window: PageWindow,
        principal: CurrentPrincipal,
        company: CompanyName,
        customer: Text = None,
        currency: Currency = None,
        kind: Literal["cash", "credit"] | None = None,
        external_id: Text = None,
        is_unapplied: Annotated[bool | None, Query(alias="unapplied")] = None,
        value_from: date | None = None,
        value_through: date | None = None,
        as_of: Day = None,
        by: By = "value",
        format: FileFormat = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | Page[ReceiptAnswer]:
        principal.require_company(company)
        at = _point(context, company, as_of, by)
        which = ReceiptFilter(
            customer=customer, currency=currency, kind=kind, external_id=external_id, is_unapplied=is_unapplied,
            value_from=value_from, value_through=value_through,
        )  # fmt: skip
        if format != "json":
            export = _export(
                context,
                lambda connection: queries.all_receipts(connection, company=company, which=which, as_of=at.as_of),
                columns=_RECEIPT_COLUMNS, name="receipts", company=company, at=at, **which._asdict(),
            )  # fmt: skip
            return await spreadsheets.answer(export, format)
        async with context.database.reading() as connection:
            rows = await queries.receipts(connection, window, company=company, which=which, as_of=at.as_of)
        return window.page(rows, key=lambda row: (row.value_on, row.receipt_id), item=_receipt)


def _add_statement(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    @routes.get(
        "/v1/customers/{customer}/statement",
        operation_id="get_statement",
        tags=["customers"],
        dependencies=[scope("payments:read")],
        response_model=StatementAnswer,
        summary="A customer's balances by currency at the end of a day, and the movements that led to them.",
    )
    async def get_statement(
        customer: Annotated[str, Path(max_length=64, pattern=r"^[^\x00]*$")],
        company: CompanyName,
        principal: CurrentPrincipal,
        since: Annotated[date | None, Query(description="List movements from this day on")] = None,
        as_of: Day = None,
        by: By = "value",
        format: FileFormat = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | StatementAnswer:
        principal.require_company(company)
        at = _point(context, company, as_of, by)
        most = _MOVEMENTS if format == "json" else None
        async with context.database.reading() as connection:
            balances = await queries.balances(connection, company=company, customer=customer, as_of=at.as_of)
            rows = await queries.movements(
                connection, company=company, customer=customer, as_of=at.as_of, since=since, most=most and most + 1
            )
        if not balances:
            raise Problem("not-found", detail=f"no customer {customer!r} of {company} in the ledger")
        if format != "json":
            export = Export(
                name=f"statement-{company}-{at.on}",
                columns=_MOVEMENT_COLUMNS,
                parts=spreadsheets.in_one_part(
                    _cells(row, _MOVEMENT_COLUMNS, company=company, customer=customer, as_of=at.on, by=at.by)
                    for row in rows
                ),
                about={
                    "company": company,
                    "customer": customer,
                    "as_of": at.on,
                    "by": at.by,
                    "since": since,
                    **{f"open {code}": to_decimal(amounts[0], code) for code, amounts in balances.items()},
                    **{f"unapplied {code}": to_decimal(amounts[1], code) for code, amounts in balances.items()},
                },
            )
            return await spreadsheets.answer(export, format)
        listed = rows[-_MOVEMENTS:]
        moved = {code: sum(row.amount for row in listed if row.currency == code) for code in balances}
        return StatementAnswer(
            company=company,
            customer=customer,
            as_of=at.on,
            by=at.by,
            balances=[
                BalanceAnswer(
                    opening=Money.from_minor(still_open - moved[code], code),
                    open=Money.from_minor(still_open, code),
                    unapplied=Money.from_minor(unapplied, code),
                )
                for code, (still_open, unapplied) in balances.items()
            ],
            movements=[
                MovementAnswer.model_validate({**row._mapping, **_money(row, ("amount", "balance"))})  # noqa: SLF001
                for row in listed
            ],
            is_complete=len(rows) == len(listed),
        )


class _Point(NamedTuple):
    """The day that is answered for, and where the ledger is read; `as_of` None: as it is."""

    on: date
    by: Literal["value", "record"]
    as_of: AsOf | None


def _point(
    context: Context[PaymentsSettings], company: str, as_of: date | None, by: Literal["value", "record"]
) -> _Point:
    profile = context.companies.get(company)
    if profile is None:
        raise Problem("not-found", detail=f"no company {company!r} here")
    if as_of is None:
        today = evaluation_date(context.clock.now(), profile.zone, from_hour=context.settings.evaluation_hour)
        return _Point(today, by, None)
    ends_at = datetime.combine(as_of + timedelta(days=1), time.min, tzinfo=profile.zone)
    return _Point(as_of, by, AsOf(on=as_of, by=by, ends_at=ends_at))


def _export(
    context: Context[PaymentsSettings],
    read: Callable[[AsyncConnection], AsyncIterator[Sequence[Any]]],
    *,
    columns: Sequence[str],
    name: str,
    company: str,
    at: _Point,
    **which: Cell,
) -> Export:
    """All rows of a list; every line says company, day and currency."""

    async def parts() -> AsyncIterator[Sequence[Sequence[Cell]]]:
        async with context.database.reading() as connection:
            async for part in read(connection):
                yield [_cells(row, columns, company=company, as_of=at.on, by=at.by) for row in part]

    return Export(
        name=f"{name}-{company}-{at.on}",
        columns=columns,
        parts=parts(),
        about={"company": company, "as_of": at.on, "by": at.by, **which},
    )


def _cells(row: Any, columns: Sequence[str], **same: Cell) -> list[Cell]:
    """A row as cells: minor units become decimals of the row's currency."""
    return [
        same[name]
        if name in same
        else to_decimal(getattr(row, name), row.currency)
        if name in _AMOUNTS
        else getattr(row, name)
        for name in columns
    ]


_RECEIVABLE_AMOUNTS: Final = ("issued", "allocated", "credited", "written_off", "open")
_RECEIPT_AMOUNTS: Final = ("amount", "allocated", "unapplied", "refunded", "reversed")
_AMOUNTS: Final = frozenset({*_RECEIVABLE_AMOUNTS, *_RECEIPT_AMOUNTS, "balance"})
_RECEIVABLE_COLUMNS: Final = (
    "company", "as_of", "by", "customer", "number", "instalment", "kind", "currency", "issued_on", "due_on",
    *_RECEIVABLE_AMOUNTS,
)  # fmt: skip
_RECEIPT_COLUMNS: Final = (
    "company", "as_of", "by", "value_on", "customer", "kind", "system", "external_id", "currency", *_RECEIPT_AMOUNTS,
    "reason",
)  # fmt: skip
_MOVEMENT_COLUMNS: Final = (
    "company", "as_of", "by", "customer", "effective_on", "booked_at", "kind", "number", "instalment", "currency",
    "amount", "balance",
)  # fmt: skip


def _receivable(row: Any) -> ReceivableAnswer:
    return ReceivableAnswer.model_validate({**row._mapping, **_money(row, _RECEIVABLE_AMOUNTS)})  # noqa: SLF001


def _receipt(row: Any) -> ReceiptAnswer:
    return ReceiptAnswer.model_validate({**row._mapping, **_money(row, _RECEIPT_AMOUNTS)})  # noqa: SLF001


def _money(row: Any, names: Sequence[str]) -> dict[str, Money]:
    return {name: Money.from_minor(int(row._mapping[name]), row.currency) for name in names}  # noqa: SLF001
