"""Invoicing's tables; money stays in the documents, because the ledger belongs to payments."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from cobranza.chassis import plumbing

metadata = MetaData()

customer = Table(
    "customer",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("revision", BigInteger, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "customer"),
)

invoice = Table(
    "invoice",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("customer", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'issued'")),
    Column("state", JSONB, nullable=False),
    Column("issued_on", Date, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "invoice_id"),
    CheckConstraint("status IN ('issued', 'cancelled')", name="invoice_status"),
    Index("invoice_of_customer", "company", "customer", "issued_on"),
    Index("invoice_number", "company", "number"),
    Index("invoice_by_issue", "company", text("issued_on DESC"), "invoice_id"),
)

instalment = Table(
    "instalment",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("invoice_id", UUID, nullable=False),
    Column("customer", Text, nullable=False),
    Column("due_on", Date, nullable=False),
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    # The highest offset whose due-date event was told; the version numbers those events.
    Column("told_until", Integer),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("company", "receivable_id"),
    Index("instalment_of_invoice", "company", "invoice_id"),
)

credit_note = Table(
    "credit_note",
    metadata,
    Column("company", Text),
    Column("credit_note_id", UUID),
    Column("customer", Text, nullable=False),
    Column("state", JSONB, nullable=False),
    PrimaryKeyConstraint("company", "credit_note_id"),
)

# The natural key of every accepted input, kept for ever.
accepted = Table(
    "accepted",
    metadata,
    Column("company", Text),
    Column("system", Text),
    Column("type", Text),
    Column("external_id", Text),
    Column("revision", BigInteger),
    Column("sha256", LargeBinary, nullable=False),
    Column("accepted_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    PrimaryKeyConstraint("company", "system", "type", "external_id", "revision"),
)

# A settlement or a payment may be told before the invoice reaches us on the other topic.
settlement = Table(
    "settlement",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("settled", Boolean, nullable=False),
    PrimaryKeyConstraint("company", "receivable_id"),
)

plumbing.attach(metadata)
