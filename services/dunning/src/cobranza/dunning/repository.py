"""The only writer of dunning's tables; everything is read and written for many accounts at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.contracts.invoicing import CustomerChanged
from cobranza.contracts.payments import ReceivableChanged

#: One timer per account: its next evaluation.
TIMER_KIND: Final = "case"

#: Accounts with something open, no live timer, and no recorded reason for having none (I8).
FORGOTTEN: Final = """
    SELECT a.account_id FROM account a
    LEFT JOIN timer t ON t.timer_key = 'case|' || a.account_id AND t.state IN ('armed', 'claimed')
    WHERE t.timer_key IS NULL
        AND EXISTS (SELECT 1 FROM receivable r WHERE r.account_id = a.account_id AND r.open > 0)
        AND NOT (a.evaluated_on IS NOT NULL AND a.next_check_on IS NULL AND coalesce(a.reason, '') IN
            ('settled', 'no_policy', 'on_hold', 'covered_by_credit', 'below_case', 'end_reached'))
"""

AccountKey = tuple[str, str, str]
#: Company, policy and version.
PolicyKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class StoredCase:
    """An open case."""

    case_id: UUID
    state: str
    policy: str | None
    policy_version: int | None
    heard_tone: str | None
    opened_on: date
    version: int


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An open receivable."""

    receivable_id: UUID
    number: str
    due_on: date
    issued: int
    open: int
    level: int
    level_step: str | None
    passed: int
    last_notice_on: date | None


@dataclass(frozen=True, slots=True)
class StoredHold:
    """A hold that may concern an account; `until_on` is its last day as things stand."""

    reason: str
    placed_on: date
    until_on: date | None
    receivable_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class StoredRun:
    """The last run of a step in an open case."""

    step: str
    run: int
    state: str
    expires_on: date | None
    answered_on: date | None
    reason: str | None
    facts_hash: str


@dataclass(slots=True)
class StoredAccount:
    """An account, locked, with everything an evaluation reads."""

    account_id: UUID
    company: str
    customer: str
    currency: str
    unapplied: int
    last_contact_on: date | None
    evaluated_on: date | None
    next_check_on: date | None
    decision_id: UUID | None
    decision_digest: str | None
    case: StoredCase | None = None
    language: str | None = None
    customer_revision: int = 0
    items: list[StoredItem] = field(default_factory=list)
    holds: list[StoredHold] = field(default_factory=list)
    runs: list[StoredRun] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy version as it is chosen; the document is read apart."""

    company: str
    policy: str
    version: int
    currency: str
    priority: int
    effective_from: date
    state: str
    sha256: str


def timer_key(account_id: UUID) -> str:
    """The key of an account's one timer."""
    return f"{TIMER_KIND}|{account_id}"


# What others told.


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


async def save_receivables(tx: Transaction, changes: Sequence[tuple[UUID, ReceivableChanged]]) -> None:
    """Store the last balances told, each with its account."""
    if changes:
        await tx.execute(
            """
            INSERT INTO receivable (company, receivable_id, account_id, invoice_id, number, issued_on, due_on, issued, open,
                cause, recorded_on)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, receivable_id uuid, account_id uuid,
                invoice_id uuid, number text, issued_on date, due_on date, issued bigint, open bigint, cause text,
                recorded_on date)
            ON CONFLICT (company, receivable_id) DO UPDATE SET account_id = excluded.account_id,
                invoice_id = excluded.invoice_id, number = excluded.number, issued_on = excluded.issued_on,
                due_on = excluded.due_on, issued = excluded.issued, open = excluded.open, cause = excluded.cause,
                recorded_on = excluded.recorded_on
            """,
            {
                "rows": _json(
                    {
                        "company": told.company,
                        "receivable_id": told.receivable_id,
                        "account_id": account_id,
                        "invoice_id": told.invoice_id,
                        "number": told.number,
                        "issued_on": told.issued_on,
                        "due_on": told.due_on,
                        "issued": told.issued_minor,
                        "open": told.open_minor,
                        "cause": told.cause,
                        "recorded_on": told.recorded_on,
                    }
                    for account_id, told in sorted(changes, key=lambda change: change[1].receivable_id)
                )
            },
        )


async def save_credits(tx: Transaction, unapplied: Mapping[UUID, int]) -> None:
    """Store the unapplied credit of accounts, in minor units."""
    if unapplied:
        await tx.execute(
            """
            UPDATE account a SET unapplied = t.unapplied
            FROM unnest(CAST(:ids AS uuid[]), CAST(:amounts AS bigint[])) AS t(id, unapplied) WHERE a.account_id = t.id
            """,
            {"ids": list(unapplied), "amounts": list(unapplied.values())},
        )


async def save_cash(tx: Transaction, company: str, through_on: date) -> None:
    """Store through which day a company's cash is known."""
    await tx.execute(
        """
        INSERT INTO cash_feed (company, through_on) VALUES (:company, :through_on)
        ON CONFLICT (company) DO UPDATE SET through_on = excluded.through_on
        """,
        {"company": company, "through_on": through_on},
    )


async def save_cancelled(tx: Transaction, cancelled: Sequence[tuple[str, UUID]]) -> None:
    """Remember that invoices were cancelled."""
    if cancelled:
        await tx.execute(
            """
            INSERT INTO cancelled_invoice (company, invoice_id)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) ON CONFLICT DO NOTHING
            """,
            {"companies": [c for c, _ in cancelled], "ids": [i for _, i in cancelled]},
        )


async def save_customers(tx: Transaction, changes: Sequence[CustomerChanged]) -> None:
    """Store what a decision needs of customers: no names, no addresses."""
    if changes:
        await tx.execute(
            """
            INSERT INTO customer (company, customer, revision, language, segment)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, customer text, revision bigint,
                language text, segment text)
            ON CONFLICT (company, customer) DO UPDATE SET revision = excluded.revision, language = excluded.language,
                segment = excluded.segment
            """,
            {
                "rows": _json(
                    {
                        "company": told.company,
                        "customer": told.customer,
                        "revision": told.revision,
                        "language": told.language,
                        "segment": told.segment,
                    }
                    for told in changes
                )
            },
        )


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


async def forgotten_accounts(tx: Transaction, *, most: int) -> list[UUID]:
    """Accounts that I8's anti-join finds."""
    rows = await tx.execute(f"{FORGOTTEN} ORDER BY a.account_id LIMIT :most", {"most": most})
    return [row.account_id for row in rows]


# What an evaluation reads.


async def lock(tx: Transaction, ids: Iterable[UUID]) -> None:
    """Lock accounts in the order of their ids, before any row below them."""
    await tx.execute(
        "SELECT 1 FROM account WHERE account_id = ANY(CAST(:ids AS uuid[])) ORDER BY account_id FOR UPDATE",
        {"ids": sorted(set(ids))},
    )


async def accounts_of_cases(tx: Transaction, cases: Iterable[UUID]) -> list[UUID]:
    """The accounts of cases, open or closed."""
    rows = await tx.execute(
        "SELECT DISTINCT account_id FROM collection_case WHERE case_id = ANY(CAST(:ids AS uuid[]))",
        {"ids": sorted(cases)},
    )
    return [row.account_id for row in rows]


async def lock_accounts(tx: Transaction, ids: Iterable[UUID]) -> list[StoredAccount]:
    """Lock accounts in the order of their ids and read all that an evaluation needs."""
    wanted = {"ids": sorted(ids)}
    rows = await tx.execute(
        """
        SELECT account_id, company, customer, currency, unapplied, last_contact_on, evaluated_on, next_check_on,
            decision_id, decision_digest
        FROM account WHERE account_id = ANY(CAST(:ids AS uuid[])) ORDER BY account_id FOR UPDATE
        """,
        wanted,
    )
    accounts = {row.account_id: StoredAccount(*tuple(row)) for row in rows}
    if not accounts:
        return []
    # After the locks, so that these see what the transaction before us wrote.
    rows = await tx.execute(
        """
        SELECT a.account_id, u.language, u.revision,
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
    running: dict[UUID, StoredAccount] = {}
    for row in rows:
        account = accounts[row.account_id]
        account.language, account.customer_revision = row.language, row.revision or 0
        if row.has_holds:
            held.append(row.account_id)
        if row.case_id is not None:
            account.case = StoredCase(*tuple(row)[5:])
            if row.has_runs:
                running[row.case_id] = account
    rows = await tx.execute(
        """
        SELECT r.account_id, r.receivable_id, r.number, r.due_on, r.issued, r.open, r.level, r.level_step, r.passed,
            r.last_notice_on
        FROM receivable r WHERE r.account_id = ANY(CAST(:ids AS uuid[])) AND r.open > 0 AND NOT EXISTS (
            SELECT 1 FROM cancelled_invoice x WHERE x.company = r.company AND x.invoice_id = r.invoice_id)
        """,
        wanted,
    )
    for row in rows:
        accounts[row.account_id].items.append(StoredItem(*tuple(row)[1:]))
    if held:
        await _read_holds(tx, held, accounts)
    if running:
        await _read_runs(tx, running)
    return list(accounts.values())


async def _read_holds(tx: Transaction, held: Sequence[UUID], accounts: Mapping[UUID, StoredAccount]) -> None:
    rows = await tx.execute(
        """
        SELECT a.account_id, h.reason, h.placed_on, coalesce(h.released_on - 1, h.until_on) AS until_on,
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


async def _read_runs(tx: Transaction, cases: Mapping[UUID, StoredAccount]) -> None:
    rows = await tx.execute(
        """
        SELECT DISTINCT ON (case_id, step) case_id, step, run, state, expires_on, answered_on, reason, facts_hash
        FROM step_run WHERE case_id = ANY(CAST(:cases AS uuid[])) ORDER BY case_id, step, run DESC
        """,
        {"cases": list(cases)},
    )
    for row in rows:
        cases[row.case_id].runs.append(StoredRun(*tuple(row)[1:]))


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


async def cash_known_through(tx: Transaction, companies: Iterable[str]) -> dict[str, date]:
    """Through which day the cash of companies is known."""
    rows = await tx.execute(
        "SELECT company, through_on FROM cash_feed WHERE company = ANY(CAST(:companies AS text[]))",
        {"companies": sorted(set(companies))},
    )
    return {row.company: row.through_on for row in rows}


async def previous_case(tx: Transaction, account_id: UUID) -> tuple[UUID, str | None] | None:
    """The account's last closed case and the hardest tone it heard."""
    row = (
        await tx.execute(
            """
            SELECT case_id, heard_tone FROM collection_case WHERE account_id = :id AND closed_on IS NOT NULL
            ORDER BY opened_on DESC, case_id DESC LIMIT 1
            """,
            {"id": account_id},
        )
    ).one_or_none()
    return None if row is None else (row.case_id, row.heard_tone)


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


# What an evaluation writes.


@dataclass(slots=True)
class Changes:
    """Rows of one batch of evaluations, written by one statement per table."""

    opened: list[Mapping[str, object]] = field(default_factory=list)
    cases: list[Mapping[str, object]] = field(default_factory=list)
    runs: list[Mapping[str, object]] = field(default_factory=list)
    decisions: list[Mapping[str, object]] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    accounts: list[Mapping[str, object]] = field(default_factory=list)
    passed: dict[tuple[str, UUID], int] = field(default_factory=dict)


async def write(tx: Transaction, changes: Changes) -> None:
    """Write what evaluations changed; the accounts are locked."""
    if changes.opened:
        await tx.execute(
            """
            INSERT INTO collection_case (case_id, account_id, company, customer, currency, state, policy, policy_version,
                heard_tone, opened_on, previous_case_id, version)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, account_id uuid, company text,
                customer text, currency text, state text, policy text, policy_version int, heard_tone text, opened_on date,
                previous_case_id uuid, version bigint)
            """,
            {"rows": _json(changes.opened)},
        )
    if changes.cases:
        await tx.execute(
            """
            UPDATE collection_case c SET state = t.state, policy = t.policy, policy_version = t.policy_version,
                closed_on = t.closed_on, outcome = t.outcome, version = t.version
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, state text, policy text, policy_version int,
                closed_on date, outcome text, version bigint)
            WHERE c.case_id = t.case_id
            """,
            {"rows": _json(changes.cases)},
        )
    if changes.runs:
        await tx.execute(
            """
            INSERT INTO step_run (case_id, step, run, account_id, company, position, state, notice_step, notice_run, tone,
                receivable_ids, decision_id, facts_hash, reached_on, expires_on, reason)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, step text, run int, account_id uuid,
                company text, position int, state text, notice_step text, notice_run int, tone text, receivable_ids uuid[],
                decision_id uuid, facts_hash text, reached_on date, expires_on date, reason text)
            """,
            {"rows": _json(changes.runs)},
        )
    if changes.decisions:
        await tx.execute(
            """
            INSERT INTO decision (decision_id, account_id, company, customer, currency, case_id, previous_id, as_of, decided_at,
                last_at, cause, policy, policy_version, policy_sha256, facts_hash, facts, reasoning, outcome, contact, reasons,
                next_check_on)
            SELECT decision_id, account_id, company, customer, currency, case_id, previous_id, as_of, decided_at, decided_at,
                cause, policy, policy_version, policy_sha256, facts_hash, facts, reasoning, outcome,
                CASE WHEN jsonb_typeof(contact) = 'object' THEN contact END, reasons, next_check_on
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(decision_id uuid, account_id uuid, company text, customer text,
                currency text, case_id uuid, previous_id uuid, as_of date, decided_at timestamptz, cause jsonb, policy text,
                policy_version int, policy_sha256 text, facts_hash text, facts jsonb, reasoning jsonb, outcome text,
                contact jsonb, reasons jsonb, next_check_on date)
            """,
            {"rows": _json(changes.decisions)},
        )
    if changes.repeated:
        await tx.execute(
            """
            UPDATE decision SET times = times + 1, last_at = :now WHERE decision_id = ANY(CAST(:ids AS uuid[]))
            """,
            {"now": tx.now, "ids": changes.repeated},
        )
    await tx.execute(
        """
        UPDATE account a SET evaluated_on = t.evaluated_on, reason = t.reason, next_check_on = t.next_check_on,
            decision_id = t.decision_id, decision_digest = t.decision_digest
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(account_id uuid, evaluated_on date, reason text, next_check_on date,
            decision_id uuid, decision_digest text)
        WHERE a.account_id = t.account_id
        """,
        {"rows": _json(changes.accounts)},
    )
    if changes.passed:
        await tx.execute(
            """
            UPDATE receivable r SET passed = greatest(r.passed, t.passed)
            FROM unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[]), CAST(:passed AS int[])) AS t(c, i, passed)
            WHERE r.company = t.c AND r.receivable_id = t.i
            """,
            {
                "companies": [company for company, _ in changes.passed],
                "ids": [receivable_id for _, receivable_id in changes.passed],
                "passed": list(changes.passed.values()),
            },
        )


async def add_task(tx: Transaction, *, task_id: UUID, company: str, about: str, state: str) -> bool:
    """Keep a task; False when a person was already asked about the same."""
    result = await tx.execute(
        """
        INSERT INTO task (task_id, company, about, state) VALUES (:task_id, :company, :about, CAST(:state AS jsonb))
        ON CONFLICT (company, about) DO NOTHING
        """,
        {"task_id": task_id, "company": company, "about": about, "state": state},
    )
    return bool(result.rowcount)


# What became of a notice.


@dataclass(frozen=True, slots=True)
class AnsweredRun:
    """A step run that a notice answered."""

    account_id: UUID
    step: str
    position: int
    state: str
    tone: str | None
    receivable_ids: tuple[UUID, ...]


async def runs_of_notice(tx: Transaction, *, company: str, case_id: UUID, step: str, run: int) -> list[AnsweredRun]:
    """The step runs that one notice carries; their account is locked by the caller."""
    rows = await tx.execute(
        """
        SELECT account_id, step, position, state, tone, receivable_ids FROM step_run
        WHERE company = :company AND case_id = :case_id AND notice_step = :step AND notice_run = :run ORDER BY position
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run},
    )
    return [
        AnsweredRun(row.account_id, row.step, row.position, row.state, row.tone, tuple(row.receivable_ids))
        for row in rows
    ]


async def answer_runs(
    tx: Transaction,
    *,
    case_id: UUID,
    step: str,
    run: int,
    state: str,
    answered_on: date,
    reason: str | None,
    answer: str,
) -> None:
    """Store what became of the notice of a step run."""
    await tx.execute(
        """
        UPDATE step_run SET state = :state, answered_on = :answered_on, reason = :reason, answer = CAST(:answer AS jsonb)
        WHERE case_id = :case_id AND notice_step = :step AND notice_run = :run
        """,
        {
            "case_id": case_id,
            "step": step,
            "run": run,
            "state": state,
            "answered_on": answered_on,
            "reason": reason,
            "answer": answer,
        },
    )


async def raise_levels(
    tx: Transaction, *, company: str, runs: Sequence[AnsweredRun], granted: frozenset[UUID], sent_on: date
) -> None:
    """Raise each receivable that the notice claimed to its own step, and note the notice on all it claimed."""
    moved = defaultdict(list)
    for answered in runs:
        for receivable_id in answered.receivable_ids:
            if receivable_id in granted:
                moved[(answered.position, answered.step)].append(receivable_id)
    for (position, step), receivable_ids in moved.items():
        await tx.execute(
            """
            UPDATE receivable SET level = :position, level_step = :step, passed = greatest(passed, :position)
            WHERE company = :company AND receivable_id = ANY(CAST(:ids AS uuid[])) AND level < :position
            """,
            {"company": company, "ids": receivable_ids, "position": position, "step": step},
        )
    await tx.execute(
        """
        UPDATE receivable SET last_notice_on = greatest(last_notice_on, :sent_on)
        WHERE company = :company AND receivable_id = ANY(CAST(:ids AS uuid[]))
        """,
        {"company": company, "ids": sorted(granted), "sent_on": sent_on},
    )


async def note_contact(
    tx: Transaction, *, account_id: UUID, case_id: UUID, sent_on: date, heard_tone: str | None
) -> None:
    """Note a contact on the account and the hardest tone its case has heard."""
    await tx.execute(
        "UPDATE account SET last_contact_on = greatest(last_contact_on, :sent_on) WHERE account_id = :id",
        {"id": account_id, "sent_on": sent_on},
    )
    await tx.execute(
        "UPDATE collection_case SET heard_tone = :tone WHERE case_id = :case_id",
        {"case_id": case_id, "tone": heard_tone},
    )


# Holds.


async def add_hold(tx: Transaction, row: Mapping[str, object]) -> None:
    """Store a new hold."""
    await tx.execute(
        """
        INSERT INTO hold (hold_id, company, customer, scope, case_id, account_id, receivable_ids, reason, placed_on, until_on,
            placed_by, version)
        VALUES (:hold_id, :company, :customer, :scope, :case_id, :account_id, CAST(:receivable_ids AS uuid[]), :reason,
            :placed_on, :until_on, :placed_by, 1)
        """,
        row,
    )


async def lock_hold(tx: Transaction, company: str, hold_id: UUID) -> Any | None:
    """A hold, locked."""
    result = await tx.execute(
        "SELECT * FROM hold WHERE hold_id = :id AND company = :company FOR UPDATE", {"id": hold_id, "company": company}
    )
    return result.one_or_none()


async def release_hold(tx: Transaction, hold_id: UUID, *, released_on: date, reason: str, by: str) -> int:
    """End a hold; returns its version."""
    result = await tx.execute(
        """
        UPDATE hold SET released_on = :on, release_reason = :reason, released_by = :by, version = version + 1
        WHERE hold_id = :id RETURNING version
        """,
        {"id": hold_id, "on": released_on, "reason": reason, "by": by},
    )
    return int(result.scalar_one())


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


# Policies.


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


def _json(rows: Iterable[Mapping[str, object]]) -> str:
    return json.dumps(list(rows), default=str, ensure_ascii=False)
