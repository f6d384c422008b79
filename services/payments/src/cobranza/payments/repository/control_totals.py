"""Control totals: runs, their parts, what was compared and where a company stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRun:
    """One run of a system's control total of a day, as far as it is here; amounts in minor units."""

    control_total_id: UUID
    company: str
    currency: str
    system: str
    total_on: date
    run_id: str | None
    parts: int
    stated_count: int | None
    stated_total: int | None
    verdict: str | None
    found_count: int | None
    found_total: int | None
    differing: int | None


_CONTROL_RUN: Final = (
    "control_total_id, company, currency, system, total_on, run_id, parts, stated_count, stated_total, verdict,"
    " found_count, found_total, differing"
)


async def open_control_run(
    tx: Transaction,
    *,
    control_total_id: UUID,
    company: str,
    currency: str,
    system: str,
    total_on: date,
    run_id: str | None,
    parts: int,
    stated_count: int | None,
    stated_total: int | None,
) -> ControlRun:
    """Make and lock a run, or lock it as it was made before."""
    key = {"id": control_total_id}
    await tx.execute(
        """
        INSERT INTO control_total (control_total_id, company, currency, system, total_on, run_id, parts, stated_count,
            stated_total, first_at)
        VALUES (:id, :company, :currency, :system, :total_on, :run_id, :parts, :stated_count, :stated_total, :now)
        ON CONFLICT DO NOTHING
        """,
        {
            **key,
            "company": company,
            "currency": currency,
            "system": system,
            "total_on": total_on,
            "run_id": run_id,
            "parts": parts,
            "stated_count": stated_count,
            "stated_total": stated_total,
            "now": tx.now,
        },
    )
    return await control_run(tx, control_total_id)


async def control_run(tx: Transaction, control_total_id: UUID) -> ControlRun:
    """Lock a run; nothing deletes one."""
    rows = await tx.execute(
        f"SELECT {_CONTROL_RUN} FROM control_total WHERE control_total_id = :id FOR UPDATE",  # noqa: S608 - constant columns
        {"id": control_total_id},
    )
    return ControlRun(**rows.one()._mapping)  # noqa: SLF001 - SQLAlchemy's public name


async def control_part(tx: Transaction, *, control_total_id: UUID, part: int) -> Any | None:
    """What a part of a run said, or None."""
    rows = await tx.execute(
        "SELECT told FROM control_total_part WHERE control_total_id = :id AND part = :part",
        {"id": control_total_id, "part": part},
    )
    return rows.scalar_one_or_none()


async def add_control_part(
    tx: Transaction, *, control_total_id: UUID, part: int, told: str, customers: Mapping[str, int]
) -> int:
    """Keep a part of a run; returns how many of its parts are here now."""
    key = {"id": control_total_id}
    await tx.execute(
        "INSERT INTO control_total_part (control_total_id, part, told) VALUES (:id, :part, CAST(:told AS jsonb))",
        {**key, "part": part, "told": told},
    )
    await tx.execute(
        """
        INSERT INTO control_total_customer (control_total_id, customer, stated)
        SELECT :id, * FROM unnest(CAST(:customers AS text[]), CAST(:stated AS bigint[]))
        """,
        {**key, "customers": list(customers), "stated": list(customers.values())},
    )
    rows = await tx.execute("SELECT count(*) FROM control_total_part WHERE control_total_id = :id", key)
    return int(rows.scalar_one())


async def stated_customers(tx: Transaction, control_total_id: UUID) -> dict[str, int]:
    """What a run states by customer, in minor units."""
    rows = await tx.execute(
        "SELECT customer, stated FROM control_total_customer WHERE control_total_id = :id", {"id": control_total_id}
    )
    return {row.customer: row.stated for row in rows}


async def count_control_parts(tx: Transaction, control_total_id: UUID) -> int:
    """How many parts of a run are here."""
    rows = await tx.execute(
        "SELECT count(*) FROM control_total_part WHERE control_total_id = :id", {"id": control_total_id}
    )
    return int(rows.scalar_one())


async def open_as_of(
    tx: Transaction, *, company: str, currency: str, system: str, on: date
) -> dict[str, tuple[int, int]]:
    """Open instalments of a system's invoices at the end of a day by customer: how many, and their sum in minor units.

    Taken back from today's balances by what the journal dates later, which is little for a day just
    past. Nothing counts before its debt was issued; late charges are ours alone and left out.
    """
    rows = await tx.execute(
        """
        WITH later AS (
            SELECT l.receivable_id, sum(l.amount) AS moved FROM journal_entry e JOIN journal_line l USING (entry_id)
            WHERE e.company = :company AND e.effective_on > :on AND l.account = 'AR' GROUP BY l.receivable_id)
        SELECT customer, count(*) AS instalments, sum(balance)::bigint AS total FROM (
            SELECT r.customer, r.open - coalesce(later.moved, 0) AS balance
            FROM receivable r JOIN invoice i ON i.company = r.company AND i.invoice_id = r.invoice_id
            LEFT JOIN later ON later.receivable_id = r.receivable_id
            WHERE r.company = :company AND r.currency = :currency AND r.kind = 'invoice' AND i.system = :system
                AND r.issued_on <= :on AND (r.open > 0 OR later.receivable_id IS NOT NULL)) b
        WHERE balance > 0 GROUP BY customer
        """,
        {"company": company, "currency": currency, "system": system, "on": on},
    )
    return {row.customer: (row.instalments, row.total) for row in rows}


async def save_control_check(
    tx: Transaction,
    *,
    control_total_id: UUID,
    verdict: str,
    found_count: int,
    found_total: int,
    differences: Sequence[tuple[str, int, int]],
) -> None:
    """Keep what a comparison came to: `differences` are (customer, stated, found)."""
    key = {"id": control_total_id}
    await tx.execute(
        """
        UPDATE control_total SET verdict = :verdict, found_count = :count, found_total = :total, differing = :differing,
            checked_at = :now WHERE control_total_id = :id
        """,
        {
            **key,
            "verdict": verdict,
            "count": found_count,
            "total": found_total,
            "differing": len(differences),
            "now": tx.now,
        },
    )
    await tx.execute("DELETE FROM control_total_difference WHERE control_total_id = :id", key)
    if differences:
        await tx.execute(
            """
            INSERT INTO control_total_difference (control_total_id, customer, stated, found)
            SELECT :id, * FROM unnest(CAST(:customers AS text[]), CAST(:stated AS bigint[]), CAST(:found AS bigint[]))
            """,
            {
                **key,
                "customers": [customer for customer, _, _ in differences],
                "stated": [stated for _, stated, _ in differences],
                "found": [found for _, _, found in differences],
            },
        )


async def lock_control_standing(tx: Transaction, *, company: str, currency: str) -> int:
    """Let nobody else judge the currency's totals meanwhile; returns the version of what stands."""
    key = {"company": company, "currency": currency}
    await tx.execute(
        "INSERT INTO control_standing (company, currency, version) VALUES (:company, :currency, 0) ON CONFLICT DO NOTHING",
        key,
    )
    rows = await tx.execute(
        "SELECT version FROM control_standing WHERE company = :company AND currency = :currency FOR UPDATE", key
    )
    return int(rows.scalar_one())


async def save_control_standing(
    tx: Transaction, *, company: str, currency: str, standing: str | None, version: int
) -> None:
    """Keep what stands for the currency now."""
    await tx.execute(
        """
        UPDATE control_standing SET standing = :standing, version = :version
        WHERE company = :company AND currency = :currency
        """,
        {"company": company, "currency": currency, "standing": standing, "version": version},
    )


async def last_control_runs(tx: Transaction, *, company: str, currency: str) -> dict[str, tuple[UUID, str]]:
    """The run that counts for each system, and its verdict: of the newest day, the newest; a run before none."""
    rows = await tx.execute(
        """
        SELECT DISTINCT ON (system) system, control_total_id, verdict FROM control_total
        WHERE company = :company AND currency = :currency AND verdict IS NOT NULL
        ORDER BY system, total_on DESC, verdict = 'missing', arrived DESC
        """,
        {"company": company, "currency": currency},
    )
    return {row.system: (row.control_total_id, row.verdict) for row in rows}


async def control_standing(tx: Transaction, *, company: str, currency: str) -> str | None:
    """What the last control totals of a currency came to, the worst of all systems; None when none was ever due."""
    rows = await tx.execute(
        "SELECT standing FROM control_standing WHERE company = :company AND currency = :currency",
        {"company": company, "currency": currency},
    )
    return rows.scalar_one_or_none()


async def without_control_total(tx: Transaction, *, company: str, on: date) -> list[tuple[str, str]]:
    """Systems and currencies with open debts of which no total of that day or later has come."""
    rows = await tx.execute(
        """
        SELECT DISTINCT i.system, r.currency
        FROM receivable r JOIN invoice i ON i.company = r.company AND i.invoice_id = r.invoice_id
        WHERE r.company = :company AND r.open > 0 AND r.kind = 'invoice' AND r.issued_on <= :on
            AND NOT EXISTS (
                SELECT 1 FROM control_total t WHERE t.company = r.company AND t.system = i.system
                    AND t.currency = r.currency AND t.total_on >= :on)
        ORDER BY i.system, r.currency
        """,
        {"company": company, "on": on},
    )
    return [(row.system, row.currency) for row in rows]
