"""Evaluates accounts under their locks, for an event, a date or a command."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType
from typing import Final, cast
from uuid import UUID

from cobranza.chassis import timers
from cobranza.chassis.calendars import company_calendar, country_calendar
from cobranza.chassis.clock import evaluation_date, evaluation_instant
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import ChangedMeanwhileError, Database, Transaction
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.contracts import dunning, invoicing, notifications, payments
from cobranza.contracts.payloads import Payload
from cobranza.contracts.reasons import Reason
from cobranza.dunning import metrics, repository
from cobranza.dunning.domain import brake
from cobranza.dunning.domain.account import Account, applied, follow, follow_closed
from cobranza.dunning.domain.agreements import subject_of
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.condition import Subject
from cobranza.dunning.domain.document import Document, Table, from_plain
from cobranza.dunning.domain.errors import PolicyRefusedError, UnknownCompanyError, UnknownPolicyError
from cobranza.dunning.domain.facts import UNDER_WAY, AccountFacts, CashNeed, Debtor, Item, Run, Stop, Verdict
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.domain.policy_file import check
from cobranza.dunning.repository import Changes, StoredAccount, StoredPolicy
from cobranza.dunning.settings import BRAKE_FLOOR
from cobranza.dunning.use_cases.application import Application, LoadedPolicy, Trigger

_SWEEP: Final = 200
_NOTHING_TOLD: Final[Mapping[UUID, Sequence[Payload]]] = MappingProxyType({})
_GONE: Final = (invoicing.InvoiceCancelled, invoicing.InvoiceReplaced)
_OUTCOMES: Final = (
    notifications.NoticeSent,
    notifications.NoticeDelivered,
    notifications.NoticeFailed,
    notifications.NoticeSuppressed,
    dunning.TaskCompleted,
    payments.LateChargeAssessed,
    payments.LateChargeRefused,
)


@dataclass(slots=True)
class Desk:
    """Evaluates accounts for the companies of this deployment."""

    companies: Companies
    evaluation_hour: int
    #: So many notices a day always leave.
    brake_floor: int = BRAKE_FLOOR
    # Versions never change, so one reading is enough for the process.
    _policies: dict[repository.PolicyKey, LoadedPolicy] = field(default_factory=dict)

    async def check_accounts(self, tx: Transaction, due: Sequence[timers.Timer]) -> Mapping[str, datetime]:
        """The date of these accounts' next check has come; returns when each is checked next, by its timer's key."""
        causes = {timer.subject_id: Trigger("timer", timer.key, Cause.timer(timer.key, tx.now.date())) for timer in due}
        checked = await self._evaluate(tx, causes)
        return {causes[account.account_id].id: due_at for account, due_at in checked if due_at is not None}

    async def sweep(self, database: Database) -> bool:
        """Evaluate and arm what I8's anti-join finds; returns whether there may be more."""
        async with database.transaction() as tx:
            found = await repository.forgotten_accounts(tx, most=_SWEEP)
            await self.evaluate(tx, {i: Trigger("sweep", str(i), tx.cause) for i in found})
        if found:
            metrics.count_rearmed(len(found))
            logger().warning("accounts without a timer were found and armed", accounts=len(found))
        return len(found) == _SWEEP

    async def evaluate(
        self, tx: Transaction, triggers: Mapping[UUID, Trigger], told: Mapping[UUID, Sequence[Payload]] = _NOTHING_TOLD
    ) -> None:
        """Evaluate accounts, each for its trigger, and arm the timer of their next check.

        Args:
            told: what others told of the accounts, folded into what is known before it is evaluated.
        """
        if not triggers:
            return
        checked = await self._evaluate(tx, triggers, told)
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
        self, tx: Transaction, triggers: Mapping[UUID, Trigger], told: Mapping[UUID, Sequence[Payload]] = _NOTHING_TOLD
    ) -> list[tuple[StoredAccount, datetime | None]]:
        """Evaluate accounts under their locks and apply what is decided.

        Returns:
            Each account with the business instant of its next check; None when no date can change anything.
        """
        payloads = [payload for of_account in told.values() for payload in of_account]
        cases = {
            payload.case_id for payload in payloads if isinstance(payload, _OUTCOMES) and payload.case_id is not None
        }
        accounts = await repository.lock_accounts(tx, triggers, named=_named(payloads), cases=cases)
        companies = {account.company for account in accounts}
        balances = [payload for payload in payloads if isinstance(payload, payments.ReceivableChanged)]
        invoices = [(told.company, UUID(int=told.invoice_id.int)) for told in balances if told.invoice_id is not None]
        cancelled = await repository.cancelled_among(tx, invoices)
        replaced = await repository.replaced_by(tx, invoices)
        await repository.save_receivables(
            tx,
            [
                (account_id, payload)
                for account_id, of_account in told.items()
                for payload in of_account
                if isinstance(payload, payments.ReceivableChanged)
            ],
        )
        # Read with their receivables first: what gave way is told from what was known of it.
        await repository.save_cancelled(
            tx, {(told.company, told.invoice_id): told.replaced_by for told in payloads if isinstance(told, _GONE)}
        )
        choices = await self._choices(tx, accounts)
        cash = (
            await repository.cash_known_through(tx, companies)
            if any(self.profile(company).cash_feed == "watermark" for company in companies)
            else {}
        )
        verdicts = await repository.control_verdicts(tx, companies)
        receipts = await repository.unknown_receipts(tx, companies)
        lines = await repository.product_lines(tx, invoices)
        days = await self._notice_days(tx, companies)
        changes = Changes()
        checked: list[tuple[StoredAccount, datetime | None]] = []
        for account in accounts:
            profile = self.profile(account.company)
            as_of = self.as_of(tx, profile)
            loaded = await self._policy_for(tx, account, choices, as_of)
            ladder = loaded.ladder if loaded is not None else None
            verdict = cast("Verdict | None", verdicts.get((account.company, account.currency)))
            known = account_of(
                account,
                profile,
                loaded,
                cash=cash.get(account.company),
                verdict=verdict,
                receipts=receipts.get((account.company, account.currency), {}),
            )
            if lines:
                known = known._replace(product_lines=lines)
            if replaced:
                known = known._replace(
                    replaced={new: tuple(_item(i, loaded) for i in old if i.open) for new, old in replaced.items()}
                )
            now = known
            for payload in told.get(account.account_id, ()):
                if isinstance(payload, _GONE) or getattr(payload, "invoice_id", None) not in cancelled:
                    now = _follow(account, now, payload, ladder)
            day = days[account.company]
            if (held := day.brake()) is not None:
                now = now.with_facts(brake=held)
            decision = evaluate(ladder, now.facts, as_of)
            day.more += sum(action.step.kind == "notice" and action.approval is None for action in decision.actions)
            day.trips = day.trips or any(found.code == Reason.BRAKED for found in decision.reasons)
            after = applied(now, ladder, decision, as_of)
            calendar = loaded.calendar if loaded is not None else company_calendar(profile)
            trigger = triggers[account.account_id]
            await Application(
                tx.because(trigger.cause), account, loaded, now=now, after=after, as_of=as_of, calendar=calendar
            ).apply(decision, trigger, changes)
            due_at = (
                None
                if decision.next_check_on is None
                else evaluation_instant(decision.next_check_on, profile.zone, from_hour=self.evaluation_hour)
            )
            checked.append((account, due_at))
        if changes.accounts:
            await repository.write(tx, changes)
        await self._count_notices(tx, days)
        return checked

    async def _notice_days(self, tx: Transaction, companies: Collection[str]) -> dict[str, brake.NoticeDay]:
        """How many notices companies have requested today, and whether more may leave."""
        days: dict[str, brake.NoticeDay] = {}
        rows = await repository.notice_days(tx, companies)
        for company in companies:
            today = self.as_of(tx, self.profile(company))
            own = {row.on_date: row for row in rows if row.company == company}
            now = own.get(today)
            usual = [row.notices for on, row in own.items() if 0 < (today - on).days <= brake.USUAL_DAYS]
            days[company] = brake.NoticeDay(
                limit=brake.limit(usual, self.brake_floor),
                requested=0 if now is None else now.notices,
                is_braked=any(row.braked_at is not None and row.released_by is None for row in own.values()),
                is_released=now is not None and now.released_by is not None,
            )
        return days

    async def _count_notices(self, tx: Transaction, days: Mapping[str, brake.NoticeDay]) -> None:
        """Last of all, since other workers wait for the row.

        Raises:
            ChangedMeanwhileError: others have counted since the day was read, and together it is more than may leave.
        """
        for company, day in sorted(days.items()):
            trips = day.trips and not day.is_braked
            if not day.more and not trips:
                continue
            counted, is_released = await repository.count_notices(
                tx, company=company, on=self.as_of(tx, self.profile(company)), more=day.more, trips=trips
            )
            if day.more and counted > day.limit and not is_released:
                raise ChangedMeanwhileError(f"{company} requests {counted} notices of {day.limit}")
            if trips:
                logger().error(
                    "more notices than usual: the rest waits until a person releases it",
                    company=company,
                    limit=day.limit,
                    requested=day.requested + day.more,
                )

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
        """The version a case is pinned to, else the active one of highest priority that applies to the customer."""
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
        subject = subject_of_account(account, as_of)
        for choice in sorted(active, key=lambda choice: (-choice.priority, choice.policy)):
            loaded = await self._load(tx, choice)
            if loaded.policy.applies_to.holds(subject):
                return loaded
        return None

    async def policies_of(
        self, tx: Transaction, accounts: Sequence[StoredAccount], as_of: date
    ) -> list[LoadedPolicy | None]:
        """What `policy_of` tells, of many accounts at once."""
        choices = await self._choices(tx, accounts)
        return [await self._policy_for(tx, account, choices, as_of) for account in accounts]

    async def policy_of(self, tx: Transaction, account: StoredAccount) -> LoadedPolicy | None:
        """The version an account's case is pinned to or would take now; None: no policy applies."""
        choices = await self._choices(tx, [account])
        return await self._policy_for(tx, account, choices, self.as_of(tx, self.profile(account.company)))

    async def version(self, tx: Transaction, *, company: str, policy: str, version: int) -> LoadedPolicy:
        """One version of a policy, ready to be evaluated.

        Raises:
            UnknownPolicyError: there is no such version.
        """
        choices = await repository.policies(tx, companies=(), pinned=[(company, policy, version)])
        if not choices:
            raise UnknownPolicyError(f"no version {version} of policy {policy!r} of {company}")
        return await self._load(tx, choices[0])

    async def _load(self, tx: Transaction, stored: StoredPolicy) -> LoadedPolicy:
        key = (stored.company, stored.policy, stored.version)
        known = self._policies.get(key)
        if known is None:
            document = from_plain(cast("Document", await repository.policy_document(tx, stored)))
            report = check(cast("Table", document))
            if report.policy is None:
                raise PolicyRefusedError(f"the stored version has faults: {report.errors[0].text}")
            calendar = country_calendar(report.policy.calendar[:2].upper())
            known = LoadedPolicy(report.policy, stored.sha256, calendar, Ladder(report.policy, calendar))
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
    """The policy version that the account's open case is pinned to.

    None at a quiet point, where nothing was issued for an open item: that counts as a new start (D16).
    """
    case = account.case
    if case is None or case.policy is None or case.policy_version is None:
        return None
    is_quiet = not any(item.level and item.open for item in account.items) and not any(
        run.state in UNDER_WAY for run in account.runs.get(case.case_id, ())
    )
    return None if is_quiet else (account.company, case.policy, case.policy_version)


def subject_of_account(account: StoredAccount, as_of: date) -> Subject:
    """What the choice of a policy may ask."""
    debtor = Debtor() if account.debtor is None else account.debtor.debtor
    return subject_of(debtor, account.promises, as_of)


def _follow(stored: StoredAccount, account: Account, told: Payload, ladder: Ladder | None) -> Account:
    """The account after what was told; the outcome of a closed case's run touches the runs of that case."""
    case_id = getattr(told, "case_id", None)
    if not isinstance(told, _OUTCOMES) or case_id is None or (stored.case and stored.case.case_id == case_id):
        return follow(account, told, ladder)
    closed = account._replace(closed_runs=tuple(stored.runs.get(case_id, ())))
    after = follow_closed(closed, told, ladder)
    stored.runs[case_id] = list(after.closed_runs)
    return after._replace(closed_runs=account.closed_runs)


def _named(payloads: Sequence[Payload]) -> set[UUID]:
    named: set[UUID] = set()
    for payload in payloads:
        match payload:
            case payments.ReceivableChanged():
                named.add(payload.receivable_id)
            case notifications.NoticeSent():
                named.update(line.receivable_id for line in payload.lines)
            case _:
                continue
    return named


def account_of(
    stored: StoredAccount,
    profile: CompanyProfile,
    loaded: LoadedPolicy | None,
    *,
    cash: date | None,
    verdict: Verdict | None,
    receipts: Mapping[UUID, int],
) -> Account:
    """What is known of an account, its levels as places in the policy at hand."""
    case = stored.case
    runs: Sequence[Run] = stored.runs.get(case.case_id, ()) if case is not None else ()
    debtor = stored.debtor
    facts = AccountFacts(
        currency=stored.currency,
        items=tuple(_item(item, loaded) for item in stored.items if item.open),
        unapplied=stored.unapplied,
        last_contact_on=stored.last_contact_on,
        heard_tone=case.heard_tone if case is not None else None,
        contacts=stored.contacts,
        stops=(
            *(
                Stop(Reason.ON_HOLD, hold.reason, hold.placed_on, hold.until_on, frozenset(hold.receivable_ids))
                for hold in stored.holds
            ),
            *stored.stops,
        ),
        promises=stored.promises,
        runs=tuple(runs),
        effects=stored.effects,
        handed_over=stored.handed_over,
        unidentified=frozenset(receipts.values()),
        evidence=stored.evidence,
        corrections=stored.corrections,
        cash=CashNeed(cash) if profile.cash_feed == "watermark" else None,
        control=verdict,
        start_on=profile.dunning_start,
        debtor=Debtor() if debtor is None else debtor.debtor,
        evaluated_on=stored.evaluated_on,
        promised_on=stored.next_check_on,
        caught_up_on=stored.caught_up_on,
    )
    settled = {item.receivable_id: _item(item, loaded) for item in stored.items if not item.open}
    return Account(facts, settled=settled, closed_tone=stored.closed_tone, receipts=receipts)


def _item(stored: repository.StoredItem, loaded: LoadedPolicy | None) -> Item:
    """The item with its level as a place in the policy at hand; of a settled one nothing is open any more."""
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
        open=stored.open or stored.issued or 1,
        level=level,
        passed=passed,
        last_notice_on=stored.last_notice_on,
        issued_on=stored.issued_on,
        invoice_id=stored.invoice_id,
        allocated=stored.allocated,
        history=stored.history,
        payments=stored.payments,
        reopened_on=stored.reopened_on,
        told_reversal=stored.told_reversal,
        product_line=stored.product_line,
        acknowledged=stored.acknowledged,
    )
