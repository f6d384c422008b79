"""Bank files: staged, judged, imported and undone line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.payments.repository.rows import as_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedLine:
    """One booked movement of a file on its way into the ledger; `told` is the payment as JSON."""

    position: int
    line: int
    account: str
    identity: str
    entry_ref: str | None
    kind: str
    currency: str
    amount: int
    booked_on: date
    value_on: date
    content: str
    told: str
    texts: str
    trace: str


_STAGED: Final = (
    "position, line, account, identity, entry_ref, kind, currency, amount, booked_on, value_on, content,"
    " told, texts, trace"
)


async def save_mapping(tx: Transaction, *, company: str, name: str, mapping: str, by: str) -> None:
    """Keep a mapping under its name, in place of the one before."""
    await tx.execute(
        """
        INSERT INTO bank_mapping (company, name, mapping, saved_by) VALUES (:company, :name, CAST(:mapping AS jsonb), :by)
        ON CONFLICT (company, name) DO UPDATE SET mapping = excluded.mapping, saved_by = excluded.saved_by,
            saved_at = clock_timestamp()
        """,
        {"company": company, "name": name, "mapping": mapping, "by": by},
    )


async def mapping(tx: Transaction, *, company: str, name: str) -> Any | None:
    """A saved mapping, or None."""
    rows = await tx.execute(
        "SELECT mapping FROM bank_mapping WHERE company = :company AND name = :name", {"company": company, "name": name}
    )
    return rows.scalar_one_or_none()


async def import_of_content(tx: Transaction, *, company: str, sha256: bytes) -> UUID | None:
    """The import that took exactly this file in, or None."""
    rows = await tx.execute(
        """
        SELECT import_id FROM bank_import WHERE company = :company AND sha256 = :sha256
            AND state IN ('importing', 'imported', 'undoing') ORDER BY checked_at LIMIT 1
        """,
        {"company": company, "sha256": sha256},
    )
    return rows.scalar_one_or_none()


async def forget_checks(tx: Transaction, *, company: str, days: int) -> None:
    """Forget files that were only checked, after some days."""
    await tx.execute(
        """
        DELETE FROM bank_import WHERE company = :company AND state = 'checked'
            AND checked_at < clock_timestamp() - make_interval(days => :days)
        """,
        {"company": company, "days": days},
    )


async def open_import(tx: Transaction, **told: Any) -> None:
    """Begin to stage a file."""
    await tx.execute(
        """
        INSERT INTO bank_import (import_id, company, name, sha256, format, mapping, state, statements, ignored, checked_by)
        VALUES (:import_id, :company, :name, :sha256, :format, :mapping, 'checked', '[]', '[]', :checked_by)
        """,
        told,
    )


async def stage_lines(tx: Transaction, *, import_id: UUID, company: str, lines: Sequence[StagedLine]) -> None:
    """Keep movements of a file; nothing of them is in the ledger."""
    if lines:
        await tx.execute(
            f"""
            INSERT INTO bank_line (import_id, company, {_STAGED})
            SELECT :import_id, :company, * FROM unnest(CAST(:position AS int[]), CAST(:line AS int[]),
                CAST(:account AS text[]), CAST(:identity AS text[]), CAST(:entry_ref AS text[]), CAST(:kind AS text[]),
                CAST(:currency AS text[]), CAST(:amount AS bigint[]), CAST(:booked_on AS date[]), CAST(:value_on AS date[]),
                CAST(:content AS text[]), CAST(:told AS jsonb[]), CAST(:texts AS jsonb[]), CAST(:trace AS jsonb[]))
            """,  # noqa: S608 - constant columns
            {"import_id": import_id, "company": company, **as_columns(_STAGED, lines)},
        )


async def close_staging(tx: Transaction, *, import_id: UUID, statements: str, ignored: str) -> None:
    """Note what the file says as a whole."""
    await tx.execute(
        """
        UPDATE bank_import SET statements = CAST(:statements AS jsonb), ignored = CAST(:ignored AS jsonb)
        WHERE import_id = :import_id
        """,
        {"import_id": import_id, "statements": statements, "ignored": ignored},
    )


async def judge_lines(tx: Transaction, *, import_id: UUID) -> None:
    """Say of each line of a file whether it is new, known, or told otherwise before; anew each time."""
    for statement in _JUDGE:
        await tx.execute(statement, {"id": import_id})


_BOOKINGS: Final = """
    WITH mine AS (
        SELECT company, account, kind, entry_ref, currency, sum(amount) AS total, count(*) AS parts
        FROM bank_line WHERE import_id = :id AND entry_ref IS NOT NULL GROUP BY 1, 2, 3, 4, 5),
    both_told AS (
        SELECT m.company, m.account, m.kind, m.entry_ref, m.total, m.parts, sum(o.amount) AS other_total,
            count(*) AS other_parts, (array_agg(o.import_id ORDER BY o.line))[1] AS other_import, min(o.line) AS other_line
        FROM mine m JOIN bank_line o ON o.company = m.company AND o.account = m.account AND o.entry_ref = m.entry_ref
            AND o.kind = m.kind AND o.currency = m.currency AND o.live AND o.import_id <> :id
        GROUP BY m.company, m.account, m.kind, m.entry_ref, m.total, m.parts)
    UPDATE bank_line l SET verdict = CASE WHEN b.total = b.other_total THEN 'known' ELSE 'conflict' END,
        note = CASE WHEN b.total = b.other_total THEN NULL ELSE 'booking ' || b.entry_ref END,
        other_import = b.other_import, other_line = b.other_line
    FROM both_told b WHERE l.import_id = :id AND l.account = b.account AND l.kind = b.kind AND l.entry_ref = b.entry_ref
        AND l.verdict = 'new'
"""


_JUDGE: Final = (
    """
    UPDATE bank_line SET verdict = 'new', note = NULL, other_import = NULL, other_line = NULL, external_id = NULL
    WHERE import_id = :id
    """,
    # A booking that was told in other parts before: as one sum in the statement, each part in the notification.
    _BOOKINGS + " AND b.parts <> b.other_parts",
    """
    UPDATE bank_line l SET verdict = CASE WHEN o.content = l.content THEN 'known' ELSE 'conflict' END,
        note = CASE WHEN o.content = l.content THEN NULL ELSE o.content END,
        other_import = o.import_id, other_line = o.line
    FROM bank_line o WHERE l.import_id = :id AND l.verdict = 'new' AND o.company = l.company AND o.identity = l.identity
        AND o.live AND o.import_id <> :id
    """,
    _BOOKINGS,
    # The payment's name; after an undone import the movement comes as another payment.
    """
    UPDATE bank_line l SET external_id = left(l.identity, 32) || coalesce('-' || e.earlier, '')
    FROM bank_line s LEFT JOIN LATERAL (
        SELECT nullif(count(*), 0) AS earlier FROM bank_line o
        WHERE o.company = s.company AND o.identity = s.identity AND o.receipt_id IS NOT NULL AND o.import_id <> :id) e ON true
    WHERE l.import_id = :id AND s.import_id = :id AND s.position = l.position AND l.kind = 'credit' AND l.verdict = 'new'
    """,
    # A reversal takes back the one payment of the account with its amount and one of its references.
    """
    WITH candidates AS (
        SELECT r.position, o.import_id, o.line, o.external_id,
            count(*) OVER (PARTITION BY r.position) AS found,
            row_number() OVER (PARTITION BY o.import_id, o.position ORDER BY r.position) AS place
        FROM bank_line r JOIN bank_line o ON o.company = r.company AND o.account = r.account AND o.kind = 'credit'
            AND o.currency = r.currency AND o.amount = r.amount
            AND (o.live OR (o.import_id = :id AND o.verdict = 'new' AND o.position < r.position))
            AND EXISTS (SELECT 1 FROM jsonb_array_elements_text(r.trace) AS t(x) WHERE o.trace @> to_jsonb(t.x))
        WHERE r.import_id = :id AND r.kind = 'reversal' AND r.verdict = 'new'
            AND NOT EXISTS (SELECT 1 FROM reversal v WHERE v.company = o.company AND v.receipt_id = o.receipt_id))
    UPDATE bank_line l SET external_id = c.external_id, other_import = c.import_id, other_line = c.line
    FROM candidates c WHERE l.import_id = :id AND l.position = c.position AND c.found = 1 AND c.place = 1
    """,
    """
    UPDATE bank_line SET verdict = 'unmatched' WHERE import_id = :id AND kind = 'reversal' AND verdict = 'new'
        AND external_id IS NULL
    """,
)


async def lock_import(tx: Transaction, *, import_id: UUID, company: str | None) -> Any | None:
    """An import, locked until the transaction ends; None when the company has none of that id."""
    rows = await tx.execute(
        """
        SELECT * FROM bank_import WHERE import_id = :id AND company = coalesce(CAST(:company AS text), company) FOR UPDATE
        """,
        {"id": import_id, "company": company},
    )
    return rows.one_or_none()


async def busy_import(tx: Transaction, *, company: str) -> UUID | None:
    """The import of the company that is on its way into or out of the ledger; locks out another's start."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('bank-import'), hashtext(:c))", {"c": company})
    rows = await tx.execute(
        "SELECT import_id FROM bank_import WHERE company = :c AND state IN ('importing', 'undoing')", {"c": company}
    )
    return rows.scalar_one_or_none()


async def unfinished_imports(tx: Transaction) -> list[tuple[UUID, str]]:
    """Imports on their way, with their states."""
    rows = await tx.execute("SELECT import_id, state FROM bank_import WHERE state IN ('importing', 'undoing')")
    return [(row.import_id, row.state) for row in rows]


async def set_import_state(tx: Transaction, *, import_id: UUID, state: str, by: str | None = None) -> None:
    """Move an import on."""
    await tx.execute(
        """
        UPDATE bank_import SET state = :state,
            imported_at = CASE WHEN :state = 'imported' THEN clock_timestamp() ELSE imported_at END,
            undone_at = CASE WHEN :state = 'undone' THEN clock_timestamp() ELSE undone_at END,
            undone_by = coalesce(CAST(:by AS text), undone_by)
        WHERE import_id = :id
        """,
        {"id": import_id, "state": state, "by": by},
    )


async def note_watermark(tx: Transaction, *, import_id: UUID, words: str) -> None:
    """Note what an import did to the cash watermark."""
    await tx.execute(
        "UPDATE bank_import SET watermark = :words WHERE import_id = :id", {"id": import_id, "words": words}
    )


async def lines_to_import(tx: Transaction, *, import_id: UUID, most: int) -> list[Any]:
    """The next lines to be booked, in file order."""
    rows = await tx.execute(
        """
        SELECT position, line, kind, value_on, booked_on, told, external_id FROM bank_line
        WHERE import_id = :id AND verdict = 'new' AND NOT live ORDER BY position LIMIT :most
        """,
        {"id": import_id, "most": most},
    )
    return list(rows)


async def mark_imported(tx: Transaction, *, import_id: UUID, receipts: Mapping[int, UUID]) -> None:
    """These lines, by position, are in the ledger as those receipts."""
    await tx.execute(
        """
        UPDATE bank_line l SET live = true, receipt_id = t.b
        FROM unnest(CAST(:a AS int[]), CAST(:b AS uuid[])) AS t(a, b) WHERE l.import_id = :id AND l.position = t.a
        """,
        {"id": import_id, "a": list(receipts), "b": list(receipts.values())},
    )


async def mark_refused(tx: Transaction, *, import_id: UUID, notes: Mapping[int, str]) -> None:
    """The ledger refused these lines, by position, for these reasons."""
    if notes:
        await tx.execute(
            """
            UPDATE bank_line l SET verdict = 'refused', note = t.b
            FROM unnest(CAST(:a AS int[]), CAST(:b AS text[])) AS t(a, b) WHERE l.import_id = :id AND l.position = t.a
            """,
            {"id": import_id, "a": list(notes), "b": list(notes.values())},
        )


async def obstacles_to_undo(tx: Transaction, *, import_id: UUID) -> list[Any]:
    """Lines whose effect cannot be taken back, at most ten."""
    rows = await tx.execute(
        """
        SELECT l.line, CASE WHEN r.refunded > 0 THEN 'refunded' ELSE 'reversal' END AS why, l.external_id
        FROM bank_line l JOIN receipt r ON r.company = l.company AND r.receipt_id = l.receipt_id
        WHERE l.import_id = :id AND l.live AND (
            r.refunded > 0
            OR (l.kind = 'reversal' AND l.other_import <> l.import_id))
        ORDER BY l.position LIMIT 10
        """,
        {"id": import_id},
    )
    return list(rows)


async def lines_to_undo(tx: Transaction, *, import_id: UUID, most: int) -> list[Any]:
    """The next lines that are in the ledger, and whether their payment was reversed already."""
    rows = await tx.execute(
        """
        SELECT l.position, l.kind, l.external_id, EXISTS (SELECT 1 FROM reversal v
            WHERE v.company = l.company AND v.receipt_id = l.receipt_id) AS is_reversed, r.told_customer
        FROM bank_line l JOIN receipt r ON r.company = l.company AND r.receipt_id = l.receipt_id
        WHERE l.import_id = :id AND l.live ORDER BY l.position LIMIT :most
        """,
        {"id": import_id, "most": most},
    )
    return list(rows)


async def mark_undone(tx: Transaction, *, import_id: UUID, positions: Sequence[int]) -> None:
    """These lines are in the ledger no more."""
    await tx.execute(
        "UPDATE bank_line SET live = false WHERE import_id = :id AND position = ANY(CAST(:positions AS int[]))",
        {"id": import_id, "positions": list(positions)},
    )


async def import_counts(tx: Transaction, *, import_id: UUID) -> list[Any]:
    """How many lines of which kind and verdict, and their sums in minor units."""
    rows = await tx.execute(
        """
        SELECT kind, verdict, currency, count(*) AS count, sum(amount)::bigint AS amount FROM bank_line
        WHERE import_id = :id GROUP BY kind, verdict, currency ORDER BY kind, verdict, currency
        """,
        {"id": import_id},
    )
    return list(rows)


async def feeds(tx: Transaction, *, company: str) -> set[str]:
    """The names of the company's cash feeds."""
    rows = await tx.execute("SELECT feed FROM cash_feed WHERE company = :c", {"c": company})
    return {row.feed for row in rows}
