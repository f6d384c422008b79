"""Cash application: given money and debts, how much goes where. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def share_with_recovery(available: int, claims: Sequence[Claim]) -> dict[UUID, int]:
    """As by reference; what is left then recovers what was given up of the debts that the payer names.

    Args:
        available: unapplied, in minor units of the receivables' currency.
    """
    shares = share_by_reference(available, claims)
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
