"""Holds, promises, plans, disputes and hand-overs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any
from uuid import UUID

from cobranza.chassis.database import Transaction


async def add_hold(tx: Transaction, row: Mapping[str, object]) -> None:
    """Store a new hold."""
    await tx.execute(
        """
        INSERT INTO hold (hold_id, company, customer, scope, case_id, account_id, receivable_ids, reason, placed_on, until_on,
            placed_by, version)
        VALUES (:hold_id, :company, :customer, :scope, :case_id, :account_id, CAST(:receivable_ids AS uuid[]), :reason,
            :placed_on, :until_on, :placed_by, 1)
        """,
        row,
    )


async def lock_hold(tx: Transaction, company: str, hold_id: UUID) -> Any | None:
    """A hold, locked."""
    result = await tx.execute(
        "SELECT * FROM hold WHERE hold_id = :id AND company = :company FOR UPDATE", {"id": hold_id, "company": company}
    )
    return result.one_or_none()


async def release_hold(tx: Transaction, hold_id: UUID, *, released_on: date, reason: str, by: str) -> int:
    """End a hold; returns its version."""
    result = await tx.execute(
        """
        UPDATE hold SET released_on = :on, release_reason = :reason, released_by = :by, version = version + 1
        WHERE hold_id = :id RETURNING version
        """,
        {"id": hold_id, "on": released_on, "reason": reason, "by": by},
    )
    return int(result.scalar_one())


async def add_agreement(
    tx: Transaction,
    *,
    agreement_id: UUID,
    company: str,
    account_id: UUID,
    kind: str,
    told: str,
    by: str,
    approved_by: str | None = None,
    is_proposal: bool = False,
) -> None:
    """Store a new promise, plan, dispute or hand-over as it is told; a proposal is told to nobody yet."""
    await tx.execute(
        """
        INSERT INTO agreement (agreement_id, company, account_id, kind, state, told, recorded_by, approved_by, version)
        VALUES (:id, :company, :account_id, :kind, :state, CAST(:told AS jsonb), :by, :approved_by, :version)
        """,
        {
            "id": agreement_id,
            "company": company,
            "account_id": account_id,
            "kind": kind,
            "state": "proposed" if is_proposal else "open",
            "told": told,
            "by": by,
            "approved_by": approved_by,
            "version": 0 if is_proposal else 1,
        },
    )


async def agreements(tx: Transaction, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """Agreements by id."""
    rows = await tx.execute(
        "SELECT * FROM agreement WHERE agreement_id = ANY(CAST(:ids AS uuid[]))", {"ids": sorted(ids)}
    )
    return {row.agreement_id: row for row in rows}


async def agreement(tx: Transaction, *, company: str, agreement_id: UUID, kind: str) -> Any | None:
    """An agreement; its account is locked before it is changed."""
    result = await tx.execute(
        "SELECT * FROM agreement WHERE agreement_id = :id AND company = :company AND kind = :kind",
        {"id": agreement_id, "company": company, "kind": kind},
    )
    return result.one_or_none()


async def change_agreement(
    tx: Transaction, agreement_id: UUID, *, state: str, told: str, approved_by: str | None = None
) -> int:
    """Store what became of an agreement; returns its version."""
    result = await tx.execute(
        """
        UPDATE agreement SET state = :state, told = told || CAST(:told AS jsonb), version = version + 1,
            approved_by = coalesce(:approved_by, approved_by)
        WHERE agreement_id = :id RETURNING version
        """,
        {"id": agreement_id, "state": state, "told": told, "approved_by": approved_by},
    )
    return int(result.scalar_one())


async def open_hand_over(tx: Transaction, account_id: UUID) -> Any | None:
    """The hand-over of an account that was not recalled."""
    result = await tx.execute(
        "SELECT * FROM agreement WHERE account_id = :id AND kind = 'hand_over' AND state = 'open'", {"id": account_id}
    )
    return result.one_or_none()


async def accounts_promising(tx: Transaction, *, company: str, before: date) -> list[UUID]:
    """Accounts of a company with a promise whose limit is over and that waits to be judged."""
    rows = await tx.execute(
        """
        SELECT DISTINCT account_id FROM agreement WHERE company = :company AND kind = 'promise' AND state = 'open'
            AND CAST(told->>'limit_on' AS date) < :before ORDER BY account_id
        """,
        {"company": company, "before": before},
    )
    return [row.account_id for row in rows]


async def save_evidence(tx: Transaction, account_id: UUID, documents: Iterable[str]) -> None:
    """Remember which documents are at hand for a hand-over."""
    await tx.execute(
        """
        UPDATE account SET evidence = ARRAY(SELECT DISTINCT unnest(evidence || CAST(:documents AS text[])) ORDER BY 1)
        WHERE account_id = :id
        """,
        {"id": account_id, "documents": sorted(documents)},
    )
