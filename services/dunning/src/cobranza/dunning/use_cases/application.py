"""Applies a decision: rows for the batch, events for the outbox, one record for whoever asks why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams import Event
from cobranza.contracts import dunning
from cobranza.contracts.calendar import BusinessCalendar
from cobranza.contracts.identifiers import CaseId, DecisionId, ReceivableId, TaskId
from cobranza.contracts.money import Money, to_decimal
from cobranza.contracts.payloads import Payload, PolicyVersion, Purpose
from cobranza.contracts.reasons import Reason
from cobranza.dunning import metrics, repository
from cobranza.dunning.domain.account import Account, openings
from cobranza.dunning.domain.decision import Action, Closing, Decision, Judging
from cobranza.dunning.domain.facts import Run
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.domain.policy import Policy, Step
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
    """A policy version, typed, with its content's hash, its calendar, and ready to be evaluated."""

    policy: Policy
    sha256: str
    calendar: BusinessCalendar
    ladder: Ladder


@dataclass(slots=True)
class Application:
    """Applies one decision: rows into the batch, events into the outbox.

    Args:
        account: as it is stored.
        now: as it was evaluated, with what others told.
        after: as it is once the decision has taken effect.
    """

    tx: Transaction
    account: StoredAccount
    loaded: LoadedPolicy | None
    now: Account
    after: Account
    as_of: date
    calendar: BusinessCalendar

    async def apply(self, decision: Decision, trigger: Trigger, changes: Changes) -> None:
        """Note everything that follows from the decision."""
        decision_id = new_id()
        case = await self._case(decision, changes)
        if case is not None:
            opened = openings(self.now.facts, decision, self.as_of)
            self._open_runs(decision, opened, changes, case, decision_id)
            for action in decision.actions:
                await self._execute(action, opened, case, decision_id)
            for closing in decision.closings:
                await self._close(closing, case, decision_id)
            await self._tell(decision, case)
        await self._answer_runs(decision, changes, case, decision_id)
        self._change_items(changes)
        self._change_agreed(changes)
        await self._judge(decision)
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
                if self.now.facts.items
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
        heard_tone = self.now.facts.heard_tone
        before = (case.state, case.policy, case.policy_version, case.heard_tone)
        if closes or before != (decision.case_state, policy, version, heard_tone):
            changes.cases.append(
                {
                    "case_id": case.case_id,
                    "state": "closed" if closes else decision.case_state,
                    "policy": policy,
                    "policy_version": version,
                    "closed_on": self.as_of if closes else None,
                    "outcome": outcome,
                    "version": case.version,
                    "heard_tone": heard_tone,
                }
            )
        return case

    async def _open(self, decision: Decision, changes: Changes) -> StoredCase:
        previous: UUID | None = None
        if any(item.level for item in self.now.facts.items):
            # A reversal: the levels live on the items, the tone heard was kept with the account.
            previous = await repository.previous_case(self.tx, self.account.account_id)
        policy, version = self._pin(None)
        case = StoredCase(
            case_id=new_id(),
            state=decision.case_state,
            policy=policy,
            policy_version=version,
            heard_tone=self.now.facts.heard_tone,
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
                "previous_case_id": previous,
                "version": 1,
            }
        )
        self.tx.publish(
            dunning.CaseOpened.model_validate(
                {
                    **self._identity(case.case_id),
                    "opened_on": self.as_of,
                    "policy": None if policy is None else {"id": policy, "version": version},
                    "previous_case_id": previous,
                }
            ),
            sequence=1,
        )
        return case

    def _pin(self, case: StoredCase | None) -> tuple[str | None, int | None]:
        """The version it was evaluated by, which is the one the case is pinned to or takes now."""
        if self.loaded is not None:
            return self.loaded.policy.policy, self.loaded.policy.version
        return (None, None) if case is None else (case.policy, case.policy_version)

    def _open_runs(
        self, decision: Decision, opened: Sequence[Run], changes: Changes, case: StoredCase, decision_id: UUID
    ) -> None:
        """Rows of the runs that begin, and of the steps that are passed over, each told."""
        if not opened:
            return
        assert self.loaded is not None
        for run in opened:
            rung = self.loaded.ladder.by_id[run.step]
            receivable_ids = _in_order(decision, run)
            changes.runs.append(
                {
                    "case_id": case.case_id,
                    "account_id": self.account.account_id,
                    "company": self.account.company,
                    "decision_id": decision_id,
                    "facts_hash": run.facts_hash,
                    "reached_on": self.as_of,
                    "step": run.step,
                    "run": run.number,
                    "position": rung.position,
                    "state": run.state,
                    "kind": run.kind,
                    "notice_step": run.notice[0] if run.notice is not None else None,
                    "notice_run": run.notice[1] if run.notice is not None else None,
                    "tone": run.tone,
                    "receivable_ids": receivable_ids,
                    "expires_on": run.expires_on,
                    "reason": run.reason,
                }
            )
            if run.state == "skipped":
                self._tell_skipped(
                    case, rung.step, run, receivable_ids, decision_id, reason=str(run.reason), sequence=1
                )
            elif run.state == "requested":
                self._tell_reached(case, rung.step, run, receivable_ids, decision_id, decision)

    def _tell_reached(
        self,
        case: StoredCase,
        step: Step,
        run: Run,
        receivable_ids: Sequence[UUID],
        decision_id: UUID,
        decision: Decision,
    ) -> None:
        with_interest = any(action.charges_interest and action.step is step for action in decision.actions)
        self.tx.publish(
            dunning.StepReached.model_validate(
                {
                    **self._step_fact(case, step, run.number, receivable_ids, decision_id),
                    "effect": "interest" if with_interest else step.effect,
                    "fee": step.fee,
                    **self._charge_terms(step, with_interest=with_interest),
                    "reached_on": self.as_of,
                }
            ),
            sequence=1,
        )

    def _charge_terms(self, step: Step, *, with_interest: bool) -> dict[str, object]:
        """What payments needs to know of the policy, to charge what the step says."""
        if self.loaded is None or not (with_interest or step.effect in ("fee", "interest")):
            return {}
        policy = self.loaded.policy
        fee = policy.fees.get(step.fee or "")
        terms = None
        if fee is not None:
            terms = {
                "amount": Money.from_minor(fee.amount, policy.currency) if fee.amount else None,
                "percent": fee.percent or None,
                "per": fee.per,
                "max": None if fee.max is None else Money.from_minor(fee.max, policy.currency),
                "settle": fee.settle,
            }
        return {"fee_terms": terms, "charge_rules": None if policy.interest is None else policy.interest.rule}

    def _tell_skipped(
        self,
        case: StoredCase,
        step: Step,
        run: Run,
        receivable_ids: Sequence[UUID],
        decision_id: UUID,
        *,
        reason: str,
        sequence: int,
    ) -> None:
        self.tx.publish(
            dunning.StepSkipped.model_validate(
                {
                    **self._step_fact(case, step, run.number, receivable_ids, decision_id),
                    "reason": reason,
                    "skipped_on": self.as_of,
                }
            ),
            sequence=sequence,
        )

    async def _execute(self, action: Action, opened: Sequence[Run], case: StoredCase, decision_id: UUID) -> None:
        """Ask for what an action does: a person's approval, a notice, a call, a task, an effect."""
        run = next(run for run in opened if run.step == action.step.id and run.state != "skipped")
        step = action.step
        if action.approval is not None:
            await self._ask_for(run, case, kind="approval", role=action.approval.role, due_on=action.expires_on)
            return
        match step.kind:
            case "notice":
                self._request(action, run, case, decision_id)
            case "call" | "task":
                await self._ask_for(run, case, kind=_task_kind(step), role=_task_role(step), due_on=action.expires_on)
            case "effect":
                # Fee and interest ask nobody: payments books them and answers by event.
                if step.effect not in ("fee", "interest"):
                    role = step.task.role if step.task is not None else "operations"
                    await self._ask_for(run, case, kind=str(step.effect), role=role, due_on=action.expires_on)

    async def _ask_for(self, run: Run, case: StoredCase, *, kind: str, role: str, due_on: date) -> None:
        await self._ask(
            about=_about(kind, case, run, run.attempts),
            kind=kind,
            role=role,
            due_on=due_on,
            customer=self.account.customer,
            case_id=CaseId(case.case_id),
            receivable_ids=sorted(run.receivable_ids)[:MOST_TOLD],
            step=run.step,
            run=run.number,
        )

    def _request(self, action: Action, run: Run, case: StoredCase, decision_id: UUID) -> None:
        assert self.loaded is not None
        policy, step = self.loaded.policy, action.step
        language = self.account.debtor.language if self.account.debtor is not None else None
        plan = [("main", step.channel), *(("also", c) for c in step.also), *(("fallback", c) for c in step.fallback)]
        expires_at = self._end_of(action)
        self.tx.publish(
            dunning.NoticeRequested.model_validate(
                {
                    **self._identity(case.case_id),
                    "step": step.id,
                    "run": run.number,
                    "purpose": Purpose.DUNNING.value,
                    "lines": [
                        dunning.NoticeLine(
                            receivable_id=ReceivableId(line.receivable_id),
                            step=line.step.id if line.step is not None else None,
                            last_notice_on=line.last_notice_on,
                        )
                        for line in action.lines
                    ],
                    "channel_plan": [{"channel": channel, "role": role} for role, channel in plan],
                    "template": step.template,
                    "tone": action.tone,
                    "language": policy.language_for(language),
                    "contact_rules": policy.contact_rules,
                    "conditions": {
                        "cash_through": action.cash_through,
                        "unapplied": policy.cash.unapplied,
                        "control_total": policy.cash.control_total,
                    },
                    "requires_delivery": step.requires_delivery,
                    "on_unknown": step.on_unknown,
                    "policy": {"id": policy.policy, "version": policy.version},
                    "decision_id": decision_id,
                    "expires_at": expires_at,
                }
            ),
            sequence=1,
            expires_at=expires_at,
        )

    def _end_of(self, action: Action) -> datetime:
        return self.tx.now + timedelta(days=(action.expires_on - self.as_of).days)

    async def _close(self, closing: Closing, case: StoredCase, decision_id: UUID) -> None:
        """A run that is over without having been executed is told; one that rises asks a supervisor."""
        assert self.loaded is not None
        run = closing.run
        rung = self.loaded.ladder.by_id.get(run.step)
        if rung is None or closing.reason == Reason.OUTCOME_UNKNOWN:
            return
        if not closing.rises:
            await self._cancel_tasks(rung.step, run, case)
            self._tell_skipped(
                case,
                rung.step,
                run,
                sorted(run.receivable_ids),
                decision_id,
                reason=str(closing.reason),
                sequence=2 if run.state == "requested" else 1,
            )
        if closing.rises or closing.asks:
            await self._ask(
                about=f"late|{case.case_id}|{run.step}|{run.number}",
                kind="overdue_task" if closing.rises else "overdue_approval",
                role="supervisor",
                due_on=self.calendar.add(self.as_of, rung.due_business_days),
                reason=str(closing.reason),
                customer=self.account.customer,
                case_id=CaseId(case.case_id),
                receivable_ids=sorted(run.receivable_ids)[:MOST_TOLD],
                step=run.step,
                run=run.number,
            )

    async def _cancel_tasks(self, step: Step, run: Run, case: StoredCase) -> None:
        """Nobody does any more what a run asked for that is over."""
        kinds = {"approval", _task_kind(step), *filter(None, (step.effect,))}
        about = [_about(kind, case, run, attempt) for kind in kinds for attempt in range(run.attempts + 1)]
        await self._cancel(about)

    async def _cancel(self, about: Sequence[str]) -> None:
        """End tasks whose cause is gone."""
        for row in await repository.cancel_tasks(self.tx, company=self.account.company, about=about):
            told = {**row.state, "disposition": "cancelled", "by": "dunning", "completed_at": self.tx.now}
            self.tx.publish(dunning.TaskCompleted.model_validate(told), sequence=2)

    async def _tell(self, decision: Decision, case: StoredCase) -> None:
        """What the debtor is to be told outside the ladder, and effects that are taken back, are people's tasks."""
        for telling in decision.tellings:
            about = telling.corrections[0].reason if telling.corrections else telling.purpose
            is_new = await self._ask(
                about=f"{telling.purpose}|{case.case_id}|{about}|{self.as_of}",
                kind=telling.purpose,
                role="collector",
                due_on=self.calendar.add(self.as_of, 1),
                customer=self.account.customer,
                case_id=CaseId(case.case_id),
                receivable_ids=telling.receivable_ids[:MOST_TOLD],
            )
            if is_new:
                metrics.count_wrongful(sum(known.reason == "paid_before" for known in telling.corrections))
        for undoing in decision.undoings:
            await self._ask(
                about=f"{undoing.by}|{case.case_id}|{undoing.effect.step}|{undoing.effect.run}",
                kind=undoing.by,
                role="operations",
                due_on=self.as_of,
                customer=self.account.customer,
                case_id=CaseId(case.case_id),
                receivable_ids=sorted(undoing.effect.receivable_ids)[:MOST_TOLD],
                step=undoing.effect.step,
                run=undoing.effect.run,
            )

    async def _answer_runs(
        self, decision: Decision, changes: Changes, case: StoredCase | None, decision_id: UUID
    ) -> None:
        """Rows of the runs that changed since they were read, each told; new ones are written as they begin."""
        closing = {(closing.run.step, closing.run.number) for closing in decision.closings}
        account = self.account
        own = account.case.case_id if account.case is not None else None
        current = {case_id: list(runs) for case_id, runs in account.runs.items()}
        if own is not None:
            # A case that closes leaves its runs behind.
            current[own] = [*self.after.facts.runs, *self.after.closed_runs]
        for case_id, runs in current.items():
            before = {(run.step, run.number): run for run in account.read_runs.get(case_id, ())}
            for run in runs:
                known = before.get((run.step, run.number))
                if known is None or known == run:
                    continue
                changes.answered.append(
                    {
                        "case_id": case_id,
                        "step": run.step,
                        "run": run.number,
                        "state": run.state,
                        "answered_on": run.answered_on,
                        "reason": run.reason,
                        "expires_on": run.expires_on,
                        "has_risen": run.has_risen,
                        "attempts": run.attempts,
                    }
                )
                if case is not None and case_id == case.case_id and (run.step, run.number) not in closing:
                    await self._answered(case, known, run, decision_id)

    async def _answered(self, case: StoredCase, known: Run, run: Run, decision_id: UUID) -> None:
        """What a person or an executor made of a run: a step passed over is told, a call is tried again."""
        rung = None if self.loaded is None else self.loaded.ladder.by_id.get(run.step)
        if rung is None:
            return
        if run.state == "skipped":
            self._tell_skipped(
                case,
                rung.step,
                run,
                sorted(run.receivable_ids),
                decision_id,
                reason=str(run.reason),
                sequence=2 if known.state == "requested" else 1,
            )
        elif run.attempts > known.attempts and run.expires_on is not None:
            await self._ask_for(
                run, case, kind=_task_kind(rung.step), role=_task_role(rung.step), due_on=run.expires_on
            )

    def _change_items(self, changes: Changes) -> None:
        """Rows of the receivables whose past changed."""
        before = {stored.receivable_id: stored for stored in self.account.items}
        ladder = None if self.loaded is None else self.loaded.ladder
        for item in (*self.after.facts.items, *self.after.settled.values()):
            stored = before.get(item.receivable_id)
            named = stored.level_step if stored is not None else None
            step = ladder.rungs[item.level - 1].step.id if ladder is not None and item.level else named
            done = (
                item.level,
                item.passed,
                item.last_notice_on,
                item.reopened_on,
                item.told_reversal,
                item.product_line,
            )
            known = (
                (0, 0, None, None, True, None)
                if stored is None
                else (
                    *(stored.level, stored.passed, stored.last_notice_on, stored.reopened_on, stored.told_reversal),
                    stored.product_line,
                )
            )
            past = (item.history, item.payments, item.acknowledged)
            read = ({}, (), None) if stored is None else (stored.history, stored.payments, stored.acknowledged)
            if done != known or past != read:
                changes.items.append((self.account.company, item, step))

    def _change_agreed(self, changes: Changes) -> None:
        """The row of what was agreed, disputed or done and is in force, when that changed."""
        stored, facts = self.account, self.after.facts
        stops = tuple(stop for stop in facts.stops if stop.reason != Reason.ON_HOLD)
        agreed = (stops, facts.promises, facts.effects, facts.handed_over, self.after.closed_tone)
        if agreed != (stored.stops, stored.promises, stored.effects, stored.handed_over, stored.closed_tone):
            changes.agreed.append(repository.agreed_row(stored.account_id, facts, self.after.closed_tone))

    async def _judge(self, decision: Decision) -> None:
        """Promises and plans that come to their verdict are told."""
        if not decision.judgings and not decision.plan_endings:
            return
        ids = {judging.promise.promise_id for judging in decision.judgings}
        ids |= {ending.plan_id for ending in decision.plan_endings}
        known = await repository.agreements(self.tx, ids)
        for judging in decision.judgings:
            row = known[judging.promise.promise_id]
            payload, values = _verdict(judging, self.account.currency, self.as_of)
            await self._conclude(row, payload, judging.verdict, values)
        for ending in decision.plan_endings:
            values = {"outcome": ending.outcome, "paid": _money(ending.paid, self.account.currency)}
            await self._conclude(
                known[ending.plan_id], dunning.PlanEnded, ending.outcome, {**values, "ended_on": self.as_of}
            )

    async def _conclude(self, row: Any, payload: type[Payload], state: str, values: Mapping[str, object]) -> None:
        told = payload.model_validate({**row.told, **values})
        version = await repository.change_agreement(self.tx, row.agreement_id, state=state, told=told.model_dump_json())
        self.tx.publish(told, sequence=version)

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
        if case is None:
            return
        credit = self.account.unapplied
        if credit and (credit != self.now.facts.unapplied or decision.case_state == "closed"):
            await self._cancel([f"match_cash|{case.case_id}|{credit}"])
        for asking in decision.askings:
            if asking.kind == "no_policy":
                continue
            await self._ask(
                about="|".join(filter(None, (asking.kind, str(case.case_id), asking.about))),
                kind=asking.kind,
                role=asking.role,
                due_on=self.calendar.add(self.as_of, asking.due_business_days),
                reason=asking.reason,
                customer=self.account.customer,
                case_id=CaseId(case.case_id),
                receivable_ids=asking.receivable_ids[:MOST_TOLD],
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
        facts_hash = self.now.facts.digest()
        contact = _contact_values(decision)
        reasons = [{"code": str(found.code), "values": found.as_values()} for found in decision.reasons]
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
                "reason": _waits_for(decision),
                "next_check_on": decision.next_check_on,
                "caught_up_on": self.after.facts.caught_up_on,
                "decision_id": account.decision_id if is_same else decision_id,
                "decision_digest": digest,
                "unapplied": self.after.facts.unapplied,
                "last_contact_on": self.after.facts.last_contact_on,
                "contacts": self.after.facts.contacts,
                "corrections": [
                    [known.reason, known.receivable_id, known.on] for known in self.after.facts.corrections
                ],
            }
        )
        if is_same and account.decision_id is not None:
            changes.repeated.append(account.decision_id)
            return
        step = decision.actions[0].step if decision.actions else None
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
                "facts": self.now.facts.as_values(),
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
        self, case: StoredCase, step: Step, run: int, receivable_ids: Sequence[UUID], decision_id: UUID
    ) -> dict[str, object]:
        policy, version = self._pin(case)
        return {
            **self._identity(case.case_id),
            "step": step.id,
            "run": run,
            "position": step.position,
            "kind": step.kind,
            "receivable_ids": receivable_ids[:MOST_TOLD],
            "policy": PolicyVersion(id=policy or "", version=version or 1),
            "decision_id": DecisionId(decision_id),
        }


#: What others lift for many accounts at once: those that wait for it are found by it.
_OF_COMPANY: Final = (Reason.CASH_STALE, Reason.CONTROL_MISMATCH, Reason.PAYER_UNKNOWN, Reason.BRAKED)


def _waits_for(decision: Decision) -> str | None:
    """The reason an account is found by: its first, unless something of the whole company holds a part of it."""
    return next((str(found.code) for found in decision.reasons if found.code in _OF_COMPANY), decision.reason)


def _in_order(decision: Decision, run: Run) -> list[UUID]:
    return [item.receivable_id for item in decision.items if item.receivable_id in run.receivable_ids]


def _outcome_of(cause: str | None) -> str:
    match cause:
        case "invoice-cancelled" | "invoice-replaced":
            return "cancelled"
        case "written-off" | "write-off":
            return "written_off"
        case _:
            return "paid"


def _task_kind(step: Step) -> str:
    return step.task.kind if step.task is not None else step.kind


def _task_role(step: Step) -> str:
    return step.task.role if step.task is not None else "collector"


def _about(kind: str, case: StoredCase, run: Run, attempt: int) -> str:
    """What a task of a run is about; each attempt of a call is a task of its own."""
    about = f"{kind}|{case.case_id}|{run.step}|{run.number}"
    return f"{about}|{attempt}" if attempt else about


def _verdict(judging: Judging, currency: str, on: date) -> tuple[type[Payload], dict[str, object]]:
    """The event that tells a verdict, with what it says beside the promise."""
    paid = _money(judging.paid, currency)
    match judging.verdict:
        case "kept":
            return dunning.PromiseKept, {"paid": paid, "judged_on": on}
        case "broken":
            kept = (Decimal(judging.paid) / judging.promise.amount).quantize(Decimal("0.01"), ROUND_HALF_UP)
            # What is broken was not kept whole, however little is missing.
            fraction = min(kept, Decimal("0.99"))
            return dunning.PromiseBroken, {"paid": paid, "kept_fraction": format(fraction, "f"), "judged_on": on}
        case _:
            reason = "settled" if judging.promise.plan_id is None else "plan_ended"
            return dunning.PromiseWithdrawn, {"reason": reason, "by": "dunning", "withdrawn_on": on}


def _money(minor: int, currency: str) -> dict[str, str]:
    return {"amount": format(to_decimal(minor, currency), "f"), "currency": currency}


def _contact_values(decision: Decision) -> dict[str, Any] | None:
    """What was done, as the record keeps it: of a notice, whom and how; None when nothing was."""
    if not decision.actions:
        return None
    action = decision.actions[0]
    return {
        "step": action.step.id,
        "kind": action.step.kind,
        "state": "requested" if action.approval is None else "proposed",
        "channel": action.step.channel or action.step.effect or action.step.kind,
        "template": action.step.template,
        "tone": action.tone,
        "cash_through": None if action.cash_through is None else action.cash_through.isoformat(),
        "lines": [
            {"receivable_id": str(line.receivable_id), "step": line.step.id if line.step is not None else None}
            for line in action.lines
        ],
        "others": [
            {"step": other.step.id, "kind": other.step.kind, "lines": len(other.lines)}
            for other in decision.actions[1:]
        ],
    }


def _reasoning(decision: Decision) -> dict[str, Any]:
    return {
        "gates": [gate.as_values() for gate in decision.gates],
        "items": [
            {
                "receivable_id": str(item.receivable_id),
                "number": item.number,
                "state": item.state,
                "step": item.step.id if item.step is not None else None,
                "skipped": [[step.id, str(reason)] for step, reason in item.skipped],
                "finding": None
                if item.finding is None
                else {"code": str(item.finding.code), "values": item.finding.as_values()},
                "candidates": [
                    {
                        "step": candidate.step,
                        "on": None if candidate.on is None else candidate.on.isoformat(),
                        "gates": [gate.as_values() for gate in candidate.gates],
                    }
                    for candidate in item.candidates
                ],
            }
            for item in decision.items
        ],
    }
