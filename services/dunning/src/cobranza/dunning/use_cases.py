"""What dunning does: keep the facts others tell, decide for each account, and tell what it decided."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from cobranza.chassis import timers
from cobranza.chassis.calendars import country_calendar
from cobranza.chassis.clock import evaluation_date, evaluation_instant
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams import Event
from cobranza.contracts import dunning, invoicing, notifications, payments
from cobranza.contracts.calendar import BusinessCalendar
from cobranza.contracts.identifiers import CaseId, DecisionId, HoldId, ReceivableId, TaskId
from cobranza.contracts.payloads import PolicyVersion, Purpose
from cobranza.contracts.reasons import Reason
from cobranza.dunning import metrics, repository
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.decision import Contact, Decision
from cobranza.dunning.domain.errors import (
    HoldRefusedError,
    PolicyConflictError,
    PolicyRefusedError,
    UnknownCompanyError,
    UnknownHoldError,
    UnknownPolicyError,
    UnknownStepRunError,
)
from cobranza.dunning.domain.facts import AccountFacts, CashNeed, Item, OpenRun, RefusedRun, Stop
from cobranza.dunning.domain.policy import EXPIRES_AFTER_DAYS, HARDNESS, Policy
from cobranza.dunning.domain.policy_file import (
    COMPANY_KEYS,
    Document,
    Fault,
    Scalar,
    Table,
    check,
    filled,
    from_plain,
    renamed,
    to_plain,
)
from cobranza.dunning.repository import Changes, StoredAccount, StoredCase, StoredPolicy

#: Days a hold may last without somebody's approval.
LONGEST_HOLD_DAYS: Final = 30
#: Holds that end only when they are released.
ENDLESS_HOLDS: Final = frozenset({"insolvency", "legal_claim"})
#: Receivables told on one event.
_MOST_TOLD: Final = 1000
_SWEEP: Final = 200
_NOT_SENT: Final = ("suppressed", "failed")


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
class Desk:
    """Evaluates accounts for the companies of this deployment."""

    companies: Companies
    evaluation_hour: int
    # Versions never change, so one reading is enough for the process.
    _policies: dict[str, LoadedPolicy] = field(default_factory=dict)

    # Facts that others tell; each ends in one evaluation of every account touched.

    async def follow_payments(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Balances, credit and cash watermarks."""
        changes: dict[UUID, tuple[payments.ReceivableChanged, Event]] = {}
        unapplied: dict[repository.AccountKey, tuple[int, Event]] = {}
        triggers: dict[UUID, Trigger] = {}
        for event in events:
            self._require_company(event.company)
            match event.data:
                case payments.ReceivableChanged() as told:
                    changes[told.receivable_id] = (told, event)
                case payments.CreditChanged(customer=str(customer)) as told:
                    unapplied[(told.company, customer, told.currency)] = (told.unapplied_minor, event)
                case payments.CashWatermark(feed=None) as told:
                    await repository.save_cash(tx, told.company, told.through_on)
                    for account_id in await repository.accounts_waiting(
                        tx, company=told.company, reason=Reason.CASH_STALE
                    ):
                        triggers[account_id] = Trigger.of(event)
                case _:
                    continue
        keys = [(told.company, told.customer, told.currency) for told, _ in changes.values()]
        accounts = await repository.account_ids(tx, [*keys, *unapplied])
        await repository.lock(tx, accounts.values())
        await repository.save_receivables(
            tx, [(accounts[(told.company, told.customer, told.currency)], told) for told, _ in changes.values()]
        )
        await repository.save_credits(tx, {accounts[key]: amount for key, (amount, _) in unapplied.items()})
        triggers |= {accounts[(t.company, t.customer, t.currency)]: Trigger.of(e) for t, e in changes.values()}
        triggers |= {accounts[key]: Trigger.of(event) for key, (_, event) in unapplied.items()}
        await self._evaluate_and_arm(tx, triggers)

    async def follow_invoicing(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Due dates are a reason to evaluate; a cancelled invoice is stopped before its balance is told."""
        due: dict[tuple[str, UUID], Event] = {}
        cancelled: dict[tuple[str, UUID], Event] = {}
        for event in events:
            self._require_company(event.company)
            match event.data:
                case invoicing.DueDate() as told:
                    due[(told.company, told.receivable_id)] = event
                case invoicing.InvoiceCancelled() as told:
                    cancelled[(told.company, told.invoice_id)] = event
                case _:
                    continue
        triggers: dict[UUID, Trigger] = {}
        if due:
            accounts = await repository.accounts_of_receivables(tx, list(due))
            triggers |= {accounts[key[1]]: Trigger.of(event) for key, event in due.items() if key[1] in accounts}
        if cancelled:
            await repository.save_cancelled(tx, sorted(cancelled))
            by_invoice = {key[1]: event for key, event in cancelled.items()}
            for invoice_id, account_id in await repository.accounts_of_invoices(tx, list(cancelled)):
                triggers[account_id] = Trigger.of(by_invoice[invoice_id])
        await self._evaluate_and_arm(tx, triggers)

    async def follow_customers(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Language and segment; a new address may let a refused notice leave."""
        changes: dict[tuple[str, str], tuple[invoicing.CustomerChanged, Event]] = {}
        for event in events:
            self._require_company(event.company)
            if isinstance(event.data, invoicing.CustomerChanged):
                changes[(event.data.company, event.data.customer)] = (event.data, event)
        await repository.save_customers(tx, [told for told, _ in changes.values()])
        triggers: dict[UUID, Trigger] = {}
        for (company, customer), (_, event) in changes.items():
            for account_id in await repository.accounts_of_customer(tx, company, customer):
                triggers[account_id] = Trigger.of(event)
        await self._evaluate_and_arm(tx, triggers)

    async def follow_notices(self, tx: Transaction, events: Sequence[Event]) -> None:
        """What became of notices: levels rise when they are sent."""
        triggers: dict[UUID, Trigger] = {}
        await repository.lock(tx, await repository.accounts_of_cases(tx, _cases_of(events)))
        for event in events:
            self._require_company(event.company)
            match event.data:
                case notifications.NoticeSent() as told:
                    account_id = await self._notice_sent(tx, told)
                case notifications.NoticeSuppressed() as told:
                    account_id = await self._notice_not_sent(
                        tx, told, state="suppressed", reason=told.reason, on=told.suppressed_on
                    )
                case notifications.NoticeFailed(next_channel=None) as told:
                    account_id = await self._notice_not_sent(
                        tx, told, state="failed", reason=told.reason, on=told.failed_on
                    )
                case _:
                    continue
            if account_id is not None:
                triggers[account_id] = Trigger.of(event)
        await self._evaluate_and_arm(tx, triggers)

    async def _notice_sent(self, tx: Transaction, told: notifications.NoticeSent) -> UUID | None:
        runs = await _runs_of(tx, told)
        if not runs or told.case_id is None or told.step is None or told.run is None:
            return None
        await repository.answer_runs(
            tx,
            case_id=told.case_id,
            step=told.step,
            run=told.run,
            state="sent",
            answered_on=told.sent_on,
            reason=None,
            answer=_answer(told),
        )
        granted = frozenset(line.receivable_id for line in told.lines)
        await repository.raise_levels(tx, company=told.company, runs=runs, granted=granted, sent_on=told.sent_on)
        tones = [run.tone for run in runs if run.tone is not None]
        await repository.note_contact(
            tx,
            account_id=runs[0].account_id,
            case_id=told.case_id,
            sent_on=told.sent_on,
            heard_tone=max(tones, key=lambda tone: HARDNESS.get(tone, 0), default=None),
        )
        return runs[0].account_id

    async def _notice_not_sent(
        self,
        tx: Transaction,
        told: notifications.NoticeSuppressed | notifications.NoticeFailed,
        *,
        state: str,
        reason: str,
        on: date,
    ) -> UUID | None:
        runs = await _runs_of(tx, told)
        if not runs or told.case_id is None or told.step is None or told.run is None:
            return None
        await repository.answer_runs(
            tx,
            case_id=told.case_id,
            step=told.step,
            run=told.run,
            state=state,
            answered_on=on,
            reason=reason,
            answer=_answer(told),
        )
        return runs[0].account_id

    # Evaluation.

    async def check_account(self, tx: Transaction, timer: timers.Timer) -> datetime | None:
        """The date of an account's next check has come; returns when it is checked next."""
        trigger = Trigger("timer", timer.key, tx.cause)
        return (await self.evaluate(tx, {timer.subject_id: trigger})).get(timer.subject_id)

    async def sweep(self, database: Database) -> bool:
        """Evaluate and arm what I8's anti-join finds; returns whether there may be more."""
        async with database.transaction() as tx:
            found = await repository.forgotten_accounts(tx, most=_SWEEP)
            await self._evaluate_and_arm(tx, {i: Trigger("sweep", str(i), tx.cause) for i in found})
        if found:
            metrics.count_rearmed(len(found))
            logger().warning("accounts without a timer were found and armed", accounts=len(found))
        return len(found) == _SWEEP

    async def _evaluate_and_arm(self, tx: Transaction, triggers: Mapping[UUID, Trigger]) -> None:
        if not triggers:
            return
        accounts: list[StoredAccount] = []
        dues = await self.evaluate(tx, triggers, accounts)
        await timers.arm_many(
            tx,
            [
                {
                    "key": repository.timer_key(account.account_id),
                    "kind": repository.TIMER_KIND,
                    "company": account.company,
                    "subject_id": account.account_id,
                    "due_at": due_at,
                }
                for account in accounts
                if (due_at := dues.get(account.account_id)) is not None
            ],
        )
        for account in accounts:
            if dues.get(account.account_id) is None and account.next_check_on is not None:
                await timers.cancel(tx, key=repository.timer_key(account.account_id))

    async def evaluate(
        self, tx: Transaction, triggers: Mapping[UUID, Trigger], evaluated: list[StoredAccount] | None = None
    ) -> dict[UUID, datetime | None]:
        """Evaluate accounts under their locks and apply what is decided.

        Args:
            triggers: why, by account.
            evaluated: filled with the accounts found, when given.

        Returns:
            By account the business instant of its next check; None when no date can change anything.
        """
        accounts = await repository.lock_accounts(tx, triggers)
        if evaluated is not None:
            evaluated += accounts
        companies = {account.company for account in accounts}
        choices = await repository.policies(
            tx,
            companies=companies,
            pinned=[
                (account.company, account.case.policy, account.case.policy_version or 0)
                for account in accounts
                if account.case is not None and account.case.policy is not None
            ],
        )
        cash = (
            await repository.cash_known_through(tx, companies)
            if any(self._profile(company).cash_feed == "watermark" for company in companies)
            else {}
        )
        changes = Changes()
        dues: dict[UUID, datetime | None] = {}
        for account in accounts:
            profile = self._profile(account.company)
            as_of = evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour)
            loaded = await self._policy_for(tx, account, choices, as_of)
            facts = _facts(account, profile, loaded, cash.get(account.company))
            calendar = loaded.calendar if loaded is not None else _calendar(profile)
            decision = evaluate(loaded.policy if loaded is not None else None, facts, as_of, calendar)
            work = _Work(
                tx.because(triggers[account.account_id].cause), account, profile, loaded, facts, as_of, calendar
            )
            await work.apply(decision, triggers[account.account_id], changes)
            dues[account.account_id] = (
                None
                if decision.next_check_on is None
                else evaluation_instant(decision.next_check_on, profile.zone, from_hour=self.evaluation_hour)
            )
        if changes.accounts:
            await repository.write(tx, changes)
        return dues

    async def _policy_for(
        self, tx: Transaction, account: StoredAccount, choices: Sequence[StoredPolicy], as_of: date
    ) -> LoadedPolicy | None:
        """The version a case is pinned to, else the active one of highest priority that is in effect."""
        case = account.case
        mine = [choice for choice in choices if choice.company == account.company]
        if case is not None and case.policy is not None:
            pinned = [c for c in mine if (c.policy, c.version) == (case.policy, case.policy_version)]
            return await self._load(tx, pinned[0])
        active = [
            choice
            for choice in mine
            if choice.state == "active" and choice.currency == account.currency and choice.effective_from <= as_of
        ]
        if not active:
            return None
        return await self._load(tx, min(active, key=lambda choice: (-choice.priority, choice.policy)))

    async def _load(self, tx: Transaction, stored: StoredPolicy) -> LoadedPolicy:
        known = self._policies.get(stored.sha256)
        if known is None:
            document = from_plain(cast("Document", await repository.policy_document(tx, stored)))
            policy, faults = check(cast("Table", document))
            if policy is None:
                raise PolicyRefusedError(f"the stored version has faults: {faults[0].text}")
            known = LoadedPolicy(policy, stored.sha256, country_calendar(policy.calendar[:2].upper()))
            self._policies[stored.sha256] = known
        return known

    def _profile(self, company: str) -> CompanyProfile:
        profile = self.companies.get(company)
        if profile is None:
            raise UnknownCompanyError(f"no company {company!r} here; deploy/companies.yaml lists them")
        return profile

    def _require_company(self, company: str) -> None:
        self._profile(company)

    # Holds.

    async def place_hold(
        self,
        tx: Transaction,
        *,
        company: str,
        customer: str,
        scope: str,
        case_id: UUID | None,
        receivable_ids: Sequence[UUID],
        reason: str,
        until_on: date | None,
        by: str,
    ) -> dunning.HoldPlaced:
        """Suspend contact with a customer, a case or some receivables.

        Raises:
            UnknownCompanyError: this deployment does not collect for the company.
            HoldRefusedError: the end is missing, past or too far; or what it names is not there.
        """
        profile = self._profile(company)
        as_of = evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour)
        _check_end(reason, until_on, as_of)
        account_id: UUID | None = None
        held = tuple(sorted(set(receivable_ids)))
        if scope == "case":
            found = await repository.open_case(tx, company, case_id) if case_id is not None else None
            if found is None or found.customer != customer:
                raise HoldRefusedError("no such open case of this customer", pointer="/case_id")
            account_id = found.account_id
            held = tuple(await repository.open_receivables(tx, found.account_id))[:_MOST_TOLD]
        elif scope == "receivable":
            known = await repository.accounts_of_receivables(tx, [(company, i) for i in held])
            own = set(await repository.accounts_of_customer(tx, company, customer))
            if not held or set(known) != set(held) or not set(known.values()) <= own:
                raise HoldRefusedError("name receivables of this customer", pointer="/receivable_ids")
        elif held:
            raise HoldRefusedError("a hold on the customer names no receivables", pointer="/receivable_ids")
        hold_id = new_id()
        await repository.add_hold(
            tx,
            {
                "hold_id": hold_id,
                "company": company,
                "customer": customer,
                "scope": scope,
                "case_id": case_id if scope == "case" else None,
                "account_id": account_id,
                # A hold on a case covers what will come to it, so it names nothing here.
                "receivable_ids": list(held) if scope == "receivable" else [],
                "reason": reason,
                "placed_on": as_of,
                "until_on": until_on,
                "placed_by": by,
            },
        )
        placed = dunning.HoldPlaced.model_validate(
            {
                "company": company,
                "hold_id": hold_id,
                "customer": customer,
                "scope": scope,
                "case_id": case_id if scope == "case" else None,
                "receivable_ids": held,
                "reason": reason,
                "placed_on": as_of,
                "until_on": until_on,
                "by": by,
            }
        )
        tx.publish(placed, sequence=1)
        await self._evaluate_customer(tx, company, customer, Trigger("hold-placed", str(hold_id), tx.cause))
        return placed

    async def release_hold(
        self, tx: Transaction, *, company: str, hold_id: UUID, reason: str, by: str
    ) -> dunning.HoldReleased:
        """End a hold; releasing it again changes nothing.

        Raises:
            UnknownHoldError: there is no such hold.
        """
        profile = self._profile(company)
        row = await repository.lock_hold(tx, company, hold_id)
        if row is None:
            raise UnknownHoldError(f"no hold {hold_id} of {company}")
        as_of = evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour)
        is_first = row.released_on is None
        released = dunning.HoldReleased(
            company=row.company,
            hold_id=HoldId(row.hold_id),
            customer=row.customer,
            scope=row.scope,
            case_id=row.case_id,
            receivable_ids=tuple(row.receivable_ids),
            reason=row.reason,
            placed_on=row.placed_on,
            until_on=row.until_on,
            release_reason=reason if is_first else row.release_reason,
            by=by if is_first else row.released_by,
            released_on=as_of if is_first else row.released_on,
        )
        if is_first:
            version = await repository.release_hold(tx, hold_id, released_on=as_of, reason=reason, by=by)
            tx.publish(released, sequence=version)
            await self._evaluate_customer(tx, company, row.customer, Trigger("hold-released", str(hold_id), tx.cause))
        return released

    async def _evaluate_customer(self, tx: Transaction, company: str, customer: str, trigger: Trigger) -> None:
        accounts = await repository.accounts_of_customer(tx, company, customer)
        await self._evaluate_and_arm(tx, dict.fromkeys(accounts, trigger))

    # Policies.

    async def load_policy(self, tx: Transaction, document: Table, *, company: str | None) -> list[tuple[Policy, str]]:
        """Store a policy file as a draft, completed from the company where it leaves the company out.

        A preset is loaded once per currency of the company; beyond the first its id ends in the currency.

        Returns:
            Each version with `loaded`, or `known` when the same content was there.

        Raises:
            PolicyRefusedError: the file has faults, or is a preset and no company is given.
            PolicyConflictError: the version was loaded before with other content.
        """
        loaded: list[tuple[Policy, str]] = []
        for completed in self._completed(document, company):
            policy, faults = check(completed)
            if policy is None:
                raise PolicyRefusedError(faults[0].told("policy"), faults=[_told(fault) for fault in faults])
            _require_calendar(policy.calendar)
            self._profile(policy.company)
            plain = json.dumps(to_plain(completed), sort_keys=True, ensure_ascii=False)
            sha256 = hashlib.sha256(plain.encode()).hexdigest()
            known = {
                row.version: row
                for row in await repository.lock_policy(tx, company=policy.company, policy=policy.policy)
            }
            if policy.version in known:
                if known[policy.version].sha256 != sha256:
                    raise PolicyConflictError(
                        f"version {policy.version} of {policy.policy} is loaded with other content; give it the next number"
                    )
                loaded.append((policy, "known"))
                continue
            await repository.add_policy(
                tx,
                {
                    "company": policy.company,
                    "policy": policy.policy,
                    "version": policy.version,
                    "currency": policy.currency,
                    "priority": policy.priority,
                    "effective_from": policy.effective_from,
                    "title": policy.title,
                    "sha256": sha256,
                    "document": plain,
                    "loaded_at": tx.now,
                },
            )
            loaded.append((policy, "loaded"))
        return loaded

    def _completed(self, document: Table, company: str | None) -> Iterable[Table]:
        missing = [key for key in COMPANY_KEYS if document.get(key) is None]
        if not missing:
            return (document,)
        if company is None:
            raise PolicyRefusedError(f"the file leaves out {', '.join(missing)}; name the company with --company")
        profile = self._profile(company)
        identity = document.get("policy")
        policy = identity.text if isinstance(identity, Scalar) else ""
        values: dict[str, str | Sequence[str]] = {
            "company": company,
            "timezone": profile.zone.key,
            "calendar": profile.calendar or f"{profile.country.lower()}-business",
            "languages": profile.languages,
        }
        return [
            filled(
                document if place == 0 else renamed(document, f"{policy}-{currency.lower()}"),
                {**values, "currency": currency},
            )
            for place, currency in enumerate(profile.currencies)
        ]

    async def activate_policy(
        self, tx: Transaction, *, company: str, policy: str, version: int | None
    ) -> dunning.PolicyActivated | None:
        """Put a version into force for new cases; without a version the newest one.

        Accounts that had no policy are evaluated at once. None when it was in force already.

        Raises:
            UnknownPolicyError: there is no such version.
        """
        profile = self._profile(company)
        rows = await repository.lock_policy(tx, company=company, policy=policy)
        chosen = [row for row in rows if version in (None, row.version)]
        if not chosen:
            raise UnknownPolicyError(f"no version {version or ''} of policy {policy!r} of {company}")
        row = chosen[-1]
        if row.state == "active":
            return None
        document = from_plain(cast("Document", row.document))
        typed, _ = check(cast("Table", document))
        assert typed is not None
        await repository.activate_policy(tx, company=company, policy=policy, version=row.version)
        activated = dunning.PolicyActivated.model_validate(
            {
                "company": company,
                "policy": policy,
                "version": row.version,
                "sha256": row.sha256,
                "currency": row.currency,
                "priority": row.priority,
                "effective_from": row.effective_from,
                "steps": [
                    {
                        "id": step.id,
                        "position": step.position,
                        "offset_days": step.offset,
                        "kind": step.kind,
                        "channel": step.channel,
                        "template": step.template,
                        "tone": step.tone,
                    }
                    for step in typed.steps
                ],
                "activated_on": evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour),
            }
        )
        tx.publish(activated, sequence=1 + sum(r.activated_at is not None for r in rows))
        waiting = await repository.accounts_waiting(tx, company=company, reason=Reason.NO_POLICY, currency=row.currency)
        await timers.arm_many(
            tx,
            [
                {
                    "key": repository.timer_key(account_id),
                    "kind": repository.TIMER_KIND,
                    "company": company,
                    "subject_id": account_id,
                    "due_at": tx.now,
                }
                for account_id in waiting
            ],
        )
        return activated


@dataclass(slots=True)
class _Work:
    """Applies one decision: rows into the batch, events into the outbox."""

    tx: Transaction
    account: StoredAccount
    profile: CompanyProfile
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
                receivable_ids=decision.ended_items[:_MOST_TOLD],
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
            "receivable_ids": receivable_ids[:_MOST_TOLD],
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


def _facts(
    account: StoredAccount, profile: CompanyProfile, loaded: LoadedPolicy | None, cash_through: date | None
) -> AccountFacts:
    steps = loaded.policy.steps if loaded is not None else ()
    case = account.case
    open_runs = [run for run in account.runs if run.state == "requested"]
    gaps = {step.id: step.min_gap_days for step in steps}
    return AccountFacts(
        currency=account.currency,
        items=tuple(_item(stored, loaded) for stored in account.items),
        unapplied=account.unapplied,
        last_contact_on=account.last_contact_on,
        heard_tone=case.heard_tone if case is not None else None,
        stops=tuple(
            Stop(Reason.ON_HOLD, hold.reason, hold.placed_on, hold.until_on, frozenset(hold.receivable_ids))
            for hold in account.holds
        ),
        open_run=next(
            (OpenRun(run.step, run.run, run.expires_on) for run in open_runs if run.expires_on is not None), None
        ),
        refused=tuple(
            RefusedRun(
                run.step,
                run.reason or run.state,
                # Another day is a reason to ask again; where the address refused for good, a gap is kept.
                run.answered_on + timedelta(days=1 if run.state == "suppressed" else max(1, gaps.get(run.step, 1))),
                run.facts_hash,
            )
            for run in account.runs
            if run.state in _NOT_SENT and run.answered_on is not None
        ),
        cash=CashNeed(cash_through) if profile.cash_feed == "watermark" else None,
        start_on=profile.dunning_start,
        customer_revision=account.customer_revision,
    )


def _item(stored: repository.StoredItem, loaded: LoadedPolicy | None) -> Item:
    """The item with its level as a place in the policy at hand."""
    level, passed = stored.level, stored.passed
    if loaded is not None:
        most = len(loaded.policy.steps)
        level = loaded.policy.position_of(stored.level_step) or min(level, most)
        passed = max(level, min(passed, most))
    return Item(
        receivable_id=stored.receivable_id,
        number=stored.number,
        due_on=stored.due_on,
        issued=stored.issued,
        open=stored.open,
        level=level,
        passed=passed,
        last_notice_on=stored.last_notice_on,
    )


def _calendar(profile: CompanyProfile) -> BusinessCalendar:
    return country_calendar((profile.calendar or profile.country)[:2].upper())


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


def _cases_of(events: Sequence[Event]) -> set[UUID]:
    told = (getattr(event.data, "case_id", None) for event in events)
    return {case_id for case_id in told if case_id is not None}


async def _runs_of(
    tx: Transaction, told: notifications.NoticeSent | notifications.NoticeSuppressed | notifications.NoticeFailed
) -> list[repository.AnsweredRun]:
    """The runs that a notice of dunning answers; none for other notices.

    Raises:
        UnknownStepRunError: it names a run that was never requested.
    """
    if told.purpose != Purpose.DUNNING or told.case_id is None or told.step is None or told.run is None:
        return []
    runs = await repository.runs_of_notice(tx, company=told.company, case_id=told.case_id, step=told.step, run=told.run)
    if not runs:
        raise UnknownStepRunError(f"no run {told.run} of step {told.step} was requested for case {told.case_id}")
    return runs


def _answer(told: notifications.NoticeSent | notifications.NoticeSuppressed | notifications.NoticeFailed) -> str:
    """What the step run keeps of a notice event: no addresses, only ids, amounts and codes."""
    return told.model_dump_json(include={"notice_id", "channel", "attempt", "claimed", "contact_decision", "delivery"})


def _check_end(reason: str, until_on: date | None, as_of: date) -> None:
    if until_on is None:
        if reason not in ENDLESS_HOLDS:
            raise HoldRefusedError(f"a hold for {reason} needs its last day", pointer="/until_on")
    elif until_on < as_of:
        raise HoldRefusedError(f"the last day is past: today is {as_of}", pointer="/until_on")
    elif (until_on - as_of).days > LONGEST_HOLD_DAYS:
        raise HoldRefusedError(f"at most {LONGEST_HOLD_DAYS} days without approval", pointer="/until_on")


def _require_calendar(calendar: str) -> None:
    try:
        country_calendar(calendar[:2].upper())
    except NotImplementedError as error:
        raise PolicyRefusedError(
            f"P301 calendar: no calendar {calendar!r}; it begins with a country such as mx"
        ) from error


def _told(fault: Fault) -> dict[str, object]:
    return {
        "line": fault.place_line,
        "column": fault.place_column,
        "code": fault.code,
        "key": fault.key,
        "text": fault.text,
    }
