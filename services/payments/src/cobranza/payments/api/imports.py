"""Bank files by HTTP, for programs and as the page Importar: check first, then import, or undo."""

from __future__ import annotations

import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_args
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel

from cobranza.chassis import page
from cobranza.chassis.http import BULK, CurrentPrincipal, Principal, Problem, scope
from cobranza.chassis.pagination import Page, PageWindow
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money
from cobranza.payments import queries
from cobranza.payments.domain.bank_transaction import Format
from cobranza.payments.domain.errors import PaymentsError, StatementError
from cobranza.payments.gateways.statements import Mapping
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Importer, Report
from cobranza.payments.use_cases.imports import read_mapping, report_of, shipped_mappings

PAGES: Final = page.Pages("payments", package="cobranza.payments")
_COPY_AT_ONCE: Final = 1 << 20

Verdict = Literal["new", "known", "conflict", "unmatched", "refused"]
CompanyName = Annotated[str, Query(max_length=40, pattern=r"^[^\x00]*$")]
Told = Annotated[str, Form(max_length=200, pattern=r"^[^\x00]*$")]


class ImportAnswer(BaseModel):
    """A bank file: what it holds, and what became of it."""

    import_id: UUID
    company: str
    name: str
    format: str
    mapping: str | None
    state: Literal["checked", "importing", "imported", "undoing", "undone"]
    lines: list[dict[str, Any]]
    ignored: list[dict[str, Any]]
    statements: list[dict[str, Any]]
    watermark: str | None
    imported_at: datetime | None
    undone_at: datetime | None
    is_repeat: bool


class ImportLineAnswer(BaseModel):
    """One movement of a bank file."""

    line: int
    account: str
    kind: Literal["credit", "reversal"]
    verdict: Verdict
    note: str | None
    other_import: UUID | None
    other_line: int | None
    amount: Money
    booked_on: date
    value_on: date
    references: list[str]
    texts: list[str]
    payer: dict[str, str | None] | None
    receipt_id: UUID | None


class MappingsAnswer(BaseModel):
    """The mappings a company can use."""

    saved: list[Mapping]
    shipped: list[Mapping]


def add_imports(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the routes of bank files."""
    importer = Importer(context.database, context.companies, context.settings.evaluation_hour)
    _add_api(routes, context, importer)
    _add_pages(routes, context, importer)


def _add_api(routes: APIRouter, context: Context[PaymentsSettings], importer: Importer) -> None:
    @routes.post(
        "/v1/imports",
        operation_id="check_bank_file",
        tags=["imports"],
        dependencies=[scope("payments:write"), BULK],
        summary="Check a bank file of at most 20 MB as a whole (multipart/form-data); nothing is imported yet.",
    )
    async def check_bank_file(
        principal: CurrentPrincipal,
        company: Told,
        file: Annotated[UploadFile, File()],
        format_: Annotated[Format | None, Form(alias="format")] = None,
        mapping: Told = "",
        account: Told = "",
    ) -> ImportAnswer:
        principal.require_company(company)
        report = await _check(
            importer, principal, file, company=company, format_=format_, mapping=mapping, account=account
        )
        return _answer(report)

    @routes.post(
        "/v1/imports/{import_id}/run",
        operation_id="run_bank_import",
        tags=["imports"],
        dependencies=[scope("payments:write")],
        summary="Import a checked file; once more has no effect.",
    )
    async def run_bank_import(import_id: UUID, company: CompanyName, principal: CurrentPrincipal) -> ImportAnswer:
        principal.require_company(company)
        return _answer(await importer.run(import_id, company=company))

    @routes.post(
        "/v1/imports/{import_id}/undo",
        operation_id="undo_bank_import",
        tags=["imports"],
        dependencies=[scope("payments:write")],
        summary="Take every payment of an import back; once more has no effect.",
    )
    async def undo_bank_import(import_id: UUID, company: CompanyName, principal: CurrentPrincipal) -> ImportAnswer:
        principal.require_company(company)
        return _answer(await importer.undo(import_id, by=principal.name, company=company))

    @routes.get(
        "/v1/imports",
        operation_id="list_bank_imports",
        tags=["imports"],
        dependencies=[scope("payments:read")],
        summary="Bank files of a company, newest first.",
    )
    async def list_bank_imports(
        window: PageWindow, company: CompanyName, principal: CurrentPrincipal
    ) -> Page[ImportAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.bank_imports(connection, window, company=company)
            counts = await queries.bank_counts(connection, [row.import_id for row in rows])
        return window.page(rows, key=_time_of, item=lambda row: _answer(report_of(row, counts[row.import_id])))

    @routes.get(
        "/v1/imports/{import_id}",
        operation_id="get_bank_import",
        tags=["imports"],
        dependencies=[scope("payments:read")],
        summary="One bank file and what became of it.",
    )
    async def get_bank_import(import_id: UUID, company: CompanyName, principal: CurrentPrincipal) -> ImportAnswer:
        principal.require_company(company)
        return _answer(await _found(context, company=company, import_id=import_id))

    @routes.get(
        "/v1/imports/{import_id}/lines",
        operation_id="list_bank_lines",
        tags=["imports"],
        dependencies=[scope("payments:read")],
        summary="Movements of a bank file in its order, all or those with one verdict.",
    )
    async def list_bank_lines(
        window: PageWindow,
        import_id: UUID,
        company: CompanyName,
        principal: CurrentPrincipal,
        verdict: Verdict | None = None,
    ) -> Page[ImportLineAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.bank_lines(connection, window, company=company, import_id=import_id, verdict=verdict)
        return window.page(rows, key=lambda row: (row.position,), item=_line)

    @routes.get(
        "/v1/bank-mappings",
        operation_id="list_bank_mappings",
        tags=["imports"],
        dependencies=[scope("payments:read")],
        summary="Which column of a bank's CSV or XLSX means what: the company's own mappings, and the shipped ones.",
    )
    async def list_bank_mappings(company: CompanyName, principal: CurrentPrincipal) -> MappingsAnswer:
        principal.require_company(company)
        return MappingsAnswer(saved=await _saved_mappings(context, company), shipped=list(shipped_mappings()))

    @routes.put(
        "/v1/bank-mappings/{name}",
        operation_id="save_bank_mapping",
        tags=["imports"],
        dependencies=[scope("payments:write")],
        summary="Keep a mapping of a company under its name, in place of the one before.",
    )
    async def save_bank_mapping(
        name: str, mapping: Mapping, company: CompanyName, principal: CurrentPrincipal
    ) -> Mapping:
        principal.require_company(company)
        if mapping.name != name:
            raise Problem("malformed-request", f"the address says {name!r}, the mapping {mapping.name!r}")
        await importer.save_mapping(company, mapping, by=principal.name)
        return mapping


def _add_pages(routes: APIRouter, context: Context[PaymentsSettings], importer: Importer) -> None:
    async def listing(request: Request, window: PageWindow, *, fault: PaymentsError | None = None) -> HTMLResponse:
        company = page.view_of(request).require_company()
        async with context.database.reading() as connection:
            rows = await queries.bank_imports(connection, window, company=company.company)
            counts = await queries.bank_counts(connection, [row.import_id for row in rows])
        shown = window.page(rows, key=_time_of, item=lambda row: report_of(row, counts[row.import_id]))
        return PAGES.render(
            request,
            "imports.html",
            status=200 if fault is None else fault.status,
            imports=shown.items,
            times={row.import_id: row.checked_at for row in rows},
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
            formats=get_args(Format),
            mappings=[*await _saved_mappings(context, company.company), *shipped_mappings()],
            faults=list(fault.all()) if isinstance(fault, StatementError) else [],
            refusal=None if fault is None or isinstance(fault, StatementError) else fault.detail,
            zone=company.zone,
        )

    @routes.get("/imports", include_in_schema=False, dependencies=[scope("payments:read")])
    async def imports(request: Request, window: PageWindow) -> HTMLResponse:
        return await listing(request, window)

    @routes.post("/imports", include_in_schema=False, dependencies=[scope("payments:write"), BULK])
    async def upload(
        request: Request,
        window: PageWindow,
        principal: CurrentPrincipal,
        file: Annotated[UploadFile, File()],
        format_: Annotated[str, Form(alias="format", max_length=20)] = "",
        mapping: Told = "",
        account: Told = "",
    ) -> Response:
        company = page.view_of(request).require_company().company
        chosen = cast("Format", format_) if format_ in get_args(Format) else None
        try:
            report = await _check(
                importer, principal, file, company=company, format_=chosen, mapping=mapping, account=account
            )
        except PaymentsError as fault:
            return await listing(request, window, fault=fault)
        return _to(report)

    @routes.get("/imports/{import_id}", include_in_schema=False, dependencies=[scope("payments:read")])
    async def one(
        request: Request, window: PageWindow, import_id: UUID, verdict: Verdict | Literal[""] = ""
    ) -> Response:
        company = page.view_of(request).require_company()
        report = await _found(context, company=company.company, import_id=import_id)
        async with context.database.reading() as connection:
            rows = await queries.bank_lines(
                connection, window, company=company.company, import_id=import_id, verdict=verdict or None
            )
        shown = window.page(rows, key=lambda row: (row.position,), item=_line)
        return PAGES.render(
            request,
            "import.html",
            report=report,
            lines=shown.items,
            next_cursor=shown.next_cursor,
            is_first=window.after is None,
            verdict=verdict,
            verdicts=get_args(Verdict),
            zone=company.zone,
        )

    @routes.post("/imports/{import_id}/run", include_in_schema=False, dependencies=[scope("payments:write")])
    async def run(request: Request, import_id: UUID) -> Response:
        company = page.view_of(request).require_company().company
        return _to(await importer.run(import_id, company=company))

    @routes.post("/imports/{import_id}/undo", include_in_schema=False, dependencies=[scope("payments:write")])
    async def undo(request: Request, import_id: UUID, principal: CurrentPrincipal) -> Response:
        company = page.view_of(request).require_company().company
        return _to(await importer.undo(import_id, by=principal.name, company=company))

    @routes.post("/bank-mappings", include_in_schema=False, dependencies=[scope("payments:write")])
    async def keep_mapping(
        request: Request,
        window: PageWindow,
        principal: CurrentPrincipal,
        text: Annotated[str, Form(max_length=20_000, pattern=r"^[^\x00]*$")],
    ) -> Response:
        company = page.view_of(request).require_company().company
        try:
            await importer.save_mapping(company, read_mapping(text), by=principal.name)
        except PaymentsError as fault:
            return await listing(request, window, fault=fault)
        return RedirectResponse(f"/payments/imports?company={company}", status_code=303)


async def _check(
    importer: Importer,
    principal: Principal,
    file: UploadFile,
    *,
    company: str,
    format_: Format | None,
    mapping: str,
    account: str,
) -> Report:
    """Check an upload from a file of its own, which is gone afterwards."""
    with tempfile.NamedTemporaryFile(prefix="cobranza-import-") as kept:
        while block := await file.read(_COPY_AT_ONCE):
            kept.write(block)
        kept.flush()
        return await importer.check(
            Path(kept.name),
            name=Path(file.filename or "upload").name,
            by=principal.name,
            company=company,
            format_=format_,
            mapping=mapping.strip() or None,
            account=account.strip() or None,
        )


async def _found(context: Context[PaymentsSettings], *, company: str, import_id: UUID) -> Report:
    async with context.database.reading() as connection:
        row = await queries.one_bank_import(connection, company=company, import_id=import_id)
        counts = await queries.bank_counts(connection, [import_id])
    if row is None:
        raise Problem("not-found", f"no import {import_id} of {company}")
    return report_of(row, counts[import_id])


async def _saved_mappings(context: Context[PaymentsSettings], company: str) -> list[Mapping]:
    async with context.database.reading() as connection:
        rows = await queries.bank_mappings(connection, company=company)
    return [Mapping.model_validate(row.mapping) for row in rows]


def _answer(report: Report) -> ImportAnswer:
    return ImportAnswer.model_validate(report, from_attributes=True)


def _time_of(row: Any) -> tuple[datetime, UUID]:
    return row.checked_at, row.import_id


def _line(row: Any) -> ImportLineAnswer:
    return ImportLineAnswer(
        line=row.line,
        account=row.account,
        kind=row.kind,
        verdict=row.verdict,
        note=row.note,
        other_import=row.other_import,
        other_line=row.other_line,
        amount=Money.from_minor(row.amount, row.currency),
        booked_on=row.booked_on,
        value_on=row.value_on,
        references=row.told["references"],
        texts=row.texts,
        payer=row.told["payer"],
        receipt_id=row.receipt_id,
    )


def _to(report: Report) -> Response:
    return RedirectResponse(f"/payments/imports/{report.import_id}?company={report.company}", status_code=303)
