"""An unusual number of notices waits for a person; days of outage end without a storm (I13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from cobranza.chassis import http, page, timers
from cobranza.contracts import payments
from cobranza.dunning import repository
from cobranza.dunning.domain.brake import limit
from cobranza.dunning.settings import DunningSettings

FLOOR = 5


@pytest.fixture
def floor(monkeypatch: pytest.MonkeyPatch, service: Any) -> None:
    """The brake's floor, so low that a test trips it."""
    settings = service.context.settings.model_copy(update={"brake_floor": FLOOR})
    assert isinstance(settings, DunningSettings)
    object.__setattr__(service.context, "settings", settings)


@pytest.fixture
async def client(service: Any, floor: None) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"dunning": service.service.router(service.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=service.context.companies, clock=service.clock),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as made:
        yield made


@pytest.mark.parametrize(
    ("days", "most"),
    [((), 5), ((1,) * 14, 5), ((10,) * 14, 30), ((100,) * 6, 5), ((100,) * 7, 150), ((4, 100, 4) * 4, 12)],
)
def test_the_limit_is_three_times_the_median_of_fourteen_days_or_the_floor(days: tuple[int, ...], most: int) -> None:
    assert limit(days, FLOOR) == most


async def _overdue(service: Any, customers: int) -> None:
    await service.activate()
    await service.tell(*(service.receivable(f"N-{n}", "01-11", customer=f"C-{n}") for n in range(customers)))


async def test_more_notices_than_the_limit_wait_until_a_person_releases_them(
    service: Any, client: httpx.AsyncClient
) -> None:
    await _overdue(service, 12)
    await service.at("01-14")

    assert len(await service.told("notice-requested")) == FLOOR
    waiting = await service.rows("SELECT reason, next_check_on FROM account WHERE reason = 'braked'")
    assert len(waiting) == 12 - FLOOR
    assert await service.broken() == {}
    # The next day nothing leaves by itself either.
    await service.at("01-15")
    assert len(await service.told("notice-requested")) == FLOOR

    release = {"company": "acme-mx"}
    first = await client.post("/dunning/v1/brake/release", json=release, headers={"Idempotency-Key": "k-1"})
    again = await client.post("/dunning/v1/brake/release", json=release, headers={"Idempotency-Key": "k-2"})
    await service.work_timers()

    assert (first.status_code, first.json()) == (201, {"tripped_on": ["2027-01-14"], "accounts": 7})
    assert again.json() == {"tripped_on": [], "accounts": 0}
    assert len(await service.told("notice-requested")) == 12
    days = await service.rows("SELECT on_date, notices, released_by FROM notice_day ORDER BY on_date")
    assert [tuple(day) for day in days] == [
        (date(2027, 1, 14), FLOOR, "local"), (date(2027, 1, 15), 12 - FLOOR, "local"),
    ]  # fmt: skip
    assert await service.broken() == {}


async def test_two_workers_at_once_let_no_more_leave_than_the_limit(
    service: Any, floor: None, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    await _overdue(service, 12)
    monkeypatch.setattr(timers, "CLAIM", 6)
    service.clock.set(datetime(2027, 1, 14, 18, tzinfo=UTC))
    count, arrived, both = repository.count_notices, [], asyncio.Event()

    async def meet(*arguments: Any, **values: Any) -> Any:
        # Both have read the day before either has counted.
        arrived.append(values["more"])
        if len(arrived) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        return await count(*arguments, **values)

    monkeypatch.setattr(repository, "count_notices", meet)
    handlers = service.service.timers(service.context)
    await asyncio.gather(*(timers.Scheduler(service.database, handlers, idle_seconds=0.01).work_due() for _ in "12"))
    left_at_once = len(await service.told("notice-requested"))

    async def is_done() -> bool:
        await service.work_timers()
        return not list(await service.rows("SELECT 1 FROM timer WHERE state = 'claimed'"))

    await wait_until(is_done, timeout=10)

    assert arrived[:2] == [FLOOR, FLOOR]
    assert left_at_once == FLOOR
    assert len(await service.told("notice-requested")) == FLOOR
    [day] = await service.rows("SELECT notices, braked_at FROM notice_day")
    assert (day.notices, day.braked_at is not None) == (FLOOR, True)
    assert len(await service.rows("SELECT 1 FROM account WHERE reason = 'braked'")) == 12 - FLOOR
    assert await service.broken() == {}


async def test_events_that_find_the_day_counted_meanwhile_are_worked_again_and_not_parked(
    service: Any, floor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.activate()
    service.clock.set(datetime(2027, 1, 14, 18, tzinfo=UTC))
    count, found = repository.count_notices, iter([FLOOR + 1])

    async def counted(*arguments: Any, **values: Any) -> Any:
        _, is_released = await count(*arguments, **values)
        return next(found, 1), is_released

    monkeypatch.setattr(repository, "count_notices", counted)
    await service.tell(service.receivable("A-1", "01-11"))

    assert next(found, None) is None
    assert len(await service.told("notice-requested")) == 1
    assert await service.rows("SELECT 1 FROM parked") == []
    assert (await service.rows("SELECT notices FROM notice_day"))[0].notices == 1


async def test_the_page_of_cases_says_that_notices_wait_and_lets_them_go(
    service: Any, client: httpx.AsyncClient
) -> None:
    await _overdue(service, 7)
    await service.at("01-14")

    before = await client.get("/dunning/cases?company=acme-mx&lang=en")
    [waiting, _] = await service.rows(
        "SELECT r.number FROM account a JOIN receivable r USING (account_id) WHERE a.reason = 'braked'"
    )
    asked = await client.get(f"/dunning/why?company=acme-mx&invoice={waiting.number}&on=2027-01-14&lang=es")
    pressed = await client.post("/dunning/brake/release?company=acme-mx", headers={"Origin": "http://localhost"})
    await service.work_timers()
    after = await client.get("/dunning/cases?company=acme-mx&lang=en")

    assert "5 were requested and 2 cases wait for a person" in before.text
    assert "e pidieron 5 avisos hoy y lo usual permite 5" in asked.text
    assert pressed.status_code == 303
    assert "Release the notices" not in after.text
    assert len(await service.told("notice-requested")) == 7


async def test_nine_days_down_end_with_one_notice_per_case_no_effect_and_a_reason_for_every_skip(
    service: Any, floor: None
) -> None:
    await service.activate("strict")
    matched = {
        "company": "acme-mx", "currency": "MXN", "total_on": "2027-01-04", "verdict": "matched",
        "found": {"open_count": 1, "open_total": {"amount": "58000.00", "currency": "MXN"}},
        "checked_at": "2027-01-04T12:00:00Z",
    }  # fmt: skip
    await service.tell(payments.ControlTotalChecked.model_validate(matched))
    await service.tell(service.receivable("OLD", "01-11", customer="C-OLD"))
    answered = 0
    for day in [f"01-{d:02}" for d in range(4, 32)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        for request in requests[answered:]:
            await service.sent(request, day)
        answered = len(requests)
    # Down for nine days, in which eight first reminders and a credit hold came to their day.
    await service.tell(*(service.receivable(f"N-{n}", "02-10", customer=f"C-{n}") for n in range(8)))

    await service.at("02-09")
    # Something is told on the same day: the account is evaluated again.
    await service.customer("C-OLD")

    requests = (await service.told("notice-requested"))[answered:]
    assert len(requests) == FLOOR
    assert len({request["case_id"] for request in requests}) == len(requests)
    assert [told["step"] for told in await service.told("step-reached") if told["kind"] == "effect"] == []
    assert [t["step"] for t in await service.told("task-created") if t["kind"] == "approval"] == []
    [held] = await service.rows("SELECT reason FROM account WHERE customer = 'C-OLD'")
    assert held.reason == "catch_up"
    day = (await service.rows("SELECT notices, braked_at FROM notice_day ORDER BY on_date DESC LIMIT 1"))[0]
    assert (day.notices, day.braked_at is not None) == (FLOOR, True)
    assert await service.broken() == {}


async def test_after_an_outage_each_case_takes_its_latest_step_and_tells_every_one_it_skips(service: Any) -> None:
    await service.activate()
    await service.tell(*(service.receivable(f"N-{n}", "01-11", customer=f"C-{n}") for n in range(8)))

    await service.at("01-22")

    assert [told["step"] for told in await service.told("notice-requested")] == ["aviso-2"] * 8
    skipped = await service.told("step-skipped")
    assert [(told["step"], told["reason"]) for told in skipped] == [("aviso-1", "catch_up")] * 8
    assert await service.broken() == {}
