"""The ledger of a batch: its customers locked, its part loaded, and all its changes saved by a fixed number of statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.payments.domain.ledger import Allocation, Books, Credit, Receipt, Receivable
from cobranza.payments.domain.references import Directory, Invoice
from cobranza.payments.repository.rows import (
    ALLOCATION_COLUMNS,
    RECEIPT_COLUMNS,
    RECEIVABLE_COLUMNS,
    Pairs,
    as_columns,
    as_pairs,
    prefixed,
    receipt_of,
    receivable_of,
)

#: References are locked by their hash, so that a batch holds a bounded number of locks.
_REFERENCE_LOCKS: Final = 7_041_201


_BUCKETS: Final = 256


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
    new_fiscal: dict[UUID, tuple[str, str | None, str | None]] = field(default_factory=dict)


async def open_books(tx: Transaction, needs: Needs) -> Facts:
    """Lock and load the part of the ledger that `needs` names.

    The customer row is the lock of everything the customer owes and owns. Who pays for whom is only
    known after reading, so it is read again whenever that showed one more customer to lock.
    """
    await _lock_names(tx, needs)
    locked: set[tuple[str, str]] = set()
    wanted = set(needs.customers)
    while True:
        await lock_customers(tx, wanted - locked)
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


async def lock_customers(tx: Transaction, customers: set[tuple[str, str]]) -> None:
    """Take the customers' locks, always in the same order, so that no two writers wait for each other."""
    if not customers:
        return
    pairs = as_pairs(sorted(customers))
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
            -- Materialized: before the tables have statistics a company's whole portfolio would be joined first.
            WITH named AS MATERIALIZED (
                SELECT t.a AS company, t.b AS reference, n.invoice_id
                FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b)
                JOIN invoice_reference n ON n.company = t.a AND n.reference = t.b)
            SELECT i.company, i.invoice_id, i.customer, i.number, i.system, i.cancelled, named.reference,
                d.amount AS discount, d.until_on
            FROM named
            JOIN invoice i ON i.company = named.company AND i.invoice_id = named.invoice_id
            LEFT JOIN invoice_discount d ON d.company = i.company AND d.invoice_id = i.invoice_id
            """,
            as_pairs(needs.naming),
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
            as_pairs(ids),
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
            as_pairs(named),
        )
        for row in rows:
            found.setdefault((row.company, row.reference), []).append(Naming(row.receipt_id, row.position, row.at_most))
    return found


async def _live_allocations(tx: Transaction, needs: Needs) -> list[Allocation]:
    if not (needs.undone_receipts or needs.undone_invoices):
        return []
    rows = await tx.execute(
        f"""
        SELECT {ALLOCATION_COLUMNS} FROM allocation a
        WHERE a.amount > 0 AND NOT EXISTS (SELECT 1 FROM allocation u WHERE u.reverses = a.allocation_id) AND (
            (a.company, a.receipt_id) IN (SELECT * FROM unnest(CAST(:a AS text[]), CAST(:b AS uuid[])))
            OR (a.company, a.receivable_id) IN (
                SELECT r.company, r.receivable_id FROM unnest(CAST(:c AS text[]), CAST(:d AS uuid[])) AS t(c, d)
                JOIN receivable r ON r.company = t.c AND r.invoice_id = t.d))
        ORDER BY a.booked_at, a.allocation_id
        """,  # noqa: S608 - constant columns
        {**as_pairs(needs.undone_receipts), **as_pairs(needs.undone_invoices, "cd")},
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
                SELECT {prefixed(RECEIVABLE_COLUMNS, "r")} FROM unnest(CAST(:a AS text[]), CAST(:b AS {kind}[])) AS t(a, b)
                JOIN receivable r ON r.company = t.a AND r.{column} = t.b {condition}
                """,  # noqa: S608 - constants
                as_pairs(pairs),
            )
            found.update((row.receivable_id, receivable_of(row)) for row in rows)
    return list(found.values())


async def _receipts(tx: Transaction, *, ids: Pairs, unapplied_of: Pairs) -> list[Receipt]:
    found: dict[UUID, Receipt] = {}
    for column, kind, pairs, condition in (
        ("receipt_id", "uuid", list(ids), ""),
        ("customer", "text", list(unapplied_of), "WHERE r.unapplied > 0"),
    ):
        if pairs:
            rows = await tx.execute(
                f"""
                SELECT {prefixed(RECEIPT_COLUMNS, "r")}, r.arrived
                FROM unnest(CAST(:a AS text[]), CAST(:b AS {kind}[])) AS t(a, b)
                JOIN receipt r ON r.company = t.a AND r.{column} = t.b {condition}
                """,  # noqa: S608 - constants
                as_pairs(pairs),
            )
            found.update((row.receipt_id, receipt_of(row)) for row in rows)
    return list(found.values())


async def _credits(tx: Transaction, owners: set[tuple[str, str]]) -> list[Credit]:
    rows = await tx.execute(
        """
        SELECT c.company, c.customer, c.currency, c.unapplied, c.version
        FROM unnest(CAST(:a AS text[]), CAST(:b AS text[])) AS t(a, b)
        JOIN credit c ON c.company = t.a AND c.customer = t.b
        """,
        as_pairs(owners),
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
        as_pairs(receipts),
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
            INSERT INTO receivable ({RECEIVABLE_COLUMNS})
            SELECT * FROM unnest(CAST(:company AS text[]), CAST(:receivable_id AS uuid[]), CAST(:customer AS text[]),
                CAST(:invoice_id AS uuid[]), CAST(:instalment AS int[]), CAST(:number AS text[]), CAST(:kind AS text[]),
                CAST(:currency AS text[]), CAST(:issued AS bigint[]), CAST(:allocated AS bigint[]),
                CAST(:credited AS bigint[]), CAST(:written_off AS bigint[]), CAST(:given_up AS bigint[]),
                CAST(:issued_on AS date[]), CAST(:due_on AS date[]), CAST(:version AS bigint[]))
            """,  # noqa: S608 - constant columns
            as_columns(RECEIVABLE_COLUMNS, new),
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
            as_columns("company, receivable_id, allocated, credited, written_off, given_up, due_on, version", changed),
        )


async def _save_receipts(tx: Transaction, facts: Facts) -> None:
    books = facts.books
    new = [books.receipts[i] for i in books.new_receipts]
    if new:
        await tx.execute(
            f"""
            INSERT INTO receipt ({RECEIPT_COLUMNS}, details, payer)
            SELECT * FROM unnest(CAST(:company AS text[]), CAST(:receipt_id AS uuid[]), CAST(:customer AS text[]),
                CAST(:told_customer AS text[]), CAST(:kind AS text[]), CAST(:currency AS text[]), CAST(:system AS text[]),
                CAST(:external_id AS text[]), CAST(:sha256 AS bytea[]), CAST(:amount AS bigint[]),
                CAST(:allocated AS bigint[]), CAST(:refunded AS bigint[]), CAST(:reversed AS bigint[]),
                CAST(:value_on AS date[]), CAST(:reason AS text[]), CAST(:version AS bigint[]),
                CAST(:details AS jsonb[]), CAST(:payers AS jsonb[]))
            """,  # noqa: S608 - constant columns
            {
                **as_columns(RECEIPT_COLUMNS, new),
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
            as_columns("company, receipt_id, customer, allocated, refunded, reversed, reason, version", changed),
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
        as_columns("entry_id, company, kind, cause_event_id, reverses, effective_on", books.entries),
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
            as_columns("company, invoice_id, customer, number, system, cancelled", invoices),
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
    if facts.new_fiscal:
        await _save_fiscal(tx, facts)
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


async def _save_fiscal(tx: Transaction, facts: Facts) -> None:
    found = sorted(facts.new_fiscal.items())
    await tx.execute(
        """
        INSERT INTO invoice_fiscal (invoice_id, company, fiscal_id, payment_method_code)
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:companies AS text[]), CAST(:fiscal_ids AS text[]),
            CAST(:codes AS text[]))
        ON CONFLICT (company, invoice_id) DO UPDATE SET fiscal_id = excluded.fiscal_id,
            payment_method_code = excluded.payment_method_code
        """,
        {
            "ids": [invoice_id for invoice_id, _ in found],
            "companies": [company for _, (company, _, _) in found],
            "fiscal_ids": [fiscal_id for _, (_, fiscal_id, _) in found],
            "codes": [code for _, (_, _, code) in found],
        },
    )
