"""Policy versions, and the cases pinned to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.dunning.domain.facts import Item
from cobranza.dunning.repository.evaluations import write_items
from cobranza.dunning.repository.rows import BEFORE_ALL, PolicyKey, StoredPolicy


async def policies(tx: Transaction, *, companies: Iterable[str], pinned: Iterable[PolicyKey]) -> list[StoredPolicy]:
    """The active policies of companies, and the versions that cases are pinned to."""
    keys = sorted(set(pinned))
    rows = await tx.execute(
        """
        SELECT p.company, p.policy, p.version, p.currency, p.priority, p.effective_from, p.state, p.sha256
        FROM policy_version p WHERE (p.state = 'active' AND p.company = ANY(CAST(:companies AS text[])))
            OR (p.company, p.policy, p.version) IN (
                SELECT * FROM unnest(CAST(:of AS text[]), CAST(:ids AS text[]), CAST(:versions AS int[])))
        """,
        {
            "companies": sorted(set(companies)),
            "of": [key[0] for key in keys],
            "ids": [key[1] for key in keys],
            "versions": [key[2] for key in keys],
        },
    )
    return [StoredPolicy(*tuple(row)) for row in rows]


async def policy_document(tx: Transaction, stored: StoredPolicy) -> Any:
    """The document of a policy version."""
    result = await tx.execute(
        "SELECT document FROM policy_version WHERE company = :company AND policy = :policy AND version = :version",
        {"company": stored.company, "policy": stored.policy, "version": stored.version},
    )
    return result.scalar_one()


async def lock_policy(tx: Transaction, *, company: str, policy: str) -> list[Any]:
    """All versions of a policy, locked against a second loader or activator."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))",
        {"key": f"policy|{company}|{policy}"},
    )
    rows = await tx.execute(
        "SELECT * FROM policy_version WHERE company = :company AND policy = :policy ORDER BY version",
        {"company": company, "policy": policy},
    )
    return list(rows)


async def policy_versions(tx: Transaction, *, company: str) -> list[Any]:
    """All versions of all policies of a company, without their documents."""
    rows = await tx.execute(
        "SELECT policy, version, currency, priority, sha256, state FROM policy_version WHERE company = :company",
        {"company": company},
    )
    return list(rows)


async def retire_policy(tx: Transaction, *, company: str, policy: str) -> None:
    """Take a policy out of force."""
    await tx.execute(
        "UPDATE policy_version SET state = 'retired' WHERE company = :company AND policy = :policy AND state = 'active'",
        {"company": company, "policy": policy},
    )


async def pinned_accounts(
    tx: Transaction, *, company: str, policy: str, other_than: int, after: UUID | None, most: int
) -> list[UUID]:
    """Accounts whose open case is pinned to another version of a policy, in the order of their ids."""
    rows = await tx.execute(
        """
        SELECT account_id FROM collection_case WHERE company = :company AND policy = :policy AND closed_on IS NULL
            AND policy_version <> :other_than AND account_id > CAST(:after AS uuid)
        ORDER BY account_id LIMIT :most
        """,
        {"company": company, "policy": policy, "other_than": other_than, "after": after or BEFORE_ALL, "most": most},
    )
    return [row.account_id for row in rows]


async def move_case(
    tx: Transaction, case_id: UUID, *, version: int, items: Sequence[tuple[str, Item, str | None]]
) -> None:
    """Pin a case to another version, its receivables at their new places."""
    await tx.execute(
        "UPDATE collection_case SET policy_version = :version WHERE case_id = :id", {"version": version, "id": case_id}
    )
    if items:
        await write_items(tx, items)


async def add_policy(tx: Transaction, row: Mapping[str, object]) -> None:
    """Store a draft."""
    await tx.execute(
        """
        INSERT INTO policy_version (company, policy, version, currency, priority, effective_from, title, state, sha256, document,
            loaded_at)
        VALUES (:company, :policy, :version, :currency, :priority, :effective_from, :title, 'draft', :sha256,
            CAST(:document AS jsonb), :loaded_at)
        """,
        row,
    )


async def activate_policy(tx: Transaction, *, company: str, policy: str, version: int) -> None:
    """Make a version the active one; the one before it is retired, and the cases pinned to it keep it."""
    key = {"company": company, "policy": policy}
    await tx.execute(
        "UPDATE policy_version SET state = 'retired' WHERE company = :company AND policy = :policy AND state = 'active'",
        key,
    )
    await tx.execute(
        """
        UPDATE policy_version SET state = 'active', activated_at = :now
        WHERE company = :company AND policy = :policy AND version = :version
        """,
        {**key, "version": version, "now": tx.now},
    )
