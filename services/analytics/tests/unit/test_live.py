"""One reader serves all who watch, and says again only what has changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from cobranza.analytics.api.live import Live, Seen, freshness_of
from cobranza.analytics.queries import Today

NOON = datetime(2027, 1, 4, 12, tzinfo=UTC)
TODAY = Today(
    on=date(2027, 1, 4), position=1, caught_up_at=NOON, ageing={}, week_before={}, collected={}, notices={},
    cases_open=0, newest=(),
)  # fmt: skip


class Source:
    """Figures that change when a test says so."""

    def __init__(self) -> None:
        self.today = TODAY
        self.is_away = False
        self.reads = 0

    async def read(self, company: str, before: Today | None) -> Today:
        self.reads += 1
        if self.is_away:
            raise OSError("the database is away")
        return self.today


@pytest.mark.parametrize(
    ("age_seconds", "freshness"), [(None, "catching-up"), (0, "fresh"), (60, "fresh"), (61, "stale")]
)
def test_figures_older_than_a_minute_are_stale(age_seconds: int | None, freshness: str) -> None:
    caught_up_at = None if age_seconds is None else NOON - timedelta(seconds=age_seconds)

    assert freshness_of(caught_up_at, now=NOON) == freshness


async def test_a_watcher_is_told_at_once_and_then_only_what_changes(wait_until: Any) -> None:
    source = Source()
    watching = Live(source.read, every_seconds=0.001, now=lambda: NOON).watch("acme-mx")

    first = await anext(watching)
    second = asyncio.create_task(anext(watching))
    await wait_until(lambda: source.reads >= 5)
    assert not second.done()
    source.today = replace(TODAY, position=2, cases_open=1)

    assert first.today.cases_open == 0
    assert (await second).today.cases_open == 1
    await watching.aclose()


async def test_many_watchers_of_a_company_cost_one_reading() -> None:
    source = Source()
    live = Live(source.read, every_seconds=3600)
    watchers = [live.watch("acme-mx") for _ in range(5)]

    await asyncio.gather(*(anext(watcher) for watcher in watchers))

    assert source.reads == 1
    for watcher in watchers:
        await watcher.aclose()


async def test_nobody_watching_reads_nothing() -> None:
    source = Source()
    live = Live(source.read, every_seconds=0)
    watching = live.watch("acme-mx")
    await anext(watching)

    await watching.aclose()
    reads = source.reads
    for _ in range(20):
        await asyncio.sleep(0)

    assert source.reads == reads


async def test_figures_stay_and_grow_stale_while_the_database_is_away() -> None:
    source, instants = Source(), [NOON]
    source.today = replace(TODAY, cases_open=7)
    watching = Live(source.read, every_seconds=0.001, now=lambda: instants[-1]).watch("acme-mx")
    assert (await anext(watching)).freshness == "fresh"

    source.is_away = True
    instants.append(NOON + timedelta(seconds=61))
    told = await anext(watching)

    assert (told.freshness, told.today.cases_open) == ("stale", 7)
    await watching.aclose()


def test_an_as_of_instant_alone_is_told_again_after_a_while() -> None:
    told = Seen(TODAY, "fresh")

    def after(seconds: int) -> Seen:
        return Seen(replace(TODAY, caught_up_at=NOON + timedelta(seconds=seconds)), "fresh")

    assert not after(14).tells_more_than(told)
    assert after(15).tells_more_than(told)
