"""The only writer of payments' tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis import inbox
from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.pagination import Keyset, Window
from cobranza.contracts.payments import NoticePermitAnswer, PermitLine, PermitRefusal
from cobranza.payments.domain.ledger import NOBODY, Allocation, Books, Credit, Receipt, Receivable
from cobranza.payments.domain.matching import MadeClaim, Party, Promise, Proposal, key_of, name_key
from cobranza.payments.domain.permit import Stop
from cobranza.payments.domain.references import Directory, Invoice
from cobranza.payments.tables import match_action, receipt, receivable
from cobranza.payments.tables import suggestion as suggestion_table

Pairs = Iterable[tuple[str, Any]]

#: References are locked by their hash, so that a batch holds a bounded number of locks.
_REFERENCE_LOCKS: Final = 7_041_201
_BUCKETS: Final = 256

_RECEIVABLE: Final = (
    "company, receivable_id, customer, invoice_id, instalment, number, kind, currency, issued, allocated, credited,"
    " written_off, given_up, issued_on, due_on, version"
)
_RECEIPT: Final = (
    "company, receipt_id, customer, told_customer, kind, currency, system, external_id, sha256, amount, allocated,"
    " refunded, reversed, value_on, reason, version"
)
_ALLOCATION: Final = (
    "allocation_id, company, receipt_id, receivable_id, currency, amount, reverses, rule, cause_event_id, discount,"
    " written_off"
)


@dataclass(frozen=True, slots=True)
class Reversal:
    """A reversal that was accepted; it may wait for its payment."""

    reversed_on: date
    reason: str


@dataclass(frozen=True, slots=True, order=True)
class Naming:
    """One reference of a receipt: which receipt, in which place, and the most it may take (minor units)."""

    receipt_id: UUID
    position: int
    at_most: int | None = field(compare=False)


@dataclass(slots=True, kw_only=True)
class Needs:
    """What a batch is about: the names under which its part of the ledger is found and locked.

    All are (company, …) pairs. `naming` are references that a payer states, `named` those that an
    invoice has; `undone_receipts` and `undone_invoices` may lose their allocations.
    """

    customers: set[tuple[str, str]] = field(default_factory=set)
    naming: set[tuple[str, str]] = field(default_factory=set)
    named: set[tuple[str, str]] = field(default_factory=set)
    receipts: set[tuple[str, UUID]] = field(default_factory=set)
    invoices: set[tuple[str, UUID]] = field(default_factory=set)
    undone_receipts: set[tuple[str, UUID]] = field(default_factory=set)
    undone_invoices: set[tuple[str, UUID]] = field(default_factory=set)
    entries: set[UUID] = field(default_factory=set)
    spread: set[tuple[str, str]] = field(default_factory=set)
    receivables: set[tuple[str, UUID]] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class Facts:
    """What the database knows of a batch's needs, and what the batch adds beside the ledger itself."""

    books: Books
    directory: Directory
    namings: dict[tuple[str, str], list[Naming]]
    reversals: dict[tuple[str, UUID], Reversal]
    entries: set[UUID]
    new_details: dict[UUID, str] = field(default_factory=dict)
    new_payers: dict[UUID, str] = field(default_factory=dict)
    new_namings: list[tuple[str, str, Naming]] = field(default_factory=list)
    new_reversals: list[tuple[str, UUID, Reversal]] = field(default_factory=list)
    changed_invoices: dict[UUID, None] = field(default_factory=dict)
    new_names: set[tuple[str, str, UUID]] = field(default_factory=set)
    #: By invoice: minor units, and the last day.
    discounts: dict[UUID, tuple[int, date]] = field(default_factory=dict)
    new_discounts: dict[UUID, tuple[str, int, date]] = field(default_factory=dict)


async def open_books(tx: Transaction, needs: Needs) -> Facts:
    """Lock and load the part of the ledger that `needs` names.

    The customer row is the lock of everything the customer owes and owns. Who pays for whom is only
    known after reading, so it is read again whenever that showed one more customer to lock.
    """
    await _lock_names(tx, needs)
    locked: set[tuple[str, str]] = set()
    wanted = set(needs.customers)
    while True:
        await _lock_customers(tx, wanted - locked)
        locked |= wanted
        facts = await _load(tx, needs, locked)
        wanted = _owners(facts)
        if wanted <= locked:
            return facts


def _owners(facts: Facts) -> set[tuple[str, str]]:
    return {(r.company, r.customer) for r in facts.books.receivables.values()} | {
        (r.company, r.owner) for r in facts.books.receipts.values()
    }


async def _lock_names(tx: Transaction, needs: Needs) -> None:
    """A payment and the invoice it names may arrive at once, on two topics and under two customers."""
    names = {*needs.naming, *needs.named, *((company, str(receipt)) for company, receipt in needs.receipts)}
    if names:
        await tx.execute(
            """
            SELECT pg_advisory_xact_lock(:space, bucket) FROM (
                SELECT DISTINCT abs(hashtext(n) % :buckets) AS bucket FROM unnest(CAST(:names AS text[])) AS t(n)
                ORDER BY bucket) AS ordered
            """,
            {"space": _REFERENCE_LOCKS, "buckets": _BUCKETS, "names": [f"{c}|{name}" for c, name in sorted(names)]},
        )


async def _lock_customers(tx: Transaction, customers: set[tuple[str, str]]) -> None:
    if not customers:
        return
    pairs = _pairs(sorted(customers))
    await tx.execute(
        """
        INSERT INTO ledger_customer (company, customer)
        SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b) ORDER BY a, b ON CONFLICT DO NOTHING
        """,
        pairs,
    )
    await tx.execute(
        """
        SELECT 1 FROM ledger_customer c JOIN unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b)
            ON c.company = t.a AND c.customer = t.b ORDER BY c.company, c.customer FOR UPDATE OF c
        """,
        pairs,
    )


async def note_customers(tx: Transaction, customers: Sequence[tuple[str, str]]) -> None:
    """Make the rows of customers that are new."""
    await tx.execute(
        """
        INSERT INTO ledger_customer (company, customer)
        SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b) ORDER BY a, b ON CONFLICT DO NOTHING
        """,
        _pairs(sorted(set(customers))),
    )


async def note_webhook(
    tx: Transaction,
    *,
    company: str,
    provider: str,
    event_id: str,
    kind: str,
    payment: str | None,
    outcome: str,
    detail: str,
) -> None:
    """Keep what became of a provider's webhook; a repeat overwrites what was kept."""
    await tx.execute(
        """
        INSERT INTO webhook (company, provider, event_id, kind, payment, outcome, detail)
        VALUES (:company, :provider, :event_id, :kind, :payment, :outcome, :detail)
        ON CONFLICT (company, provider, event_id) DO UPDATE SET outcome = excluded.outcome, detail = excluded.detail,
            times = webhook.times + 1, last_at = clock_timestamp()
        """,
        {
            "company": company,
            "provider": provider,
            "event_id": event_id,
            "kind": kind,
            "payment": payment,
            "outcome": outcome,
            "detail": detail,
        },
    )


async def is_reversed(tx: Transaction, *, company: str, receipt_id: UUID) -> bool:
    """Whether a reversal of the receipt was accepted."""
    rows = await tx.execute(
        "SELECT 1 FROM reversal WHERE company = :company AND receipt_id = :receipt_id",
        {"company": company, "receipt_id": receipt_id},
    )
    return rows.first() is not None


async def _load(tx: Transaction, needs: Needs, locked: set[tuple[str, str]]) -> Facts:
    invoices, names, given = await _invoices(tx, needs)
    namings = await _namings(tx, needs.named)
    allocations = await _live_allocations(tx, needs)
    receipt_ids = needs.receipts | {
        (company, naming.receipt_id) for (company, _), found in namings.items() for naming in found
    }
    receipt_ids |= {(a.company, a.receipt_id) for a in allocations}
    invoice_ids = needs.invoices | needs.undone_invoices | {(i.company, i.invoice_id) for i in invoices}
    receivables = await _receivables(
        tx,
        invoices=invoice_ids,
        ids={(a.company, a.receivable_id) for a in allocations} | needs.receivables,
        open_of=needs.spread,
    )
    receipts = await _receipts(tx, ids=receipt_ids, unapplied_of=needs.spread)
    owners = locked | {(r.company, r.customer) for r in receivables} | {(r.company, r.owner) for r in receipts}
    return Facts(
        books=Books(
            receivables=receivables,
            receipts=receipts,
            allocations=allocations,
            credits=await _credits(tx, owners),
        ),
        directory=Directory(invoices, names),
        namings=namings,
        reversals=await _reversals(tx, needs.receipts),
        entries=await _entries(tx, needs.entries),
        discounts=given,
    )


async def _invoices(
    tx: Transaction, needs: Needs
) -> tuple[list[Invoice], list[tuple[str, str, UUID]], dict[UUID, tuple[int, date]]]:
    invoices: dict[UUID, Invoice] = {}
    given: dict[UUID, tuple[int, date]] = {}
    names: list[tuple[str, str, UUID]] = []
    if needs.naming:
        rows = await tx.execute(
            """
            SELECT i.company, i.invoice_id, i.customer, i.number, i.system, i.cancelled, t.b AS reference,
                d.amount AS discount, d.until_on
            FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b)
            JOIN invoice_reference n ON n.company = t.a AND n.reference = t.b
            JOIN invoice i ON i.company = n.company AND i.invoice_id = n.invoice_id
            LEFT JOIN invoice_discount d ON d.company = i.company AND d.invoice_id = i.invoice_id
            """,
            _pairs(needs.naming),
        )
        for row in rows:
            names.append((row.company, row.reference, row.invoice_id))
            invoices[row.invoice_id] = _invoice(row)
            if row.discount is not None:
                given[row.invoice_id] = (row.discount, row.until_on)
    if ids := needs.invoices | needs.undone_invoices:
        rows = await tx.execute(
            """
            SELECT i.company, i.invoice_id, i.customer, i.number, i.system, i.cancelled
            FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])) AS t(a, b)
            JOIN invoice i ON i.company = t.a AND i.invoice_id = t.b
            """,
            _pairs(ids),
        )
        invoices.update((row.invoice_id, _invoice(row)) for row in rows)
    return list(invoices.values()), names, given


def _invoice(row: Any) -> Invoice:
    return Invoice(
        company=row.company,
        invoice_id=row.invoice_id,
        customer=row.customer,
        number=row.number,
        system=row.system,
        cancelled=row.cancelled,
    )


async def _namings(tx: Transaction, named: set[tuple[str, str]]) -> dict[tuple[str, str], list[Naming]]:
    found: dict[tuple[str, str], list[Naming]] = {}
    if named:
        rows = await tx.execute(
            """
            SELECT n.company, n.reference, n.receipt_id, n.position, n.at_most
            FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b)
            JOIN receipt_reference n ON n.company = t.a AND n.reference = t.b
            JOIN receipt r ON r.company = n.company AND r.receipt_id = n.receipt_id
            WHERE r.unapplied > 0
            """,
            _pairs(named),
        )
        for row in rows:
            found.setdefault((row.company, row.reference), []).append(Naming(row.receipt_id, row.position, row.at_most))
    return found


async def _live_allocations(tx: Transaction, needs: Needs) -> list[Allocation]:
    if not (needs.undone_receipts or needs.undone_invoices):
        return []
    rows = await tx.execute(
        f"""
        SELECT {_ALLOCATION} FROM allocation a
        WHERE a.amount > 0 AND NOT EXISTS (SELECT 1 FROM allocation u WHERE u.reverses = a.allocation_id) AND (
            (a.company, a.receipt_id) IN (SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])))
            OR (a.company, a.receivable_id) IN (
                SELECT r.company, r.receivable_id FROM unnest(CAST(:c AS text[]), CAST(:d AS uuid[])) AS t(c, d)
                JOIN receivable r ON r.company = t.c AND r.invoice_id = t.d))
        ORDER BY a.booked_at, a.allocation_id
        """,  # noqa: S608 - constant columns
        {**_pairs(needs.undone_receipts), **_pairs(needs.undone_invoices, "cd")},
    )
    return [Allocation(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


async def _receivables(tx: Transaction, *, invoices: Pairs, ids: Pairs, open_of: Pairs) -> list[Receivable]:
    found: dict[UUID, Receivable] = {}
    for column, kind, pairs, condition in (
        ("invoice_id", "uuid", list(invoices), ""),
        ("receivable_id", "uuid", list(ids), ""),
        ("customer", "text", list(open_of), "WHERE r.open > 0"),
    ):
        if pairs:
            rows = await tx.execute(
                f"""
                SELECT {_prefixed(_RECEIVABLE, "r")} FROM unnest(CAST(:a AS text[]), CAST(:b AS {kind}[])) AS t(a, b)
                JOIN receivable r ON r.company = t.a AND r.{column} = t.b {condition}
                """,  # noqa: S608 - constants
                _pairs(pairs),
            )
            found.update((row.receivable_id, _receivable(row)) for row in rows)
    return list(found.values())


def _receivable(row: Any) -> Receivable:
    return Receivable(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def _receipt(row: Any) -> Receipt:
    return Receipt(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


async def _receipts(tx: Transaction, *, ids: Pairs, unapplied_of: Pairs) -> list[Receipt]:
    found: dict[UUID, Receipt] = {}
    for column, kind, pairs, condition in (
        ("receipt_id", "uuid", list(ids), ""),
        ("customer", "text", list(unapplied_of), "WHERE r.unapplied > 0"),
    ):
        if pairs:
            rows = await tx.execute(
                f"""
                SELECT {_prefixed(_RECEIPT, "r")}, r.arrived FROM unnest(CAST(:a AS text[]), CAST(:b AS {kind}[])) AS t(a, b)
                JOIN receipt r ON r.company = t.a AND r.{column} = t.b {condition}
                """,  # noqa: S608 - constants
                _pairs(pairs),
            )
            found.update((row.receipt_id, _receipt(row)) for row in rows)
    return list(found.values())


async def _credits(tx: Transaction, owners: set[tuple[str, str]]) -> list[Credit]:
    rows = await tx.execute(
        """
        SELECT c.company, c.customer, c.currency, c.unapplied, c.version
        FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b)
        JOIN credit c ON c.company = t.a AND c.customer = t.b
        """,
        _pairs(owners),
    )
    return [Credit(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


async def _reversals(tx: Transaction, receipts: set[tuple[str, UUID]]) -> dict[tuple[str, UUID], Reversal]:
    if not receipts:
        return {}
    rows = await tx.execute(
        """
        SELECT r.company, r.receipt_id, r.reversed_on, r.reason
        FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])) AS t(a, b)
        JOIN reversal r ON r.company = t.a AND r.receipt_id = t.b
        """,
        _pairs(receipts),
    )
    return {(row.company, row.receipt_id): Reversal(row.reversed_on, row.reason) for row in rows}


async def _entries(tx: Transaction, ids: set[UUID]) -> set[UUID]:
    if not ids:
        return set()
    rows = await tx.execute(
        "SELECT entry_id FROM journal_entry WHERE entry_id = ANY(CAST(:ids AS uuid[]))", {"ids": list(ids)}
    )
    return {row.entry_id for row in rows}


async def save(tx: Transaction, facts: Facts) -> None:
    """Write what a batch changed, each table by one statement."""
    books = facts.books
    await _save_receivables(tx, books)
    await _save_receipts(tx, facts)
    # From here on nothing joins: custom plans would only plan the check of every foreign key anew, row by row.
    await tx.execute("SET LOCAL plan_cache_mode = auto")
    if books.allocations:
        await tx.execute(
            """
            INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, reverses, rule,
                cause_event_id, discount, written_off)
            SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:companies AS text[]), CAST(:receipts AS uuid[]),
                CAST(:receivables AS uuid[]), CAST(:currencies AS text[]), CAST(:amounts AS bigint[]),
                CAST(:reverses AS uuid[]), CAST(:rules AS text[]), CAST(:causes AS uuid[]),
                CAST(:discounts AS bigint[]), CAST(:written_off AS bigint[]))
            """,
            {
                "ids": [a.allocation_id for a in books.allocations],
                "companies": [a.company for a in books.allocations],
                "receipts": [a.receipt_id for a in books.allocations],
                "receivables": [a.receivable_id for a in books.allocations],
                "currencies": [a.currency for a in books.allocations],
                "amounts": [a.amount for a in books.allocations],
                "reverses": [a.reverses for a in books.allocations],
                "rules": [a.rule for a in books.allocations],
                "causes": [a.cause_event_id for a in books.allocations],
                "discounts": [a.discount for a in books.allocations],
                "written_off": [a.written_off for a in books.allocations],
            },
        )
    await _save_journal(tx, books)
    if books.changed_credits:
        changed = [books.credits[key] for key in sorted(books.changed_credits)]
        await tx.execute(
            """
            INSERT INTO credit (company, customer, currency, unapplied, version)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:customers AS text[]), CAST(:currencies AS text[]),
                CAST(:unapplied AS bigint[]), CAST(:versions AS bigint[]))
            ON CONFLICT (company, customer, currency) DO UPDATE SET unapplied = excluded.unapplied,
                version = excluded.version
            """,
            {
                "companies": [c.company for c in changed],
                "customers": [c.customer for c in changed],
                "currencies": [c.currency for c in changed],
                "unapplied": [c.unapplied for c in changed],
                "versions": [c.version for c in changed],
            },
        )
    await _save_knowledge(tx, facts)


async def _save_receivables(tx: Transaction, books: Books) -> None:
    new = [books.receivables[i] for i in sorted(books.new_receivables)]
    if new:
        await tx.execute(
            f"""
            INSERT INTO receivable ({_RECEIVABLE})
            SELECT * FROM unnest(CAST(:company AS text[]), CAST(:receivable_id AS uuid[]), CAST(:customer AS text[]),
                CAST(:invoice_id AS uuid[]), CAST(:instalment AS int[]), CAST(:number AS text[]), CAST(:kind AS text[]),
                CAST(:currency AS text[]), CAST(:issued AS bigint[]), CAST(:allocated AS bigint[]),
                CAST(:credited AS bigint[]), CAST(:written_off AS bigint[]), CAST(:given_up AS bigint[]),
                CAST(:issued_on AS date[]), CAST(:due_on AS date[]), CAST(:version AS bigint[]))
            """,  # noqa: S608 - constant columns
            _columns(_RECEIVABLE, new),
        )
    changed = [books.receivables[i] for i in sorted(books.changed_receivables.keys() - books.new_receivables.keys())]
    if changed:
        await tx.execute(
            """
            WITH moved AS (
                UPDATE receivable r SET allocated = t.allocated, credited = t.credited, written_off = t.written_off,
                    given_up = t.given_up, due_on = t.due_on, version = t.version
                FROM unnest(CAST(:company AS text[]), CAST(:receivable_id AS uuid[]), CAST(:allocated AS bigint[]),
                    CAST(:credited AS bigint[]), CAST(:written_off AS bigint[]), CAST(:given_up AS bigint[]),
                    CAST(:due_on AS date[]), CAST(:version AS bigint[]))
                    AS t(company, id, allocated, credited, written_off, given_up, due_on, version)
                WHERE r.company = t.company AND r.receivable_id = t.id
                RETURNING r.company, r.receivable_id)
            -- What is charged for a debt that moved, or of which a charge did, is looked at again.
            INSERT INTO charge_look (company, debt_id)
            SELECT d.company, d.debt_id FROM moved m
                JOIN late_charge_debt d ON d.company = m.company AND d.debt_id = m.receivable_id
            UNION SELECT d.company, d.debt_id FROM moved m
                JOIN late_charge_debt d ON d.company = m.company AND d.receivable_id = m.receivable_id
            ORDER BY 1, 2 ON CONFLICT (company, debt_id) DO UPDATE SET not_before = clock_timestamp(), reason = NULL
            """,
            _columns("company, receivable_id, allocated, credited, written_off, given_up, due_on, version", changed),
        )


async def _save_receipts(tx: Transaction, facts: Facts) -> None:
    books = facts.books
    new = [books.receipts[i] for i in books.new_receipts]
    if new:
        await tx.execute(
            f"""
            INSERT INTO receipt ({_RECEIPT}, details, payer)
            SELECT * FROM unnest(CAST(:company AS text[]), CAST(:receipt_id AS uuid[]), CAST(:customer AS text[]),
                CAST(:told_customer AS text[]), CAST(:kind AS text[]), CAST(:currency AS text[]), CAST(:system AS text[]),
                CAST(:external_id AS text[]), CAST(:sha256 AS bytea[]), CAST(:amount AS bigint[]),
                CAST(:allocated AS bigint[]), CAST(:refunded AS bigint[]), CAST(:reversed AS bigint[]),
                CAST(:value_on AS date[]), CAST(:reason AS text[]), CAST(:version AS bigint[]),
                CAST(:details AS jsonb[]), CAST(:payers AS jsonb[]))
            """,  # noqa: S608 - constant columns
            {
                **_columns(_RECEIPT, new),
                "details": [facts.new_details.get(r.receipt_id, "{}") for r in new],
                "payers": [facts.new_payers.get(r.receipt_id) for r in new],
            },
        )
    changed = [books.receipts[i] for i in sorted(books.changed_receipts.keys() - books.new_receipts.keys())]
    if changed:
        await tx.execute(
            """
            UPDATE receipt r SET customer = t.customer, allocated = t.allocated, refunded = t.refunded,
                reversed = t.reversed, reason = t.reason, version = t.version
            FROM unnest(CAST(:company AS text[]), CAST(:receipt_id AS uuid[]), CAST(:customer AS text[]),
                CAST(:allocated AS bigint[]), CAST(:refunded AS bigint[]), CAST(:reversed AS bigint[]),
                CAST(:reason AS text[]), CAST(:version AS bigint[]))
                AS t(company, id, customer, allocated, refunded, reversed, reason, version)
            WHERE r.company = t.company AND r.receipt_id = t.id
            """,
            _columns("company, receipt_id, customer, allocated, refunded, reversed, reason, version", changed),
        )


async def _save_journal(tx: Transaction, books: Books) -> None:
    if not books.entries:
        return
    await tx.execute(
        """
        INSERT INTO journal_entry (entry_id, company, kind, cause_event_id, reverses, effective_on)
        SELECT * FROM unnest(CAST(:entry_id AS uuid[]), CAST(:company AS text[]), CAST(:kind AS text[]),
            CAST(:cause_event_id AS uuid[]), CAST(:reverses AS uuid[]), CAST(:effective_on AS date[]))
        """,
        _columns("entry_id, company, kind, cause_event_id, reverses, effective_on", books.entries),
    )
    lines = [(entry.entry_id, number, line) for entry in books.entries for number, line in enumerate(entry.lines, 1)]
    await tx.execute(
        """
        INSERT INTO journal_line (entry_id, line, account, receivable_id, receipt_id, currency, amount)
        SELECT * FROM unnest(CAST(:entries AS uuid[]), CAST(:numbers AS int[]), CAST(:accounts AS text[]),
            CAST(:receivables AS uuid[]), CAST(:receipts AS uuid[]), CAST(:currencies AS text[]),
            CAST(:amounts AS bigint[]))
        """,
        {
            "entries": [entry for entry, _, _ in lines],
            "numbers": [number for _, number, _ in lines],
            "accounts": [line.account for _, _, line in lines],
            "receivables": [line.receivable_id for _, _, line in lines],
            "receipts": [line.receipt_id for _, _, line in lines],
            "currencies": [line.currency for _, _, line in lines],
            "amounts": [line.amount for _, _, line in lines],
        },
    )


async def _save_knowledge(tx: Transaction, facts: Facts) -> None:
    """What is known beside the ledger: invoices, references, reversals."""
    invoices = [i for key in sorted(facts.changed_invoices) if (i := facts.directory.get(key)) is not None]
    if invoices:
        await tx.execute(
            """
            INSERT INTO invoice (company, invoice_id, customer, number, system, cancelled)
            SELECT * FROM unnest(CAST(:company AS text[]), CAST(:invoice_id AS uuid[]), CAST(:customer AS text[]),
                CAST(:number AS text[]), CAST(:system AS text[]), CAST(:cancelled AS boolean[]))
            ON CONFLICT (company, invoice_id) DO UPDATE SET number = excluded.number, cancelled = excluded.cancelled
            """,
            _columns("company, invoice_id, customer, number, system, cancelled", invoices),
        )
    if facts.new_discounts:
        found = sorted(facts.new_discounts.items())
        await tx.execute(
            """
            INSERT INTO invoice_discount (invoice_id, company, amount, until_on)
            SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:companies AS text[]), CAST(:amounts AS bigint[]),
                CAST(:untils AS date[]))
            ON CONFLICT (company, invoice_id) DO UPDATE SET amount = excluded.amount, until_on = excluded.until_on
            """,
            {
                "ids": [invoice_id for invoice_id, _ in found],
                "companies": [company for _, (company, _, _) in found],
                "amounts": [amount for _, (_, amount, _) in found],
                "untils": [until_on for _, (_, _, until_on) in found],
            },
        )
    if facts.new_names:
        names = sorted(facts.new_names)
        await tx.execute(
            """
            INSERT INTO invoice_reference (company, reference, invoice_id)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:references AS text[]), CAST(:ids AS uuid[]))
            ON CONFLICT DO NOTHING
            """,
            {
                "companies": [company for company, _, _ in names],
                "references": [reference for _, reference, _ in names],
                "ids": [invoice_id for _, _, invoice_id in names],
            },
        )
    if facts.new_namings:
        await tx.execute(
            """
            INSERT INTO receipt_reference (company, receipt_id, position, reference, at_most)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:receipts AS uuid[]), CAST(:positions AS int[]),
                CAST(:references AS text[]), CAST(:at_most AS bigint[]))
            """,
            {
                "companies": [company for company, _, _ in facts.new_namings],
                "receipts": [naming.receipt_id for _, _, naming in facts.new_namings],
                "positions": [naming.position for _, _, naming in facts.new_namings],
                "references": [reference for _, reference, _ in facts.new_namings],
                "at_most": [naming.at_most for _, _, naming in facts.new_namings],
            },
        )
    if facts.new_reversals:
        await tx.execute(
            """
            INSERT INTO reversal (company, receipt_id, reversed_on, reason)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:receipts AS uuid[]), CAST(:dates AS date[]),
                CAST(:reasons AS text[]))
            """,
            {
                "companies": [company for company, _, _ in facts.new_reversals],
                "receipts": [receipt for _, receipt, _ in facts.new_reversals],
                "dates": [reversal.reversed_on for _, _, reversal in facts.new_reversals],
                "reasons": [reversal.reason for _, _, reversal in facts.new_reversals],
            },
        )


async def move_watermark(
    tx: Transaction, *, company: str, feed: str | None, through_on: date, stated_at: datetime
) -> int | None:
    """Move a feed's watermark forward; returns its new version, or None when it was there already."""
    result = await tx.execute(
        """
        INSERT INTO cash_feed (company, feed, through_on, stated_at, version)
        VALUES (:company, :feed, :through_on, :stated_at, 1)
        ON CONFLICT (company, feed) DO UPDATE SET through_on = excluded.through_on, stated_at = excluded.stated_at,
            version = cash_feed.version + 1
        WHERE cash_feed.through_on < excluded.through_on
        RETURNING version
        """,
        {"company": company, "feed": feed or NOBODY, "through_on": through_on, "stated_at": stated_at},
    )
    return result.scalar_one_or_none()


async def keep_control_total(
    tx: Transaction, *, company: str, currency: str, total_on: date, system: str, told: str
) -> str | None:
    """Keep a control total; returns what was kept before under the same identity, or None."""
    key = {"company": company, "currency": currency, "total_on": total_on, "system": system}
    inserted = await tx.execute(
        """
        INSERT INTO control_total (company, currency, total_on, system, told)
        VALUES (:company, :currency, :total_on, :system, CAST(:told AS jsonb)) ON CONFLICT DO NOTHING
        """,
        {**key, "told": told},
    )
    if inserted.rowcount:
        return None
    kept = await tx.execute(
        """
        SELECT told FROM control_total WHERE company = :company AND currency = :currency AND total_on = :total_on
            AND system = :system
        """,
        key,
    )
    return json.dumps(kept.scalar_one())


async def keep_fiscal_answer(tx: Transaction, *, company: str, fiscal_receipt_id: UUID, told: str) -> bool:
    """Keep the answer to a fiscal receipt; False when the same was known."""
    result = await tx.execute(
        """
        INSERT INTO fiscal_receipt_answer AS f (company, fiscal_receipt_id, told) VALUES (:company, :id, CAST(:told AS jsonb))
        ON CONFLICT (company, fiscal_receipt_id) DO UPDATE SET told = excluded.told WHERE f.told <> excluded.told
        """,
        {"company": company, "id": fiscal_receipt_id, "told": told},
    )
    return bool(result.rowcount)


async def note_parked_input(
    tx: Transaction, *, company: str, input_id: UUID, customer: str | None, code: str, waiting: bool
) -> None:
    """Note that an input of invoicing waits for a person, or no longer."""
    await tx.execute(
        """
        INSERT INTO input_parked (company, input_id, customer, code, waiting)
        VALUES (:company, :id, :customer, :code, :waiting)
        ON CONFLICT (company, input_id) DO UPDATE SET waiting = excluded.waiting
        """,
        {"company": company, "id": input_id, "customer": customer, "code": code, "waiting": waiting},
    )


async def replace_stop(
    tx: Transaction, *, company: str, kind: str, stop_id: UUID, customer: str, stops: Sequence[Stop]
) -> None:
    """What a hold, promise, plan or dispute stops from now on; nothing ends it."""
    await tx.execute(
        "DELETE FROM stop WHERE company = :company AND kind = :kind AND stop_id = :id",
        {"company": company, "kind": kind, "id": stop_id},
    )
    if stops:
        await tx.execute(
            """
            INSERT INTO stop (company, kind, stop_id, line, customer, receivable_id, amount, reason, until_on)
            SELECT :company, :kind, :id, t.line, :customer, t.receivable, t.amount, t.reason, t.until_on
            FROM unnest(CAST(:lines AS int[]), CAST(:receivables AS uuid[]), CAST(:amounts AS bigint[]),
                CAST(:reasons AS text[]), CAST(:untils AS date[])) AS t(line, receivable, amount, reason, until_on)
            """,
            {
                "company": company,
                "kind": kind,
                "id": stop_id,
                "customer": customer,
                "lines": list(range(1, len(stops) + 1)),
                "receivables": [stop.receivable_id for stop in stops],
                "amounts": [stop.amount for stop in stops],
                "reasons": [stop.reason for stop in stops],
                "untils": [stop.until_on for stop in stops],
            },
        )


async def note_handed(tx: Transaction, rows: Sequence[tuple[UUID, int, datetime]]) -> None:
    """Note when the notices of permits (notice, attempt) were handed over."""
    await tx.execute(
        """
        UPDATE permit p SET handed_at = t.at
        FROM unnest(CAST(:notices AS uuid[]), CAST(:attempts AS int[]), CAST(:instants AS timestamptz[])) AS t(notice, n, at)
        WHERE p.notice_id = t.notice AND p.attempt = t.n AND p.handed_at IS NULL
        """,
        {
            "notices": [notice for notice, _, _ in rows],
            "attempts": [attempt for _, attempt, _ in rows],
            "instants": [at for _, _, at in rows],
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitFacts:
    """What a permit is decided from, read under the customer's lock."""

    receivables: dict[UUID, Receivable]
    stops: list[Stop]
    credits: dict[str, int]
    cash_through: date | None
    input_parked: bool
    ledger_stopped: bool
    holds_age_seconds: float | None


async def lock_for_permit(tx: Transaction, *, company: str, customer: str) -> None:
    """Take the customer's lock: no payment of theirs commits until the permit is given."""
    await _lock_customers(tx, {(company, customer)})


async def customer_of(tx: Transaction, *, company: str, receivable_id: UUID) -> str | None:
    """Whose debt a receivable is, or None."""
    rows = await tx.execute(
        "SELECT customer FROM receivable WHERE company = :company AND receivable_id = :id",
        {"company": company, "id": receivable_id},
    )
    return rows.scalar_one_or_none()


async def permit_facts(tx: Transaction, *, company: str, customer: str, receivable_ids: Sequence[UUID]) -> PermitFacts:
    """Read all that the gates ask about."""
    who = {"company": company, "customer": customer}
    receivables = await tx.execute(
        f"""
        SELECT {_RECEIVABLE} FROM receivable
        WHERE company = :company AND receivable_id = ANY(CAST(:ids AS uuid[])) AND customer = :customer
        """,  # noqa: S608 - constant columns
        {**who, "ids": list(receivable_ids)},
    )
    stops = await tx.execute(
        "SELECT kind, receivable_id, amount, reason, until_on FROM stop WHERE company = :company AND customer = :customer",
        who,
    )
    known = (
        await tx.execute(
            """
            SELECT (SELECT jsonb_object_agg(currency, unapplied) FROM credit
                    WHERE company = :company AND customer = :customer) AS credits,
                greatest((SELECT through_on FROM cash_feed WHERE company = :company AND feed = '-'),
                    (SELECT min(through_on) FROM cash_feed WHERE company = :company AND feed <> '-')) AS cash_through,
                EXISTS (SELECT 1 FROM input_parked WHERE company = :company AND customer = :customer AND waiting)
                    OR EXISTS (SELECT 1 FROM parked WHERE consumer = :consumer AND key = :key AND closed_at IS NULL)
                    AS input_parked,
                (SELECT stopped FROM ledger_stop) AS ledger_stopped
            """,
            {**who, "consumer": tx.service, "key": f"{company}|{customer}"},
        )
    ).one()
    return PermitFacts(
        receivables={row.receivable_id: _receivable(row) for row in receivables},
        stops=[Stop(**row._mapping) for row in stops],  # noqa: SLF001 - SQLAlchemy's public name
        credits=known.credits or {},
        cash_through=known.cash_through,
        input_parked=known.input_parked,
        ledger_stopped=bool(known.ledger_stopped),
        holds_age_seconds=await inbox.oldest_caught_up_age_seconds(
            tx.connection, consumer=tx.service, topics=("cobranza.dunning", "cobranza.invoicing")
        ),
    )


async def control_verdict(tx: Transaction, *, company: str, currency: str) -> str | None:
    """The verdict on the newest control total that was compared, or None when none was."""
    result = await tx.execute(
        """
        SELECT verdict FROM control_total WHERE company = :company AND currency = :currency AND verdict IS NOT NULL
        ORDER BY total_on DESC LIMIT 1
        """,
        {"company": company, "currency": currency},
    )
    return result.scalar_one_or_none()


async def stored_permit(
    tx: Transaction, *, notice_id: UUID, attempt: int
) -> tuple[str, str, NoticePermitAnswer] | None:
    """Company, customer and the answer given before to the same notice and attempt."""
    row = (
        await tx.execute(
            """
            SELECT company, customer, notice_id, attempt, granted, asked_at, expires_at, lines, refusals, credit, claimed
            FROM permit WHERE notice_id = :notice_id AND attempt = :attempt
            """,
            {"notice_id": notice_id, "attempt": attempt},
        )
    ).one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    company, customer = values.pop("company"), values.pop("customer")
    values["lines"] = tuple(PermitLine.model_validate(line) for line in values["lines"])
    values["refusals"] = tuple(PermitRefusal.model_validate(refusal) for refusal in values["refusals"])
    ttl = round((row.expires_at - row.asked_at).total_seconds()) if row.granted else 0
    return company, customer, NoticePermitAnswer(**values, ttl_seconds=ttl)


async def save_permit(tx: Transaction, *, company: str, customer: str, answer: NoticePermitAnswer) -> None:
    """Keep an answer for the same question, and for the audit of what was sent."""
    told = answer.model_dump(mode="json")
    await tx.execute(
        """
        INSERT INTO permit (notice_id, attempt, company, customer, granted, asked_at, expires_at, lines, refusals, credit,
            claimed)
        VALUES (:notice_id, :attempt, :company, :customer, :granted, :asked_at, :expires_at, CAST(:lines AS jsonb),
            CAST(:refusals AS jsonb), CAST(:credit AS jsonb), CAST(:claimed AS jsonb))
        """,
        {
            "notice_id": answer.notice_id,
            "attempt": answer.attempt,
            "company": company,
            "customer": customer,
            "granted": answer.granted,
            "asked_at": answer.asked_at,
            "expires_at": answer.expires_at,
            "lines": json.dumps(told["lines"]),
            "refusals": json.dumps(told["refusals"]),
            "credit": None if answer.credit is None else json.dumps(told["credit"]),
            "claimed": None if answer.claimed is None else json.dumps(told["claimed"]),
        },
    )


async def set_ledger_stop(tx: Transaction, *, broken: Sequence[str]) -> None:
    """Stop permits while the ledger does not balance, and let them go on when it does again."""
    await tx.execute(
        """
        UPDATE ledger_stop SET stopped = :stopped, reason = :reason,
            since = CASE WHEN stopped = :stopped THEN since ELSE clock_timestamp() END
        """,
        {"stopped": bool(broken), "reason": ", ".join(broken) or "balanced"},
    )


# ---------------------------------------------------------------------- bank files


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedLine:
    """One booked movement of a file on its way into the ledger; `told` is the payment as JSON."""

    position: int
    line: int
    account: str
    identity: str
    entry_ref: str | None
    kind: str
    currency: str
    amount: int
    booked_on: date
    value_on: date
    content: str
    told: str
    texts: str
    trace: str


_STAGED: Final = (
    "position, line, account, identity, entry_ref, kind, currency, amount, booked_on, value_on, content,"
    " told, texts, trace"
)


async def save_mapping(tx: Transaction, *, company: str, name: str, mapping: str, by: str) -> None:
    """Keep a mapping under its name, in place of the one before."""
    await tx.execute(
        """
        INSERT INTO bank_mapping (company, name, mapping, saved_by) VALUES (:company, :name, CAST(:mapping AS jsonb), :by)
        ON CONFLICT (company, name) DO UPDATE SET mapping = excluded.mapping, saved_by = excluded.saved_by,
            saved_at = clock_timestamp()
        """,
        {"company": company, "name": name, "mapping": mapping, "by": by},
    )


async def mapping(tx: Transaction, *, company: str, name: str) -> Any | None:
    """A saved mapping, or None."""
    rows = await tx.execute(
        "SELECT mapping FROM bank_mapping WHERE company = :company AND name = :name", {"company": company, "name": name}
    )
    return rows.scalar_one_or_none()


async def import_of_content(tx: Transaction, *, company: str, sha256: bytes) -> UUID | None:
    """The import that took exactly this file in, or None."""
    rows = await tx.execute(
        """
        SELECT import_id FROM bank_import WHERE company = :company AND sha256 = :sha256
            AND state IN ('importing', 'imported', 'undoing') ORDER BY checked_at LIMIT 1
        """,
        {"company": company, "sha256": sha256},
    )
    return rows.scalar_one_or_none()


async def forget_checks(tx: Transaction, *, company: str, days: int) -> None:
    """Forget files that were only checked, after some days."""
    await tx.execute(
        """
        DELETE FROM bank_import WHERE company = :company AND state = 'checked'
            AND checked_at < clock_timestamp() - make_interval(days => :days)
        """,
        {"company": company, "days": days},
    )


async def open_import(tx: Transaction, **told: Any) -> None:
    """Begin to stage a file."""
    await tx.execute(
        """
        INSERT INTO bank_import (import_id, company, name, sha256, format, mapping, state, statements, ignored, checked_by)
        VALUES (:import_id, :company, :name, :sha256, :format, :mapping, 'checked', '[]', '[]', :checked_by)
        """,
        told,
    )


async def stage_lines(tx: Transaction, *, import_id: UUID, company: str, lines: Sequence[StagedLine]) -> None:
    """Keep movements of a file; nothing of them is in the ledger."""
    if lines:
        await tx.execute(
            f"""
            INSERT INTO bank_line (import_id, company, {_STAGED})
            SELECT :import_id, :company, * FROM unnest(CAST(:position AS int[]), CAST(:line AS int[]),
                CAST(:account AS text[]), CAST(:identity AS text[]), CAST(:entry_ref AS text[]), CAST(:kind AS text[]),
                CAST(:currency AS text[]), CAST(:amount AS bigint[]), CAST(:booked_on AS date[]), CAST(:value_on AS date[]),
                CAST(:content AS text[]), CAST(:told AS jsonb[]), CAST(:texts AS jsonb[]), CAST(:trace AS jsonb[]))
            """,  # noqa: S608 - constant columns
            {"import_id": import_id, "company": company, **_columns(_STAGED, lines)},
        )


async def close_staging(tx: Transaction, *, import_id: UUID, statements: str, ignored: str) -> None:
    """Note what the file says as a whole."""
    await tx.execute(
        """
        UPDATE bank_import SET statements = CAST(:statements AS jsonb), ignored = CAST(:ignored AS jsonb)
        WHERE import_id = :import_id
        """,
        {"import_id": import_id, "statements": statements, "ignored": ignored},
    )


async def judge_lines(tx: Transaction, *, import_id: UUID) -> None:
    """Say of each line of a file whether it is new, known, or told otherwise before; anew each time."""
    for statement in _JUDGE:
        await tx.execute(statement, {"id": import_id})


_BOOKINGS: Final = """
    WITH mine AS (
        SELECT company, account, kind, entry_ref, currency, sum(amount) AS total, count(*) AS parts
        FROM bank_line WHERE import_id = :id AND entry_ref IS NOT NULL GROUP BY 1, 2, 3, 4, 5),
    both_told AS (
        SELECT m.company, m.account, m.kind, m.entry_ref, m.total, m.parts, sum(o.amount) AS other_total,
            count(*) AS other_parts, (array_agg(o.import_id ORDER BY o.line))[1] AS other_import, min(o.line) AS other_line
        FROM mine m JOIN bank_line o ON o.company = m.company AND o.account = m.account AND o.entry_ref = m.entry_ref
            AND o.kind = m.kind AND o.currency = m.currency AND o.live AND o.import_id <> :id
        GROUP BY m.company, m.account, m.kind, m.entry_ref, m.total, m.parts)
    UPDATE bank_line l SET verdict = CASE WHEN b.total = b.other_total THEN 'known' ELSE 'conflict' END,
        note = CASE WHEN b.total = b.other_total THEN NULL ELSE 'booking ' || b.entry_ref END,
        other_import = b.other_import, other_line = b.other_line
    FROM both_told b WHERE l.import_id = :id AND l.account = b.account AND l.kind = b.kind AND l.entry_ref = b.entry_ref
        AND l.verdict = 'new'
"""

_JUDGE: Final = (
    """
    UPDATE bank_line SET verdict = 'new', note = NULL, other_import = NULL, other_line = NULL, external_id = NULL
    WHERE import_id = :id
    """,
    # A booking that was told in other parts before: as one sum in the statement, each part in the notification.
    _BOOKINGS + " AND b.parts <> b.other_parts",
    """
    UPDATE bank_line l SET verdict = CASE WHEN o.content = l.content THEN 'known' ELSE 'conflict' END,
        note = CASE WHEN o.content = l.content THEN NULL ELSE o.content END,
        other_import = o.import_id, other_line = o.line
    FROM bank_line o WHERE l.import_id = :id AND l.verdict = 'new' AND o.company = l.company AND o.identity = l.identity
        AND o.live AND o.import_id <> :id
    """,
    _BOOKINGS,
    # The payment's name; after an undone import the movement comes as another payment.
    """
    UPDATE bank_line l SET external_id = left(l.identity, 32) || coalesce('-' || e.earlier, '')
    FROM bank_line s LEFT JOIN LATERAL (
        SELECT nullif(count(*), 0) AS earlier FROM bank_line o
        WHERE o.company = s.company AND o.identity = s.identity AND o.receipt_id IS NOT NULL AND o.import_id <> :id) e ON true
    WHERE l.import_id = :id AND s.import_id = :id AND s.position = l.position AND l.kind = 'credit' AND l.verdict = 'new'
    """,
    # A reversal takes back the one payment of the account with its amount and one of its references.
    """
    WITH candidates AS (
        SELECT r.position, o.import_id, o.line, o.external_id,
            count(*) OVER (PARTITION BY r.position) AS found,
            row_number() OVER (PARTITION BY o.import_id, o.position ORDER BY r.position) AS place
        FROM bank_line r JOIN bank_line o ON o.company = r.company AND o.account = r.account AND o.kind = 'credit'
            AND o.currency = r.currency AND o.amount = r.amount
            AND (o.live OR (o.import_id = :id AND o.verdict = 'new' AND o.position < r.position))
            AND EXISTS (SELECT 1 FROM jsonb_array_elements_text(r.trace) AS t(x) WHERE o.trace @> to_jsonb(t.x))
        WHERE r.import_id = :id AND r.kind = 'reversal' AND r.verdict = 'new'
            AND NOT EXISTS (SELECT 1 FROM reversal v WHERE v.company = o.company AND v.receipt_id = o.receipt_id))
    UPDATE bank_line l SET external_id = c.external_id, other_import = c.import_id, other_line = c.line
    FROM candidates c WHERE l.import_id = :id AND l.position = c.position AND c.found = 1 AND c.place = 1
    """,
    """
    UPDATE bank_line SET verdict = 'unmatched' WHERE import_id = :id AND kind = 'reversal' AND verdict = 'new'
        AND external_id IS NULL
    """,
)


async def lock_import(tx: Transaction, *, import_id: UUID, company: str | None) -> Any | None:
    """An import, locked until the transaction ends; None when the company has none of that id."""
    rows = await tx.execute(
        """
        SELECT * FROM bank_import WHERE import_id = :id AND company = coalesce(CAST(:company AS text), company) FOR UPDATE
        """,
        {"id": import_id, "company": company},
    )
    return rows.one_or_none()


async def busy_import(tx: Transaction, *, company: str) -> UUID | None:
    """The import of the company that is on its way into or out of the ledger; locks out another's start."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('bank-import'), hashtext(:c))", {"c": company})
    rows = await tx.execute(
        "SELECT import_id FROM bank_import WHERE company = :c AND state IN ('importing', 'undoing')", {"c": company}
    )
    return rows.scalar_one_or_none()


async def unfinished_imports(tx: Transaction) -> list[tuple[UUID, str]]:
    """Imports on their way, with their states."""
    rows = await tx.execute("SELECT import_id, state FROM bank_import WHERE state IN ('importing', 'undoing')")
    return [(row.import_id, row.state) for row in rows]


async def set_import_state(tx: Transaction, *, import_id: UUID, state: str, by: str | None = None) -> None:
    """Move an import on."""
    await tx.execute(
        """
        UPDATE bank_import SET state = :state,
            imported_at = CASE WHEN :state = 'imported' THEN clock_timestamp() ELSE imported_at END,
            undone_at = CASE WHEN :state = 'undone' THEN clock_timestamp() ELSE undone_at END,
            undone_by = coalesce(CAST(:by AS text), undone_by)
        WHERE import_id = :id
        """,
        {"id": import_id, "state": state, "by": by},
    )


async def note_watermark(tx: Transaction, *, import_id: UUID, words: str) -> None:
    """Note what an import did to the cash watermark."""
    await tx.execute(
        "UPDATE bank_import SET watermark = :words WHERE import_id = :id", {"id": import_id, "words": words}
    )


async def lines_to_import(tx: Transaction, *, import_id: UUID, most: int) -> list[Any]:
    """The next lines to be booked, in file order."""
    rows = await tx.execute(
        """
        SELECT position, line, kind, value_on, booked_on, told, external_id FROM bank_line
        WHERE import_id = :id AND verdict = 'new' AND NOT live ORDER BY position LIMIT :most
        """,
        {"id": import_id, "most": most},
    )
    return list(rows)


async def mark_imported(tx: Transaction, *, import_id: UUID, receipts: Mapping[int, UUID]) -> None:
    """These lines, by position, are in the ledger as those receipts."""
    await tx.execute(
        """
        UPDATE bank_line l SET live = true, receipt_id = t.b
        FROM unnest(CAST(:a AS int[]), CAST(:b AS uuid[])) AS t(a, b) WHERE l.import_id = :id AND l.position = t.a
        """,
        {"id": import_id, "a": list(receipts), "b": list(receipts.values())},
    )


async def mark_refused(tx: Transaction, *, import_id: UUID, notes: Mapping[int, str]) -> None:
    """The ledger refused these lines, by position, for these reasons."""
    if notes:
        await tx.execute(
            """
            UPDATE bank_line l SET verdict = 'refused', note = t.b
            FROM unnest(CAST(:a AS int[]), CAST(:b AS text[])) AS t(a, b) WHERE l.import_id = :id AND l.position = t.a
            """,
            {"id": import_id, "a": list(notes), "b": list(notes.values())},
        )


async def obstacles_to_undo(tx: Transaction, *, import_id: UUID) -> list[Any]:
    """Lines whose effect cannot be taken back, at most ten."""
    rows = await tx.execute(
        """
        SELECT l.line, CASE WHEN r.refunded > 0 THEN 'refunded' ELSE 'reversal' END AS why, l.external_id
        FROM bank_line l JOIN receipt r ON r.company = l.company AND r.receipt_id = l.receipt_id
        WHERE l.import_id = :id AND l.live AND (
            r.refunded > 0
            OR (l.kind = 'reversal' AND l.other_import <> l.import_id))
        ORDER BY l.position LIMIT 10
        """,
        {"id": import_id},
    )
    return list(rows)


async def lines_to_undo(tx: Transaction, *, import_id: UUID, most: int) -> list[Any]:
    """The next lines that are in the ledger, and whether their payment was reversed already."""
    rows = await tx.execute(
        """
        SELECT l.position, l.kind, l.external_id, EXISTS (SELECT 1 FROM reversal v
            WHERE v.company = l.company AND v.receipt_id = l.receipt_id) AS is_reversed, r.told_customer
        FROM bank_line l JOIN receipt r ON r.company = l.company AND r.receipt_id = l.receipt_id
        WHERE l.import_id = :id AND l.live ORDER BY l.position LIMIT :most
        """,
        {"id": import_id, "most": most},
    )
    return list(rows)


async def mark_undone(tx: Transaction, *, import_id: UUID, positions: Sequence[int]) -> None:
    """These lines are in the ledger no more."""
    await tx.execute(
        "UPDATE bank_line SET live = false WHERE import_id = :id AND position = ANY(CAST(:positions AS int[]))",
        {"id": import_id, "positions": list(positions)},
    )


async def import_counts(tx: Transaction, *, import_id: UUID) -> list[Any]:
    """How many lines of which kind and verdict, and their sums in minor units."""
    rows = await tx.execute(
        """
        SELECT kind, verdict, currency, count(*) AS count, sum(amount)::bigint AS amount FROM bank_line
        WHERE import_id = :id GROUP BY kind, verdict, currency ORDER BY kind, verdict, currency
        """,
        {"id": import_id},
    )
    return list(rows)


async def feeds(tx: Transaction, *, company: str) -> set[str]:
    """The names of the company's cash feeds."""
    rows = await tx.execute("SELECT feed FROM cash_feed WHERE company = :c", {"c": company})
    return {row.feed for row in rows}


# ---------------------------------------------------------------------- cash application


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
        {**_pairs(receipts), **_pairs(customers, "cd")},
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


async def parties(
    tx: Transaction, *, company: str, codes: Sequence[str], account: str, tax_id: str, name: str
) -> list[Party]:
    """The customers that one of these keys names."""
    rows = await tx.execute(
        """
        SELECT p.customer, p.name, p.tax_key, array(SELECT a.account_key FROM payer_account a
            WHERE a.company = p.company AND a.customer = p.customer AND a.account_key = :account) AS accounts
        FROM party p WHERE p.company = :company AND (p.customer_key = ANY(CAST(:codes AS text[]))
            OR p.tax_key = :tax_id OR p.name_key = :name OR p.customer IN (
                SELECT customer FROM payer_account WHERE company = :company AND account_key = :account))
        """,
        {"company": company, "codes": list(codes), "account": account, "tax_id": tax_id, "name": name},
    )
    return [Party(row.customer, row.name, row.tax_key, frozenset(row.accounts)) for row in rows]


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
        SELECT {_RECEIVABLE} FROM receivable
        WHERE company = :company AND currency = :currency AND open = :amount AND open > 0 ORDER BY receivable_id LIMIT 2
        """,  # noqa: S608 - constant columns
        {"company": company, "currency": currency, "amount": amount},
    )
    return [_receivable(row) for row in rows]


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


# What people see of unapplied payments; these only read.

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


# ---------------------------------------------------------------------- late charges


async def keep_charge_rules(
    tx: Transaction,
    *,
    company: str,
    rules: str,
    version: int,
    sha256: str,
    currency: str,
    effective_from: date,
    document: str,
    by: str,
) -> str | None:
    """Keep a version of charge rules; returns the hash kept before under the same number, or None."""
    key = {"company": company, "rules": rules, "version": version}
    inserted = await tx.execute(
        """
        INSERT INTO charge_rules (company, rules, version, sha256, currency, effective_from, document, activated_by)
        VALUES (:company, :rules, :version, :sha256, :currency, :effective_from, CAST(:document AS jsonb), :by)
        ON CONFLICT DO NOTHING
        """,
        {
            **key,
            "sha256": sha256,
            "currency": currency,
            "effective_from": effective_from,
            "document": document,
            "by": by,
        },
    )
    if inserted.rowcount:
        return None
    kept = await tx.execute(
        "SELECT sha256 FROM charge_rules WHERE company = :company AND rules = :rules AND version = :version", key
    )
    return str(kept.scalar_one())


async def newest_rules_version(tx: Transaction, *, company: str, rules: str) -> int:
    """The highest version that was activated, or 0; locks out another's activation."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('charge-rules'), hashtext(:c))", {"c": company})
    rows = await tx.execute(
        "SELECT coalesce(max(version), 0) FROM charge_rules WHERE company = :company AND rules = :rules",
        {"company": company, "rules": rules},
    )
    return int(rows.scalar_one())


async def rules_in_force(connection: AsyncConnection, *, company: str, on: date) -> list[Any]:
    """Of each rules of the company the newest version that is in force on a day."""
    rows = await connection.execute(
        text(
            """
            SELECT DISTINCT ON (rules) rules, version, sha256, currency, effective_from, document FROM charge_rules
            WHERE company = :company AND effective_from <= :on ORDER BY rules, version DESC
            """
        ),
        {"company": company, "on": on},
    )
    return list(rows)


async def rules_of_version(connection: AsyncConnection, *, company: str, rules: str, version: int) -> Any | None:
    """One version as it was activated, or None."""
    rows = await connection.execute(
        text(
            """
            SELECT document FROM charge_rules WHERE company = :company AND rules = :rules AND version = :version
            """
        ),
        {"company": company, "rules": rules, "version": version},
    )
    return rows.scalar_one_or_none()


async def rates(connection: AsyncConnection, series: Sequence[str]) -> list[Any]:
    """The published rates of some series, oldest first."""
    rows = await connection.execute(
        text(
            """
            SELECT series, from_on, to_on, percent, published FROM charge_rate WHERE series = ANY(CAST(:series AS text[]))
            ORDER BY series, from_on
            """
        ),
        {"series": list(series)},
    )
    return list(rows)


async def lock_rates(tx: Transaction) -> None:
    """One writer of rates at a time, so that no two overlap."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('charge-rates'), 0)")


async def add_rates(tx: Transaction, rows: Sequence[Mapping[str, Any]], *, by: str) -> None:
    """Keep published rates that are new."""
    await tx.execute(
        """
        INSERT INTO charge_rate (series, from_on, to_on, percent, published, loaded_by)
        VALUES (:series, :from_on, :to_on, :percent, :published, :by)
        """,
        [{**row, "by": by} for row in rows],
    )


async def ask_charge(
    tx: Transaction,
    *,
    company: str,
    case_id: UUID,
    step: str,
    run: int,
    customer: str,
    currency: str,
    effect: str,
    reached_on: date,
    told: str,
    event_id: str | None,
    correlation_id: str,
) -> None:
    """Keep that a step asks for a charge; asked again it is the same request."""
    await tx.execute(
        """
        INSERT INTO charge_request (company, case_id, step, run, customer, currency, effect, reached_on, told, event_id,
            correlation_id, state, lines, try_at)
        VALUES (:company, :case_id, :step, :run, :customer, :currency, :effect, :reached_on, CAST(:told AS jsonb),
            CAST(CAST(:event_id AS text) AS uuid), :correlation_id, 'asked', '[]', clock_timestamp())
        ON CONFLICT DO NOTHING
        """,
        {
            "company": company,
            "case_id": case_id,
            "step": step,
            "run": run,
            "customer": customer,
            "currency": currency,
            "effect": effect,
            "reached_on": reached_on,
            "told": told,
            "event_id": event_id,
            "correlation_id": correlation_id,
        },
    )


async def answer_charge(
    tx: Transaction, *, company: str, case_id: UUID, step: str, run: int, state: str, lines: str
) -> None:
    """Note what became of a request; one that waits for rules or rates is tried again when some are added."""
    await tx.execute(
        """
        UPDATE charge_request SET state = :state, lines = CAST(:lines AS jsonb),
            try_at = CASE WHEN :state = 'waits' THEN CAST('infinity' AS timestamptz) END
        WHERE company = :company AND case_id = :case_id AND step = :step AND run = :run
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run, "state": state, "lines": lines},
    )


async def try_charges_again(tx: Transaction) -> None:
    """Rules or rates were added: whatever waited for some is tried again."""
    await tx.execute("UPDATE charge_request SET try_at = clock_timestamp() WHERE try_at IS NOT NULL")
    await tx.execute("UPDATE charge_look SET not_before = clock_timestamp() WHERE reason IS NOT NULL")


async def next_charge(tx: Transaction) -> Any | None:
    """The next request to be charged, or tried again."""
    rows = await tx.execute(
        """
        SELECT told, event_id, correlation_id FROM charge_request
        WHERE try_at <= clock_timestamp() ORDER BY try_at LIMIT 1
        """
    )
    return rows.one_or_none()


async def lock_charge(
    tx: Transaction, *, company: str, case_id: UUID, step: str, run: int
) -> list[dict[str, Any]] | None:
    """What became of a request so far, locked until the transaction ends; None when it is answered."""
    rows = await tx.execute(
        """
        SELECT lines FROM charge_request WHERE company = :company AND case_id = :case_id AND step = :step AND run = :run
            AND state IN ('asked', 'waits') FOR UPDATE
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run},
    )
    return rows.scalar_one_or_none()


async def put_charge_off(tx: Transaction, *, company: str, case_id: UUID, step: str, run: int, seconds: float) -> None:
    """Try a request later, as it failed."""
    await tx.execute(
        """
        UPDATE charge_request SET try_at = clock_timestamp() + make_interval(secs => :seconds)
        WHERE company = :company AND case_id = :case_id AND step = :step AND run = :run
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run, "seconds": seconds},
    )


async def movements_of(
    connection: AsyncConnection, *, company: str, debts: Sequence[UUID]
) -> dict[UUID, list[tuple[date, int]]]:
    """What moved debts since they were issued: from which day on, by how many minor units.

    Money counts by its value date and lowers a debt from the day after; money that went back never did. A credit or a
    write-off counts from its own day. A cancelled invoice was never owed.
    """
    rows = await connection.execute(
        text(
            """
            SELECT a.receivable_id, m.value_on + 1 AS day, -(a.amount + a.discount + a.written_off) AS amount
            FROM allocation a JOIN receipt m ON m.company = a.company AND m.receipt_id = a.receipt_id
            WHERE a.company = :company AND a.receivable_id = ANY(CAST(:ids AS uuid[])) AND a.amount > 0
                AND NOT EXISTS (SELECT 1 FROM allocation u WHERE u.reverses = a.allocation_id)
            UNION ALL
            SELECT l.receivable_id, e.effective_on, l.amount
            FROM journal_line l JOIN journal_entry e ON e.entry_id = l.entry_id
            WHERE l.receivable_id = ANY(CAST(:ids AS uuid[])) AND l.account = 'AR' AND e.company = :company
                AND e.kind IN ('credit-note-issued', 'receivable-written-off')
            UNION ALL
            SELECT r.receivable_id, r.issued_on, -r.issued
            FROM receivable r JOIN invoice i ON i.company = r.company AND i.invoice_id = r.invoice_id AND i.cancelled
            WHERE r.company = :company AND r.receivable_id = ANY(CAST(:ids AS uuid[]))
            """
        ),
        {"company": company, "ids": list(debts)},
    )
    found: dict[UUID, list[tuple[date, int]]] = {debt: [] for debt in debts}
    for row in rows:
        found[row.receivable_id].append((row.day, row.amount))
    return found


_CHARGE: Final = """
    l.company, l.receivable_id, l.customer, l.currency, l.case_id, l.step, l.run, l.code, l.kind, l.debt_id, l.invoice_id,
    l.amount, l.settle, l.rule, l.from_on, l.through_on, l.assessed_on, l.version, r.open, r.allocated, r.written_off,
    r.number, coalesce(c.waived, 0) AS waived, coalesce(c.withdrawn, 0) AS withdrawn,
    ARRAY(SELECT d.debt_id FROM late_charge_debt d WHERE d.company = l.company AND d.receivable_id = l.receivable_id)
        AS debts
    FROM late_charge l JOIN receivable r ON r.company = l.company AND r.receivable_id = l.receivable_id
    LEFT JOIN LATERAL (
        SELECT sum(amount) FILTER (WHERE kind = 'waiver')::bigint AS waived,
            sum(amount) FILTER (WHERE kind = 'withdrawal')::bigint AS withdrawn
        FROM late_charge_credit k WHERE k.company = l.company AND k.receivable_id = l.receivable_id) c ON true
"""


async def charges_on(connection: AsyncConnection, *, company: str, debts: Sequence[UUID]) -> list[Any]:
    """The charges on some debts, in the order in which they were made."""
    rows = await connection.execute(
        text(
            f"""
            SELECT {_CHARGE} WHERE l.company = :company AND l.receivable_id IN (
                SELECT receivable_id FROM late_charge_debt WHERE company = :company
                    AND debt_id = ANY(CAST(:ids AS uuid[])))
            ORDER BY l.assessed_on, l.through_on NULLS FIRST, l.receivable_id
            """  # noqa: S608 - constant columns
        ),
        {"company": company, "ids": list(debts)},
    )
    return list(rows)


async def debts_that_accrue(
    connection: AsyncConnection,
    *,
    company: str,
    on: date,
    customer: str | None = None,
    receivable_id: UUID | None = None,
    most: int = 1,
) -> list[Receivable]:
    """One debt, or the oldest debts of a customer that are late on a day and open or charged."""
    rows = await connection.execute(
        text(
            f"""
            SELECT {_RECEIVABLE} FROM receivable r WHERE company = :company AND kind = 'invoice' AND (
                receivable_id = CAST(:id AS uuid) OR (customer = CAST(:customer AS text) AND due_on < :on AND (
                    open > 0 OR EXISTS (SELECT 1 FROM late_charge_debt d
                        WHERE d.company = r.company AND d.debt_id = r.receivable_id))))
            ORDER BY due_on, receivable_id LIMIT :most
            """  # noqa: S608 - constant columns
        ),
        {"company": company, "on": on, "customer": customer, "id": receivable_id, "most": most},
    )
    return [_receivable(row) for row in rows]


async def one_charge(connection: AsyncConnection, *, company: str, receivable_id: UUID) -> Any | None:
    """One charge by its own receivable, or None."""
    rows = await connection.execute(
        text(f"SELECT {_CHARGE} WHERE l.company = :company AND l.receivable_id = :id"),
        {"company": company, "id": receivable_id},
    )
    return rows.one_or_none()


async def debts_with_interest(tx: Transaction) -> dict[str, list[UUID]]:
    """Debts that interest was charged on and that do not wait to be looked at, by company."""
    rows = await tx.execute(
        """
        SELECT DISTINCT l.company, l.debt_id FROM late_charge l WHERE l.kind = 'interest' AND NOT EXISTS (
            SELECT 1 FROM charge_look k WHERE k.company = l.company AND k.debt_id = l.debt_id)
        ORDER BY l.company, l.debt_id
        """
    )
    found: dict[str, list[UUID]] = {}
    for row in rows:
        found.setdefault(row.company, []).append(row.debt_id)
    return found


async def receivables_of(connection: AsyncConnection, *, company: str, ids: Sequence[UUID]) -> list[Receivable]:
    """Some receivables, for reading."""
    rows = await connection.execute(
        text(
            f"""
            SELECT {_RECEIVABLE} FROM receivable WHERE company = :company AND receivable_id = ANY(CAST(:ids AS uuid[]))
            """  # noqa: S608 - constant columns
        ),
        {"company": company, "ids": list(ids)},
    )
    return [_receivable(row) for row in rows]


async def compensated(tx: Transaction, *, company: str, invoices: Sequence[UUID]) -> set[UUID]:
    """Invoices whose compensation was charged."""
    rows = await tx.execute(
        """
        SELECT invoice_id FROM late_charge WHERE company = :company AND kind = 'compensation'
            AND invoice_id = ANY(CAST(:ids AS uuid[]))
        """,
        {"company": company, "ids": list(invoices)},
    )
    return {row.invoice_id for row in rows}


async def noticed(tx: Transaction, *, company: str, customer: str, first_on: date, last_on: date) -> set[UUID]:
    """Debts that a notice of these days was about; days in UTC."""
    rows = await tx.execute(
        """
        SELECT DISTINCT CAST(line ->> 'receivable_id' AS uuid) AS id FROM permit p
            CROSS JOIN LATERAL jsonb_array_elements(p.lines) AS line
        WHERE p.company = :company AND p.customer = :customer AND p.handed_at >= CAST(:first AS date)
            AND p.handed_at < CAST(:last AS date) + 1
        """,
        {"company": company, "customer": customer, "first": first_on, "last": last_on},
    )
    return {row.id for row in rows}


async def add_late_charge(tx: Transaction, *, debts: Sequence[UUID], **told: Any) -> None:
    """Keep what a charge is, beside its receivable."""
    await tx.execute(
        """
        INSERT INTO late_charge (company, receivable_id, customer, currency, case_id, step, run, code, kind, debt_id,
            invoice_id, amount, settle, rule, from_on, through_on, assessed_on, version)
        VALUES (:company, :receivable_id, :customer, :currency, :case_id, :step, :run, :code, :kind, :debt_id, :invoice_id,
            :amount, :settle, :rule, :from_on, :through_on, :assessed_on, 1)
        """,
        told,
    )
    await tx.execute(
        """
        INSERT INTO late_charge_debt (company, debt_id, receivable_id)
        SELECT :company, debt, :receivable_id FROM unnest(CAST(:debts AS uuid[])) AS t(debt)
        """,
        {"company": told["company"], "receivable_id": told["receivable_id"], "debts": list(debts)},
    )


async def credit_late_charge(
    tx: Transaction,
    *,
    credit_id: UUID,
    company: str,
    receivable_id: UUID,
    kind: str,
    amount: int,
    reason: str,
    actor: str,
    approved_by: str | None,
    credited_on: date,
) -> int:
    """Keep that a charge was forgiven or withdrawn in part; returns its new version."""
    await tx.execute(
        """
        INSERT INTO late_charge_credit (credit_id, company, receivable_id, kind, amount, reason, actor, approved_by,
            credited_on)
        VALUES (:credit_id, :company, :receivable_id, :kind, :amount, :reason, :actor, :approved_by, :credited_on)
        """,
        {
            "credit_id": credit_id,
            "company": company,
            "receivable_id": receivable_id,
            "kind": kind,
            "amount": amount,
            "reason": reason,
            "actor": actor,
            "approved_by": approved_by,
            "credited_on": credited_on,
        },
    )
    rows = await tx.execute(
        """
        UPDATE late_charge SET version = version + 1 WHERE company = :company AND receivable_id = :id RETURNING version
        """,
        {"company": company, "id": receivable_id},
    )
    return int(rows.scalar_one())


async def next_look(tx: Transaction) -> Any | None:
    """The next debt whose charges are to be looked at, and since when."""
    rows = await tx.execute(
        """
        SELECT company, debt_id, not_before FROM charge_look WHERE not_before <= clock_timestamp()
        ORDER BY not_before LIMIT 1
        """
    )
    return rows.one_or_none()


async def end_look(tx: Transaction, *, company: str, debt_id: UUID, since: datetime) -> None:
    """The charges of a debt are as they must be, unless it changed meanwhile."""
    await tx.execute(
        "DELETE FROM charge_look WHERE company = :company AND debt_id = :id AND not_before = :since",
        {"company": company, "id": debt_id, "since": since},
    )


async def put_look_off(
    tx: Transaction, *, company: str, debt_id: UUID, reason: str | None, seconds: float | None
) -> None:
    """Look again after so many seconds; without seconds when rules or rates are added."""
    await tx.execute(
        """
        UPDATE charge_look SET reason = :reason, not_before = coalesce(
            clock_timestamp() + make_interval(secs => CAST(:seconds AS float8)), CAST('infinity' AS timestamptz))
        WHERE company = :company AND debt_id = :id
        """,
        {"company": company, "id": debt_id, "reason": reason, "seconds": seconds},
    )


# ---------------------------------------------------------------------- what people decide about debts and money


async def ledger_action(tx: Transaction, *, company: str, action_id: UUID) -> Any | None:
    """What was asked under this id, locked until the transaction ends; None when nothing was."""
    rows = await tx.execute(
        "SELECT * FROM ledger_action WHERE action_id = :id AND company = :company FOR UPDATE",
        {"id": action_id, "company": company},
    )
    return rows.one_or_none()


async def peek_ledger_action(tx: Transaction, *, company: str, action_id: UUID) -> Any | None:
    """What was asked under this id, not locked."""
    rows = await tx.execute(
        "SELECT verb, subject_id FROM ledger_action WHERE action_id = :id AND company = :company",
        {"id": action_id, "company": company},
    )
    return rows.one_or_none()


async def keep_ledger_action(tx: Transaction, **told: Any) -> bool:
    """Keep what a person asked; False when another company's action has the id."""
    result = await tx.execute(
        """
        INSERT INTO ledger_action (action_id, company, verb, subject_id, currency, amount, reason, note, asked_by, state)
        VALUES (:action_id, :company, :verb, :subject_id, :currency, :amount, :reason, :note, :asked_by, :state)
        ON CONFLICT DO NOTHING
        """,
        told,
    )
    return bool(result.rowcount)


async def decide_ledger_action(tx: Transaction, *, action_id: UUID, state: str, by: str, note: str) -> None:
    """Note the second person's answer."""
    await tx.execute(
        """
        UPDATE ledger_action SET state = :state, decided_by = :by, decided_at = clock_timestamp(), decision_note = :note
        WHERE action_id = :id
        """,
        {"id": action_id, "state": state, "by": by, "note": note},
    )


def _pairs(pairs: Pairs, names: str = "ab") -> dict[str, list[Any]]:
    listed = list(pairs)
    return {names[0]: [first for first, _ in listed], names[1]: [second for _, second in listed]}


def _columns(names: str, rows: Sequence[Any]) -> Mapping[str, list[Any]]:
    """One array per column, for `unnest`."""
    return {name: [getattr(row, name) for row in rows] for name in names.split(", ")}


def _prefixed(columns: str, table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in columns.split(", "))
