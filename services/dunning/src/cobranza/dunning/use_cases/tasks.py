"""Tasks come to their end: an approval, a call, an effect that its executor confirms or refuses."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.contracts import dunning
from cobranza.dunning import repository
from cobranza.dunning.domain.errors import TaskRefusedError, UnknownTaskError
from cobranza.dunning.use_cases.agreements import PROMISE_APPROVAL, decide_proposal
from cobranza.dunning.use_cases.application import Trigger
from cobranza.dunning.use_cases.evaluation import Desk

#: A call that never came about.
_NOTHING_HAPPENED: Final = "system_error"


async def complete_task(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    task_id: UUID,
    disposition: str,
    receptivity: int | None,
    by: str,
) -> dunning.TaskCompleted:
    """End a task; its step run goes on or is skipped, and its account is evaluated at once.

    Ending it again the same way changes nothing. A call that failed for a technical reason leaves it open.

    Args:
        disposition: done, approved, refused, or what a call came to, such as no_answer.
        receptivity: 1 to 5, of a call that reached the right person.

    Raises:
        UnknownTaskError: there is no such task.
        TaskRefusedError: it ended another way already.
    """
    desk.profile(company)
    asked = await repository.lock_task(tx, company, task_id)
    if asked is None:
        raise UnknownTaskError(f"no task {task_id} of {company}")
    if asked.disposition not in (None, disposition):
        raise TaskRefusedError(f"the task ended with {asked.disposition!r} already")
    is_first = asked.disposition is None
    completed = dunning.TaskCompleted.model_validate(
        {
            **asked.state,
            "disposition": disposition,
            "by": by if is_first else asked.completed_by,
            "receptivity": receptivity,
            "completed_at": tx.now if is_first else asked.completed_at,
        }
    )
    if is_first and disposition != _NOTHING_HAPPENED:
        if completed.kind == PROMISE_APPROVAL:
            await _decide_promise(desk, tx, company, asked.about, disposition, by=by)
        await repository.complete_task(tx, task_id, disposition=disposition, by=by)
        tx.publish(completed, sequence=2)
        if completed.case_id is not None and completed.step is not None:
            accounts = await repository.accounts_by_case(tx, [completed.case_id])
            account_id = accounts[completed.case_id]
            trigger = Trigger("task-completed", str(task_id), tx.cause)
            await desk.evaluate(tx, {account_id: trigger}, {account_id: [completed]})
    return completed


async def _decide_promise(desk: Desk, tx: Transaction, company: str, about: str, disposition: str, *, by: str) -> None:
    if disposition not in ("approved", "refused"):
        raise TaskRefusedError(f"a promise is approved or refused, got {disposition!r}", pointer="/disposition")
    await decide_proposal(
        desk,
        tx,
        company=company,
        promise_id=UUID(about.partition("|")[2]),
        is_approved=disposition == "approved",
        by=by,
    )
