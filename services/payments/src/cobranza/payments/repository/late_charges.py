"""Late charges: rules, rates, what steps asked for, and what was assessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.database import Transaction
from cobranza.payments.domain.ledger import Receivable
from cobranza.payments.repository.rows import RECEIVABLE_COLUMNS, receivable_of


async def keep_charge_rules(
    tx: Transaction,
    *,
    company: str,
    rules: str,
    version: int,
    sha256: str,
    currency: str,
    effective_from: date,
    document: str,
    by: str,
) -> str | None:
    """Keep a version of charge rules; returns the hash kept before under the same number, or None."""
    key = {"company": company, "rules": rules, "version": version}
    inserted = await tx.execute(
        """
        INSERT INTO charge_rules (company, rules, version, sha256, currency, effective_from, document, activated_by)
        VALUES (:company, :rules, :version, :sha256, :currency, :effective_from, CAST(:document AS jsonb), :by)
        ON CONFLICT DO NOTHING
        """,
        {
            **key,
            "sha256": sha256,
            "currency": currency,
            "effective_from": effective_from,
            "document": document,
            "by": by,
        },
    )
    if inserted.rowcount:
        return None
    kept = await tx.execute(
        "SELECT sha256 FROM charge_rules WHERE company = :company AND rules = :rules AND version = :version", key
    )
    return str(kept.scalar_one())


async def newest_rules_version(tx: Transaction, *, company: str, rules: str) -> int:
    """The highest version that was activated, or 0; locks out another's activation."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('charge-rules'), hashtext(:c))", {"c": company})
    rows = await tx.execute(
        "SELECT coalesce(max(version), 0) FROM charge_rules WHERE company = :company AND rules = :rules",
        {"company": company, "rules": rules},
    )
    return int(rows.scalar_one())


async def rules_in_force(connection: AsyncConnection, *, company: str, on: date) -> list[Any]:
    """Of each rules of the company the newest version that is in force on a day."""
    rows = await connection.execute(
        text(
            """
            SELECT DISTINCT ON (rules) rules, version, sha256, currency, effective_from, document FROM charge_rules
            WHERE company = :company AND effective_from <= :on ORDER BY rules, version DESC
            """
        ),
        {"company": company, "on": on},
    )
    return list(rows)


async def rules_of_version(connection: AsyncConnection, *, company: str, rules: str, version: int) -> Any | None:
    """One version as it was activated, or None."""
    rows = await connection.execute(
        text(
            """
            SELECT document FROM charge_rules WHERE company = :company AND rules = :rules AND version = :version
            """
        ),
        {"company": company, "rules": rules, "version": version},
    )
    return rows.scalar_one_or_none()


async def rates(connection: AsyncConnection, series: Sequence[str]) -> list[Any]:
    """The published rates of some series, oldest first."""
    rows = await connection.execute(
        text(
            """
            SELECT series, from_on, to_on, percent, published FROM charge_rate WHERE series = ANY(CAST(:series AS text[]))
            ORDER BY series, from_on
            """
        ),
        {"series": list(series)},
    )
    return list(rows)


async def lock_rates(tx: Transaction) -> None:
    """One writer of rates at a time, so that no two overlap."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('charge-rates'), 0)")


async def add_rates(tx: Transaction, rows: Sequence[Mapping[str, Any]], *, by: str) -> None:
    """Keep published rates that are new."""
    await tx.execute(
        """
        INSERT INTO charge_rate (series, from_on, to_on, percent, published, loaded_by)
        VALUES (:series, :from_on, :to_on, :percent, :published, :by)
        """,
        [{**row, "by": by} for row in rows],
    )


async def ask_charge(
    tx: Transaction,
    *,
    company: str,
    case_id: UUID,
    step: str,
    run: int,
    customer: str,
    currency: str,
    effect: str,
    reached_on: date,
    told: str,
    event_id: str | None,
    correlation_id: str,
) -> None:
    """Keep that a step asks for a charge; asked again it is the same request."""
    await tx.execute(
        """
        INSERT INTO charge_request (company, case_id, step, run, customer, currency, effect, reached_on, told, event_id,
            correlation_id, state, lines, try_at)
        VALUES (:company, :case_id, :step, :run, :customer, :currency, :effect, :reached_on, CAST(:told AS jsonb),
            CAST(CAST(:event_id AS text) AS uuid), :correlation_id, 'asked', '[]', clock_timestamp())
        ON CONFLICT DO NOTHING
        """,
        {
            "company": company,
            "case_id": case_id,
            "step": step,
            "run": run,
            "customer": customer,
            "currency": currency,
            "effect": effect,
            "reached_on": reached_on,
            "told": told,
            "event_id": event_id,
            "correlation_id": correlation_id,
        },
    )


async def answer_charge(
    tx: Transaction, *, company: str, case_id: UUID, step: str, run: int, state: str, lines: str
) -> None:
    """Note what became of a request; one that waits for rules or rates is tried again when some are added."""
    await tx.execute(
        """
        UPDATE charge_request SET state = :state, lines = CAST(:lines AS jsonb),
            try_at = CASE WHEN :state = 'waits' THEN CAST('infinity' AS timestamptz) END
        WHERE company = :company AND case_id = :case_id AND step = :step AND run = :run
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run, "state": state, "lines": lines},
    )


async def try_charges_again(tx: Transaction) -> None:
    """Rules or rates were added: whatever waited for some is tried again."""
    await tx.execute("UPDATE charge_request SET try_at = clock_timestamp() WHERE try_at IS NOT NULL")
    await tx.execute("UPDATE charge_look SET not_before = clock_timestamp() WHERE reason IS NOT NULL")


async def next_charge(tx: Transaction) -> Any | None:
    """The next request to be charged, or tried again."""
    rows = await tx.execute(
        """
        SELECT told, event_id, correlation_id FROM charge_request
        WHERE try_at <= clock_timestamp() ORDER BY try_at LIMIT 1
        """
    )
    return rows.one_or_none()


async def lock_charge(
    tx: Transaction, *, company: str, case_id: UUID, step: str, run: int
) -> list[dict[str, Any]] | None:
    """What became of a request so far, locked until the transaction ends; None when it is answered."""
    rows = await tx.execute(
        """
        SELECT lines FROM charge_request WHERE company = :company AND case_id = :case_id AND step = :step AND run = :run
            AND state IN ('asked', 'waits') FOR UPDATE
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run},
    )
    return rows.scalar_one_or_none()


async def put_charge_off(tx: Transaction, *, company: str, case_id: UUID, step: str, run: int, seconds: float) -> None:
    """Try a request later, as it failed."""
    await tx.execute(
        """
        UPDATE charge_request SET try_at = clock_timestamp() + make_interval(secs => :seconds)
        WHERE company = :company AND case_id = :case_id AND step = :step AND run = :run
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run, "seconds": seconds},
    )


async def movements_of(
    connection: AsyncConnection, *, company: str, debts: Sequence[UUID]
) -> dict[UUID, list[tuple[date, int]]]:
    """What moved debts since they were issued: from which day on, by how many minor units.

    Money counts by its value date and lowers a debt from the day after; money that went back never did. A credit or a
    write-off counts from its own day. A cancelled invoice was never owed.
    """
    rows = await connection.execute(
        text(
            """
            SELECT a.receivable_id, m.value_on + 1 AS day, -(a.amount + a.discount + a.written_off) AS amount
            FROM allocation a JOIN receipt m ON m.company = a.company AND m.receipt_id = a.receipt_id
            WHERE a.company = :company AND a.receivable_id = ANY(CAST(:ids AS uuid[])) AND a.amount > 0
                AND NOT EXISTS (SELECT 1 FROM allocation u WHERE u.reverses = a.allocation_id)
            UNION ALL
            SELECT l.receivable_id, e.effective_on, l.amount
            FROM journal_line l JOIN journal_entry e ON e.entry_id = l.entry_id
            WHERE l.receivable_id = ANY(CAST(:ids AS uuid[])) AND l.account = 'AR' AND e.company = :company
                AND e.kind IN ('credit-note-issued', 'receivable-written-off')
            UNION ALL
            SELECT r.receivable_id, r.issued_on, -r.issued
            FROM receivable r JOIN invoice i ON i.company = r.company AND i.invoice_id = r.invoice_id AND i.cancelled
            WHERE r.company = :company AND r.receivable_id = ANY(CAST(:ids AS uuid[]))
            """
        ),
        {"company": company, "ids": list(debts)},
    )
    found: dict[UUID, list[tuple[date, int]]] = {debt: [] for debt in debts}
    for row in rows:
        found[row.receivable_id].append((row.day, row.amount))
    return found


_CHARGE: Final = """
    l.company, l.receivable_id, l.customer, l.currency, l.case_id, l.step, l.run, l.code, l.kind, l.debt_id, l.invoice_id,
    l.amount, l.settle, l.rule, l.from_on, l.through_on, l.assessed_on, l.version, r.open, r.allocated, r.written_off,
    r.number, coalesce(c.waived, 0) AS waived, coalesce(c.withdrawn, 0) AS withdrawn,
    ARRAY(SELECT d.debt_id FROM late_charge_debt d WHERE d.company = l.company AND d.receivable_id = l.receivable_id)
        AS debts
    FROM late_charge l JOIN receivable r ON r.company = l.company AND r.receivable_id = l.receivable_id
    LEFT JOIN LATERAL (
        SELECT sum(amount) FILTER (WHERE kind = 'waiver')::bigint AS waived,
            sum(amount) FILTER (WHERE kind = 'withdrawal')::bigint AS withdrawn
        FROM late_charge_credit k WHERE k.company = l.company AND k.receivable_id = l.receivable_id) c ON true
"""


async def charges_on(connection: AsyncConnection, *, company: str, debts: Sequence[UUID]) -> list[Any]:
    """The charges on some debts, in the order in which they were made."""
    rows = await connection.execute(
        text(
            f"""
            SELECT {_CHARGE} WHERE l.company = :company AND l.receivable_id IN (
                SELECT receivable_id FROM late_charge_debt WHERE company = :company
                    AND debt_id = ANY(CAST(:ids AS uuid[])))
            ORDER BY l.assessed_on, l.through_on NULLS FIRST, l.receivable_id
            """  # noqa: S608 - constant columns
        ),
        {"company": company, "ids": list(debts)},
    )
    return list(rows)


async def debts_that_accrue(
    connection: AsyncConnection,
    *,
    company: str,
    on: date,
    customer: str | None = None,
    receivable_id: UUID | None = None,
    most: int = 1,
) -> list[Receivable]:
    """One debt, or the oldest debts of a customer that are late on a day and open or charged."""
    rows = await connection.execute(
        text(
            f"""
            SELECT {RECEIVABLE_COLUMNS} FROM receivable r WHERE company = :company AND kind = 'invoice' AND (
                receivable_id = CAST(:id AS uuid) OR (customer = CAST(:customer AS text) AND due_on < :on AND (
                    open > 0 OR EXISTS (SELECT 1 FROM late_charge_debt d
                        WHERE d.company = r.company AND d.debt_id = r.receivable_id))))
            ORDER BY due_on, receivable_id LIMIT :most
            """  # noqa: S608 - constant columns
        ),
        {"company": company, "on": on, "customer": customer, "id": receivable_id, "most": most},
    )
    return [receivable_of(row) for row in rows]


async def one_charge(connection: AsyncConnection, *, company: str, receivable_id: UUID) -> Any | None:
    """One charge by its own receivable, or None."""
    rows = await connection.execute(
        text(f"SELECT {_CHARGE} WHERE l.company = :company AND l.receivable_id = :id"),
        {"company": company, "id": receivable_id},
    )
    return rows.one_or_none()


async def debts_with_interest(tx: Transaction) -> dict[str, list[UUID]]:
    """Debts that interest was charged on and that do not wait to be looked at, by company."""
    rows = await tx.execute(
        """
        SELECT DISTINCT l.company, l.debt_id FROM late_charge l WHERE l.kind = 'interest' AND NOT EXISTS (
            SELECT 1 FROM charge_look k WHERE k.company = l.company AND k.debt_id = l.debt_id)
        ORDER BY l.company, l.debt_id
        """
    )
    found: dict[str, list[UUID]] = {}
    for row in rows:
        found.setdefault(row.company, []).append(row.debt_id)
    return found


async def receivables_of(connection: AsyncConnection, *, company: str, ids: Sequence[UUID]) -> list[Receivable]:
    """Some receivables, for reading."""
    rows = await connection.execute(
        text(
            f"""
            SELECT {RECEIVABLE_COLUMNS} FROM receivable WHERE company = :company AND receivable_id = ANY(CAST(:ids AS uuid[]))
            """  # noqa: S608 - constant columns
        ),
        {"company": company, "ids": list(ids)},
    )
    return [receivable_of(row) for row in rows]


async def compensated(tx: Transaction, *, company: str, invoices: Sequence[UUID]) -> set[UUID]:
    """Invoices whose compensation was charged."""
    rows = await tx.execute(
        """
        SELECT invoice_id FROM late_charge WHERE company = :company AND kind = 'compensation'
            AND invoice_id = ANY(CAST(:ids AS uuid[]))
        """,
        {"company": company, "ids": list(invoices)},
    )
    return {row.invoice_id for row in rows}


async def noticed(tx: Transaction, *, company: str, customer: str, first_on: date, last_on: date) -> set[UUID]:
    """Debts that a notice of these days was about; days in UTC."""
    rows = await tx.execute(
        """
        SELECT DISTINCT CAST(line ->> 'receivable_id' AS uuid) AS id FROM permit p
            CROSS JOIN LATERAL jsonb_array_elements(p.lines) AS line
        WHERE p.company = :company AND p.customer = :customer AND p.handed_at >= CAST(:first AS date)
            AND p.handed_at < CAST(:last AS date) + 1
        """,
        {"company": company, "customer": customer, "first": first_on, "last": last_on},
    )
    return {row.id for row in rows}


async def add_late_charge(tx: Transaction, *, debts: Sequence[UUID], **told: Any) -> None:
    """Keep what a charge is, beside its receivable."""
    await tx.execute(
        """
        INSERT INTO late_charge (company, receivable_id, customer, currency, case_id, step, run, code, kind, debt_id,
            invoice_id, amount, settle, rule, from_on, through_on, assessed_on, version)
        VALUES (:company, :receivable_id, :customer, :currency, :case_id, :step, :run, :code, :kind, :debt_id, :invoice_id,
            :amount, :settle, :rule, :from_on, :through_on, :assessed_on, 1)
        """,
        told,
    )
    await tx.execute(
        """
        INSERT INTO late_charge_debt (company, debt_id, receivable_id)
        SELECT :company, debt, :receivable_id FROM unnest(CAST(:debts AS uuid[])) AS t(debt)
        """,
        {"company": told["company"], "receivable_id": told["receivable_id"], "debts": list(debts)},
    )


async def credit_late_charge(
    tx: Transaction,
    *,
    credit_id: UUID,
    company: str,
    receivable_id: UUID,
    kind: str,
    amount: int,
    reason: str,
    actor: str,
    approved_by: str | None,
    credited_on: date,
) -> int:
    """Keep that a charge was forgiven or withdrawn in part; returns its new version."""
    await tx.execute(
        """
        INSERT INTO late_charge_credit (credit_id, company, receivable_id, kind, amount, reason, actor, approved_by,
            credited_on)
        VALUES (:credit_id, :company, :receivable_id, :kind, :amount, :reason, :actor, :approved_by, :credited_on)
        """,
        {
            "credit_id": credit_id,
            "company": company,
            "receivable_id": receivable_id,
            "kind": kind,
            "amount": amount,
            "reason": reason,
            "actor": actor,
            "approved_by": approved_by,
            "credited_on": credited_on,
        },
    )
    rows = await tx.execute(
        """
        UPDATE late_charge SET version = version + 1 WHERE company = :company AND receivable_id = :id RETURNING version
        """,
        {"company": company, "id": receivable_id},
    )
    return int(rows.scalar_one())


async def next_look(tx: Transaction) -> Any | None:
    """The next debt whose charges are to be looked at, and since when."""
    rows = await tx.execute(
        """
        SELECT company, debt_id, not_before FROM charge_look WHERE not_before <= clock_timestamp()
        ORDER BY not_before LIMIT 1
        """
    )
    return rows.one_or_none()


async def end_look(tx: Transaction, *, company: str, debt_id: UUID, since: datetime) -> None:
    """The charges of a debt are as they must be, unless it changed meanwhile."""
    await tx.execute(
        "DELETE FROM charge_look WHERE company = :company AND debt_id = :id AND not_before = :since",
        {"company": company, "id": debt_id, "since": since},
    )


async def put_look_off(
    tx: Transaction, *, company: str, debt_id: UUID, reason: str | None, seconds: float | None
) -> None:
    """Look again after so many seconds; without seconds when rules or rates are added."""
    await tx.execute(
        """
        UPDATE charge_look SET reason = :reason, not_before = coalesce(
            clock_timestamp() + make_interval(secs => CAST(:seconds AS float8)), CAST('infinity' AS timestamptz))
        WHERE company = :company AND debt_id = :id
        """,
        {"company": company, "id": debt_id, "reason": reason, "seconds": seconds},
    )
