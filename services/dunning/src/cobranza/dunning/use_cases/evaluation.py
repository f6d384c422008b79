"""Evaluates accounts under their locks, for an event, a date or a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, cast
from uuid import UUID

from cobranza.chassis import timers
from cobranza.chassis.calendars import company_calendar, country_calendar
from cobranza.chassis.clock import evaluation_date, evaluation_instant
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.logs import logger
from cobranza.contracts.reasons import Reason
from cobranza.dunning import metrics, repository
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.errors import PolicyRefusedError, UnknownCompanyError
from cobranza.dunning.domain.facts import AccountFacts, CashNeed, Item, OpenRun, RefusedRun, Stop
from cobranza.dunning.domain.policy_file import Document, Table, check, from_plain
from cobranza.dunning.repository import Changes, StoredAccount, StoredPolicy
from cobranza.dunning.use_cases.application import Application, LoadedPolicy, Trigger

_SWEEP: Final = 200
_NOT_SENT: Final = ("suppressed", "failed")


@dataclass(slots=True)
class Desk:
    """Evaluates accounts for the companies of this deployment."""

    companies: Companies
    evaluation_hour: int
    # Versions never change, so one reading is enough for the process.
    _policies: dict[repository.PolicyKey, LoadedPolicy] = field(default_factory=dict)

    async def check_account(self, tx: Transaction, timer: timers.Timer) -> datetime | None:
        """The date of an account's next check has come; returns when it is checked next."""
        checked = await self._evaluate(tx, {timer.subject_id: Trigger("timer", timer.key, tx.cause)})
        return checked[0][1] if checked else None

    async def sweep(self, database: Database) -> bool:
        """Evaluate and arm what I8's anti-join finds; returns whether there may be more."""
        async with database.transaction() as tx:
            found = await repository.forgotten_accounts(tx, most=_SWEEP)
            await self.evaluate(tx, {i: Trigger("sweep", str(i), tx.cause) for i in found})
        if found:
            metrics.count_rearmed(len(found))
            logger().warning("accounts without a timer were found and armed", accounts=len(found))
        return len(found) == _SWEEP

    async def evaluate(self, tx: Transaction, triggers: Mapping[UUID, Trigger]) -> None:
        """Evaluate accounts, each for its trigger, and arm the timer of their next check."""
        if not triggers:
            return
        checked = await self._evaluate(tx, triggers)
        await timers.arm_many(
            tx,
            [
                timer_row(account.account_id, account.company, due_at)
                for account, due_at in checked
                if due_at is not None
            ],
        )
        for account, due_at in checked:
            if due_at is None and account.next_check_on is not None:
                await timers.cancel(tx, key=repository.timer_key(account.account_id))

    async def _evaluate(
        self, tx: Transaction, triggers: Mapping[UUID, Trigger]
    ) -> list[tuple[StoredAccount, datetime | None]]:
        """Evaluate accounts under their locks and apply what is decided.

        Returns:
            Each account with the business instant of its next check; None when no date can change anything.
        """
        accounts = await repository.lock_accounts(tx, triggers)
        companies = {account.company for account in accounts}
        choices = await self._choices(tx, accounts)
        cash = (
            await repository.cash_known_through(tx, companies)
            if any(self.profile(company).cash_feed == "watermark" for company in companies)
            else {}
        )
        changes = Changes()
        checked: list[tuple[StoredAccount, datetime | None]] = []
        for account in accounts:
            profile = self.profile(account.company)
            as_of = self.as_of(tx, profile)
            loaded = await self._policy_for(tx, account, choices, as_of)
            facts = _facts(account, profile, loaded, cash.get(account.company))
            calendar = loaded.calendar if loaded is not None else company_calendar(profile)
            decision = evaluate(loaded.policy if loaded is not None else None, facts, as_of, calendar)
            trigger = triggers[account.account_id]
            await Application(tx.because(trigger.cause), account, loaded, facts, as_of, calendar).apply(
                decision, trigger, changes
            )
            due_at = (
                None
                if decision.next_check_on is None
                else evaluation_instant(decision.next_check_on, profile.zone, from_hour=self.evaluation_hour)
            )
            checked.append((account, due_at))
        if changes.accounts:
            await repository.write(tx, changes)
        return checked

    async def evaluate_customer(self, tx: Transaction, company: str, customer: str, trigger: Trigger) -> None:
        """Evaluate all accounts of a customer."""
        accounts = await repository.accounts_of_customer(tx, company, customer)
        await self.evaluate(tx, dict.fromkeys(accounts, trigger))

    async def _choices(self, tx: Transaction, accounts: Sequence[StoredAccount]) -> Sequence[StoredPolicy]:
        """The versions to choose from; none are read when every case is pinned to one that is known."""
        pins = {pin for account in accounts if (pin := _pin(account)) is not None}
        if pins <= self._policies.keys() and all(_pin(account) is not None for account in accounts):
            return ()
        return await repository.policies(
            tx, companies={account.company for account in accounts}, pinned=pins - self._policies.keys()
        )

    async def _policy_for(
        self, tx: Transaction, account: StoredAccount, choices: Sequence[StoredPolicy], as_of: date
    ) -> LoadedPolicy | None:
        """The version a case is pinned to, else the active one of highest priority that is in effect."""
        pin = _pin(account)
        if pin is not None:
            if pin in self._policies:
                return self._policies[pin]
            return await self._load(tx, next(c for c in choices if (c.company, c.policy, c.version) == pin))
        active = [
            choice
            for choice in choices
            if choice.state == "active"
            and (choice.company, choice.currency) == (account.company, account.currency)
            and choice.effective_from <= as_of
        ]
        if not active:
            return None
        return await self._load(tx, min(active, key=lambda choice: (-choice.priority, choice.policy)))

    async def _load(self, tx: Transaction, stored: StoredPolicy) -> LoadedPolicy:
        key = (stored.company, stored.policy, stored.version)
        known = self._policies.get(key)
        if known is None:
            document = from_plain(cast("Document", await repository.policy_document(tx, stored)))
            policy, faults = check(cast("Table", document))
            if policy is None:
                raise PolicyRefusedError(f"the stored version has faults: {faults[0].text}")
            known = LoadedPolicy(policy, stored.sha256, country_calendar(policy.calendar[:2].upper()))
            self._policies[key] = known
        return known

    def profile(self, company: str) -> CompanyProfile:
        """The company's profile.

        Raises:
            UnknownCompanyError: this deployment does not collect for it.
        """
        profile = self.companies.get(company)
        if profile is None:
            raise UnknownCompanyError(f"no company {company!r} here; deploy/companies.yaml lists them")
        return profile

    def as_of(self, tx: Transaction, profile: CompanyProfile) -> date:
        """The company's date that rules are evaluated for."""
        return evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour)


def timer_row(account_id: UUID, company: str, due_at: datetime) -> dict[str, object]:
    """The timer of an account's next check, as `timers.arm_many` takes it."""
    return {
        "key": repository.timer_key(account_id),
        "kind": repository.TIMER_KIND,
        "company": company,
        "subject_id": account_id,
        "due_at": due_at,
    }


def _pin(account: StoredAccount) -> repository.PolicyKey | None:
    """The policy version that the account's open case is pinned to."""
    case = account.case
    if case is None or case.policy is None or case.policy_version is None:
        return None
    return account.company, case.policy, case.policy_version


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
