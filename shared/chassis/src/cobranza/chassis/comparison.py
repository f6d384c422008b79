"""Compares what several services must agree on: each says it by a query, and differences that last are told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cobranza.chassis.database import Database
from cobranza.chassis.service import Figure

#: What events under way still change is no difference: one must last so many looks, a second apart.
LOOKS: Final = 10
_SECONDS_BETWEEN_LOOKS: Final = 1.0

#: The value of each service by key; None: the service does not have it.
Differences = Mapping[str, tuple[str | None, ...]]


async def lasting_differences(
    members: Sequence[tuple[Database, Figure]], *, seconds: float = _SECONDS_BETWEEN_LOOKS
) -> Differences:
    """Where the services do not agree, and still do not after the last look.

    Args:
        members: the databases that know the figure, each with its own query for it.
        seconds: between two looks; they end as soon as nothing differs.
    """
    lasting = await _differences(members)
    for _ in range(LOOKS - 1):
        if not lasting:
            break
        await asyncio.sleep(seconds)
        now = await _differences(members)
        lasting = {key: values for key, values in lasting.items() if now.get(key) == values}
    return lasting


async def _differences(members: Sequence[tuple[Database, Figure]]) -> Differences:
    """Parts are compared by their hash; only those that differ are read."""
    hashes = [await _hashes(database, figure) for database, figure in members]
    parts = sorted({part for of_one in hashes for part, _ in of_one.items() ^ hashes[0].items()})
    found: dict[str, list[str | None]] = defaultdict(lambda: [None] * len(members))
    for place, (database, figure) in enumerate(members if parts else ()):
        sql = f"SELECT key, value FROM ({figure.sql}) AS f WHERE left(key, 2) = ANY(CAST(:parts AS text[]))"  # noqa: S608
        async with database.transaction() as tx:
            for row in await tx.execute(sql, {"parts": parts}):
                found[row.key][place] = row.value
    return {key: tuple(values) for key, values in found.items() if len(set(values)) > 1}


async def _hashes(database: Database, figure: Figure) -> dict[Any, Any]:
    async with database.transaction() as tx:
        rows = await tx.execute(
            f"""
            SELECT left(key, 2) AS part, md5(string_agg(key || '=' || value, ',' ORDER BY key)) AS hash
            FROM ({figure.sql}) AS f GROUP BY 1
            """  # noqa: S608 - our own text
        )
        return {row.part: row.hash for row in rows}
