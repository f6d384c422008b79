"""The only writer of invoicing's tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.contracts.invoicing import CreditNoteIssued, CustomerChanged, InvoiceState


@dataclass(frozen=True, slots=True)
class StoredInvoice:
    """An invoice as last told."""

    state: InvoiceState
    status: str


@dataclass(frozen=True, slots=True)
class StoredInstalment:
    """An instalment with what was told of its due date."""

    company: str
    receivable_id: UUID
    invoice_id: UUID
    customer: str
    due_on: date
    settled: bool
    told_until: int | None


async def accept_once(
    tx: Transaction, *, company: str, system: str, type_: str, external_id: str, revision: int, sha256: bytes
) -> bytes | None:
    """Keep a natural key for ever; returns the hash kept before, or None when it is new."""
    key = {"company": company, "system": system, "type": type_, "external_id": external_id, "revision": revision}
    inserted = await tx.execute(
        """
        INSERT INTO accepted (company, system, type, external_id, revision, sha256)
        VALUES (:company, :system, :type, :external_id, :revision, :sha256) ON CONFLICT DO NOTHING
        """,
        {**key, "sha256": sha256},
    )
    if inserted.rowcount:
        return None
    kept = await tx.execute(
        """
        SELECT sha256 FROM accepted WHERE company = :company AND system = :system AND type = :type
            AND external_id = :external_id AND revision = :revision
        """,
        key,
    )
    return bytes(kept.scalar_one())


async def customer_revision(tx: Transaction, company: str, customer: str) -> int | None:
    """The revision of a customer, locked; None when unknown."""
    result = await tx.execute(
        "SELECT revision FROM customer WHERE company = :company AND customer = :customer FOR UPDATE",
        {"company": company, "customer": customer},
    )
    return result.scalar_one_or_none()


async def save_customer(tx: Transaction, told: CustomerChanged) -> int:
    """Store a customer's full state; returns its new version."""
    result = await tx.execute(
        """
        INSERT INTO customer (company, customer, revision, state, version)
        VALUES (:company, :customer, :revision, CAST(:state AS jsonb), 1)
        ON CONFLICT (company, customer) DO UPDATE SET revision = excluded.revision, state = excluded.state,
            version = customer.version + 1
        RETURNING version
        """,
        {
            "company": told.company,
            "customer": told.customer,
            "revision": told.revision,
            "state": told.model_dump_json(),
        },
    )
    return int(result.scalar_one())


async def lock_invoice(tx: Transaction, company: str, invoice_id: UUID) -> StoredInvoice | None:
    """An invoice, locked; None when it was never issued here."""
    row = (
        await tx.execute(
            "SELECT state, status FROM invoice WHERE company = :company AND invoice_id = :id FOR UPDATE",
            {"company": company, "id": invoice_id},
        )
    ).one_or_none()
    if row is None:
        return None
    return StoredInvoice(InvoiceState.model_validate_json(json.dumps(row.state)), row.status)


async def save_invoice(tx: Transaction, told: InvoiceState, *, status: str) -> int:
    """Store an invoice's full state; returns its new version."""
    result = await tx.execute(
        """
        INSERT INTO invoice (company, invoice_id, customer, number, revision, status, state, issued_on, version)
        VALUES (:company, :id, :customer, :number, :revision, :status, CAST(:state AS jsonb), :issued_on, 1)
        ON CONFLICT (company, invoice_id) DO UPDATE SET number = excluded.number, revision = excluded.revision,
            status = excluded.status, state = excluded.state, issued_on = excluded.issued_on, version = invoice.version + 1
        RETURNING version
        """,
        {
            "company": told.company,
            "id": told.invoice_id,
            "customer": told.customer,
            "number": told.number,
            "revision": told.revision,
            "status": status,
            "state": told.model_dump_json(),
            "issued_on": told.issued_on,
        },
    )
    return int(result.scalar_one())


async def save_instalments(
    tx: Transaction, *, company: str, invoice_id: UUID, customer: str, dues: Sequence[tuple[UUID, date]]
) -> list[StoredInstalment]:
    """Store the instalments of an invoice; a moved due date is told from its beginning again."""
    rows = await tx.execute(
        """
        INSERT INTO instalment (company, receivable_id, invoice_id, customer, due_on, settled)
        SELECT :company, t.id, :invoice_id, :customer, t.due, coalesce(s.settled, false)
        FROM unnest(CAST(:ids AS uuid[]), CAST(:dues AS date[])) AS t(id, due)
        LEFT JOIN settlement s ON s.company = :company AND s.receivable_id = t.id
        ON CONFLICT (company, receivable_id) DO UPDATE SET due_on = excluded.due_on,
            told_until = CASE WHEN instalment.due_on = excluded.due_on THEN instalment.told_until END
        RETURNING company, receivable_id, invoice_id, customer, due_on, settled, told_until
        """,
        {
            "company": company,
            "invoice_id": invoice_id,
            "customer": customer,
            "ids": [receivable_id for receivable_id, _ in dues],
            "dues": [due_on for _, due_on in dues],
        },
    )
    return [_instalment(row) for row in rows]


async def lock_instalment(tx: Transaction, company: str, receivable_id: UUID) -> StoredInstalment | None:
    """An instalment, locked."""
    row = (
        await tx.execute(
            """
            SELECT company, receivable_id, invoice_id, customer, due_on, settled, told_until FROM instalment
            WHERE company = :company AND receivable_id = :id FOR UPDATE
            """,
            {"company": company, "id": receivable_id},
        )
    ).one_or_none()
    return None if row is None else _instalment(row)


async def instalments_of(tx: Transaction, company: str, invoice_id: UUID) -> list[UUID]:
    """The receivables of an invoice."""
    rows = await tx.execute(
        "SELECT receivable_id FROM instalment WHERE company = :company AND invoice_id = :id ORDER BY receivable_id",
        {"company": company, "id": invoice_id},
    )
    return [row.receivable_id for row in rows]


async def note_told(tx: Transaction, company: str, receivable_id: UUID, *, offset_days: int) -> int:
    """Note that the due-date event at `offset_days` was told; returns the instalment's version."""
    result = await tx.execute(
        """
        UPDATE instalment SET told_until = :offset, version = version + 1
        WHERE company = :company AND receivable_id = :id RETURNING version
        """,
        {"company": company, "id": receivable_id, "offset": offset_days},
    )
    return int(result.scalar_one())


async def note_settled(tx: Transaction, company: str, states: Sequence[tuple[UUID, bool]]) -> list[StoredInstalment]:
    """Note which receivables are settled; returns the instalments whose state changed."""
    parameters = {
        "company": company,
        "ids": [receivable_id for receivable_id, _ in states],
        "settled": [settled for _, settled in states],
    }
    await tx.execute(
        """
        INSERT INTO settlement (company, receivable_id, settled)
        SELECT :company, t.id, t.settled FROM unnest(CAST(:ids AS uuid[]), CAST(:settled AS boolean[])) AS t(id, settled)
        ON CONFLICT (company, receivable_id) DO UPDATE SET settled = excluded.settled
        """,
        parameters,
    )
    rows = await tx.execute(
        """
        UPDATE instalment i SET settled = t.settled
        FROM unnest(CAST(:ids AS uuid[]), CAST(:settled AS boolean[])) AS t(id, settled)
        WHERE i.company = :company AND i.receivable_id = t.id AND i.settled <> t.settled
        RETURNING i.company, i.receivable_id, i.invoice_id, i.customer, i.due_on, i.settled, i.told_until
        """,
        parameters,
    )
    return [_instalment(row) for row in rows]


async def save_credit_note(tx: Transaction, told: CreditNoteIssued) -> None:
    """Store a credit note."""
    await tx.execute(
        """
        INSERT INTO credit_note (company, credit_note_id, customer, state)
        VALUES (:company, :id, :customer, CAST(:state AS jsonb))
        """,
        {
            "company": told.company,
            "id": told.credit_note_id,
            "customer": told.customer,
            "state": told.model_dump_json(),
        },
    )


def _instalment(row: Any) -> StoredInstalment:
    return StoredInstalment(*row)
