"""Moves open cases to another version of their policy: shows the difference, and does it when approved (D16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.dunning import repository
from cobranza.dunning.domain.account import Account, migrated
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.errors import MigrationRefusedError
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.use_cases.application import LoadedPolicy, Trigger
from cobranza.dunning.use_cases.evaluation import Desk, account_of

_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """What the move changes for one account: its next step and day before and after."""

    account_id: UUID
    customer: str
    from_version: int
    before: tuple[str, date] | None
    after: tuple[str, date] | None

    @property
    def changes(self) -> bool:
        """Whether anything becomes different."""
        return self.before != self.after


async def migrate(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    policy: str,
    to: int,
    mapping: Mapping[str, str],
    after: UUID | None,
    approved_by: str | None,
) -> list[Difference]:
    """Some of the open cases of a policy that are on another version, moved when somebody approved it.

    Args:
        mapping: the new step of each old one whose name changed.
        after: the last account of the part before; None: the first part.
        approved_by: who agreed; None: only the difference is told.

    Raises:
        UnknownPolicyError: there is no such version.
        MigrationRefusedError: an issued step has no place in the new version (P404).
    """
    new = await desk.version(tx, company=company, policy=policy, version=to)
    ids = await repository.pinned_accounts(
        tx, company=company, policy=policy, other_than=to, after=after, most=_AT_ONCE
    )
    profile = desk.profile(company)
    as_of = desk.as_of(tx, profile)
    differences: list[Difference] = []
    cash = await repository.cash_known_through(tx, [company])
    for stored in await repository.lock_accounts(tx, ids):
        case = stored.case
        assert case is not None
        assert case.policy_version is not None
        old = await desk.version(tx, company=company, policy=policy, version=case.policy_version)
        # The control total holds effects alone; it does not change when they are due.
        account = account_of(stored, profile, old, cash=cash.get(company), verdict="matched", receipts={})
        _require_places(account, old, new, mapping)
        moved = migrated(account, old.ladder, new.ladder, mapping)
        differences.append(
            Difference(
                stored.account_id,
                stored.customer,
                case.policy_version,
                _upcoming(old.ladder, account, as_of),
                _upcoming(new.ladder, moved, as_of),
            )
        )
        if approved_by is not None:
            items = [
                (company, item, new.ladder.rungs[item.level - 1].step.id if item.level else None)
                for item in (*moved.facts.items, *moved.settled.values())
            ]
            await repository.move_case(tx, case.case_id, version=to, items=items)
    if approved_by is not None and ids:
        trigger = Trigger("policy-migrated", f"{policy}@{to} approved by {approved_by}", tx.cause)
        await desk.evaluate(tx, dict.fromkeys(ids, trigger))
    return differences


def _require_places(account: Account, old: LoadedPolicy, new: LoadedPolicy, mapping: Mapping[str, str]) -> None:
    issued = {step for item in account.facts.items for step in item.history}
    issued |= {old.ladder.rungs[item.level - 1].step.id for item in account.facts.items if item.level}
    lost = sorted(step for step in issued if mapping.get(step, step) not in new.ladder.by_id)
    if lost:
        raise MigrationRefusedError(
            f"P404 steps: open cases were taken to {lost[0]!r}, and the migration says no step of version"
            f" {new.policy.version} for it; say it with --step {lost[0]}=<step>"
        )


def _upcoming(ladder: Ladder, account: Account, as_of: date) -> tuple[str, date] | None:
    """The next step of the account's oldest item that has one, and its day."""
    decision = evaluate(ladder, account.facts, as_of)
    if decision.actions:
        return decision.actions[0].step.id, as_of
    last = [item.candidates[-1] for item in decision.items if item.candidates]
    found = [(known.on, known.step) for known in last if known.on is not None and known.on > as_of]
    return (min(found)[1], min(found)[0]) if found else None
