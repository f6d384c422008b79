"""Holds: a person suspends contact and lets it go on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.contracts import dunning
from cobranza.contracts.identifiers import HoldId
from cobranza.dunning import repository
from cobranza.dunning.domain.errors import HoldRefusedError, UnknownHoldError
from cobranza.dunning.use_cases.application import MOST_TOLD, Trigger
from cobranza.dunning.use_cases.evaluation import Desk

#: Days a hold may last without somebody's approval.
LONGEST_HOLD_DAYS: Final = 30
#: Holds that end only when they are released.
ENDLESS_HOLDS: Final = frozenset({"insolvency", "legal_claim"})


async def place_hold(
    desk: Desk,
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
    claim: dunning.PaymentClaim | None = None,
) -> dunning.HoldPlaced:
    """Suspend contact with a customer, a case or some receivables.

    Raises:
        UnknownCompanyError: this deployment does not collect for the company.
        HoldRefusedError: the end is missing, past or too far; or what it names is not there.
    """
    profile = desk.profile(company)
    as_of = desk.as_of(tx, profile)
    _check_end(reason, until_on, as_of)
    if claim is not None and reason != "payment_claim":
        raise HoldRefusedError("a claim belongs to a hold for payment_claim", pointer="/claim")
    account_id: UUID | None = None
    held = tuple(sorted(set(receivable_ids)))
    if scope == "case":
        found = await repository.open_case(tx, company, case_id) if case_id is not None else None
        if found is None or found.customer != customer:
            raise HoldRefusedError("no such open case of this customer", pointer="/case_id")
        account_id = found.account_id
        held = tuple(await repository.open_receivables(tx, found.account_id))[:MOST_TOLD]
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
            # Of a hold on a case for others to know; here it covers what will come to the case too.
            "receivable_ids": list(held),
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
            "claim": claim,
        }
    )
    tx.publish(placed, sequence=1)
    await desk.evaluate_customer(tx, company, customer, Trigger("hold-placed", str(hold_id), tx.cause))
    return placed


async def release_hold(
    desk: Desk, tx: Transaction, *, company: str, hold_id: UUID, reason: str, by: str
) -> dunning.HoldReleased:
    """End a hold; releasing it again changes nothing.

    Raises:
        UnknownHoldError: there is no such hold.
    """
    profile = desk.profile(company)
    row = await repository.lock_hold(tx, company, hold_id)
    if row is None:
        raise UnknownHoldError(f"no hold {hold_id} of {company}")
    as_of = desk.as_of(tx, profile)
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
        await desk.evaluate_customer(tx, company, row.customer, Trigger("hold-released", str(hold_id), tx.cause))
    return released


def _check_end(reason: str, until_on: date | None, as_of: date) -> None:
    if until_on is None:
        if reason not in ENDLESS_HOLDS:
            raise HoldRefusedError(f"a hold for {reason} needs its last day", pointer="/until_on")
    elif until_on < as_of:
        raise HoldRefusedError(f"the last day is past: today is {as_of}", pointer="/until_on")
    elif (until_on - as_of).days > LONGEST_HOLD_DAYS:
        raise HoldRefusedError(f"at most {LONGEST_HOLD_DAYS} days without approval", pointer="/until_on")
