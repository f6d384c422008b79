"""Notices of each day, and the storm brake."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from cobranza.chassis.database import Transaction


async def notice_days(tx: Transaction, companies: Iterable[str]) -> list[Any]:
    """Notices of companies by day, as far back as the usual is counted, and every day that waits for a release."""
    rows = await tx.execute(
        """
        SELECT company, on_date, notices, braked_at, released_by FROM notice_day WHERE company = ANY(CAST(:companies AS text[]))
            AND (on_date > CAST(:now AS date) - 30 OR (braked_at IS NOT NULL AND released_by IS NULL))
        """,
        {"companies": sorted(set(companies)), "now": tx.now.date()},
    )
    return list(rows)


async def count_notices(tx: Transaction, *, company: str, on: date, more: int, trips: bool) -> tuple[int, bool]:
    """Count the notices of a day; `trips`: others wait from now on. The row stays locked until the commit.

    Returns:
        How many there are now, those of others included, and whether a person lets them all leave.
    """
    result = await tx.execute(
        """
        INSERT INTO notice_day (company, on_date, notices, braked_at)
        VALUES (:company, :on, :more, CASE WHEN :trips THEN CAST(:now AS timestamptz) END)
        ON CONFLICT (company, on_date) DO UPDATE SET notices = notice_day.notices + excluded.notices,
            braked_at = coalesce(notice_day.braked_at, excluded.braked_at)
        RETURNING notices, released_by
        """,
        {"company": company, "on": on, "more": more, "trips": trips, "now": tx.now},
    )
    row = result.one()
    return row.notices, row.released_by is not None


async def release_brake(tx: Transaction, *, company: str, on: date, by: str) -> list[date]:
    """Let all notices of a day leave; the days on which the brake was tripped."""
    rows = await tx.execute(
        """
        UPDATE notice_day SET released_by = :by
        WHERE company = :company AND braked_at IS NOT NULL AND released_by IS NULL RETURNING on_date
        """,
        {"company": company, "by": by},
    )
    days = sorted(row.on_date for row in rows)
    if days:
        await tx.execute(
            """
            INSERT INTO notice_day (company, on_date, released_by) VALUES (:company, :on, :by)
            ON CONFLICT (company, on_date) DO UPDATE SET released_by = excluded.released_by
            """,
            {"company": company, "on": on, "by": by},
        )
    return days
