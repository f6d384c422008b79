"""What people are asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from cobranza.chassis.database import Transaction


async def add_task(tx: Transaction, *, task_id: UUID, company: str, about: str, state: str) -> bool:
    """Keep a task; False when a person was already asked about the same."""
    result = await tx.execute(
        """
        INSERT INTO task (task_id, company, about, state) VALUES (:task_id, :company, :about, CAST(:state AS jsonb))
        ON CONFLICT (company, about) DO NOTHING
        """,
        {"task_id": task_id, "company": company, "about": about, "state": state},
    )
    return bool(result.rowcount)


async def lock_task(tx: Transaction, company: str, task_id: UUID) -> Any | None:
    """A task, locked."""
    result = await tx.execute(
        "SELECT * FROM task WHERE task_id = :id AND company = :company FOR UPDATE", {"id": task_id, "company": company}
    )
    return result.one_or_none()


async def complete_task(tx: Transaction, task_id: UUID, *, disposition: str, by: str) -> None:
    """Note how a task ended."""
    await tx.execute(
        "UPDATE task SET completed_at = :now, disposition = :disposition, completed_by = :by WHERE task_id = :id",
        {"now": tx.now, "disposition": disposition, "by": by, "id": task_id},
    )


async def cancel_tasks(tx: Transaction, *, company: str, about: Sequence[str]) -> list[Any]:
    """End those of the tasks that nobody has ended."""
    rows = await tx.execute(
        """
        UPDATE task SET completed_at = :now, disposition = 'cancelled', completed_by = 'dunning'
        WHERE company = :company AND about = ANY(CAST(:about AS text[])) AND completed_at IS NULL RETURNING state
        """,
        {"now": tx.now, "company": company, "about": list(about)},
    )
    return list(rows)
