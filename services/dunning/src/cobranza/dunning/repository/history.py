"""What was known of accounts day by day, for a back-test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.dunning.repository.rows import BEFORE_ALL


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a receivable stood from a business day on; minor units."""

    receivable_id: UUID
    invoice_id: UUID | None
    number: str
    issued_on: date
    due_on: date
    issued: int
    product_line: str | None
    acknowledged: bool | None
    on: date
    open: int
    allocated: int


async def balances(tx: Transaction, ids: Iterable[UUID]) -> dict[UUID, list[Balance]]:
    """Where the receivables of accounts stood, by account and in the order of days."""
    rows = await tx.execute(
        """
        SELECT r.account_id, r.receivable_id, r.invoice_id, r.number, r.issued_on, r.due_on, r.issued, r.product_line,
            r.acknowledged, b.on_date, CAST(greatest(sum(b.open) OVER so_far, 0) AS bigint) AS open,
            CAST(greatest(sum(b.allocated) OVER so_far, 0) AS bigint) AS allocated
        FROM receivable r JOIN balance_change b ON b.receivable_id = r.receivable_id
        WHERE r.account_id = ANY(CAST(:ids AS uuid[]))
        WINDOW so_far AS (PARTITION BY b.receivable_id ORDER BY b.on_date) ORDER BY b.on_date, r.receivable_id
        """,
        {"ids": sorted(ids)},
    )
    found: dict[UUID, list[Balance]] = {}
    for row in rows:
        found.setdefault(row.account_id, []).append(Balance(*tuple(row)[1:]))
    return found


async def agreements_of(tx: Transaction, ids: Iterable[UUID]) -> dict[UUID, list[Any]]:
    """Promises, plans, disputes and hand-overs of accounts, by account; those that ended too."""
    rows = await tx.execute(
        """
        SELECT account_id, kind, state, told FROM agreement WHERE account_id = ANY(CAST(:ids AS uuid[]))
            AND state NOT IN ('proposed', 'refused') ORDER BY agreement_id
        """,
        {"ids": sorted(ids)},
    )
    found: dict[UUID, list[Any]] = {}
    for row in rows:
        found.setdefault(row.account_id, []).append(row)
    return found


async def known_accounts(tx: Transaction, *, company: str, after: UUID | None, most: int) -> list[UUID]:
    """Accounts of a company, in the order of their ids."""
    rows = await tx.execute(
        """
        SELECT account_id FROM account WHERE company = :company
            AND account_id > CAST(:after AS uuid) ORDER BY account_id LIMIT :most
        """,
        {"company": company, "after": after or BEFORE_ALL, "most": most},
    )
    return [row.account_id for row in rows]
