"""Whether the ERP and the ledger see the same debts: a debt nobody recorded cannot be collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cobranza.contracts.payments import ControlVerdict

#: The worst first.
_WORST_FIRST: Final[tuple[ControlVerdict, ...]] = ("mismatch", "missing", "matched")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Open instalments and what they sum to, in minor units."""

    count: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the ERP states of a day.

    Args:
        customers: open total by customer in minor units, as far as it was stated.
        is_complete: every message of the run is here.
    """

    figures: Figures
    customers: Mapping[str, int]
    is_complete: bool

    @property
    def names_every_customer(self) -> bool:
        """Whether a customer who is not named owes nothing: the named ones make up the whole total."""
        return self.is_complete and sum(self.customers.values()) == self.figures.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A customer of whom the ERP and the ledger do not see the same open total, in minor units."""

    customer: str
    stated: int
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison came to; the customers that differ most come first."""

    verdict: ControlVerdict
    found: Figures
    differences: tuple[Difference, ...]


def compare(stated: Stated, found: Mapping[str, Figures]) -> Comparison:
    """Compare what is stated with the ledger's open debts of the same day, system and currency by customer.

    Only customers that are named are compared one by one; where the list makes up the total, a
    customer who is not on it is stated to owe nothing.
    """
    ledger = Figures(count=sum(f.count for f in found.values()), total=sum(f.total for f in found.values()))
    customers = set(stated.customers)
    if stated.names_every_customer:
        customers |= found.keys()
    differences = [
        Difference(customer=customer, stated=of_erp, found=of_ledger)
        for customer in customers
        if (of_erp := stated.customers.get(customer, 0))
        != (of_ledger := found[customer].total if customer in found else 0)
    ]
    differences.sort(key=lambda d: (-abs(d.stated - d.found), d.customer))
    return Comparison(
        verdict="matched" if ledger == stated.figures and not differences else "mismatch",
        found=ledger,
        differences=tuple(differences),
    )


def standing(verdicts: Iterable[ControlVerdict]) -> ControlVerdict | None:
    """The worst of the systems' last verdicts, or None when nothing was ever checked."""
    known = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in known), None)
