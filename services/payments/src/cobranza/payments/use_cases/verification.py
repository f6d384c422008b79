"""Asking whether the ledger balances and interest is what its dates say; permits stop while the ledger does not balance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cobranza.chassis.database import Transaction
from cobranza.chassis.service import Invariant
from cobranza.payments import repository
from cobranza.payments.use_cases.late_charges import excess_of_interest

#: Debts whose interest is computed together.
_AT_ONCE: Final = 500


async def check_ledger(tx: Transaction, checks: Sequence[Invariant], *, stopping: frozenset[str]) -> dict[str, int]:
    """Count the rows that break each check; permits stop while one named in `stopping` is broken."""
    found: dict[str, int] = {}
    for check in checks:
        result = await tx.execute(f"SELECT count(*) FROM ({check.sql}) AS broken")  # noqa: S608 - our own text
        found[check.name] = int(result.scalar_one())
    broken = [name for name, count in found.items() if count and name in stopping]
    await repository.set_ledger_stop(tx, broken=broken)
    return found


async def check_interest(tx: Transaction) -> dict[str, int]:
    """Compute the interest of every debt again from its dates and rates; count those charged more than that.

    What was paid before it turned out to be too much does not count, nor what waits to be withdrawn.
    """
    broken = 0
    debts = await repository.debts_with_interest(tx)
    for company, ids in debts.items():
        for start in range(0, len(ids), _AT_ONCE):
            excess = await excess_of_interest(tx.connection, company=company, debts=ids[start : start + _AT_ONCE])
            broken += sum(1 for amount in excess.values() if amount > 0)
    return {"late_interest_accrued": broken}
