"""Applies a decision: rows for the batch, events for the outbox, one record for whoever asks why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, cast
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams import Event
from cobranza.contracts import dunning
from cobranza.contracts.calendar import BusinessCalendar
from cobranza.contracts.identifiers import CaseId, DecisionId, ReceivableId, TaskId
from cobranza.contracts.payloads import PolicyVersion, Purpose
from cobranza.contracts.reasons import Reason
from cobranza.dunning import metrics, repository
from cobranza.dunning.domain.decision import Contact, Decision
from cobranza.dunning.domain.facts import AccountFacts
from cobranza.dunning.domain.policy import EXPIRES_AFTER_DAYS, Policy
from cobranza.dunning.repository import Changes, StoredAccount, StoredCase

#: Receivables told on one event.
MOST_TOLD: Final = 1000


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why an account is evaluated: an event, a timer or a command."""

    kind: str
    id: str
    cause: Cause

    @classmethod
    def of(cls, event: Event) -> Trigger:
        """The trigger that an event is."""
        return cls(event.type, str(event.id), event.cause)


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy version, typed, with its content's hash and its calendar."""

    policy: Policy
    sha256: str
    calendar: BusinessCalendar


@dataclass(slots=True)
class Application:
    """Applies one decision: rows into the batch, events into the outbox."""

    tx: Transaction
    account: StoredAccount
    loaded: LoadedPolicy | None
    facts: AccountFacts
    as_of: date
    calendar: BusinessCalendar

    async def apply(self, decision: Decision, trigger: Trigger, changes: Changes) -> None:
        """Note everything that follows from the decision."""
        decision_id = new_id()
        case = await self._case(decision, changes)
        self._skip(decision, changes, case, decision_id)
        if decision.contact is not None and case is not None:
            self._request(decision.contact, changes, case, decision_id)
        await self._ask_people(decision, case)
        self._record(decision, trigger, changes, case, decision_id)

    async def _case(self, decision: Decision, changes: Changes) -> StoredCase | None:
        """Open, move or close the case as the decision says; the one that is open now, or was until now."""
        case = self.account.case
        if case is None:
            is_before_start = decision.reason == Reason.BEFORE_START
            return await self._open(decision, changes) if decision.is_in_window and not is_before_start else None
        policy, version = self._pin(case)
        closes = not decision.is_in_window
        outcome = None
        if closes:
            outcome = (
                "cured"
                if self.account.items
                else _outcome_of(await repository.last_cause(self.tx, self.account.account_id))
            )
            case = replace(case, version=case.version + 1)
            self.tx.publish(
                dunning.CaseClosed.model_validate(
                    {
                        **self._identity(case.case_id),
                        "outcome": outcome,
                        "opened_on": case.opened_on,
                        "closed_on": self.as_of,
                    }
                ),
                sequence=case.version,
            )
        if closes or (case.state, case.policy) != (decision.case_state, policy):
            changes.cases.append(
                {
                    "case_id": case.case_id,
                    "state": "closed" if closes else decision.case_state,
                    "policy": policy,
                    "policy_version": version,
                    "closed_on": self.as_of if closes else None,
                    "outcome": outcome,
                    "version": case.version,
                }
            )
        return case

    async def _open(self, decision: Decision, changes: Changes) -> StoredCase:
        previous: tuple[UUID, str | None] | None = None
        if any(item.level for item in self.account.items):
            # A reversal: the levels live on the items, the tone heard comes from the case before.
            previous = await repository.previous_case(self.tx, self.account.account_id)
        policy, version = self._pin(None)
        case = StoredCase(
            case_id=new_id(),
            state=decision.case_state,
            policy=policy,
            policy_version=version,
            heard_tone=previous[1] if previous else None,
            opened_on=self.as_of,
            version=1,
        )
        changes.opened.append(
            {
                "case_id": case.case_id,
                "account_id": self.account.account_id,
                "company": self.account.company,
                "customer": self.account.customer,
                "currency": self.account.currency,
                "state": case.state,
                "policy": policy,
                "policy_version": version,
                "heard_tone": case.heard_tone,
                "opened_on": self.as_of,
                "previous_case_id": previous[0] if previous else None,
                "version": 1,
            }
        )
        self.tx.publish(
            dunning.CaseOpened.model_validate(
                {
                    **self._identity(case.case_id),
                    "opened_on": self.as_of,
                    "policy": None if policy is None else {"id": policy, "version": version},
                    "previous_case_id": previous[0] if previous else None,
                }
            ),
            sequence=1,
        )
        return case

    def _pin(self, case: StoredCase | None) -> tuple[str | None, int | None]:
        """The version the case is pinned to; a case opened without one takes the first that applies."""
        if case is not None and case.policy is not None:
            return case.policy, case.policy_version
        return (None, None) if self.loaded is None else (self.loaded.policy.policy, self.loaded.policy.version)

    def _skip(self, decision: Decision, changes: Changes, case: StoredCase | None, decision_id: UUID) -> None:
        skipped: dict[tuple[str, int, str], list[UUID]] = {}
        for item in decision.items:
            for step, reason in item.skipped:
                skipped.setdefault((step.id, step.position, reason), []).append(item.receivable_id)
                changes.passed[(self.account.company, item.receivable_id)] = step.position
        if case is None:
            return
        for (step_id, position, why), receivable_ids in skipped.items():
            run = self._next_run(step_id, changes, case)
            changes.runs.append(
                {
                    **self._run_row(case, decision_id),
                    "step": step_id,
                    "run": run,
                    "position": position,
                    "state": "skipped",
                    "receivable_ids": receivable_ids,
                    "reason": why,
                }
            )
            self.tx.publish(
                dunning.StepSkipped.model_validate(
                    {
                        **self._step_fact(case, step_id, run, position, receivable_ids, decision_id),
                        "reason": why,
                        "skipped_on": self.as_of,
                    }
                ),
                sequence=1,
            )

    def _request(self, contact: Contact, changes: Changes, case: StoredCase, decision_id: UUID) -> None:
        assert self.loaded is not None
        policy = self.loaded.policy
        moved: dict[str, list[UUID]] = {}
        steps = {line.step.id: line.step for line in contact.lines if line.step is not None}
        for line in contact.lines:
            if line.step is not None:
                moved.setdefault(line.step.id, []).append(line.receivable_id)
        notice_run = self._next_run(contact.step.id, changes, case)
        expires_on = self.as_of + timedelta(days=EXPIRES_AFTER_DAYS)
        for step_id, receivable_ids in moved.items():
            step = steps[step_id]
            run = notice_run if step is contact.step else self._next_run(step_id, changes, case)
            changes.runs.append(
                {
                    **self._run_row(case, decision_id),
                    "step": step_id,
                    "run": run,
                    "position": step.position,
                    "state": "requested",
                    "notice_step": contact.step.id,
                    "notice_run": notice_run,
                    "tone": contact.tone,
                    "receivable_ids": receivable_ids,
                    "expires_on": expires_on,
                }
            )
            self.tx.publish(
                dunning.StepReached.model_validate(
                    {
                        **self._step_fact(case, step_id, run, step.position, receivable_ids, decision_id),
                        "reached_on": self.as_of,
                    }
                ),
                sequence=1,
            )
        expires_at = self.tx.now + timedelta(days=EXPIRES_AFTER_DAYS)
        self.tx.publish(
            dunning.NoticeRequested.model_validate(
                {
                    **self._identity(case.case_id),
                    "step": contact.step.id,
                    "run": notice_run,
                    "purpose": Purpose.DUNNING.value,
                    "lines": [
                        dunning.NoticeLine(
                            receivable_id=ReceivableId(line.receivable_id),
                            step=line.step.id if line.step is not None else None,
                            last_notice_on=line.last_notice_on,
                        )
                        for line in contact.lines
                    ],
                    "channel_plan": [{"channel": contact.step.channel, "role": "main"}],
                    "template": contact.step.template,
                    "tone": contact.tone,
                    "language": policy.language_for(self.account.language),
                    "conditions": {"cash_through": contact.cash_through, "unapplied": "net", "control_total": "off"},
                    "policy": {"id": policy.policy, "version": policy.version},
                    "decision_id": decision_id,
                    "expires_at": expires_at,
                }
            ),
            sequence=1,
            expires_at=expires_at,
        )

    async def _ask_people(self, decision: Decision, case: StoredCase | None) -> None:
        if decision.reason == Reason.NO_POLICY:
            asked = await self._ask(
                about=f"no_policy|{self.account.currency}",
                kind="no_policy",
                role="credit_manager",
                due_on=self.calendar.add(self.as_of, 2),
                reason=Reason.NO_POLICY,
            )
            if asked:
                logger().error(
                    "no policy applies: nobody is contacted",
                    company=self.account.company,
                    currency=self.account.currency,
                )
        if decision.ended_items and case is not None and self.loaded is not None:
            task = self.loaded.policy.end.task
            await self._ask(
                about=f"{task.kind}|{case.case_id}",
                kind=task.kind,
                role=task.role,
                due_on=self.calendar.add(self.as_of, task.due_business_days),
                reason=Reason.END_REACHED,
                customer=self.account.customer,
                case_id=CaseId(case.case_id),
                receivable_ids=decision.ended_items[:MOST_TOLD],
            )

    async def _ask(self, *, about: str, **told: object) -> bool:
        task = dunning.TaskCreated.model_validate(
            {"company": self.account.company, "task_id": TaskId(new_id()), "created_on": self.as_of, **told}
        )
        is_new = await repository.add_task(
            self.tx, task_id=task.task_id, company=task.company, about=about, state=task.model_dump_json()
        )
        if is_new:
            self.tx.publish(task, sequence=1)
        return is_new

    def _record(
        self, decision: Decision, trigger: Trigger, changes: Changes, case: StoredCase | None, decision_id: UUID
    ) -> None:
        """One record per change of outcome and day; the same again only counts."""
        facts_hash = self.facts.digest()
        contact = None if decision.contact is None else _contact_values(decision.contact)
        reasons = [{"code": str(f.code), "values": dict(f.values)} for f in decision.reasons]
        version = self.loaded.sha256 if self.loaded is not None else None
        case_id = case.case_id if case is not None else None
        told = json.dumps([facts_hash, version, decision.outcome, contact, reasons, str(case_id)], default=str)
        digest = hashlib.sha256(told.encode()).hexdigest()
        account = self.account
        is_same = (digest, self.as_of) == (account.decision_digest, account.evaluated_on)
        changes.accounts.append(
            {
                "account_id": account.account_id,
                "evaluated_on": self.as_of,
                "reason": decision.reason,
                "next_check_on": decision.next_check_on,
                "decision_id": account.decision_id if is_same else decision_id,
                "decision_digest": digest,
            }
        )
        if is_same and account.decision_id is not None:
            changes.repeated.append(account.decision_id)
            return
        step = decision.contact.step if decision.contact is not None else None
        metrics.count_decision(
            step=step.id if step else None, channel=step.channel if step else None, outcome=decision.outcome
        )
        changes.decisions.append(
            {
                "decision_id": decision_id,
                "account_id": account.account_id,
                "company": account.company,
                "customer": account.customer,
                "currency": account.currency,
                "case_id": case_id,
                "previous_id": account.decision_id,
                "as_of": self.as_of,
                "decided_at": self.tx.now.isoformat(),
                "cause": {
                    "kind": trigger.kind,
                    "id": trigger.id,
                    "correlation_id": trigger.cause.correlation_id,
                    "causation_id": trigger.cause.causation_id,
                },
                "policy": self.loaded.policy.policy if self.loaded is not None else None,
                "policy_version": self.loaded.policy.version if self.loaded is not None else None,
                "policy_sha256": version,
                "facts_hash": facts_hash,
                "facts": self.facts.as_values(),
                "reasoning": _reasoning(decision),
                "outcome": decision.outcome,
                "contact": contact,
                "reasons": reasons,
                "next_check_on": decision.next_check_on,
            }
        )

    # Small parts of rows and events.

    def _identity(self, case_id: UUID) -> dict[str, object]:
        return {
            "company": self.account.company,
            "case_id": case_id,
            "customer": self.account.customer,
            "currency": self.account.currency,
        }

    def _step_fact(
        self, case: StoredCase, step: str, run: int, position: int, receivable_ids: Sequence[UUID], decision_id: UUID
    ) -> dict[str, object]:
        policy, version = self._pin(case)
        return {
            **self._identity(case.case_id),
            "step": step,
            "run": run,
            "position": position,
            "kind": "notice",
            "receivable_ids": receivable_ids[:MOST_TOLD],
            "policy": PolicyVersion(id=policy or "", version=version or 1),
            "decision_id": DecisionId(decision_id),
        }

    def _run_row(self, case: StoredCase, decision_id: UUID) -> dict[str, object]:
        return {
            "case_id": case.case_id,
            "account_id": self.account.account_id,
            "company": self.account.company,
            "decision_id": decision_id,
            "facts_hash": self.facts.digest(),
            "reached_on": self.as_of,
        }

    def _next_run(self, step: str, changes: Changes, case: StoredCase) -> int:
        before = [run.run for run in self.account.runs if run.step == step]
        now = [cast("int", row["run"]) for row in changes.runs if (row["case_id"], row["step"]) == (case.case_id, step)]
        return max([*before, *now], default=0) + 1


def _outcome_of(cause: str | None) -> str:
    match cause:
        case "invoice-cancelled" | "invoice-replaced":
            return "cancelled"
        case "written-off" | "write-off":
            return "written_off"
        case _:
            return "paid"


def _contact_values(contact: Contact) -> dict[str, Any]:
    return {
        "step": contact.step.id,
        "channel": contact.step.channel,
        "template": contact.step.template,
        "tone": contact.tone,
        "cash_through": None if contact.cash_through is None else contact.cash_through.isoformat(),
        "lines": [
            {"receivable_id": str(line.receivable_id), "step": line.step.id if line.step is not None else None}
            for line in contact.lines
        ],
    }


def _reasoning(decision: Decision) -> dict[str, Any]:
    return {
        "gates": [[gate.name, gate.needed, gate.found, gate.ok] for gate in decision.gates],
        "items": [
            {
                "receivable_id": str(item.receivable_id),
                "number": item.number,
                "state": item.state,
                "step": item.step.id if item.step is not None else None,
                "skipped": [[step.id, str(reason)] for step, reason in item.skipped],
                "finding": None
                if item.finding is None
                else {"code": str(item.finding.code), "values": dict(item.finding.values)},
                "candidates": [
                    {
                        "step": candidate.step,
                        "on": candidate.on.isoformat(),
                        "gates": [[gate.name, gate.needed, gate.found, gate.ok] for gate in candidate.gates],
                    }
                    for candidate in item.candidates
                ],
            }
            for item in decision.items
        ],
    }
