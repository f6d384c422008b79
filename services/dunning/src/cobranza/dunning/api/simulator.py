"""The page Simulator: what a day would bring, and how two versions of a policy differ, before either counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from cobranza.chassis import page, spreadsheets
from cobranza.chassis.calendars import company_calendar
from cobranza.chassis.http import CurrentPrincipal, Problem, scope
from cobranza.chassis.service import Context
from cobranza.contracts.money import Money
from cobranza.dunning import queries
from cobranza.dunning.api.trials import comparison_export, day_export, told_policy, version_of
from cobranza.dunning.domain import comparison
from cobranza.dunning.domain.errors import DunningError
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import preview
from cobranza.dunning.use_cases.evaluation import Desk
from cobranza.dunning.use_cases.trials import MOST_OPEN, Asked, BackTestRequest, PreviewRequest, TriedPolicy, ask

PAGES: Final = page.Pages("dunning", package="cobranza.dunning")
_READS: Final = [scope("decisions:read")]
_TRIES: Final = [scope("policies:read")]
_DAYS_BACK: Final = timedelta(days=90)
_DAYS_SHOWN: Final = 100

Word = Annotated[str, Form(max_length=100)]


@dataclass(frozen=True, slots=True)
class _Typed:
    """What the forms show: what was typed, or what is usual."""

    on: str
    first: str
    last: str
    in_place: str = ""
    policy: str = ""
    against: str = ""
    #: The fields that are at fault.
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Choice:
    """A loaded version, as the forms offer it."""

    value: str
    state: str
    currency: str
    title: str = field(default="")


def add_simulator(routes: APIRouter, context: Context[DunningSettings]) -> None:
    """The page and what hangs on it."""
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)

    async def shown(request: Request, typed: _Typed | None = None) -> HTMLResponse:
        view = page.view_of(request)
        company = view.require_company()
        async with context.database.reading() as connection:
            versions = await queries.policies(connection, company=company.company)
            rows = await queries.trials(connection, company=company.company)
        choices = [_Choice(f"{row.policy}@{row.version}", row.state, row.currency, row.title) for row in versions]
        return PAGES.render(
            request,
            "simulator.html",
            status=200 if typed is None else 422,
            typed=typed or _usual(desk, company.company, view.business_date, choices),
            choices=choices,
            trials=[_listed(row) for row in rows],
            most_days=preview.MOST_DAYS,
            most_open=MOST_OPEN,
            zone=company.zone,
        )

    async def asked(request: Request, wanted: Asked | None, typed: _Typed, *, by: str) -> Response:
        if wanted is None:
            return await shown(request, typed)
        try:
            async with context.database.transaction() as tx:
                trial_id = await ask(desk, tx, wanted, by=by)
        except DunningError as refusal:
            at_fault = (refusal.pointer or "").lstrip("/") or refusal.code
            return await shown(request, _with_fault(typed, at_fault))
        return RedirectResponse(f"/dunning/simulator/{trial_id}?company={wanted.company}", status_code=303)

    @routes.get("/simulator", include_in_schema=False, dependencies=_READS)
    async def simulator(request: Request) -> HTMLResponse:
        return await shown(request)

    @routes.post("/simulator/previews", include_in_schema=False, dependencies=_TRIES)
    async def ask_day(request: Request, principal: CurrentPrincipal, on: Word = "", in_place: Word = "") -> Response:
        view = page.view_of(request)
        company = view.require_company().company
        day, version = _day(on), _version(in_place)
        usual = _usual(desk, company, view.business_date, [])
        typed = _Typed(on=on, first=usual.first, last=usual.last, in_place=in_place)
        if day is None:
            return await asked(request, None, _with_fault(typed, "on"), by=principal.name)
        return await asked(request, PreviewRequest(company=company, on=day, policy=version), typed, by=principal.name)

    @routes.post("/simulator/back-tests", include_in_schema=False, dependencies=_TRIES)
    async def ask_comparison(
        request: Request,
        principal: CurrentPrincipal,
        first: Annotated[str, Form(alias="from", max_length=100)] = "",
        last: Annotated[str, Form(alias="to", max_length=100)] = "",
        policy: Word = "",
        against: Word = "",
    ) -> Response:
        view = page.view_of(request)
        company = view.require_company().company
        usual = _usual(desk, company, view.business_date, [])
        typed = _Typed(on=usual.on, first=first, last=last, policy=policy, against=against)
        days, versions = (_day(first), _day(last)), (_version(policy), _version(against))
        for name, value in zip(("from", "to", "policy", "against"), (*days, *versions), strict=True):
            if value is None:
                typed = _with_fault(typed, name)
        wanted = None
        if days[0] and days[1] and versions[0] and versions[1]:
            wanted = BackTestRequest(
                company=company, first=days[0], last=days[1], policy=versions[0], against=versions[1]
            )
        return await asked(request, wanted, typed, by=principal.name)

    @routes.get("/simulator/{trial_id}", include_in_schema=False, dependencies=_READS)
    async def one(request: Request, trial_id: UUID, format: Literal["html", "csv", "xlsx"] = "html") -> Response:  # noqa: A002 - the parameter's published name
        view = page.view_of(request)
        company = view.require_company()
        async with context.database.reading() as connection:
            row = await queries.one_trial(connection, company=company.company, trial_id=trial_id)
        if row is None:
            raise Problem("not-found", detail=f"no simulation {trial_id} of {company.company}")
        if format != "html":
            if row.kind == "back_test":
                return await spreadsheets.answer(comparison_export(row), format)
            on, policy = date.fromisoformat(row.asked["on"]), told_policy(row.asked.get("policy"))
            export = await day_export(context, desk, company=company.company, on=on, policy=policy)
            return await spreadsheets.answer(export, format)
        words = _Words(view.language, company.country)
        answered = PAGES.render(
            request,
            "simulation.html",
            trial=_listed(row),
            fault=row.fault,
            result=None
            if row.result is None
            else words.comparison(row.result)
            if row.kind == "back_test"
            else words.day(row.result),
            is_current=view.business_date is not None and row.asked.get("on", "") >= view.business_date.isoformat(),
            zone=company.zone,
        )
        if row.state in ("done", "failed") and request.headers.get("hx-request") == "true":
            # The part that shows progress asked: the whole page is another one now.
            answered.headers["HX-Refresh"] = "true"
        return answered


@dataclass(frozen=True, slots=True)
class _Words:
    """Results as the page writes them: dates and amounts typed, reasons as sentences."""

    language: page.Language
    country: str

    def comparison(self, result: dict[str, Any]) -> dict[str, Any]:
        """A comparison, its days added up over segments and its segments over days."""
        days = [row for row in comparison.summed(result["days"], by=("day",)) if row["difference"]]
        return {
            **result,
            "contacts": {
                side: {name: Decimal(value) for name, value in found.items()}
                for side, found in result["contacts"].items()
            },
            "segments": comparison.summed(result["days"], by=("segment",)),
            "days": [{**row, "day": date.fromisoformat(row["day"])} for row in days[:_DAYS_SHOWN]],
            "more_days": max(0, len(days) - _DAYS_SHOWN),
            "samples": [
                {
                    **sample,
                    "acts": sorted(
                        (
                            {"side": side, **_act(act)}
                            for side in ("policy", "against")
                            for act in sample[f"only_{side}"]
                        ),
                        key=lambda act: act["on"],
                    ),
                }
                for sample in result["samples"]
            ],
        }

    def day(self, result: dict[str, Any]) -> dict[str, Any]:
        """A day, its reasons in words."""
        return {
            **result,
            "steps": [{**row, "claimed": _money(row["claimed"])} for row in result["steps"]],
            "reasons": [
                {**row, "customer": row["example"]["customer"], "words": self._reasons(row["example"])}
                for row in result["reasons"]
            ],
            "acting_cases": [
                {
                    "customer": case["customer"],
                    "policy": case["policy"],
                    "actions": [
                        {
                            **action,
                            "items": [{**item, "amount": _money(item["amount"])} for item in action["items"]],
                            "claimed": _money(action["claimed"]),
                        }
                        for action in case["actions"]
                    ],
                }
                for case in result["acting_cases"]
            ],
            "quiet_cases": [{**case, "words": self._reasons(case)} for case in result["quiet_cases"]],
        }

    def _reasons(self, case: dict[str, Any]) -> list[str]:
        return queries.reasons_in_words(case["reasons"], self.language, self.country)


def _act(act: dict[str, Any]) -> dict[str, Any]:
    return {
        **act,
        "on": date.fromisoformat(act["on"]),
        "by": [*act["channels"], *(count for count in act["counts"] if count != "notice")],
        "items": [{**item, "amount": _money(item["amount"])} for item in act["items"]],
        "claimed": _money(act["claimed"]),
    }


def _money(told: str) -> Money:
    amount, currency = told.split()
    return Money.of(amount, currency)


def _listed(row: Any) -> dict[str, Any]:
    """A simulation as the page names it."""
    asked = row.asked
    return {
        "trial_id": row.trial_id,
        "kind": row.kind,
        "state": row.state,
        "tone": {"done": "good", "failed": "bad"}.get(row.state, "plain"),
        "asked_by": row.asked_by,
        "asked_at": row.asked_at,
        "played": row.played,
        "accounts": row.accounts,
        "on": date.fromisoformat(asked["on"]) if "on" in asked else None,
        "first": date.fromisoformat(asked["from"]) if "from" in asked else None,
        "last": date.fromisoformat(asked["to"]) if "to" in asked else None,
        "policy": told_policy(asked.get("policy")),
        "against": told_policy(asked.get("against")),
    }


def _usual(desk: Desk, company: str, today: date | None, choices: list[_Choice]) -> _Typed:
    """The next business day; the last weeks, the newest draft against what is in force."""
    assert today is not None
    first_of = {choice.state: choice.value for choice in reversed(choices)}
    any_of = choices[0].value if choices else ""
    return _Typed(
        on=company_calendar(desk.profile(company)).add(today, 1).isoformat(),
        first=(today - _DAYS_BACK).isoformat(),
        last=today.isoformat(),
        policy=first_of.get("draft", any_of),
        against=first_of.get("active", any_of),
    )


def _with_fault(typed: _Typed, name: str) -> _Typed:
    return _Typed(typed.on, typed.first, typed.last, typed.in_place, typed.policy, typed.against, (*typed.faults, name))


def _version(text: str) -> TriedPolicy | None:
    """A version as the forms name it; None when it names none."""
    try:
        name, version = version_of(text)
        return TriedPolicy(policy=name, version=version)
    except ValueError:
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
