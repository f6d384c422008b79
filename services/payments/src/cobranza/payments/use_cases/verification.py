"""Asking whether the ledger balances, and stopping permits while it does not."""

from __future__ import annotations

from collections.abc import Sequence

from cobranza.chassis.database import Transaction
from cobranza.chassis.service import Invariant
from cobranza.payments import repository


async def check_ledger(tx: Transaction, checks: Sequence[Invariant], *, stopping: frozenset[str]) -> dict[str, int]:
    """Count the rows that break each check; permits stop while one named in `stopping` is broken."""
    found: dict[str, int] = {}
    for check in checks:
        result = await tx.execute(f"SELECT count(*) FROM ({check.sql}) AS broken")  # noqa: S608 - our own text
        found[check.name] = int(result.scalar_one())
    broken = [name for name, count in found.items() if count and name in stopping]
    await repository.set_ledger_stop(tx, broken=broken)
    return found
