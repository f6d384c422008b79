"""Plays the live portfolio forward, or by two policies, and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol, cast
from uuid import UUID

from cobranza.chassis.calendars import country_calendar
from cobranza.chassis.companies import CompanyProfile
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.outbox import Cause
from cobranza.dunning import repository
from cobranza.dunning.domain.account import Account
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.comparison import BackTest
from cobranza.dunning.domain.errors import PreviewRefusedError
from cobranza.dunning.domain.facts import AccountFacts, Verdict
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.domain.simulation import Evaluated, play, replay
from cobranza.dunning.repository import StoredAccount
from cobranza.dunning.use_cases.application import LoadedPolicy
from cobranza.dunning.use_cases.evaluation import Desk, account_of, subject_of_account
from cobranza.dunning.use_cases.policies import require_calendar
from cobranza.dunning.use_cases.recorded import recorded_facts

#: Days that are played.
MOST_DAYS: Final = 400
_AT_ONCE: Final = 500
#: Fewer, because each is played over all of the days: the database's session must not idle for a minute.
_REPLAYED_AT_ONCE: Final = 50
COLUMNS: Final = ("customer", "policy", "step", "kind", "state", "by", "invoices", "claimed", "reasons")
#: A policy that is tried: a stored version by name and number, or one that is in no table.
Tried = tuple[str, int] | Policy


class _IdsOf(Protocol):
    async def __call__(self, tx: Transaction, *, company: str, after: UUID | None, most: int) -> list[UUID]: ...


PREVIEW_ASSUMES: Final = (
    "nothing else becomes known: no payment, promise, dispute or hold",
    "of a later day: all that is asked for from today on is delivered and approved the same day, and cash is up to date",
    "what was asked for before today stays without an answer; the storm brake is not counted",
)
BACK_TEST_ASSUMES: Final = (
    "both versions start with no step taken and no contact, so what was really sent is not counted",
    "a receivable counts from the day it was issued, money from its value date, what was agreed from its own day",
    "customers are as they are today, late charges that were booked stay, unapplied money covers nothing",
    "all that is asked for is delivered and approved the same day; cash, control totals and the storm brake hold nothing up",
)


@dataclass(frozen=True, slots=True)
class Previewed:
    """What one account's case would see on the day, and by which policy."""

    account_id: UUID
    policy: str | None
    version: int | None
    evaluated: Sequence[Evaluated]

    def as_values(self) -> list[dict[str, Any]]:
        """Each evaluation as a program reads it."""
        return [{"policy": self.policy, "version": self.version, **entry.as_values()} for entry in self.evaluated]

    def as_rows(self) -> list[tuple[str | None, ...]]:
        """A row per action, or one that says why there is none; as `COLUMNS` names them."""
        rows: list[tuple[str | None, ...]] = []
        for told in self.as_values():
            start = (told["customer"], told["policy"])
            rows += [
                (
                    *start, action["step"], action["kind"], action["state"], " ".join(action["channels"]) or action["effect"],
                    " ".join(item["number"] for item in action["items"]), action["claimed"], None,
                )
                for action in told["actions"]
            ]  # fmt: skip
            if not told["actions"]:
                rows.append((*start, *(None,) * 6, " ".join(reason["code"] for reason in told["reasons"])))
        return rows


async def preview(
    desk: Desk,
    database: Database,
    *,
    company: str,
    on: date,
    tried: Tried | None = None,
    after: UUID | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> AsyncGenerator[Previewed, None]:
    """What would happen on a day in every account that owes something; nothing is sent and nothing is written.

    Args:
        tried: a policy in the place of the one in force.
        after: the last account of the part before; None: from the first.
        told: is told how many accounts were played so far.

    Raises:
        PreviewRefusedError: the day is over, or too far away.
        UnknownCompanyError: this deployment does not collect for it.
        UnknownPolicyError: there is no such version.
    """
    profile = desk.profile(company)
    async with database.reading() as connection:
        tx = Transaction(connection, database.clock.now(), Cause.command(), database.service)
        today = desk.as_of(tx, profile)
        if not 0 <= (on - today).days < MOST_DAYS:
            raise PreviewRefusedError(f"expected a day from {today} on and within {MOST_DAYS} days, got {on}")
        known = await _Known.read(desk, tx, company)
        chosen = await _loaded(desk, tx, company, tried)
        async for accounts in _accounts(tx, repository.owing_accounts, company, after, told, most=_AT_ONCE):
            if chosen is None:
                loaded = await desk.policies_of(tx, accounts, today)
            else:
                loaded = [_applying(chosen, account, on) for account in accounts]
            for account, policy in zip(accounts, loaded, strict=True):
                if chosen is None or policy is not None:
                    yield Previewed(
                        account.account_id,
                        policy.policy.policy if policy else None,
                        policy.policy.version if policy else None,
                        known.previewed(account, policy, today, on),
                    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a company beyond its accounts."""

    desk: Desk
    company: str
    cash: date | None
    verdicts: dict[tuple[str, str], str]
    receipts: dict[tuple[str, str], dict[Any, int]]

    @classmethod
    async def read(cls, desk: Desk, tx: Transaction, company: str) -> _Known:
        return cls(
            desk,
            company,
            (await repository.cash_known_through(tx, [company])).get(company),
            await repository.control_verdicts(tx, [company]),
            await repository.unknown_receipts(tx, [company]),
        )

    def previewed(
        self, stored: StoredAccount, policy: LoadedPolicy | None, today: date, on: date
    ) -> Sequence[Evaluated]:
        key = (self.company, stored.currency)
        account = account_of(
            stored,
            self.desk.profile(self.company),
            policy,
            cash=self.cash,
            verdict=cast("Verdict | None", self.verdicts.get(key)),
            receipts=self.receipts.get(key, {}),
        )
        if policy is None:
            return [Evaluated(on, stored.customer, evaluate(None, account.facts, on), stored.currency)]
        if on > today:
            account = account.with_facts(cash=None)
        played = play(policy.ladder, account, stored.customer, first=today, last=on)
        return [entry for entry in played if entry.on == on]


async def back_test(
    desk: Desk,
    database: Database,
    *,
    company: str,
    first: date,
    last: date,
    tried: Tried,
    against: Tried,
    told: Callable[[int], None] = lambda _: None,
) -> BackTest:
    """Play two policies over what is recorded of all accounts; nothing is sent and nothing is written.

    Raises:
        PreviewRefusedError: the days are not in order, or too many.
        UnknownCompanyError: this deployment does not collect for it.
        UnknownPolicyError: there is no such version.
    """
    profile = desk.profile(company)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise PreviewRefusedError(f"expected --from before --to and at most {MOST_DAYS} days, got {first} to {last}")
    result = BackTest(BACK_TEST_ASSUMES)
    async with database.reading() as connection:
        tx = Transaction(connection, database.clock.now(), Cause.command(), database.service)
        one, other = await _loaded(desk, tx, company, tried), await _loaded(desk, tx, company, against)
        assert one is not None
        assert other is not None
        async for accounts in _accounts(tx, repository.known_accounts, company, None, told, most=_REPLAYED_AT_ONCE):
            ids = [stored.account_id for stored in accounts]
            balances = await repository.balances(tx, ids)
            agreements = await repository.agreements_of(tx, ids)
            for stored in accounts:
                facts = recorded_facts(
                    stored, balances.get(stored.account_id, ()), agreements.get(stored.account_id, ())
                )
                segment = stored.debtor.segment if stored.debtor is not None else ""
                done: list[Sequence[Evaluated] | None] = []
                for loaded in (one, other):
                    policy = _applying(loaded, stored, first)
                    if policy is None:
                        done.append(None)
                        continue
                    done.append(
                        replay(
                            policy.ladder,
                            _untouched(stored, profile, policy),
                            stored.customer,
                            facts,
                            first=first,
                            last=last,
                        )
                    )
                result.add(stored.customer, segment, *done)
    return result


def _untouched(stored: StoredAccount, profile: CompanyProfile, policy: LoadedPolicy) -> Account:
    """The account as if nothing had been done about it and nothing were owed."""
    known = account_of(stored, profile, policy, cash=None, verdict=None, receipts={}).facts
    evidence = known.evidence.union(*(rung.evidence for rung in policy.ladder.rungs))
    return Account(
        AccountFacts(
            currency=known.currency,
            items=(),
            debtor=known.debtor,
            start_on=known.start_on,
            evidence=evidence,
            cash=None,
        )
    )


async def _accounts(
    tx: Transaction,
    ids_of: _IdsOf,
    company: str,
    after: UUID | None,
    told: Callable[[int], None],
    *,
    most: int,
) -> AsyncIterator[list[StoredAccount]]:
    """Accounts, some at a time."""
    count = 0
    while ids := await ids_of(tx, company=company, after=after, most=most):
        yield await repository.read_accounts(tx, ids)
        count, after = count + len(ids), ids[-1]
        told(count)


async def _loaded(desk: Desk, tx: Transaction, company: str, tried: Tried | None) -> LoadedPolicy | None:
    match tried:
        case None:
            return None
        case Policy():
            require_calendar(tried.calendar)
            calendar = country_calendar(tried.calendar[:2].upper())
            return LoadedPolicy(tried, "", calendar, Ladder(tried, calendar))
        case (name, version):
            return await desk.version(tx, company=company, policy=name, version=version)


def _applying(loaded: LoadedPolicy, account: StoredAccount, on: date) -> LoadedPolicy | None:
    """The policy when the account is one of those it is for."""
    if account.currency != loaded.policy.currency:
        return None
    return loaded if loaded.policy.applies_to.holds(subject_of_account(account, on)) else None
