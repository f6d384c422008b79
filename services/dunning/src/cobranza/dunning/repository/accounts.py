"""Accounts: which ones, and all that an evaluation reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.facts import UNDER_WAY, Correction, EffectInForce, Promise, Run, Stop
from cobranza.dunning.repository.rows import (
    BEFORE_ALL,
    ITEM_COLUMNS,
    AccountKey,
    StoredAccount,
    StoredCase,
    StoredCustomer,
    StoredHold,
    item_of,
)

#: Accounts with something open, no live timer, and no recorded reason for having none (I8).
FORGOTTEN: Final = """
    SELECT a.account_id FROM account a
    LEFT JOIN timer t ON t.timer_key = 'case|' || a.account_id AND t.state IN ('armed', 'claimed')
    WHERE t.timer_key IS NULL
        AND EXISTS (SELECT 1 FROM receivable r WHERE r.account_id = a.account_id AND r.open > 0)
        AND NOT (a.evaluated_on IS NOT NULL AND a.next_check_on IS NULL AND coalesce(a.reason, '') IN
            ('settled', 'no_policy', 'on_hold', 'covered_by_credit', 'below_case', 'below_item', 'end_reached', 'promised',
                'planned', 'disputed', 'handed_over', 'requires_missing', 'control_mismatch', 'payer_unknown', 'run_open',
                'approval_pending'))
"""


async def account_ids(tx: Transaction, keys: Iterable[AccountKey]) -> dict[AccountKey, UUID]:
    """The accounts of (company, customer, currency), made where they are new."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    parameters = {
        "ids": [new_id() for _ in wanted],
        "companies": [key[0] for key in wanted],
        "customers": [key[1] for key in wanted],
        "currencies": [key[2] for key in wanted],
    }
    unnested = "unnest(CAST(:companies AS text[]), CAST(:customers AS text[]), CAST(:currencies AS text[]))"
    await tx.execute(
        """
        INSERT INTO account (account_id, company, customer, currency)
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:companies AS text[]), CAST(:customers AS text[]),
            CAST(:currencies AS text[])) ON CONFLICT (company, customer, currency) DO NOTHING
        """,
        parameters,
    )
    rows = await tx.execute(
        f"""
        SELECT a.account_id, a.company, a.customer, a.currency FROM account a
        JOIN {unnested} AS t(c, u, y) ON a.company = t.c AND a.customer = t.u AND a.currency = t.y
        """,  # noqa: S608 - constant
        {name: value for name, value in parameters.items() if name != "ids"},
    )
    return {(row.company, row.customer, row.currency): row.account_id for row in rows}


async def accounts_of_receivables(tx: Transaction, receivables: Sequence[tuple[str, UUID]]) -> dict[UUID, UUID]:
    """The accounts of those receivables that are known."""
    rows = await tx.execute(
        """
        SELECT r.receivable_id, r.account_id FROM receivable r
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON r.company = t.c AND r.receivable_id = t.i
        """,
        {"companies": [c for c, _ in receivables], "ids": [i for _, i in receivables]},
    )
    return {row.receivable_id: row.account_id for row in rows}


async def accounts_of_invoices(tx: Transaction, invoices: Sequence[tuple[str, UUID]]) -> list[tuple[UUID, UUID]]:
    """Invoice and account of those invoices whose receivables are known."""
    rows = await tx.execute(
        """
        SELECT DISTINCT r.invoice_id, r.account_id FROM receivable r
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON r.company = t.c AND r.invoice_id = t.i
        """,
        {"companies": [c for c, _ in invoices], "ids": [i for _, i in invoices]},
    )
    return [(row.invoice_id, row.account_id) for row in rows]


async def accounts_of_customer(tx: Transaction, company: str, customer: str) -> list[UUID]:
    """The accounts of a customer, one per currency."""
    rows = await tx.execute(
        "SELECT account_id FROM account WHERE company = :company AND customer = :customer ORDER BY account_id",
        {"company": company, "customer": customer},
    )
    return [row.account_id for row in rows]


async def accounts_waiting(tx: Transaction, *, company: str, reason: str, currency: str | None = None) -> list[UUID]:
    """Accounts of a company whose last evaluation waits for `reason`."""
    rows = await tx.execute(
        """
        SELECT account_id FROM account WHERE company = :company AND reason = :reason
            AND (CAST(:currency AS text) IS NULL OR currency = :currency) ORDER BY account_id
        """,
        {"company": company, "reason": reason, "currency": currency},
    )
    return [row.account_id for row in rows]


async def accounts_by_case(tx: Transaction, cases: Iterable[UUID]) -> dict[UUID, UUID]:
    """The accounts of cases, open or closed."""
    rows = await tx.execute(
        "SELECT case_id, account_id FROM collection_case WHERE case_id = ANY(CAST(:ids AS uuid[]))",
        {"ids": sorted(cases)},
    )
    return {row.case_id: row.account_id for row in rows}


async def forgotten_accounts(tx: Transaction, *, most: int) -> list[UUID]:
    """Accounts that I8's anti-join finds."""
    rows = await tx.execute(f"{FORGOTTEN} ORDER BY a.account_id LIMIT :most", {"most": most})
    return [row.account_id for row in rows]


async def owing_accounts(tx: Transaction, *, company: str, after: UUID | None, most: int) -> list[UUID]:
    """Accounts of a company that owe something, in the order of their ids."""
    rows = await tx.execute(
        """
        SELECT a.account_id FROM account a WHERE a.company = :company
            AND a.account_id > CAST(:after AS uuid)
            AND EXISTS (SELECT 1 FROM receivable r WHERE r.account_id = a.account_id AND r.open > 0)
        ORDER BY a.account_id LIMIT :most
        """,
        {"company": company, "after": after or BEFORE_ALL, "most": most},
    )
    return [row.account_id for row in rows]


async def lock(tx: Transaction, ids: Iterable[UUID]) -> None:
    """Lock accounts in the order of their ids, before any row below them."""
    await tx.execute(
        "SELECT 1 FROM account WHERE account_id = ANY(CAST(:ids AS uuid[])) ORDER BY account_id FOR UPDATE",
        {"ids": sorted(set(ids))},
    )


async def lock_accounts(
    tx: Transaction, ids: Iterable[UUID], *, named: Iterable[UUID] = (), cases: Iterable[UUID] = ()
) -> list[StoredAccount]:
    """Lock accounts in the order of their ids and read all that an evaluation needs.

    Args:
        named: receivables to read also when nothing of them is open.
        cases: cases whose runs to read also when they are closed.
    """
    return await _read_accounts(tx, ids, named=named, cases=cases, locks="FOR UPDATE")


async def read_accounts(tx: Transaction, ids: Iterable[UUID]) -> list[StoredAccount]:
    """Read all that an evaluation needs and lock nothing; of a read-only transaction."""
    return await _read_accounts(tx, ids, named=(), cases=(), locks="")


async def _read_accounts(
    tx: Transaction, ids: Iterable[UUID], *, named: Iterable[UUID], cases: Iterable[UUID], locks: str
) -> list[StoredAccount]:
    wanted = {"ids": sorted(ids)}
    rows = await tx.execute(
        f"""
        SELECT account_id, company, customer, currency, unapplied, last_contact_on, evaluated_on, next_check_on, caught_up_on,
            decision_id, decision_digest, contacts, corrections, stops, promises, effects, handed_over, evidence, closed_tone
        FROM account WHERE account_id = ANY(CAST(:ids AS uuid[])) ORDER BY account_id {locks}
        """,  # noqa: S608 - constant
        wanted,
    )
    accounts = {
        row.account_id: StoredAccount(
            *(
                *tuple(row)[:11],
                tuple(row.contacts),
                tuple(_correction(known) for known in row.corrections),
                tuple(_stop(known) for known in row.stops),
                tuple(_promise(known) for known in row.promises),
                tuple(_effect(known) for known in row.effects),
                frozenset(row.handed_over),
                frozenset(row.evidence),
                row.closed_tone,
            )
        )
        for row in rows
    }
    if not accounts:
        return []
    # After the locks, so that these see what the transaction before us wrote.
    rows = await tx.execute(
        """
        SELECT a.account_id, u.language, u.segment, u.country, u.protected_party, u.reachable, u.risk, u.tags, u.since,
            u.revision,
            EXISTS (SELECT 1 FROM hold h WHERE h.company = a.company AND h.customer = a.customer) AS has_holds,
            EXISTS (SELECT 1 FROM step_run s WHERE s.case_id = c.case_id) AS has_runs,
            c.case_id, c.state, c.policy, c.policy_version, c.heard_tone, c.opened_on, c.version
        FROM account a LEFT JOIN collection_case c ON c.account_id = a.account_id AND c.closed_on IS NULL
        LEFT JOIN customer u ON u.company = a.company AND u.customer = a.customer
        WHERE a.account_id = ANY(CAST(:ids AS uuid[]))
        """,
        wanted,
    )
    held: list[UUID] = []
    running = set(cases)
    for row in rows:
        account = accounts[row.account_id]
        if row.revision is not None:
            account.debtor = StoredCustomer(*tuple(row)[1:10])
        if row.has_holds:
            held.append(row.account_id)
        if row.case_id is not None:
            account.case = StoredCase(*tuple(row)[12:])
            if row.has_runs:
                running.add(row.case_id)
    of_runs: set[UUID] = set()
    if running:
        await _read_runs(tx, sorted(running), accounts)
        # The outcome of a run may move receivables that were settled meanwhile.
        of_runs = {
            receivable_id
            for account in accounts.values()
            for case_id, runs in account.runs.items()
            for run in runs
            if run.state in UNDER_WAY or case_id in cases
            for receivable_id in run.receivable_ids
        }
    await _read_items(tx, wanted["ids"], sorted(of_runs.union(named)), accounts)
    if held:
        await _read_holds(tx, held, accounts)
    return list(accounts.values())


async def _read_items(
    tx: Transaction, ids: Sequence[UUID], named: Sequence[UUID], accounts: Mapping[UUID, StoredAccount]
) -> None:
    closed = (
        f"""
        UNION SELECT r.account_id, {ITEM_COLUMNS} FROM receivable r
        WHERE r.account_id = ANY(CAST(:ids AS uuid[])) AND r.receivable_id = ANY(CAST(:named AS uuid[])) AND r.open = 0
        """  # noqa: S608 - constant
        if named
        else ""
    )
    rows = await tx.execute(
        f"""
        SELECT r.account_id, {ITEM_COLUMNS} FROM receivable r
        WHERE r.account_id = ANY(CAST(:ids AS uuid[])) AND r.open > 0 AND NOT EXISTS (
            SELECT 1 FROM cancelled_invoice x WHERE x.company = r.company AND x.invoice_id = r.invoice_id)
        {closed}
        """,  # noqa: S608 - constant
        {"ids": ids, "named": named} if named else {"ids": ids},
    )
    for row in rows:
        accounts[row.account_id].items.append(item_of(tuple(row)[1:]))


async def _read_holds(tx: Transaction, held: Sequence[UUID], accounts: Mapping[UUID, StoredAccount]) -> None:
    rows = await tx.execute(
        """
        SELECT a.account_id, h.reason, h.placed_on, least(h.released_on - 1, h.until_on) AS until_on,
            CASE WHEN h.scope = 'receivable' THEN h.receivable_ids ELSE '{}' END AS receivable_ids
        FROM account a JOIN hold h ON h.company = a.company AND h.customer = a.customer
            AND (h.account_id IS NULL OR h.account_id = a.account_id)
        WHERE a.account_id = ANY(CAST(:ids AS uuid[]))
        """,
        {"ids": held},
    )
    for row in rows:
        accounts[row.account_id].holds.append(
            StoredHold(row.reason, row.placed_on, row.until_on, tuple(row.receivable_ids))
        )


async def _read_runs(tx: Transaction, cases: Sequence[UUID], accounts: Mapping[UUID, StoredAccount]) -> None:
    rows = await tx.execute(
        """
        SELECT account_id, case_id, step, run, state, receivable_ids, kind, notice_step, notice_run, tone, expires_on,
            answered_on, reason, facts_hash, has_risen, attempts
        FROM step_run s WHERE case_id = ANY(CAST(:cases AS uuid[])) AND (
            state IN ('proposed', 'approved', 'requested', 'undelivered')
            OR NOT EXISTS (SELECT 1 FROM step_run l WHERE l.case_id = s.case_id AND l.step = s.step AND l.run > s.run))
        ORDER BY case_id, step, run
        """,
        {"cases": cases},
    )
    for row in rows:
        if row.account_id not in accounts:
            continue
        accounts[row.account_id].runs.setdefault(row.case_id, []).append(
            Run(
                step=row.step,
                number=row.run,
                state=row.state,
                receivable_ids=frozenset(row.receivable_ids),
                kind=row.kind,
                notice=None if row.notice_step is None else (row.notice_step, row.notice_run),
                tone=row.tone,
                expires_on=row.expires_on,
                answered_on=row.answered_on,
                reason=row.reason,
                facts_hash=row.facts_hash,
                has_risen=row.has_risen,
                attempts=row.attempts,
            )
        )
    for account in accounts.values():
        account.read_runs = {case_id: list(runs) for case_id, runs in account.runs.items()}


async def previous_case(tx: Transaction, account_id: UUID) -> UUID | None:
    """The account's last closed case."""
    result = await tx.execute(
        """
        SELECT case_id FROM collection_case WHERE account_id = :id AND closed_on IS NOT NULL
        ORDER BY opened_on DESC, case_id DESC LIMIT 1
        """,
        {"id": account_id},
    )
    found: UUID | None = result.scalar_one_or_none()
    return found


async def last_cause(tx: Transaction, account_id: UUID) -> str | None:
    """The fact that last closed a receivable of the account."""
    result = await tx.execute(
        """
        SELECT CASE WHEN x.invoice_id IS NOT NULL THEN 'invoice-cancelled' ELSE r.cause END
        FROM receivable r LEFT JOIN cancelled_invoice x ON x.company = r.company AND x.invoice_id = r.invoice_id
        WHERE r.account_id = :id ORDER BY r.recorded_on DESC, r.receivable_id LIMIT 1
        """,
        {"id": account_id},
    )
    return result.scalar_one_or_none()


async def open_case(tx: Transaction, company: str, case_id: UUID) -> Any | None:
    """Account and customer of an open case."""
    result = await tx.execute(
        """
        SELECT account_id, customer FROM collection_case
        WHERE case_id = :id AND company = :company AND closed_on IS NULL
        """,
        {"id": case_id, "company": company},
    )
    return result.one_or_none()


async def open_receivables(tx: Transaction, account_id: UUID) -> list[UUID]:
    """The open receivables of an account."""
    rows = await tx.execute(
        "SELECT receivable_id FROM receivable WHERE account_id = :id AND open > 0 ORDER BY receivable_id",
        {"id": account_id},
    )
    return [row.receivable_id for row in rows]


def _correction(row: Sequence[Any]) -> Correction:
    reason, receivable_id, on = row
    return Correction(reason, UUID(receivable_id), date.fromisoformat(on))


def _stop(row: Mapping[str, Any]) -> Stop:
    return Stop(
        Reason(row["reason"]),
        row["kind"],
        date.fromisoformat(row["from_on"]),
        _day(row["until_on"]),
        amounts=_amounts(row["amounts"]),
        stop_id=UUID(row["stop_id"]),
        deadline_on=_day(row["deadline_on"]),
    )


def _promise(row: Mapping[str, Any]) -> Promise:
    return Promise(
        UUID(row["promise_id"]),
        date.fromisoformat(row["made_on"]),
        date.fromisoformat(row["limit_on"]),
        _amounts(row["amounts"]),
        plan_id=None if row["plan_id"] is None else UUID(row["plan_id"]),
        paid=tuple((date.fromisoformat(on), paid) for on, paid in row["paid"]),
        verdict=row["verdict"],
        judged_on=_day(row["judged_on"]),
    )


def _effect(row: Sequence[Any]) -> EffectInForce:
    step, run, effect, receivable_ids = row
    return EffectInForce(step, run, effect, frozenset(map(UUID, receivable_ids)))


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _amounts(row: Mapping[str, int]) -> dict[UUID, int]:
    return {UUID(receivable_id): amount for receivable_id, amount in row.items()}
