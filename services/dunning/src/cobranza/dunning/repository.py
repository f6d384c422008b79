"""The only writer of dunning's tables; everything is read and written for many accounts at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.contracts.invoicing import CustomerChanged
from cobranza.contracts.payments import ReceivableChanged
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.facts import (
    UNDER_WAY,
    AccountFacts,
    Correction,
    EffectInForce,
    Issued,
    Item,
    PartPayment,
    Promise,
    Run,
    Stop,
)

#: One timer per account: its next evaluation.
TIMER_KIND: Final = "case"

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

_ITEM: Final = (
    "r.receivable_id, r.number, r.due_on, r.issued, r.open, r.level, r.level_step, r.passed, r.last_notice_on, r.issued_on,"
    " r.invoice_id, r.allocated, r.history, r.payments, r.reopened_on, r.told_reversal, r.product_line, r.acknowledged"
)

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
    """A receivable; the place of its level in a policy is found by the step's name."""

    receivable_id: UUID
    number: str
    due_on: date
    issued: int
    open: int
    level: int
    level_step: str | None
    passed: int
    last_notice_on: date | None
    issued_on: date
    invoice_id: UUID | None
    allocated: int
    history: Mapping[str, Issued]
    payments: tuple[PartPayment, ...]
    reopened_on: date | None
    told_reversal: bool
    product_line: str | None
    acknowledged: bool | None


@dataclass(frozen=True, slots=True)
class StoredHold:
    """A hold that may concern an account; `until_on` is its last day as things stand."""

    reason: str
    placed_on: date
    until_on: date | None
    receivable_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class StoredCustomer:
    """What conditions ask of a customer."""

    language: str
    segment: str
    country: str | None
    protected_party: str | None
    reachable: bool | None
    revision: int


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
    contacts: tuple[date, ...]
    corrections: tuple[Correction, ...]
    #: Of disputes, promises and plans; holds are kept apart.
    stops: tuple[Stop, ...]
    promises: tuple[Promise, ...]
    effects: tuple[EffectInForce, ...]
    handed_over: frozenset[UUID]
    evidence: frozenset[str]
    closed_tone: str | None
    case: StoredCase | None = None
    debtor: StoredCustomer | None = None
    items: list[StoredItem] = field(default_factory=list)
    holds: list[StoredHold] = field(default_factory=list)
    #: The last run of each step and all under way, by case: of the open one and of those that were asked for.
    runs: dict[UUID, list[Run]] = field(default_factory=dict)
    read_runs: dict[UUID, list[Run]] = field(default_factory=dict)


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
                cause, recorded_on, allocated)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, receivable_id uuid, account_id uuid,
                invoice_id uuid, number text, issued_on date, due_on date, issued bigint, open bigint, cause text,
                recorded_on date, allocated bigint)
            ON CONFLICT (company, receivable_id) DO UPDATE SET account_id = excluded.account_id,
                invoice_id = excluded.invoice_id, number = excluded.number, issued_on = excluded.issued_on,
                due_on = excluded.due_on, issued = excluded.issued, open = excluded.open, cause = excluded.cause,
                recorded_on = excluded.recorded_on, allocated = excluded.allocated
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
                        "allocated": told.allocated_minor,
                    }
                    for account_id, told in sorted(changes, key=lambda change: change[1].receivable_id)
                )
            },
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


async def save_control(tx: Transaction, *, company: str, currency: str, verdict: str, total_on: date) -> None:
    """Store what a company's last control total said."""
    await tx.execute(
        """
        INSERT INTO control_total (company, currency, verdict, total_on) VALUES (:company, :currency, :verdict, :total_on)
        ON CONFLICT (company, currency) DO UPDATE SET verdict = excluded.verdict, total_on = excluded.total_on
        """,
        {"company": company, "currency": currency, "verdict": verdict, "total_on": total_on},
    )


async def save_cancelled(tx: Transaction, cancelled: Mapping[tuple[str, UUID], UUID | None]) -> None:
    """Remember that invoices were cancelled, and which other one each gave way to."""
    if cancelled:
        keys = sorted(cancelled)
        await tx.execute(
            """
            INSERT INTO cancelled_invoice (company, invoice_id, replaced_by)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[]), CAST(:others AS uuid[]))
            ON CONFLICT (company, invoice_id) DO UPDATE
                SET replaced_by = coalesce(excluded.replaced_by, cancelled_invoice.replaced_by)
            """,
            {
                "companies": [key[0] for key in keys],
                "ids": [key[1] for key in keys],
                "others": [cancelled[key] for key in keys],
            },
        )


async def cancelled_among(tx: Transaction, invoices: Sequence[tuple[str, UUID]]) -> set[UUID]:
    """Those of the invoices that were cancelled."""
    if not invoices:
        return set()
    rows = await tx.execute(
        """
        SELECT x.invoice_id FROM cancelled_invoice x
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON x.company = t.c AND x.invoice_id = t.i
        """,
        {"companies": [c for c, _ in invoices], "ids": [i for _, i in invoices]},
    )
    return {row.invoice_id for row in rows}


async def replaced_by(tx: Transaction, invoices: Sequence[tuple[str, UUID]]) -> dict[UUID, list[StoredItem]]:
    """The receivables of invoices that gave way to these, by these."""
    if not invoices:
        return {}
    rows = await tx.execute(
        f"""
        SELECT x.replaced_by, {_ITEM} FROM cancelled_invoice x
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON x.company = t.c AND x.replaced_by = t.i
        JOIN receivable r ON r.company = x.company AND r.invoice_id = x.invoice_id
        """,  # noqa: S608 - constant
        {"companies": [c for c, _ in invoices], "ids": [i for _, i in invoices]},
    )
    found: dict[UUID, list[StoredItem]] = {}
    for row in rows:
        found.setdefault(row.replaced_by, []).append(_item(tuple(row)[1:]))
    return found


async def save_customers(tx: Transaction, changes: Sequence[CustomerChanged]) -> None:
    """Store what a decision needs of customers: no names, no addresses."""
    if changes:
        await tx.execute(
            """
            INSERT INTO customer (company, customer, revision, language, segment, country, protected_party, reachable)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, customer text, revision bigint,
                language text, segment text, country text, protected_party text, reachable boolean)
            ON CONFLICT (company, customer) DO UPDATE SET revision = excluded.revision, language = excluded.language,
                segment = excluded.segment, country = excluded.country, protected_party = excluded.protected_party,
                reachable = excluded.reachable
            """,
            {
                "rows": _json(
                    {
                        "company": told.company,
                        "customer": told.customer,
                        "revision": told.revision,
                        "language": told.language,
                        "segment": told.segment,
                        "country": told.country,
                        "protected_party": told.protected_party,
                        "reachable": bool(told.contacts),
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


async def accounts_by_case(tx: Transaction, cases: Iterable[UUID]) -> dict[UUID, UUID]:
    """The accounts of cases, open or closed."""
    rows = await tx.execute(
        "SELECT case_id, account_id FROM collection_case WHERE case_id = ANY(CAST(:ids AS uuid[]))",
        {"ids": sorted(cases)},
    )
    return {row.case_id: row.account_id for row in rows}


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
        SELECT account_id, company, customer, currency, unapplied, last_contact_on, evaluated_on, next_check_on,
            decision_id, decision_digest, contacts, corrections, stops, promises, effects, handed_over, evidence, closed_tone
        FROM account WHERE account_id = ANY(CAST(:ids AS uuid[])) ORDER BY account_id {locks}
        """,  # noqa: S608 - constant
        wanted,
    )
    accounts = {
        row.account_id: StoredAccount(
            *(
                *tuple(row)[:10],
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
        SELECT a.account_id, u.language, u.segment, u.country, u.protected_party, u.reachable, u.revision,
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
            account.debtor = StoredCustomer(*tuple(row)[1:7])
        if row.has_holds:
            held.append(row.account_id)
        if row.case_id is not None:
            account.case = StoredCase(*tuple(row)[9:])
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
        UNION SELECT r.account_id, {_ITEM} FROM receivable r
        WHERE r.account_id = ANY(CAST(:ids AS uuid[])) AND r.receivable_id = ANY(CAST(:named AS uuid[])) AND r.open = 0
        """  # noqa: S608 - constant
        if named
        else ""
    )
    rows = await tx.execute(
        f"""
        SELECT r.account_id, {_ITEM} FROM receivable r
        WHERE r.account_id = ANY(CAST(:ids AS uuid[])) AND r.open > 0 AND NOT EXISTS (
            SELECT 1 FROM cancelled_invoice x WHERE x.company = r.company AND x.invoice_id = r.invoice_id)
        {closed}
        """,  # noqa: S608 - constant
        {"ids": ids, "named": named} if named else {"ids": ids},
    )
    for row in rows:
        accounts[row.account_id].items.append(_item(tuple(row)[1:]))


def _item(row: Sequence[Any]) -> StoredItem:
    history = {
        step: Issued(
            date.fromisoformat(done["on"]),
            done.get("times", 1),
            date.fromisoformat(done["delivered_on"]) if done.get("delivered_on") else None,
        )
        for step, done in row[12].items()
    }
    part_payments = tuple(PartPayment(date.fromisoformat(on), paid, before) for on, paid, before in row[13])
    return StoredItem(*(*row[:12], history, part_payments, *row[14:]))


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


async def control_verdicts(tx: Transaction, companies: Iterable[str]) -> dict[tuple[str, str], str]:
    """What the last control totals said, by company and currency."""
    rows = await tx.execute(
        "SELECT company, currency, verdict FROM control_total WHERE company = ANY(CAST(:companies AS text[]))",
        {"companies": sorted(set(companies))},
    )
    return {(row.company, row.currency): row.verdict for row in rows}


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


# What an evaluation writes.


@dataclass(slots=True)
class Changes:
    """Rows of one batch of evaluations, written by one statement per table."""

    opened: list[Mapping[str, object]] = field(default_factory=list)
    cases: list[Mapping[str, object]] = field(default_factory=list)
    runs: list[Mapping[str, object]] = field(default_factory=list)
    decisions: list[Mapping[str, object]] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    answered: list[Mapping[str, object]] = field(default_factory=list)
    accounts: list[Mapping[str, object]] = field(default_factory=list)
    agreed: list[Mapping[str, object]] = field(default_factory=list)
    items: list[tuple[str, Item, str | None]] = field(default_factory=list)


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
                closed_on = t.closed_on, outcome = t.outcome, version = t.version, heard_tone = t.heard_tone
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, state text, policy text, policy_version int,
                closed_on date, outcome text, version bigint, heard_tone text)
            WHERE c.case_id = t.case_id
            """,
            {"rows": _json(changes.cases)},
        )
    if changes.runs:
        await tx.execute(
            """
            INSERT INTO step_run (case_id, step, run, account_id, company, position, state, notice_step, notice_run, tone,
                receivable_ids, decision_id, facts_hash, reached_on, expires_on, reason, kind)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, step text, run int, account_id uuid,
                company text, position int, state text, notice_step text, notice_run int, tone text, receivable_ids uuid[],
                decision_id uuid, facts_hash text, reached_on date, expires_on date, reason text, kind text)
            ON CONFLICT (case_id, step, run) DO UPDATE SET state = excluded.state, decision_id = excluded.decision_id,
                expires_on = excluded.expires_on
            """,
            {"rows": _json(changes.runs)},
        )
    if changes.answered:
        await tx.execute(
            """
            UPDATE step_run s SET state = t.state, answered_on = t.answered_on, reason = t.reason, expires_on = t.expires_on,
                has_risen = t.has_risen, attempts = t.attempts
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, step text, run int, state text,
                answered_on date, reason text, expires_on date, has_risen boolean, attempts int)
            WHERE s.case_id = t.case_id AND s.step = t.step AND s.run = t.run
            """,
            {"rows": _json(changes.answered)},
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
            decision_id = t.decision_id, decision_digest = t.decision_digest, unapplied = t.unapplied,
            last_contact_on = t.last_contact_on, contacts = t.contacts, corrections = t.corrections
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(account_id uuid, evaluated_on date, reason text, next_check_on date,
            decision_id uuid, decision_digest text, unapplied bigint, last_contact_on date, contacts date[], corrections jsonb)
        WHERE a.account_id = t.account_id
        """,
        {"rows": _json(changes.accounts)},
    )
    if changes.agreed:
        await tx.execute(
            """
            UPDATE account a SET stops = t.stops, promises = t.promises, effects = t.effects, handed_over = t.handed_over,
                closed_tone = t.closed_tone
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(account_id uuid, stops jsonb, promises jsonb, effects jsonb,
                handed_over uuid[], closed_tone text)
            WHERE a.account_id = t.account_id
            """,
            {"rows": _json(changes.agreed)},
        )
    if changes.items:
        await _write_items(tx, changes.items)


def agreed_row(account_id: UUID, facts: AccountFacts, closed_tone: str | None) -> dict[str, object]:
    """What was agreed or disputed and what is in force, as an account keeps it."""
    return {
        "account_id": account_id,
        "stops": [
            {
                "reason": stop.reason.value,
                "kind": stop.kind,
                "from_on": stop.from_on,
                "until_on": stop.until_on,
                "amounts": {str(receivable_id): amount for receivable_id, amount in stop.amounts.items()},
                "stop_id": stop.stop_id,
                "deadline_on": stop.deadline_on,
            }
            for stop in facts.stops
            if stop.reason != Reason.ON_HOLD
        ],
        "promises": [
            {
                "promise_id": promise.promise_id,
                "made_on": promise.made_on,
                "limit_on": promise.limit_on,
                "amounts": {str(receivable_id): amount for receivable_id, amount in promise.amounts.items()},
                "plan_id": promise.plan_id,
                "paid": promise.paid,
                "verdict": promise.verdict,
                "judged_on": promise.judged_on,
            }
            for promise in facts.promises
        ],
        "effects": [
            [effect.step, effect.run, effect.effect, sorted(effect.receivable_ids)] for effect in facts.effects
        ],
        "handed_over": sorted(facts.handed_over),
        "closed_tone": closed_tone,
    }


async def _write_items(tx: Transaction, items: Sequence[tuple[str, Item, str | None]]) -> None:
    """Store what was done about receivables; their balances are stored as they are told."""
    await tx.execute(
        """
        UPDATE receivable r SET level = t.level, level_step = t.level_step, passed = t.passed,
            last_notice_on = t.last_notice_on, history = t.history, payments = t.payments, reopened_on = t.reopened_on,
            told_reversal = t.told_reversal, product_line = t.product_line, acknowledged = t.acknowledged
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, receivable_id uuid, level int, level_step text,
            passed int, last_notice_on date, history jsonb, payments jsonb, reopened_on date, told_reversal boolean,
            product_line text, acknowledged boolean)
        WHERE r.company = t.company AND r.receivable_id = t.receivable_id
        """,
        {
            "rows": _json(
                {
                    "company": company,
                    "receivable_id": item.receivable_id,
                    "level": item.level,
                    "level_step": level_step,
                    "passed": item.passed,
                    "last_notice_on": item.last_notice_on,
                    "history": {
                        step: {"on": done.on, "times": done.times, "delivered_on": done.delivered_on}
                        for step, done in item.history.items()
                    },
                    "payments": [[payment.on, payment.paid, payment.before] for payment in item.payments],
                    "reopened_on": item.reopened_on,
                    "told_reversal": item.told_reversal,
                    "product_line": item.product_line,
                    "acknowledged": item.acknowledged,
                }
                for company, item, level_step in items
            )
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


async def lock_task(tx: Transaction, company: str, task_id: UUID) -> Any | None:
    """A task, locked."""
    result = await tx.execute(
        "SELECT * FROM task WHERE task_id = :id AND company = :company FOR UPDATE", {"id": task_id, "company": company}
    )
    return result.one_or_none()


async def complete_task(tx: Transaction, task_id: UUID, *, disposition: str, by: str) -> None:
    """Note how a task ended."""
    await tx.execute(
        "UPDATE task SET completed_at = :now, disposition = :disposition, completed_by = :by WHERE task_id = :id",
        {"now": tx.now, "disposition": disposition, "by": by, "id": task_id},
    )


async def cancel_tasks(tx: Transaction, *, company: str, about: Sequence[str]) -> list[Any]:
    """End those of the tasks that nobody has ended."""
    rows = await tx.execute(
        """
        UPDATE task SET completed_at = :now, disposition = 'cancelled', completed_by = 'dunning'
        WHERE company = :company AND about = ANY(CAST(:about AS text[])) AND completed_at IS NULL RETURNING state
        """,
        {"now": tx.now, "company": company, "about": list(about)},
    )
    return list(rows)


async def save_answer(tx: Transaction, *, company: str, case_id: UUID, step: str, run: int, answer: str) -> bool:
    """Keep what became of a notice with the step runs it carries; False when there are none."""
    result = await tx.execute(
        """
        UPDATE step_run SET answer = CAST(:answer AS jsonb)
        WHERE company = :company AND case_id = :case_id AND notice_step = :step AND notice_run = :run
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run, "answer": answer},
    )
    return bool(result.rowcount)


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
            AND policy_version <> :other_than AND (CAST(:after AS uuid) IS NULL OR account_id > :after)
        ORDER BY account_id LIMIT :most
        """,
        {"company": company, "policy": policy, "other_than": other_than, "after": after, "most": most},
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
        await _write_items(tx, items)


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


# Promises, plans, disputes and hand-overs.


async def add_agreement(
    tx: Transaction,
    *,
    agreement_id: UUID,
    company: str,
    account_id: UUID,
    kind: str,
    told: str,
    by: str,
    approved_by: str | None = None,
) -> None:
    """Store a new promise, plan, dispute or hand-over as it is told."""
    await tx.execute(
        """
        INSERT INTO agreement (agreement_id, company, account_id, kind, state, told, recorded_by, approved_by, version)
        VALUES (:id, :company, :account_id, :kind, 'open', CAST(:told AS jsonb), :by, :approved_by, 1)
        """,
        {
            "id": agreement_id,
            "company": company,
            "account_id": account_id,
            "kind": kind,
            "told": told,
            "by": by,
            "approved_by": approved_by,
        },
    )


async def agreements(tx: Transaction, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """Agreements by id."""
    rows = await tx.execute(
        "SELECT * FROM agreement WHERE agreement_id = ANY(CAST(:ids AS uuid[]))", {"ids": sorted(ids)}
    )
    return {row.agreement_id: row for row in rows}


async def agreement(tx: Transaction, *, company: str, agreement_id: UUID, kind: str) -> Any | None:
    """An agreement; its account is locked before it is changed."""
    result = await tx.execute(
        "SELECT * FROM agreement WHERE agreement_id = :id AND company = :company AND kind = :kind",
        {"id": agreement_id, "company": company, "kind": kind},
    )
    return result.one_or_none()


async def change_agreement(tx: Transaction, agreement_id: UUID, *, state: str, told: str) -> int:
    """Store what became of an agreement; returns its version."""
    result = await tx.execute(
        """
        UPDATE agreement SET state = :state, told = told || CAST(:told AS jsonb), version = version + 1
        WHERE agreement_id = :id RETURNING version
        """,
        {"id": agreement_id, "state": state, "told": told},
    )
    return int(result.scalar_one())


async def open_hand_over(tx: Transaction, account_id: UUID) -> Any | None:
    """The hand-over of an account that was not recalled."""
    result = await tx.execute(
        "SELECT * FROM agreement WHERE account_id = :id AND kind = 'hand_over' AND state = 'open'", {"id": account_id}
    )
    return result.one_or_none()


async def accounts_promising(tx: Transaction, *, company: str, before: date) -> list[UUID]:
    """Accounts of a company with a promise whose limit is over and that waits to be judged."""
    rows = await tx.execute(
        """
        SELECT DISTINCT account_id FROM agreement WHERE company = :company AND kind = 'promise' AND state = 'open'
            AND CAST(told->>'limit_on' AS date) < :before ORDER BY account_id
        """,
        {"company": company, "before": before},
    )
    return [row.account_id for row in rows]


async def save_evidence(tx: Transaction, account_id: UUID, documents: Iterable[str]) -> None:
    """Remember which documents are at hand for a hand-over."""
    await tx.execute(
        """
        UPDATE account SET evidence = ARRAY(SELECT DISTINCT unnest(evidence || CAST(:documents AS text[])) ORDER BY 1)
        WHERE account_id = :id
        """,
        {"id": account_id, "documents": sorted(documents)},
    )


# Receipts of nobody, and product lines.


async def save_unknown_receipts(tx: Transaction, receipts: Sequence[Mapping[str, object]]) -> None:
    """Keep receipts whose payer is not known."""
    if receipts:
        await tx.execute(
            """
            INSERT INTO unknown_receipt (company, payment_id, currency, amount)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, payment_id uuid, currency text,
                amount bigint) ON CONFLICT DO NOTHING
            """,
            {"rows": _json(receipts)},
        )


async def drop_unknown_receipts(tx: Transaction, found: Iterable[tuple[str, UUID]]) -> list[tuple[str, str]]:
    """Forget receipts that were applied or given back; company and currency of those that were kept."""
    keys = sorted(set(found))
    if not keys:
        return []
    rows = await tx.execute(
        """
        DELETE FROM unknown_receipt u USING unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i)
        WHERE u.company = t.c AND u.payment_id = t.i RETURNING u.company, u.currency
        """,
        {"companies": [key[0] for key in keys], "ids": [key[1] for key in keys]},
    )
    return [(row.company, row.currency) for row in rows]


async def clear_unknown_receipts(tx: Transaction, *, company: str, currency: str) -> int:
    """Forget all receipts of nobody in a currency; how many there were."""
    result = await tx.execute(
        "DELETE FROM unknown_receipt WHERE company = :company AND currency = :currency",
        {"company": company, "currency": currency},
    )
    return int(result.rowcount)


async def unknown_receipts(tx: Transaction, companies: Iterable[str]) -> dict[tuple[str, str], dict[UUID, int]]:
    """Receipts of nobody, by company and currency."""
    rows = await tx.execute(
        "SELECT company, currency, payment_id, amount FROM unknown_receipt WHERE company = ANY(CAST(:companies AS text[]))",
        {"companies": sorted(set(companies))},
    )
    found: dict[tuple[str, str], dict[UUID, int]] = {}
    for row in rows:
        found.setdefault((row.company, row.currency), {})[row.payment_id] = row.amount
    return found


async def save_product_lines(tx: Transaction, lines: Mapping[tuple[str, UUID], str]) -> None:
    """Remember the product lines of invoices."""
    if lines:
        keys = sorted(lines)
        await tx.execute(
            """
            INSERT INTO product_line (company, invoice_id, product_line)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[]), CAST(:lines AS text[]))
            ON CONFLICT (company, invoice_id) DO UPDATE SET product_line = excluded.product_line
            """,
            {
                "companies": [key[0] for key in keys],
                "ids": [key[1] for key in keys],
                "lines": [lines[key] for key in keys],
            },
        )


async def product_lines(tx: Transaction, invoices: Sequence[tuple[str, UUID]]) -> dict[UUID, str]:
    """The product lines of those of the invoices that have one."""
    if not invoices:
        return {}
    rows = await tx.execute(
        """
        SELECT p.invoice_id, p.product_line FROM product_line p
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON p.company = t.c AND p.invoice_id = t.i
        """,
        {"companies": [c for c, _ in invoices], "ids": [i for _, i in invoices]},
    )
    return {row.invoice_id: row.product_line for row in rows}


async def next_case_version(tx: Transaction, case_id: UUID) -> int:
    """Count one more event of a case; its account is locked."""
    result = await tx.execute(
        "UPDATE collection_case SET version = version + 1 WHERE case_id = :id RETURNING version", {"id": case_id}
    )
    return int(result.scalar_one())


# The storm brake.


async def notice_days(tx: Transaction, companies: Iterable[str]) -> list[Any]:
    """Notices of companies by day, as far back as the usual is counted, and every day that waits for a release."""
    rows = await tx.execute(
        """
        SELECT company, on_date, notices, braked_at, released_by FROM notice_day WHERE company = ANY(CAST(:companies AS text[]))
            AND (on_date > CAST(:now AS date) - 30 OR (braked_at IS NOT NULL AND released_by IS NULL))
        """,
        {"companies": sorted(set(companies)), "now": tx.now.date()},
    )
    return list(rows)


async def count_notices(tx: Transaction, *, company: str, on: date, more: int, trips: bool) -> None:
    """Count the notices of a day; `trips`: others wait from now on."""
    await tx.execute(
        """
        INSERT INTO notice_day (company, on_date, notices, braked_at)
        VALUES (:company, :on, :more, CASE WHEN :trips THEN CAST(:now AS timestamptz) END)
        ON CONFLICT (company, on_date) DO UPDATE SET notices = notice_day.notices + excluded.notices,
            braked_at = coalesce(notice_day.braked_at, excluded.braked_at)
        """,
        {"company": company, "on": on, "more": more, "trips": trips, "now": tx.now},
    )


async def release_brake(tx: Transaction, *, company: str, on: date, by: str) -> list[date]:
    """Let all notices of a day leave; the days on which the brake was tripped."""
    rows = await tx.execute(
        """
        UPDATE notice_day SET released_by = :by
        WHERE company = :company AND braked_at IS NOT NULL AND released_by IS NULL RETURNING on_date
        """,
        {"company": company, "by": by},
    )
    days = sorted(row.on_date for row in rows)
    if days:
        await tx.execute(
            """
            INSERT INTO notice_day (company, on_date, released_by) VALUES (:company, :on, :by)
            ON CONFLICT (company, on_date) DO UPDATE SET released_by = excluded.released_by
            """,
            {"company": company, "on": on, "by": by},
        )
    return days


# What is only looked at.


async def owing_accounts(tx: Transaction, *, company: str, after: UUID | None, most: int) -> list[UUID]:
    """Accounts of a company that owe something, in the order of their ids."""
    rows = await tx.execute(
        """
        SELECT a.account_id FROM account a WHERE a.company = :company
            AND (CAST(:after AS uuid) IS NULL OR a.account_id > CAST(:after AS uuid))
            AND EXISTS (SELECT 1 FROM receivable r WHERE r.account_id = a.account_id AND r.open > 0)
        ORDER BY a.account_id LIMIT :most
        """,
        {"company": company, "after": after, "most": most},
    )
    return [row.account_id for row in rows]
