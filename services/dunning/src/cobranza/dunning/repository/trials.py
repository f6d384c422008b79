"""Policies that are tried over the live portfolio, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from cobranza.chassis.database import Transaction

#: Trials that are kept, of each kind and company; those that have not ended are kept beside them.
KEPT_TRIALS: Final = 10


class StoredTrial(NamedTuple):
    """A trial that is to be played; `attempts` counts this one too."""

    trial_id: UUID
    company: str
    kind: str
    asked: Mapping[str, Any]
    attempts: int


async def add_trial(
    tx: Transaction, *, trial_id: UUID, company: str, kind: str, asked: Mapping[str, Any], asked_by: str
) -> None:
    """Keep a trial to be played, and forget the oldest that ended."""
    await tx.execute(
        """
        INSERT INTO policy_trial (trial_id, company, kind, asked, asked_by, asked_at)
        VALUES (:trial_id, :company, :kind, CAST(:asked AS jsonb), :asked_by, :now)
        """,
        {
            "trial_id": trial_id, "company": company, "kind": kind, "asked": json.dumps(asked, ensure_ascii=False),
            "asked_by": asked_by, "now": tx.now,
        },
    )  # fmt: skip
    await tx.execute(
        """
        DELETE FROM policy_trial WHERE company = :company AND kind = :kind AND state IN ('done', 'failed')
            AND trial_id NOT IN (SELECT trial_id FROM policy_trial WHERE company = :company AND kind = :kind
                ORDER BY trial_id DESC LIMIT :kept)
        """,
        {"company": company, "kind": kind, "kept": KEPT_TRIALS},
    )


async def open_trials(tx: Transaction, *, company: str) -> int:
    """How many of a company's trials have not ended; others who ask wait until this transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", {"key": f"trials|{company}"})
    result = await tx.execute(
        "SELECT count(*) FROM policy_trial WHERE company = :company AND state IN ('waiting', 'running')",
        {"company": company},
    )
    return int(result.scalar_one())


async def begin_trial(tx: Transaction) -> StoredTrial | None:
    """The oldest trial that has not ended, begun from its start: one that is running was left by a worker that ended."""
    rows = await tx.execute(
        """
        UPDATE policy_trial SET state = 'running', attempts = attempts + 1, played = 0, accounts = NULL
        WHERE trial_id = (SELECT trial_id FROM policy_trial WHERE state IN ('waiting', 'running')
            ORDER BY trial_id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING trial_id, company, kind, asked, attempts
        """
    )
    row = rows.one_or_none()
    return None if row is None else StoredTrial(*tuple(row))


async def note_progress(tx: Transaction, *, trial_id: UUID, accounts: int, played: int) -> None:
    """Keep how many of the accounts were played."""
    await tx.execute(
        """
        UPDATE policy_trial SET played = CAST(:played AS int), accounts = greatest(CAST(:accounts AS int), CAST(:played AS int))
        WHERE trial_id = :trial_id AND state = 'running'
        """,
        {"trial_id": trial_id, "accounts": accounts, "played": played},
    )


async def end_trial(
    tx: Transaction, *, trial_id: UUID, result: Mapping[str, Any] | None, fault: Mapping[str, Any] | None
) -> None:
    """Keep what came of a trial: its result, or the fault that stopped it."""
    await tx.execute(
        """
        UPDATE policy_trial SET state = :state, result = CAST(:result AS jsonb), fault = CAST(:fault AS jsonb), ended_at = :now,
            played = CASE WHEN CAST(:result AS jsonb) IS NULL THEN played ELSE coalesce(accounts, played) END
        WHERE trial_id = :trial_id AND state = 'running'
        """,
        {
            "trial_id": trial_id, "state": "failed" if result is None else "done",
            "result": None if result is None else json.dumps(result, ensure_ascii=False),
            "fault": None if fault is None else json.dumps(fault, ensure_ascii=False), "now": tx.now,
        },
    )  # fmt: skip


async def count_owing(tx: Transaction, *, company: str) -> int:
    """How many accounts of a company owe something."""
    result = await tx.execute(
        """
        SELECT count(*) FROM account a WHERE a.company = :company
            AND EXISTS (SELECT 1 FROM receivable r WHERE r.account_id = a.account_id AND r.open > 0)
        """,
        {"company": company},
    )
    return int(result.scalar_one())


async def count_known(tx: Transaction, *, company: str) -> int:
    """How many accounts of a company are known."""
    result = await tx.execute("SELECT count(*) FROM account WHERE company = :company", {"company": company})
    return int(result.scalar_one())
