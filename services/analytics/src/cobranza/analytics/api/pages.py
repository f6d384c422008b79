"""The pages: the day, the portfolio, a customer, and the rows behind the day's figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from cobranza.analytics import gateways, queries
from cobranza.analytics.api.figures import receivables_export
from cobranza.analytics.api.live import Live, Seen, freshness_of
from cobranza.analytics.domain import ageing
from cobranza.analytics.domain.ageing import Ageing, Bucket, Show
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis import clock, page, spreadsheets
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.http import Problem, scope
from cobranza.chassis.pagination import PageWindow
from cobranza.chassis.service import Context
from cobranza.chassis.spreadsheets import in_one_part
from cobranza.contracts.identifiers import NO_CUSTOMER
from cobranza.contracts.money import to_decimal

PAGES: Final = page.Pages("analytics", package="cobranza.analytics")
_READS: Final = [scope("figures:read")]
_FEED_ROWS: Final = 20
_TIME_LINE_ROWS: Final = 100
_CUSTOMERS_PER_PAGE: Final = 50
_MOST_EXPORTED: Final = 100_000

Format = Literal["html", "csv", "xlsx"]
Words = Annotated[str, Query(max_length=100)]
NoticeState = Literal["", "sent", "delivered", "failed", "suppressed"]


@dataclass(frozen=True, slots=True)
class Figures:
    """An ageing in major units, as templates write it."""

    customer: str | None
    name: str | None
    currency: str
    amounts: tuple[Decimal, ...]
    counts: tuple[int, ...]
    open: Decimal
    overdue: Decimal
    unapplied: Decimal
    open_count: int
    customers: int
    customers_overdue: int

    @classmethod
    def of(cls, entry: Ageing) -> Figures:
        """The figures of an ageing."""

        def major(minor: int) -> Decimal:
            return to_decimal(minor, entry.currency)

        return cls(
            customer=entry.customer,
            name=entry.name,
            currency=entry.currency,
            amounts=tuple(major(entry.amounts[bucket]) for bucket in Bucket),
            counts=tuple(entry.counts[bucket] for bucket in Bucket),
            open=major(entry.open),
            overdue=major(entry.overdue),
            unapplied=major(entry.unapplied),
            open_count=entry.open_count,
            customers=entry.customers,
            customers_overdue=entry.customers_overdue,
        )

    @property
    def overdue_share(self) -> Decimal | None:
        """Which part of what is open is overdue; None when nothing is open."""
        return self.overdue / self.open if self.open else None


def add_routes(routes: APIRouter, context: Context[AnalyticsSettings]) -> None:
    """The pages under `/analytics`."""
    _add_today(routes, context)
    _add_portfolio(routes, context)
    _add_customer(routes, context)
    _add_rows_of_a_day(routes, context)


def _add_today(routes: APIRouter, context: Context[AnalyticsSettings]) -> None:
    async def look(company: str, before: queries.Today | None) -> queries.Today:
        on = _today(context, company)
        async with context.database.reading() as connection:
            if before is not None and before.on == on:
                reached = await queries.progress(connection)
                if reached.position == before.position:
                    return replace(before, caught_up_at=reached.caught_up_at)
            return await queries.today(connection, company=company, on=on)

    live = Live(look)

    @routes.get("/", include_in_schema=False, dependencies=_READS)
    async def today(request: Request, seen: int | None = None) -> HTMLResponse:
        view = page.view_of(request)
        found = await look(view.require_company().company, None)
        async with context.database.reading() as connection:
            feed = await queries.feed(connection, company=view.require_company().company, most=_FEED_ROWS)
        return PAGES.render(
            request,
            "today.html",
            feed=feed,
            newest=max(found.newest, default=0),
            seen=seen,
            **_shown(view, Seen(found, freshness_of(found.caught_up_at, now=clock.utc_now())), unseen=0),
        )

    @routes.get("/live", include_in_schema=False, dependencies=_READS)
    async def follow(request: Request, after: int = 0) -> EventSourceResponse:
        view = page.view_of(request)
        company = view.require_company().company

        async def messages() -> AsyncIterator[ServerSentEvent]:
            async for seen in live.watch(company):
                unseen = sum(seq > after for seq in seen.today.newest)
                shown = PAGES.render(request, "now.html", newest=after, **_shown(view, seen, unseen=unseen))
                yield ServerSentEvent(data=bytes(shown.body).decode())

        return EventSourceResponse(messages())


def _shown(view: page.View, seen: Seen, *, unseen: int) -> dict[str, Any]:
    """What the part of the page that lives shows."""
    today, currency = seen.today, view.currency or ""
    figures = Figures.of(today.ageing.get(currency, Ageing(currency)))
    before = Figures.of(today.week_before.get(currency, Ageing(currency)))
    collected = today.collected.get(currency)
    return {
        "figures": figures,
        "change": figures.overdue - before.overdue,
        "change_share": (figures.overdue - before.overdue) / before.overdue if before.overdue else None,
        "others": [Figures.of(entry) for code, entry in today.ageing.items() if code != currency],
        "collected": to_decimal(collected.collected if collected else 0, currency),
        "payments": collected.payments if collected else 0,
        "notices_sent": today.notices.get("sent", 0) + today.notices.get("delivered", 0),
        "notices": sum(today.notices.values()),
        "cases_open": today.cases_open,
        "has_history": bool(today.ageing) or bool(today.newest),
        "on": today.on,
        "caught_up_at": today.caught_up_at,
        "freshness": seen.freshness,
        "unseen": unseen,
        "is_more_unseen": unseen >= queries.NEWEST,
        "zone": view.require_company().zone,
        "bucket_codes": [bucket.value for bucket in Bucket],
    }


def _add_portfolio(routes: APIRouter, context: Context[AnalyticsSettings]) -> None:
    @routes.get("/portfolio", include_in_schema=False, dependencies=_READS)
    async def portfolio(
        request: Request,
        as_of: Annotated[str, Query(max_length=40)] = "",
        show: Show = Show.ALL,
        bucket: Bucket | Literal[""] = "",
        q: Words = "",
        part: Annotated[int, Query(ge=1, le=100_000)] = 1,
        format: Format = "html",  # noqa: A002 - the parameter's published name
    ) -> Response:
        view = page.view_of(request)
        company, currency = view.require_company(), view.currency or ""
        typed, is_date = _day(as_of)
        on = typed or _today(context, company.company)
        async with context.database.reading() as connection:
            every = await queries.ageing_by_customer(connection, company=company.company, as_of=on, currency=currency)
            reached = await queries.progress(connection)
        entries = ageing.chosen(every, show=show, bucket=bucket or None, words=q)
        if format != "html":
            export = gateways.ageing_export(
                entries,
                company=company.company,
                as_of=on,
                name=f"portfolio-{company.company}-{currency}-{on}",
                currency=currency,
                show=show.value,
                bucket=bucket,
                words=q,
            )
            return await spreadsheets.answer(export, format)
        first = (part - 1) * _CUSTOMERS_PER_PAGE
        shown = entries[first : first + _CUSTOMERS_PER_PAGE]
        return PAGES.render(
            request,
            "portfolio.html",
            rows=[Figures.of(entry) for entry in shown],
            whole=Figures.of(ageing.total(entries, currency=currency)),
            matching=len(entries),
            part=part,
            first=first,
            has_next=len(entries) > first + _CUSTOMERS_PER_PAGE,
            is_empty=not every,
            on=on,
            is_date=is_date,
            typed=as_of,
            show=show.value,
            bucket=bucket,
            bucket_codes=[one.value for one in Bucket],
            q=q,
            no_customer=NO_CUSTOMER,
            **_state(view, reached),
        )


def _add_customer(routes: APIRouter, context: Context[AnalyticsSettings]) -> None:
    @routes.get("/customers/{code:path}", include_in_schema=False, dependencies=_READS)
    async def customer(
        request: Request,
        code: str,
        window: PageWindow,
        state: Literal["open", "all"] = "open",
        format: Format = "html",  # noqa: A002 - the parameter's published name
    ) -> Response:
        view = page.view_of(request)
        company = view.require_company()
        if format != "html":
            export = receivables_export(
                context.database, company=company.company, customer=code, currency=None, only_open=state == "open"
            )
            return await spreadsheets.answer(export, format)
        on = _today(context, company.company)
        async with context.database.reading() as connection:
            known = await queries.customer(connection, company=company.company, code=code)
            entries = await queries.ageing_by_customer(connection, company=company.company, as_of=on, customer=code)
            rows = await queries.receivables(
                connection, window, company=company.company, customer=code, currency=None, only_open=state == "open"
            )
            events = await queries.time_line(connection, company=company.company, customer=code, most=_TIME_LINE_ROWS)
            reached = await queries.progress(connection)
        if known is None and not entries and not rows and not events:
            raise Problem("not-found", detail=f"no customer {code!r} of {company.company}")
        listed = window.page(rows, key=lambda row: (row.due_on, row.receivable_id), item=lambda row: row.number)
        owed = [_owed(row, on=on) for row in rows[: len(listed.items)]]
        return PAGES.render(
            request,
            "customer.html",
            code=code,
            name=known.name if known is not None else code,
            country=known.country if known is not None else "",
            segment=known.segment if known is not None else "",
            balances=[Figures.of(entry) for entry in entries],
            rows=owed,
            oldest_days=owed[0].days if owed and state == "open" and window.after is None else 0,
            next_cursor=listed.next_cursor,
            is_first=window.after is None,
            state=state,
            events=events,
            on=on,
            bucket_codes=[one.value for one in Bucket],
            **_state(view, reached),
        )


@dataclass(frozen=True, slots=True)
class Owed:
    """One receivable as a page shows it; `days` past due, negative before."""

    number: str
    instalment: int | None
    currency: str
    issued_on: date
    due_on: date
    issued: Decimal
    open: Decimal
    days: int


def _owed(row: Any, *, on: date) -> Owed:
    return Owed(
        number=row.number,
        instalment=row.instalment,
        currency=row.currency,
        issued_on=row.issued_on,
        due_on=row.due_on,
        issued=to_decimal(row.issued, row.currency),
        open=to_decimal(row.open, row.currency),
        days=(on - row.due_on).days,
    )


def _add_rows_of_a_day(routes: APIRouter, context: Context[AnalyticsSettings]) -> None:
    @routes.get("/payments", include_in_schema=False, dependencies=_READS)
    async def payments(
        request: Request,
        window: PageWindow,
        on: Annotated[str, Query(max_length=40)] = "",
        customer: Annotated[str | None, Query(max_length=64)] = None,
        format: Format = "html",  # noqa: A002 - the parameter's published name
    ) -> Response:
        view = page.view_of(request)
        company = view.require_company().company
        day, is_date = _day(on)
        if format != "html":
            window = replace(window, after=None, limit=_MOST_EXPORTED)
        async with context.database.reading() as connection:
            rows = await queries.payments(
                connection, window, company=company, currency=view.currency, on=day, customer=customer
            )
            totals = await queries.collected_on(connection, company=company, on=day) if day is not None else []
            reached = await queries.progress(connection)
        if format != "html":
            export = gateways.rows_export(
                in_one_part(rows),
                gateways.PAYMENT_COLUMNS,
                name=f"payments-{company}-{view.currency}-{day or 'all'}",
                company=company,
                currency=view.currency,
                on=day,
                customer=customer,
            )
            return await spreadsheets.answer(export, format)
        listed = window.page(rows, key=lambda row: (row.value_on, row.payment_id), item=lambda row: row.payment_id)
        of_currency = next((one for one in totals if one.currency == view.currency), None)
        return PAGES.render(
            request,
            "payments.html",
            rows=[(row, to_decimal(row.amount, row.currency)) for row in rows[: len(listed.items)]],
            collected=to_decimal(of_currency.collected if of_currency else 0, view.currency or ""),
            count=of_currency.payments if of_currency else 0,
            next_cursor=listed.next_cursor,
            is_first=window.after is None,
            on=day,
            is_date=is_date,
            typed=on,
            customer=customer,
            no_customer=NO_CUSTOMER,
            **_state(view, reached),
        )

    @routes.get("/notices", include_in_schema=False, dependencies=_READS)
    async def notices(
        request: Request,
        window: PageWindow,
        on: Annotated[str, Query(max_length=40)] = "",
        state: NoticeState = "",
        format: Format = "html",  # noqa: A002 - the parameter's published name
    ) -> Response:
        view = page.view_of(request)
        company = view.require_company().company
        day, is_date = _day(on)
        if format != "html":
            window = replace(window, after=None, limit=_MOST_EXPORTED)
        async with context.database.reading() as connection:
            rows = await queries.notices(connection, window, company=company, on=day, state=state or None)
            counts = await queries.notices_on(connection, company=company, on=day) if day is not None else {}
            reached = await queries.progress(connection)
        if format != "html":
            export = gateways.rows_export(
                in_one_part(rows),
                gateways.NOTICE_COLUMNS,
                name=f"notices-{company}-{day or 'all'}",
                company=company,
                on=day,
                state=state,
            )
            return await spreadsheets.answer(export, format)
        listed = window.page(rows, key=lambda row: (row.on_date, row.notice_id), item=lambda row: row.notice_id)
        return PAGES.render(
            request,
            "notices.html",
            rows=[
                (row, to_decimal(row.claimed, row.currency) if row.claimed is not None else None)
                for row in rows[: len(listed.items)]
            ],
            counts=counts,
            next_cursor=listed.next_cursor,
            is_first=window.after is None,
            on=day,
            is_date=is_date,
            typed=on,
            state=state,
            **_state(view, reached),
        )


def _today(context: Context[AnalyticsSettings], company: str) -> date:
    profile = context.companies.get(company)
    assert profile is not None  # The frame shows only companies of the file.
    return evaluation_date(context.clock.now(), profile.zone, from_hour=context.settings.evaluation_hour)


def _day(typed: str) -> tuple[date | None, bool]:
    """The day that was typed, and whether it is one; nothing typed is no fault."""
    if not typed.strip():
        return None, True
    try:
        return date.fromisoformat(typed.strip()), True
    except ValueError:
        return None, False


def _state(view: page.View, reached: queries.Progress) -> dict[str, Any]:
    """How fresh a page's figures are."""
    return {
        "caught_up_at": reached.caught_up_at,
        "freshness": freshness_of(reached.caught_up_at, now=clock.utc_now()),
        "zone": view.require_company().zone,
    }
