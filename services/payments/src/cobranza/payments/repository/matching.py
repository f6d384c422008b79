"""Cash application: the queue, the parties, promises and claims, suggestions and what people did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.pagination import Keyset, Window
from cobranza.payments.domain.ledger import Receivable
from cobranza.payments.domain.matching import MadeClaim, Party, Promise, Proposal, key_of, name_key
from cobranza.payments.repository.rows import RECEIVABLE_COLUMNS, Pairs, as_pairs, receivable_of
from cobranza.payments.tables import match_action, receipt, receivable
from cobranza.payments.tables import suggestion as suggestion_table


async def note_customers(tx: Transaction, customers: Sequence[tuple[str, str]]) -> None:
    """Make the rows of customers that are new."""
    await tx.execute(
        """
        INSERT INTO ledger_customer (company, customer)
        SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b) ORDER BY a, b ON CONFLICT DO NOTHING
        """,
        as_pairs(sorted(set(customers))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unapplied:
    """A receipt to be applied, with all that is known of its origin."""

    company: str
    receipt_id: UUID
    customer: str | None
    currency: str
    unapplied: int
    value_on: date
    details: Mapping[str, Any]
    payer: Mapping[str, str | None]
    texts: tuple[str, ...]
    by_people: bool
    rejected: tuple[tuple[str, Mapping[str, int]], ...]


async def enqueue_matching(tx: Transaction, *, receipts: Pairs, customers: Pairs) -> None:
    """Note that these receipts, and the unapplied money of these customers, are to be applied."""
    await tx.execute(
        """
        INSERT INTO match_queue (company, receipt_id)
        SELECT * FROM (
            SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[]))
            UNION SELECT r.company, r.receipt_id FROM unnest(CAST(:c AS text[]), CAST(:d AS text[])) AS t(c, d)
            JOIN receipt r ON r.company = t.c AND r.customer = t.d AND r.unapplied > 0 AND r.kind = 'cash') AS w(a, b)
        ORDER BY a, b ON CONFLICT (company, receipt_id) DO UPDATE SET not_before = clock_timestamp()
        """,
        {**as_pairs(receipts), **as_pairs(customers, "cd")},
    )


async def enqueue_suspense(tx: Transaction, companies: Sequence[str]) -> None:
    """Note that money of unknown payers is to be applied: a customer has become known."""
    await tx.execute(
        """
        INSERT INTO match_queue (company, receipt_id)
        SELECT company, receipt_id FROM receipt
        WHERE company = ANY(CAST(:companies AS text[])) AND customer IS NULL AND unapplied > 0
        ORDER BY company, receipt_id ON CONFLICT (company, receipt_id) DO UPDATE SET not_before = clock_timestamp()
        """,
        {"companies": sorted(companies)},
    )


async def enqueue_all(tx: Transaction, company: str | None) -> int:
    """Note that all unapplied money, of one company or of all, is to be applied; returns how many receipts that is."""
    await tx.execute(
        """
        INSERT INTO match_queue (company, receipt_id)
        SELECT company, receipt_id FROM receipt
        WHERE (CAST(:company AS text) IS NULL OR company = :company) AND unapplied > 0 AND kind = 'cash'
        ORDER BY company, receipt_id ON CONFLICT DO NOTHING
        """,
        {"company": company},
    )
    rows = await tx.execute(
        "SELECT count(*) FROM match_queue WHERE CAST(:company AS text) IS NULL OR company = :company",
        {"company": company},
    )
    return int(rows.scalar_one())


async def next_in_queue(tx: Transaction, *, company: str | None) -> tuple[str, UUID, datetime] | None:
    """The receipt to look at next and since when it waits; nothing is locked, its customer must be locked first."""
    rows = await tx.execute(
        """
        SELECT company, receipt_id, not_before FROM match_queue
        WHERE not_before <= clock_timestamp() AND (CAST(:company AS text) IS NULL OR company = :company)
        ORDER BY not_before, company, receipt_id LIMIT 1
        """,
        {"company": company},
    )
    row = rows.one_or_none()
    return None if row is None else (row.company, row.receipt_id, row.not_before)


async def leave_queue(tx: Transaction, *, company: str, receipt_id: UUID, since: datetime) -> None:
    """A receipt was looked at; unless it was noted again meanwhile, it waits no longer."""
    await tx.execute(
        "DELETE FROM match_queue WHERE company = :company AND receipt_id = :id AND not_before = :since",
        {"company": company, "id": receipt_id, "since": since},
    )


async def put_off(tx: Transaction, *, company: str, receipt_id: UUID, seconds: float) -> None:
    """Look at a receipt again later."""
    await tx.execute(
        """
        INSERT INTO match_queue (company, receipt_id, not_before)
        VALUES (:company, :id, clock_timestamp() + make_interval(secs => :seconds))
        ON CONFLICT (company, receipt_id) DO UPDATE SET not_before = excluded.not_before
        """,
        {"company": company, "id": receipt_id, "seconds": seconds},
    )


async def unapplied(tx: Transaction, *, company: str, receipt_id: UUID) -> Unapplied | None:
    """A cash receipt, or None when there is none."""
    rows = await tx.execute(
        """
        SELECT r.company, r.receipt_id, r.customer, r.currency, r.unapplied, r.value_on, r.details, r.payer,
            (SELECT b.texts FROM bank_line b WHERE b.company = r.company AND b.receipt_id = r.receipt_id AND b.live
                AND b.kind = 'credit' LIMIT 1) AS texts,
            EXISTS (SELECT 1 FROM match_action a WHERE a.company = r.company AND a.receipt_id = r.receipt_id
                AND a.verb <> 'accept') AS by_people,
            (SELECT jsonb_agg(jsonb_build_array(s.rule, s.shares)) FROM suggestion s
                WHERE s.company = r.company AND s.receipt_id = r.receipt_id AND s.state = 'rejected') AS rejected
        FROM receipt r WHERE r.company = :company AND r.receipt_id = :id AND r.kind = 'cash'
        """,
        {"company": company, "id": receipt_id},
    )
    row = rows.one_or_none()
    if row is None:
        return None
    known = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    return Unapplied(
        **{
            **known,
            "payer": row.payer or {},
            "texts": tuple(row.texts or ()),
            "rejected": tuple((rule, shares) for rule, shares in row.rejected or ()),
        }
    )


async def note_parties(tx: Transaction, parties: Sequence[tuple[str, Party]]) -> None:
    """Keep how customers are called; the newest wins."""
    newest = {(company, party.customer): party for company, party in parties}
    rows = sorted(newest.items())
    await tx.execute(
        """
        INSERT INTO party (company, customer, name, customer_key, name_key, tax_key)
        SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:customers AS text[]), CAST(:names AS text[]),
            CAST(:codes AS text[]), CAST(:keys AS text[]), CAST(:taxes AS text[]))
        ON CONFLICT (company, customer) DO UPDATE SET name = excluded.name, name_key = excluded.name_key,
            tax_key = excluded.tax_key
        """,
        {
            "companies": [company for (company, _), _ in rows],
            "customers": [party.customer for _, party in rows],
            "names": [party.name for _, party in rows],
            "codes": [key_of(party.customer) for _, party in rows],
            "keys": [name_key(party.name) for _, party in rows],
            "taxes": [key_of(party.tax_id) if party.tax_id else None for _, party in rows],
        },
    )
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM virtual_account v USING unnest(CAST(:companies AS text[]), CAST(:customers AS text[])) AS t(a, b)
            WHERE v.company = t.a AND v.customer = t.b AND NOT (v.company, v.account_key, v.customer) IN (
                SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS text[]), CAST(:c AS text[]))))
        INSERT INTO virtual_account (company, account_key, customer)
        SELECT DISTINCT * FROM unnest(CAST(:a AS text[]), CAST(:b AS text[]), CAST(:c AS text[])) ON CONFLICT DO NOTHING
        """,
        {
            "companies": [company for (company, _), _ in rows],
            "customers": [customer for (_, customer), _ in rows],
            **_columns_of(
                [
                    (company, account, party.customer)
                    for (company, _), party in rows
                    for account in sorted(party.virtual_accounts)
                ]
            ),
        },
    )


def _columns_of(rows: Sequence[tuple[str, str, str]]) -> dict[str, list[str]]:
    return {name: [row[place] for row in rows] for place, name in enumerate("abc")}


async def parties(
    tx: Transaction, *, company: str, codes: Sequence[str], account: str, paid_to: str, tax_id: str, name: str
) -> list[Party]:
    """The customers that one of these keys names."""
    rows = await tx.execute(
        """
        SELECT p.customer, p.name, p.tax_key, array(SELECT a.account_key FROM payer_account a
            WHERE a.company = p.company AND a.customer = p.customer AND a.account_key = :account) AS accounts,
            array(SELECT v.account_key FROM virtual_account v
                WHERE v.company = p.company AND v.customer = p.customer AND v.account_key = :paid_to) AS virtual_accounts
        FROM party p WHERE p.company = :company AND (p.customer_key = ANY(CAST(:codes AS text[]))
            OR p.tax_key = :tax_id OR p.name_key = :name OR p.customer IN (
                SELECT customer FROM payer_account WHERE company = :company AND account_key = :account)
            OR p.customer IN (SELECT customer FROM virtual_account WHERE company = :company AND account_key = :paid_to))
        """,
        {
            "company": company,
            "codes": list(codes),
            "account": account,
            "paid_to": paid_to,
            "tax_id": tax_id,
            "name": name,
        },
    )
    return [
        Party(row.customer, row.name, row.tax_key, frozenset(row.accounts), frozenset(row.virtual_accounts))
        for row in rows
    ]


async def all_parties(tx: Transaction, *, company: str) -> list[Party]:
    """Every customer of a company by name."""
    rows = await tx.execute("SELECT customer, name FROM party WHERE company = :company", {"company": company})
    return [Party(row.customer, row.name) for row in rows]


async def learn_accounts(tx: Transaction, rows: Sequence[tuple[str, str, str, str, UUID]]) -> None:
    """Keep from which account a customer pays: (company, account key, customer, why, receipt)."""
    await tx.execute(
        """
        INSERT INTO payer_account (company, account_key, customer, why, receipt_id)
        SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:accounts AS text[]), CAST(:customers AS text[]),
            CAST(:whys AS text[]), CAST(:receipts AS uuid[])) ON CONFLICT DO NOTHING
        """,
        dict(
            zip(
                ("companies", "accounts", "customers", "whys", "receipts"),
                map(list, zip(*sorted(rows), strict=True)),
                strict=True,
            )
        ),
    )


async def discounts(tx: Transaction, *, company: str, invoices: Sequence[UUID]) -> dict[UUID, tuple[int, date]]:
    """Amount in minor units and last day of the discount of invoices that are paid in one part."""
    rows = await tx.execute(
        """
        SELECT d.invoice_id, d.amount, d.until_on FROM invoice_discount d
        WHERE d.company = :company AND d.invoice_id = ANY(CAST(:ids AS uuid[])) AND 1 = (
            SELECT count(*) FROM receivable r WHERE r.company = d.company AND r.invoice_id = d.invoice_id)
        """,
        {"company": company, "ids": list(invoices)},
    )
    return {row.invoice_id: (row.amount, row.until_on) for row in rows}


async def await_promise(
    tx: Transaction,
    *,
    company: str,
    customer: str,
    currency: str,
    promise: Promise,
) -> None:
    """Keep a promise whose money is awaited."""
    await tx.execute(
        """
        INSERT INTO promise_awaited (company, promise_id, customer, currency, amount, made_on, limit_on, receivables)
        VALUES (:company, :id, :customer, :currency, :amount, :made_on, :limit_on, CAST(:receivables AS uuid[]))
        ON CONFLICT DO NOTHING
        """,
        {
            "company": company,
            "id": promise.promise_id,
            "customer": customer,
            "currency": currency,
            "amount": promise.amount,
            "made_on": promise.from_on,
            "limit_on": promise.through_on,
            "receivables": list(promise.receivables),
        },
    )


async def end_promise(tx: Transaction, *, company: str, promise_id: UUID) -> None:
    """Await a promise's money no longer."""
    await tx.execute(
        "DELETE FROM promise_awaited WHERE company = :company AND promise_id = :id",
        {"company": company, "id": promise_id},
    )


async def promises(tx: Transaction, *, company: str, customer: str, currency: str) -> list[Promise]:
    """What a customer promised and dunning still waits for."""
    rows = await tx.execute(
        """
        SELECT promise_id, amount, made_on, limit_on, receivables FROM promise_awaited
        WHERE company = :company AND customer = :customer AND currency = :currency
        """,
        {"company": company, "customer": customer, "currency": currency},
    )
    return [Promise(row.promise_id, row.amount, row.made_on, row.limit_on, tuple(row.receivables)) for row in rows]


async def keep_claim(tx: Transaction, *, company: str, currency: str, claim: MadeClaim) -> None:
    """Keep what a debtor says to have paid; told again it replaces what was told before."""
    await tx.execute(
        """
        INSERT INTO payment_claim (company, claim_id, customer, currency, amount, paid_on, reference, receivables)
        VALUES (:company, :claim_id, :customer, :currency, :amount, :paid_on, :reference,
            CAST(:receivables AS uuid[]))
        ON CONFLICT (company, claim_id) DO UPDATE SET currency = excluded.currency, amount = excluded.amount,
            paid_on = excluded.paid_on, reference = excluded.reference, receivables = excluded.receivables
        """,
        {"company": company, "currency": currency, **claim._asdict(), "receivables": list(claim.receivables)},
    )


async def end_claim(tx: Transaction, *, company: str, claim_id: UUID) -> None:
    """The claim's hold ended."""
    await tx.execute(
        "DELETE FROM payment_claim WHERE company = :company AND claim_id = :id", {"company": company, "id": claim_id}
    )


async def claims(tx: Transaction, *, company: str, currency: str, amount: int, on: date) -> list[MadeClaim]:
    """The claims of exactly this amount whose hold lasts on a day."""
    rows = await tx.execute(
        """
        SELECT c.claim_id, c.customer, c.amount, c.paid_on, c.reference, c.receivables FROM payment_claim c
        WHERE c.company = :company AND c.currency = :currency AND c.amount = :amount AND EXISTS (
            SELECT 1 FROM stop s WHERE s.company = c.company AND s.kind = 'hold' AND s.stop_id = c.claim_id
                AND (s.until_on IS NULL OR s.until_on >= :on))
        ORDER BY c.claim_id
        """,
        {"company": company, "currency": currency, "amount": amount, "on": on},
    )
    return [MadeClaim(**{**row._mapping, "receivables": tuple(row.receivables)}) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


async def of_amount(tx: Transaction, *, company: str, currency: str, amount: int) -> list[Receivable]:
    """Open receivables of a company of exactly this amount, at most two."""
    rows = await tx.execute(
        f"""
        SELECT {RECEIVABLE_COLUMNS} FROM receivable
        WHERE company = :company AND currency = :currency AND open = :amount AND open > 0 ORDER BY receivable_id LIMIT 2
        """,  # noqa: S608 - constant columns
        {"company": company, "currency": currency, "amount": amount},
    )
    return [receivable_of(row) for row in rows]


async def replace_suggestions(
    tx: Transaction, *, company: str, receipt_id: UUID, proposals: Sequence[Proposal], state: Literal["open", "applied"]
) -> None:
    """These are what is suggested for a receipt, or what was applied; earlier open ones are superseded."""
    await tx.execute(
        """
        UPDATE suggestion SET state = 'superseded', decided_at = clock_timestamp()
        WHERE company = :company AND receipt_id = :id AND state = 'open'
        """,
        {"company": company, "id": receipt_id},
    )
    if proposals:
        await tx.execute(
            """
            INSERT INTO suggestion (suggestion_id, company, receipt_id, rule, confidence, customer, shares, differences,
                inputs, state)
            SELECT t.id, :company, :receipt_id, t.rule, t.confidence, t.customer, t.shares, t.differences, t.inputs, :state
            FROM unnest(CAST(:ids AS uuid[]), CAST(:rules AS text[]), CAST(:confidences AS numeric[]),
                CAST(:customers AS text[]), CAST(:shares AS jsonb[]), CAST(:differences AS jsonb[]),
                CAST(:inputs AS jsonb[])) AS t(id, rule, confidence, customer, shares, differences, inputs)
            """,
            {
                "company": company,
                "receipt_id": receipt_id,
                "state": state,
                "ids": [new_id() for _ in proposals],
                "rules": [p.rule for p in proposals],
                "confidences": [p.confidence for p in proposals],
                "customers": [p.customer for p in proposals],
                "shares": [json.dumps({str(i): minor for i, minor in p.shares.items()}) for p in proposals],
                "differences": [
                    json.dumps([(str(i), why, minor) for i, why, minor in p.differences]) for p in proposals
                ],
                "inputs": [json.dumps(p.inputs) for p in proposals],
            },
        )


async def suggestion(tx: Transaction, *, company: str, suggestion_id: UUID) -> Any | None:
    """One suggestion, or None."""
    rows = await tx.execute(
        "SELECT * FROM suggestion WHERE company = :company AND suggestion_id = :id",
        {"company": company, "id": suggestion_id},
    )
    return rows.one_or_none()


async def decide_suggestion(tx: Transaction, *, suggestion_id: UUID, state: str, by: str, reason: str) -> bool:
    """A person accepted or rejected an open suggestion; False when it is no longer open."""
    result = await tx.execute(
        """
        UPDATE suggestion SET state = :state, decided_by = :by, reason = :reason, decided_at = clock_timestamp()
        WHERE suggestion_id = :id AND state = 'open'
        """,
        {"id": suggestion_id, "state": state, "by": by, "reason": reason},
    )
    return bool(result.rowcount)


async def note_action(
    tx: Transaction, *, action_id: UUID, company: str, receipt_id: UUID, verb: str, actor: str, reason: str, lines: str
) -> Any | None:
    """Keep what a person did; returns what was kept before under the same id, or None."""
    values = {"id": action_id, "company": company, "receipt": receipt_id, "verb": verb, "lines": lines}
    inserted = await tx.execute(
        """
        INSERT INTO match_action (action_id, company, receipt_id, verb, actor, reason, lines)
        VALUES (:id, :company, :receipt, :verb, :actor, :reason, CAST(:lines AS jsonb)) ON CONFLICT DO NOTHING
        """,
        {**values, "actor": actor, "reason": reason},
    )
    if inserted.rowcount:
        return None
    kept = await tx.execute(
        """
        SELECT company = :company AND receipt_id = :receipt AND verb = :verb AND lines = CAST(:lines AS jsonb) AS is_same
        FROM match_action WHERE action_id = :id
        """,
        values,
    )
    return kept.one()


_UNAPPLIED_FIRST: Final = Keyset((receipt.c.value_on, "desc"), (receipt.c.receipt_id, "asc"))


async def unapplied_receipts(connection: AsyncConnection, window: Window, *, company: str) -> list[Any]:
    """Payments of a company that are not applied in full, newest value date first, one more than the page."""
    query = select(receipt).where(receipt.c.company == company, receipt.c.unapplied > 0, receipt.c.kind == "cash")
    return list(await connection.execute(_UNAPPLIED_FIRST.apply(query, after=window.after, limit=window.limit)))


async def one_receipt(connection: AsyncConnection, *, company: str, receipt_id: UUID) -> Any | None:
    """One payment, or None."""
    result = await connection.execute(
        select(receipt).where(
            receipt.c.company == company, receipt.c.receipt_id == receipt_id, receipt.c.kind == "cash"
        )
    )
    return result.one_or_none()


async def suggestions(
    connection: AsyncConnection, *, company: str, receipt_ids: Sequence[UUID]
) -> dict[UUID, list[Any]]:
    """The open suggestions of each receipt, the most certain first."""
    rows = await connection.execute(
        select(suggestion_table)
        .where(
            suggestion_table.c.company == company,
            suggestion_table.c.receipt_id.in_(receipt_ids),
            suggestion_table.c.state == "open",
        )
        .order_by(suggestion_table.c.confidence.desc(), suggestion_table.c.rule)
    )
    found: dict[UUID, list[Any]] = {receipt_id: [] for receipt_id in receipt_ids}
    for row in rows:
        found[row.receipt_id].append(row)
    return found


async def live_allocations(connection: AsyncConnection, *, company: str, receipt_id: UUID) -> list[Any]:
    """What a receipt is applied to now, with the debt's number."""
    rows = await connection.execute(
        text(
            """
            SELECT a.allocation_id, a.receivable_id, a.amount, a.rule, a.booked_at, r.number, r.instalment, r.customer
            FROM allocation a JOIN receivable r ON r.company = a.company AND r.receivable_id = a.receivable_id
            WHERE a.company = :company AND a.receipt_id = :id AND a.amount > 0
                AND NOT EXISTS (SELECT 1 FROM allocation u WHERE u.reverses = a.allocation_id)
            ORDER BY a.booked_at, a.allocation_id
            """
        ),
        {"company": company, "id": receipt_id},
    )
    return list(rows)


async def open_items(
    connection: AsyncConnection, *, company: str, customer: str | None, currency: str, also: Sequence[UUID], most: int
) -> list[Any]:
    """Open debts of a customer in one currency and those that are named, oldest due first."""
    query = (
        select(receivable)
        .where(
            receivable.c.company == company,
            receivable.c.currency == currency,
            receivable.c.open > 0,
            (receivable.c.customer == customer) | receivable.c.receivable_id.in_(also),
        )
        .order_by(receivable.c.due_on, receivable.c.receivable_id)
        .limit(most)
    )
    return list(await connection.execute(query))


async def match_actions(connection: AsyncConnection, *, company: str, receipt_id: UUID) -> list[Any]:
    """What people did with a receipt, newest first."""
    rows = await connection.execute(
        select(match_action)
        .where(match_action.c.company == company, match_action.c.receipt_id == receipt_id)
        .order_by(match_action.c.done_at.desc())
    )
    return list(rows)


async def payment_claims(connection: AsyncConnection, *, company: str, most: int) -> list[Any]:
    """Customers who say that they have paid, and what of theirs waits to be applied, by currency in minor units."""
    rows = await connection.execute(
        text(
            """
            SELECT s.customer, min(s.until_on) AS until_on, c.currency, c.unapplied
            FROM stop s LEFT JOIN credit c ON c.company = s.company AND c.customer = s.customer AND c.unapplied > 0
            WHERE s.company = :company AND s.kind = 'hold' AND s.reason = 'payment_claim'
            GROUP BY s.customer, c.currency, c.unapplied ORDER BY min(s.until_on), s.customer, c.currency LIMIT :most
            """
        ),
        {"company": company, "most": most},
    )
    return list(rows)


async def count_unapplied(connection: AsyncConnection, *, company: str | None) -> int:
    """How many payments, of one company or of all, are not applied in full."""
    query = select(func.count()).select_from(receipt).where(receipt.c.unapplied > 0, receipt.c.kind == "cash")
    if company is not None:
        query = query.where(receipt.c.company == company)
    return int((await connection.execute(query)).scalar_one())
