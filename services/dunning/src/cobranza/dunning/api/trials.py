"""Previews of a day and back-tests, for programs: asked for, followed, read as JSON or as a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from cobranza.chassis import spreadsheets
from cobranza.chassis.http import CurrentPrincipal, Problem, answer, scope
from cobranza.chassis.idempotency import once
from cobranza.chassis.service import Context
from cobranza.dunning import queries
from cobranza.dunning.domain import comparison
from cobranza.dunning.domain.errors import TrialNotEndedError
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import preview
from cobranza.dunning.use_cases.evaluation import Desk
from cobranza.dunning.use_cases.trials import BackTestRequest, ask

State = Literal["waiting", "running", "done", "failed"]
FileFormat = Annotated[Literal["json", "csv", "xlsx"], Query(description="JSON by pages; a file has every row")]
ResultFormat = Annotated[
    Literal["json", "csv", "xlsx"], Query(description="A file has a row per day, segment and count")
]
Version = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}@[1-9][0-9]{0,5}$",
        description="POLICY@VERSION, in the place of the one in force.",
    ),
]
_ROWS_IN_PART: Final = 500


class PreviewAnswer(BaseModel):
    """What would happen on a day, account by account."""

    items: list[dict[str, Any]]
    next: UUID | None = Field(description="`after` of the next part; absent: this was the last.")
    assumes: list[str]


class FaultAnswer(BaseModel):
    """Why there will be no result."""

    code: str
    detail: str


class LoadedVersion(BaseModel):
    """A version that is loaded."""

    policy: str
    version: int


class BackTestAnswer(BaseModel):
    """A back-test and how far it is."""

    back_test_id: UUID
    company: str
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    policy: LoadedVersion | None = Field(description="Absent: the text of a file.")
    against: LoadedVersion | None = Field(description="Absent: the text of a file.")
    state: State
    asked_by: str
    asked_at: datetime
    ended_at: datetime | None
    played: int = Field(description="Accounts played so far.")
    accounts: int | None = Field(description="All that are played; absent before it begins.")
    fault: FaultAnswer | None


class CountAnswer(BaseModel):
    """How often a thing is done by each policy; the difference is the policy less what it is compared with."""

    count: str = Field(description=", ".join(comparison.COUNTS))
    policy: int
    against: int
    difference: int


class DayAnswer(CountAnswer):
    """The same of one day and segment."""

    day: date
    segment: str = Field(description="Empty: not known.")


class ContactsAnswer(BaseModel):
    """Contacts per debtor."""

    mean: str
    max: int


class SampleAnswer(BaseModel):
    """A debtor to whom the two do not do the same."""

    customer: str
    segment: str
    only_policy: list[dict[str, Any]]
    only_against: list[dict[str, Any]]


class ResultAnswer(BaseModel):
    """How two policies differ over the recorded facts."""

    debtors: int = Field(description="Accounts that at least one of the two is for.")
    others: int = Field(description="Accounts that neither is for.")
    differing: int
    totals: list[CountAnswer]
    contacts: dict[Literal["policy", "against"], ContactsAnswer]
    days: list[DayAnswer]
    samples: list[SampleAnswer]
    assumes: list[str]


class BackTestDetail(BackTestAnswer):
    """A back-test with its result, once it has one."""

    result: ResultAnswer | None


def add_trials(routes: APIRouter, context: Context[DunningSettings]) -> None:
    """The routes under `/dunning/v1` that try policies; nothing is sent and no case is changed."""
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)
    _add_preview(routes, context, desk)
    _add_back_tests(routes, context, desk)


def _add_preview(routes: APIRouter, context: Context[DunningSettings], desk: Desk) -> None:
    @routes.get(
        "/v1/preview",
        operation_id="preview_day",
        tags=["policies"],
        dependencies=[scope("decisions:read")],
        response_model=PreviewAnswer,
        summary="What would happen on a day in each case, or why nothing, by parts or all as CSV or XLSX; writes nothing.",
    )
    async def preview_day(
        principal: CurrentPrincipal,
        company: str,
        on: date,
        policy: Version = None,
        limit: Annotated[int, Query(ge=1, le=500, description="Most accounts.")] = 100,
        after: Annotated[UUID | None, Query(description="`next` of the answer before.")] = None,
        format: FileFormat = "json",  # noqa: A002 - the parameter's published name
    ) -> Response | PreviewAnswer:
        principal.require_company(company)
        tried = None if policy is None else version_of(policy)
        if format != "json":
            export = await day_export(context, desk, company=company, on=on, policy=policy)
            return await spreadsheets.answer(export, format)
        items: list[dict[str, Any]] = []
        last, accounts = None, 0
        found = preview.preview(desk, context.database, company=company, on=on, tried=tried, after=after)
        async with aclosing(found):
            async for one in found:
                if accounts == limit:
                    return PreviewAnswer(items=items, next=last, assumes=list(preview.PREVIEW_ASSUMES))
                items += one.as_values()
                last, accounts = one.account_id, accounts + 1
        return PreviewAnswer(items=items, next=None, assumes=list(preview.PREVIEW_ASSUMES))


def _add_back_tests(routes: APIRouter, context: Context[DunningSettings], desk: Desk) -> None:
    @routes.post(
        "/v1/back-tests",
        operation_id="start_back_test",
        tags=["policies"],
        dependencies=[scope("policies:read")],
        status_code=202,
        response_model=BackTestAnswer,
        summary="Compare two policies over the recorded facts, in the background; needs an Idempotency-Key.",
    )
    async def start_back_test(request: Request, body: BackTestRequest, principal: CurrentPrincipal) -> Response:
        principal.require_company(body.company)
        async with context.database.transaction() as tx:

            async def run() -> Response:
                trial_id = await ask(desk, tx, body, by=principal.name)
                row = await queries.one_trial(tx.connection, company=body.company, trial_id=trial_id)
                place = f"/dunning/v1/back-tests/{trial_id}?company={body.company}"
                return answer(BackTestAnswer.model_validate(_values(row)), status=202, location=place)

            return await once(tx, request=request, company=body.company, run=run)

    @routes.get(
        "/v1/back-tests",
        operation_id="list_back_tests",
        tags=["policies"],
        dependencies=[scope("decisions:read")],
        summary="The back-tests of a company that are kept, the newest first, without their results.",
    )
    async def list_back_tests(principal: CurrentPrincipal, company: str) -> list[BackTestAnswer]:
        principal.require_company(company)
        async with context.database.reading() as connection:
            rows = await queries.trials(connection, company=company, kind="back_test")
        return [BackTestAnswer.model_validate(_values(row)) for row in rows]

    @routes.get(
        "/v1/back-tests/{back_test_id}",
        operation_id="get_back_test",
        tags=["policies"],
        dependencies=[scope("decisions:read")],
        response_model=BackTestDetail,
        summary="How far a back-test is, and its result; the days also as CSV or XLSX.",
    )
    async def get_back_test(
        back_test_id: UUID,
        company: str,
        principal: CurrentPrincipal,
        format: ResultFormat = "json",  # noqa: A002 - the parameter's published name
    ) -> Response:
        principal.require_company(company)
        async with context.database.reading() as connection:
            row = await queries.one_trial(connection, company=company, trial_id=back_test_id)
        if row is None or row.kind != "back_test":
            raise Problem("not-found", detail=f"no back-test {back_test_id} of {company}")
        if format != "json":
            return await spreadsheets.answer(comparison_export(row), format)
        return answer(BackTestDetail.model_validate({**_values(row), "result": row.result}))


def version_of(text: str) -> tuple[str, int]:
    """POLICY@VERSION as name and number."""
    name, _, version = text.rpartition("@")
    return name, int(version)


def comparison_export(row: Any) -> spreadsheets.Export:
    """The days of a back-test as a file.

    Raises:
        TrialNotEndedError: it has no result, or none yet.
    """
    if row.result is None:
        raise TrialNotEndedError(f"the back-test is {row.state} and has no result")
    return spreadsheets.Export(
        name=f"back-test-{row.company}-{row.asked['from']}-{row.asked['to']}",
        columns=comparison.COLUMNS,
        parts=spreadsheets.in_one_part(comparison.rows_of(row.result["days"])),
        about={
            "company": row.company,
            "from": row.asked["from"],
            "to": row.asked["to"],
            "policy": told_policy(row.asked["policy"]),
            "against": told_policy(row.asked["against"]),
            "assumes": "; ".join(row.result["assumes"]),
        },
    )


async def day_export(
    context: Context[DunningSettings], desk: Desk, *, company: str, on: date, policy: str | None
) -> spreadsheets.Export:
    """Every account of a day as a file.

    Args:
        policy: POLICY@VERSION in the place of the one in force.

    Raises:
        PreviewRefusedError: the day is over, or too far away.
        UnknownPolicyError: there is no such version.
    """
    tried = None if policy is None else version_of(policy)
    found = preview.preview(desk, context.database, company=company, on=on, tried=tried)
    # What is refused must be so before the file begins.
    first = await anext(found, None)
    return spreadsheets.Export(
        name=f"preview-{company}-{on}",
        columns=preview.COLUMNS,
        parts=_parts(first, found),
        about={
            "company": company,
            "on": on,
            "policy": policy or "in force",
            "assumes": "; ".join(preview.PREVIEW_ASSUMES),
        },
    )


async def _parts(
    first: preview.Previewed | None, found: AsyncGenerator[preview.Previewed, None]
) -> AsyncIterator[Sequence[tuple[str | None, ...]]]:
    rows = [] if first is None else first.as_rows()
    async with aclosing(found):
        async for one in found:
            rows += one.as_rows()
            if len(rows) >= _ROWS_IN_PART:
                yield rows
                rows = []
                # Other requests go on meanwhile.
                await asyncio.sleep(0)
    yield rows


def told_policy(asked: Any) -> str | None:
    """POLICY@VERSION of what was tried; a file has none."""
    return f"{asked['policy']}@{asked['version']}" if asked is not None and "policy" in asked else None


def _values(row: Any) -> dict[str, Any]:
    """A row as it is answered."""
    loaded = {
        side: named if "policy" in (named := row.asked[side]) else None
        for side in ("policy", "against")
    }  # fmt: skip
    return {
        "back_test_id": row.trial_id,
        "company": row.company,
        "first": row.asked["from"],
        "last": row.asked["to"],
        **loaded,
        "state": row.state,
        "asked_by": row.asked_by,
        "asked_at": row.asked_at,
        "ended_at": row.ended_at,
        "played": row.played,
        "accounts": row.accounts,
        "fault": row.fault,
    }
