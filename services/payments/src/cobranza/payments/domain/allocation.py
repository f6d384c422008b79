"""Cash application: given money and debts, how much goes where. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cobranza.payments.domain.ledger import Receivable, oldest_first

BY_REFERENCE: Final = "reference@1"
OLDEST_DUE: Final = "oldest-due@3"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a payer names, resolved: the receivables it stands for and the most it may take.

    `at_most` is in minor units; None takes all that is open.
    """

    receivables: tuple[Receivable, ...]
    at_most: int | None = None


def share_by_reference(available: int, claims: Sequence[Claim]) -> dict[UUID, int]:
    """Apply money to what its payer names: in the order named, instalments by due date, up to open.

    Args:
        available: unapplied, in minor units of the receivables' currency.

    Returns:
        The amount for each receivable, none of them zero; what is left stays unapplied.
    """
    shares: dict[UUID, int] = {}
    for claim in claims:
        left_of_claim = available if claim.at_most is None else min(available, claim.at_most)
        for receivable in oldest_first(claim.receivables):
            amount = min(left_of_claim, receivable.open - shares.get(receivable.receivable_id, 0))
            if amount > 0:
                shares[receivable.receivable_id] = shares.get(receivable.receivable_id, 0) + amount
                available -= amount
                left_of_claim -= amount
    return shares


@dataclass(frozen=True, slots=True)
class Given:
    """What closes a debt beside the money: the discount earned, or a small rest given up; minor units."""

    discount: int = 0
    written_off: int = 0


def close_by_reference(
    available: int,
    claims: Sequence[Claim],
    *,
    discounts: Callable[[Iterable[Receivable]], Mapping[UUID, int]],
    is_small: Callable[[int, int], bool],
) -> tuple[dict[UUID, int], dict[UUID, Given]]:
    """As by reference; a surplus recovers what was given up, what is short closes too where it was earned or is small.

    Args:
        available: unapplied, in minor units of the receivables' currency.
        discounts: of some receivables, what may still be deducted today and is less than they owe.
        is_small: whether so much missing of so much owed is given up.

    Returns:
        The amount for each receivable, and what is given with it.
    """
    shares = share_by_reference(available, claims)
    if sum(shares.values()) < available:
        return _with_recovery(available, claims, shares), {}
    named = {r.receivable_id: r for claim in claims for r in claim.receivables if r.kind == "invoice" and r.open}
    short = {i: r.open - shares.get(i, 0) for i, r in named.items() if r.open > shares.get(i, 0)}
    if not short:
        return shares, {}
    owed = sum(r.open for r in named.values())
    earned = discounts(named.values())
    fits = all(
        claim.at_most is None
        or claim.at_most >= sum(r.open - earned.get(r.receivable_id, 0) for r in claim.receivables if r.open)
        for claim in claims
    )
    if earned and fits and available == owed - sum(earned.values()):
        taken = {i: r.open - earned.get(i, 0) for i, r in named.items()}
        return taken, {i: Given(discount=discount) for i, discount in earned.items()}
    if len(short) == 1:
        ((last, rest),) = short.items()
        if last in shares and is_small(rest, owed):
            return shares, {last: Given(written_off=rest)}
    return shares, {}


def _with_recovery(available: int, claims: Sequence[Claim], shares: dict[UUID, int]) -> dict[UUID, int]:
    """What is left recovers what was given up of the debts that the payer names."""
    available -= sum(shares.values())
    for claim in claims:
        taken = sum(shares.get(receivable.receivable_id, 0) for receivable in claim.receivables)
        left_of_claim = available if claim.at_most is None else min(available, claim.at_most - taken)
        for receivable in oldest_first(claim.receivables):
            amount = min(left_of_claim, receivable.payable - shares.get(receivable.receivable_id, 0))
            if amount > 0:
                shares[receivable.receivable_id] = shares.get(receivable.receivable_id, 0) + amount
                available -= amount
                left_of_claim -= amount
    return shares


def share_oldest_first(available: int, receivables: Iterable[Receivable]) -> dict[UUID, int]:
    """Spread money over debts, oldest due first and charges last, up to open.

    Args:
        available: unapplied, in minor units of the receivables' currency.
    """
    return share_by_reference(available, [Claim(tuple(receivables))])
