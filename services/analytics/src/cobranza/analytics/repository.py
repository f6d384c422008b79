"""The only writer of the read model; every write is one statement for a whole batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import event as listening

from cobranza.analytics.domain.ageing import Balance, Movement
from cobranza.chassis.database import Transaction
from cobranza.contracts.invoicing import CustomerChanged
from cobranza.contracts.payments import ReceivableChanged


@dataclass(frozen=True, slots=True)
class Recorded:
    """A movement with the version that brought it."""

    version: int
    movement: Movement


def on_commit(tx: Transaction, then: Callable[[], None]) -> None:
    """Call `then` when the transaction commits, and never when it rolls back and is tried again."""
    connection = tx.connection.sync_connection
    assert connection is not None  # A transaction has begun on it.
    listening.listen(connection, "commit", lambda _connection: then())


async def upsert(
    tx: Transaction, table: str, columns: Mapping[str, str], key: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert or replace rows by one statement.

    Args:
        columns: SQL type by column; every row has all of them.
        key: the columns of the primary key; rows are written in its order, so that two writers
            never wait for each other crosswise.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: tuple(str(row[name]) for name in key))
    names = ", ".join(columns)
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    await tx.execute(
        f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT ({', '.join(key)}) DO "  # noqa: S608 - our own names
        + (f"UPDATE SET {sets}" if sets else "NOTHING"),
        {name: [row[name] for row in ordered] for name in columns},
    )


async def save_customers(tx: Transaction, told: Iterable[CustomerChanged]) -> None:
    """Keep the last state of each customer."""
    latest = {(c.company, c.customer): c for c in told}
    await upsert(
        tx,
        "customer",
        {"company": "text", "customer": "text", "name": "text", "segment": "text", "country": "text"},
        ("company", "customer"),
        [
            {"company": c.company, "customer": c.customer, "name": c.name, "segment": c.segment, "country": c.country}
            for c in latest.values()
        ],
    )


async def receivables(tx: Transaction, keys: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], Any]:
    """The last known row of each receivable."""
    rows = await tx.execute(
        """
        SELECT r.company, r.receivable_id, r.issued, r.allocated, r.credited, r.written_off, r.due_on, r.issued_on, r.version
        FROM receivable r
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON r.company = t.c AND r.receivable_id = t.i
        """,
        {"companies": [company for company, _ in keys], "ids": [receivable_id for _, receivable_id in keys]},
    )
    return {(row.company, row.receivable_id): row for row in rows}


async def receivable_movements(
    tx: Transaction, keys: Sequence[tuple[str, UUID]]
) -> dict[tuple[str, UUID], list[Recorded]]:
    """All movements of the receivables, by version."""
    rows = await tx.execute(
        """
        SELECT m.company, m.receivable_id, m.version, m.effective_on, m.recorded_on, m.amount FROM receivable_movement m
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON m.company = t.c AND m.receivable_id = t.i
        ORDER BY m.version
        """,
        {"companies": [company for company, _ in keys], "ids": [receivable_id for _, receivable_id in keys]},
    )
    found: dict[tuple[str, UUID], list[Recorded]] = {}
    for row in rows:
        found.setdefault((row.company, row.receivable_id), []).append(
            Recorded(row.version, Movement(row.effective_on, row.recorded_on, row.amount))
        )
    return found


async def save_receivables(tx: Transaction, told: Iterable[ReceivableChanged]) -> None:
    """Keep the last state of each receivable."""
    await upsert(
        tx,
        "receivable",
        {
            "company": "text", "receivable_id": "uuid", "customer": "text", "invoice_id": "uuid", "instalment": "int",
            "number": "text", "kind": "text", "currency": "text", "issued_on": "date", "due_on": "date",
            "issued": "bigint", "allocated": "bigint", "credited": "bigint", "written_off": "bigint", "open": "bigint",
            "version": "bigint",
        },
        ("company", "receivable_id"),
        [
            {
                "company": r.company, "receivable_id": r.receivable_id, "customer": r.customer,
                "invoice_id": r.invoice_id, "instalment": r.instalment, "number": r.number, "kind": r.kind,
                "currency": r.currency, "issued_on": r.issued_on, "due_on": r.due_on, "issued": r.minor("issued"),
                "allocated": r.minor("allocated"), "credited": r.minor("credited"),
                "written_off": r.minor("written_off"), "open": r.minor("open"), "version": r.version,
            }
            for r in told
        ],
    )  # fmt: skip


async def add_receivable_movements(tx: Transaction, rows: Sequence[tuple[tuple[str, UUID], Recorded]]) -> None:
    """Append movements; a version brings one."""
    await upsert(
        tx,
        "receivable_movement",
        {
            "company": "text", "receivable_id": "uuid", "version": "bigint", "effective_on": "date",
            "recorded_on": "date", "amount": "bigint",
        },
        ("company", "receivable_id", "version"),
        [
            {
                "company": company, "receivable_id": receivable_id, "version": r.version,
                "effective_on": r.movement.effective_on, "recorded_on": r.movement.recorded_on,
                "amount": r.movement.amount,
            }
            for (company, receivable_id), r in rows
        ],
    )  # fmt: skip


async def replace_receivable_balances(
    tx: Transaction, balances: Mapping[tuple[str, UUID], tuple[ReceivableChanged, Sequence[Balance]]]
) -> None:
    """Replace the stretches of the receivables."""
    keys = sorted(balances)
    await tx.execute(
        """
        DELETE FROM receivable_balance b USING unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i)
        WHERE b.company = t.c AND b.receivable_id = t.i
        """,
        {"companies": [company for company, _ in keys], "ids": [receivable_id for _, receivable_id in keys]},
    )
    await upsert(
        tx,
        "receivable_balance",
        {
            "company": "text", "receivable_id": "uuid", "customer": "text", "currency": "text", "due_on": "date",
            "from_on": "date", "until_on": "date", "amount": "bigint",
        },
        ("company", "receivable_id", "from_on"),
        [
            {
                "company": told.company, "receivable_id": told.receivable_id, "customer": told.customer,
                "currency": told.currency, "due_on": told.due_on, "from_on": s.from_on, "until_on": s.until_on,
                "amount": s.amount,
            }
            for told, stretches in balances.values()
            for s in stretches
        ],
    )  # fmt: skip


CreditKey = tuple[str, str, str]


async def credit_movements(tx: Transaction, keys: Sequence[CreditKey]) -> dict[CreditKey, list[Recorded]]:
    """All movements of unapplied money, by version."""
    rows = await tx.execute(
        """
        SELECT m.company, m.customer, m.currency, m.version, m.effective_on, m.recorded_on, m.amount FROM credit_movement m
        JOIN unnest(CAST(:a AS text[]), CAST(:b AS text[]), CAST(:c AS text[])) AS t(a, b, c)
            ON m.company = t.a AND m.customer = t.b AND m.currency = t.c
        ORDER BY m.version
        """,
        {"a": [k[0] for k in keys], "b": [k[1] for k in keys], "c": [k[2] for k in keys]},
    )
    found: dict[CreditKey, list[Recorded]] = {}
    for row in rows:
        found.setdefault((row.company, row.customer, row.currency), []).append(
            Recorded(row.version, Movement(row.effective_on, row.recorded_on, row.amount))
        )
    return found


async def save_credits(
    tx: Transaction,
    *,
    states: Mapping[CreditKey, tuple[int, int]],
    added: Sequence[tuple[CreditKey, Recorded]],
    balances: Mapping[CreditKey, Sequence[Balance]],
) -> None:
    """Keep unapplied money: last state `(unapplied, version)`, movements and stretches."""
    key_columns = {"company": "text", "customer": "text", "currency": "text"}

    def key(k: CreditKey) -> dict[str, Any]:
        return {"company": k[0], "customer": k[1], "currency": k[2]}

    await upsert(
        tx,
        "credit",
        {**key_columns, "unapplied": "bigint", "version": "bigint"},
        ("company", "customer", "currency"),
        [{**key(k), "unapplied": unapplied, "version": version} for k, (unapplied, version) in states.items()],
    )
    await upsert(
        tx,
        "credit_movement",
        {**key_columns, "version": "bigint", "effective_on": "date", "recorded_on": "date", "amount": "bigint"},
        ("company", "customer", "currency", "version"),
        [
            {
                **key(k), "version": r.version, "effective_on": r.movement.effective_on,
                "recorded_on": r.movement.recorded_on, "amount": r.movement.amount,
            }
            for k, r in added
        ],
    )  # fmt: skip
    keys = sorted(balances)
    await tx.execute(
        """
        DELETE FROM credit_balance b USING unnest(CAST(:a AS text[]), CAST(:b AS text[]), CAST(:c AS text[])) AS t(a, b, c)
        WHERE b.company = t.a AND b.customer = t.b AND b.currency = t.c
        """,
        {"a": [k[0] for k in keys], "b": [k[1] for k in keys], "c": [k[2] for k in keys]},
    )
    await upsert(
        tx,
        "credit_balance",
        {**key_columns, "from_on": "date", "until_on": "date", "amount": "bigint"},
        ("company", "customer", "currency", "from_on"),
        [
            {**key(k), "from_on": s.from_on, "until_on": s.until_on, "amount": s.amount}
            for k, stretches in balances.items()
            for s in stretches
        ],
    )


async def save_payments(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep payments as received."""
    await upsert(
        tx,
        "payment",
        {
            "company": "text", "payment_id": "uuid", "customer": "text", "currency": "text", "amount": "bigint",
            "value_on": "date", "reversed_on": "date",
        },
        ("company", "payment_id"),
        rows,
    )  # fmt: skip


async def save_notices(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the last state of each notice."""
    await upsert(
        tx,
        "notice",
        {
            "company": "text", "notice_id": "uuid", "customer": "text", "purpose": "text", "channel": "text",
            "state": "text", "reason": "text", "on_date": "date", "delivery": "text", "case_id": "uuid", "step": "text",
            "run": "int", "lines": "jsonb", "claimed": "bigint", "currency": "text",
        },
        ("company", "notice_id"),
        rows,
    )  # fmt: skip


async def save_cases(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the last state of each case."""
    await upsert(
        tx,
        "collection_case",
        {
            "company": "text", "case_id": "uuid", "customer": "text", "currency": "text", "opened_on": "date",
            "closed_on": "date", "outcome": "text",
        },
        ("company", "case_id"),
        rows,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One thing that happened, as the feed shows it."""

    event_id: UUID
    company: str
    customer: str | None
    type: str
    happened_on: date | None
    facts: Mapping[str, Any]


async def add_to_feed(tx: Transaction, entries: Sequence[FeedEntry]) -> None:
    """Append entries in their order."""
    if entries:
        await tx.execute(
            """
            INSERT INTO feed (event_id, company, customer, type, happened_on, at, facts)
            SELECT t.e, t.c, t.u, t.t, t.d, clock_timestamp(), t.f
            FROM unnest(CAST(:ids AS uuid[]), CAST(:companies AS text[]), CAST(:customers AS text[]), CAST(:types AS text[]),
                CAST(:days AS date[]), CAST(:facts AS jsonb[])) WITH ORDINALITY AS t(e, c, u, t, d, f, n)
            ORDER BY t.n ON CONFLICT (event_id) DO NOTHING
            """,
            {
                "ids": [e.event_id for e in entries],
                "companies": [e.company for e in entries],
                "customers": [e.customer for e in entries],
                "types": [e.type for e in entries],
                "days": [e.happened_on for e in entries],
                "facts": [json.dumps(e.facts) for e in entries],
            },
        )
