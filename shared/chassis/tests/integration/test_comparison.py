"""Services that do not agree on a figure are told by key, unless events under way bring them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import toy_service as toy

from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.comparison import lasting_differences
from cobranza.chassis.database import Database
from cobranza.chassis.service import Figure

DEBTS = Figure("debts", "SELECT timer_key AS key, CAST(attempts AS text) AS value FROM timer")


@pytest.fixture
async def both(fresh_database: Callable[..., Any], business_clock: BusinessClock) -> AsyncIterator[list[Database]]:
    made = [toy.database(fresh_database("dunning", toy.migrate).app_url, business_clock) for _ in range(2)]
    for database in made:
        await _owe(database, **{f"{number:02x}": number for number in range(300)})
    yield made
    for database in made:
        await database.close()


async def _owe(database: Database, **debts: int) -> None:
    """A timer stands for a debt: its key, and its attempts for the amount."""
    async with database.transaction() as tx:
        for key, amount in debts.items():
            await tx.execute(
                """
                INSERT INTO timer (timer_key, kind, company, subject_id, due_at, attempts)
                VALUES (:key, 'debt', 'acme-mx', gen_random_uuid(), now(), :amount)
                ON CONFLICT (timer_key) DO UPDATE SET attempts = excluded.attempts
                """,
                {"key": key, "amount": amount},
            )


async def test_what_differs_and_what_one_lacks_is_told_by_key(both: list[Database]) -> None:
    members = [(database, DEBTS) for database in both]

    agreed = await lasting_differences(members, seconds=0.01)
    await _owe(both[0], **{"0a": 11})
    await _owe(both[1], fff=1)

    assert agreed == {}
    assert await lasting_differences(members, seconds=0.01) == {"0a": ("11", "10"), "fff": (None, "1")}


async def test_what_is_still_under_way_is_no_difference(both: list[Database]) -> None:
    await _owe(both[0], **{"0a": 11})

    looking = asyncio.create_task(lasting_differences([(database, DEBTS) for database in both], seconds=0.2))
    await _owe(both[1], **{"0a": 11})

    assert await looking == {}
