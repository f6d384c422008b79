"""What others told of invoices, customers, cash and receipts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.contracts.invoicing import CustomerChanged
from cobranza.contracts.payloads import Payload
from cobranza.contracts.payments import ReceivableChanged
from cobranza.contracts.topics import PAYLOADS
from cobranza.dunning.repository.rows import ITEM_COLUMNS, StoredItem, as_json, item_of


async def save_receivables(tx: Transaction, changes: Sequence[tuple[UUID, ReceivableChanged]]) -> None:
    """Store the balances told, each with its account: the last of each receivable, and by how much each moved it.

    Args:
        changes: in the order in which they were told.
    """
    if changes:
        await tx.execute(
            """
            WITH told AS (
                SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, receivable_id uuid, account_id uuid,
                    invoice_id uuid, number text, issued_on date, due_on date, issued bigint, open bigint, cause text,
                    recorded_on date, allocated bigint, effective_on date, place int)),
            moved AS (
                SELECT t.receivable_id, greatest(t.effective_on, t.issued_on) AS on_date,
                    t.open - lag(t.open, 1, coalesce(r.open, 0)) OVER told_before AS open,
                    t.allocated - lag(t.allocated, 1, coalesce(r.allocated, 0)) OVER told_before AS allocated
                FROM told t LEFT JOIN receivable r ON r.company = t.company AND r.receivable_id = t.receivable_id
                WINDOW told_before AS (PARTITION BY t.receivable_id ORDER BY t.place)),
            noted AS (
                INSERT INTO balance_change (receivable_id, on_date, open, allocated)
                SELECT receivable_id, on_date, sum(open), sum(allocated) FROM moved GROUP BY receivable_id, on_date
                HAVING sum(open) <> 0 OR sum(allocated) <> 0
                ON CONFLICT (receivable_id, on_date) DO UPDATE SET open = balance_change.open + excluded.open,
                    allocated = balance_change.allocated + excluded.allocated)
            INSERT INTO receivable (company, receivable_id, account_id, invoice_id, number, issued_on, due_on, issued, open,
                cause, recorded_on, allocated)
            SELECT DISTINCT ON (company, receivable_id) company, receivable_id, account_id, invoice_id, number, issued_on,
                due_on, issued, open, cause, recorded_on, allocated FROM told ORDER BY company, receivable_id, place DESC
            ON CONFLICT (company, receivable_id) DO UPDATE SET account_id = excluded.account_id,
                invoice_id = excluded.invoice_id, number = excluded.number, issued_on = excluded.issued_on,
                due_on = excluded.due_on, issued = excluded.issued, open = excluded.open, cause = excluded.cause,
                recorded_on = excluded.recorded_on, allocated = excluded.allocated
            """,
            {
                "rows": as_json(
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
                        "effective_on": told.effective_on,
                        "place": place,
                    }
                    for place, (account_id, told) in enumerate(changes)
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


async def cash_known_through(tx: Transaction, companies: Iterable[str]) -> dict[str, date]:
    """Through which day the cash of companies is known."""
    rows = await tx.execute(
        "SELECT company, through_on FROM cash_feed WHERE company = ANY(CAST(:companies AS text[]))",
        {"companies": sorted(set(companies))},
    )
    return {row.company: row.through_on for row in rows}


async def save_control(tx: Transaction, *, company: str, currency: str, verdict: str, total_on: date) -> None:
    """Store what a company's last control total said."""
    await tx.execute(
        """
        INSERT INTO control_total (company, currency, verdict, total_on) VALUES (:company, :currency, :verdict, :total_on)
        ON CONFLICT (company, currency) DO UPDATE SET verdict = excluded.verdict, total_on = excluded.total_on
        """,
        {"company": company, "currency": currency, "verdict": verdict, "total_on": total_on},
    )


async def control_verdicts(tx: Transaction, companies: Iterable[str]) -> dict[tuple[str, str], str]:
    """What the last control totals said, by company and currency."""
    rows = await tx.execute(
        "SELECT company, currency, verdict FROM control_total WHERE company = ANY(CAST(:companies AS text[]))",
        {"companies": sorted(set(companies))},
    )
    return {(row.company, row.currency): row.verdict for row in rows}


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
        SELECT x.replaced_by, {ITEM_COLUMNS} FROM cancelled_invoice x
        JOIN unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[])) AS t(c, i) ON x.company = t.c AND x.replaced_by = t.i
        JOIN receivable r ON r.company = x.company AND r.invoice_id = x.invoice_id
        """,  # noqa: S608 - constant
        {"companies": [c for c, _ in invoices], "ids": [i for _, i in invoices]},
    )
    found: dict[UUID, list[StoredItem]] = {}
    for row in rows:
        found.setdefault(row.replaced_by, []).append(item_of(tuple(row)[1:]))
    return found


async def save_customers(tx: Transaction, changes: Sequence[CustomerChanged]) -> None:
    """Store what a decision needs of customers: no names, no addresses."""
    if changes:
        await tx.execute(
            """
            INSERT INTO customer (company, customer, revision, language, segment, country, protected_party, reachable, risk,
                tags, since)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, customer text, revision bigint,
                language text, segment text, country text, protected_party text, reachable boolean, risk text, tags text[],
                since date)
            ON CONFLICT (company, customer) DO UPDATE SET revision = excluded.revision, language = excluded.language,
                segment = excluded.segment, country = excluded.country, protected_party = excluded.protected_party,
                reachable = excluded.reachable, risk = excluded.risk, tags = excluded.tags, since = excluded.since
            """,
            {
                "rows": as_json(
                    {
                        "company": told.company,
                        "customer": told.customer,
                        "revision": told.revision,
                        "language": told.language,
                        "segment": told.segment,
                        "country": told.country,
                        "protected_party": told.protected_party,
                        "reachable": bool(told.contacts),
                        "risk": told.risk,
                        "tags": told.tags,
                        "since": told.customer_since,
                    }
                    for told in changes
                )
            },
        )


async def save_unknown_receipts(tx: Transaction, receipts: Sequence[Mapping[str, object]]) -> None:
    """Keep receipts whose payer is not known."""
    if receipts:
        await tx.execute(
            """
            INSERT INTO unknown_receipt (company, payment_id, currency, amount)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, payment_id uuid, currency text,
                amount bigint) ON CONFLICT DO NOTHING
            """,
            {"rows": as_json(receipts)},
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


async def save_announced(tx: Transaction, announced: Sequence[Payload]) -> None:
    """Keep the newest of what other services announced that policies may name, by what it is about."""
    newest = {(told.company, told.TYPE, told.aggregate_id): told for told in announced}
    if newest:
        keys = sorted(newest)
        await tx.execute(
            """
            INSERT INTO announced (company, type, about, told)
            SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:types AS text[]), CAST(:about AS text[]),
                CAST(CAST(:told AS text[]) AS jsonb[]))
            ON CONFLICT (company, type, about) DO UPDATE SET told = excluded.told
            """,
            {
                "companies": [key[0] for key in keys],
                "types": [key[1] for key in keys],
                "about": [key[2] for key in keys],
                "told": [newest[key].model_dump_json() for key in keys],
            },
        )


async def announced(tx: Transaction, company: str) -> list[Payload]:
    """What other services announced for a company that policies may name."""
    rows = await tx.execute("SELECT type, told FROM announced WHERE company = :company", {"company": company})
    return [PAYLOADS[row.type].model_validate(row.told) for row in rows]
