"""What people decide about debts and money, each once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cobranza.chassis.database import Transaction


async def ledger_action(tx: Transaction, *, company: str, action_id: UUID) -> Any | None:
    """What was asked under this id, locked until the transaction ends; None when nothing was."""
    rows = await tx.execute(
        "SELECT * FROM ledger_action WHERE action_id = :id AND company = :company FOR UPDATE",
        {"id": action_id, "company": company},
    )
    return rows.one_or_none()


async def peek_ledger_action(tx: Transaction, *, company: str, action_id: UUID) -> Any | None:
    """What was asked under this id, not locked."""
    rows = await tx.execute(
        "SELECT verb, subject_id FROM ledger_action WHERE action_id = :id AND company = :company",
        {"id": action_id, "company": company},
    )
    return rows.one_or_none()


async def keep_ledger_action(tx: Transaction, **told: Any) -> bool:
    """Keep what a person asked; False when another company's action has the id."""
    result = await tx.execute(
        """
        INSERT INTO ledger_action (action_id, company, verb, subject_id, currency, amount, reason, note, asked_by, state)
        VALUES (:action_id, :company, :verb, :subject_id, :currency, :amount, :reason, :note, :asked_by, :state)
        ON CONFLICT DO NOTHING
        """,
        told,
    )
    return bool(result.rowcount)


async def decide_ledger_action(tx: Transaction, *, action_id: UUID, state: str, by: str, note: str) -> None:
    """Note the second person's answer."""
    await tx.execute(
        """
        UPDATE ledger_action SET state = :state, decided_by = :by, decided_at = clock_timestamp(), decision_note = :note
        WHERE action_id = :id
        """,
        {"id": action_id, "state": state, "by": by, "note": note},
    )
