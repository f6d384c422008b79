"""Notifications' tables: one row per notice id, its history, and what letters need of others' facts."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
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

# Contacts are personal data and live in the customer's own state only.
customer = Table(
    "customer",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("state", JSONB, nullable=False),
    PrimaryKeyConstraint("company", "customer"),
)

# What the letter's table shows beside the permit's figures.
invoice = Table(
    "invoice",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("concept", Text),
    Column("fiscal_id", Text),
    PrimaryKeyConstraint("company", "invoice_id"),
)

notice = Table(
    "notice",
    metadata,
    Column("notice_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("case_id", UUID),
    Column("step", Text),
    Column("run", Integer),
    Column("template", Text, nullable=False),
    Column("tone", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("on_unknown", Text, nullable=False),
    # What was asked for: lines and conditions of a demand, or the payment that is confirmed.
    Column("lines", JSONB, nullable=False),
    Column("conditions", JSONB, nullable=False),
    Column("receipt", JSONB),
    Column("contact_decision", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("reason", Text),
    Column("detail", Text),
    # Counts the claims; a claim's number is also the permit's attempt and fences off older claims.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("lease_until", DateTime(timezone=True)),
    Column("try_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("handed_at", DateTime(timezone=True)),
    # Business time: when it was asked for, when it is too late, and the date of its outcome.
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("told_on", Date),
    # What went out, kept with the intent.
    Column("permit", JSONB),
    Column("delivery", Text),
    Column("contact_point_id", UUID),
    Column("subject", Text),
    Column("body_text", Text),
    Column("body_html", Text),
    Column("headers", JSONB),
    # Number of events told of it, and the cause those are derived from.
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("cause_id", UUID, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("traceparent", Text),
    CheckConstraint(
        "state IN ('queued', 'sending', 'sent', 'failed', 'unknown', 'suppressed', 'expired')", name="notice_state"
    ),
    # Nothing can be under way or sent of which the text was not kept first.
    CheckConstraint("state NOT IN ('sending', 'sent', 'unknown') OR body_text IS NOT NULL", name="notice_intent"),
    Index("notice_waiting", "try_at", postgresql_where=text("state = 'queued'")),
    Index("notice_unsettled", "changed_at", postgresql_where=text("state IN ('sending', 'unknown')")),
    Index("notice_newest", "company", text("requested_at DESC"), "notice_id"),
    Index("notice_of_customer", "company", "customer"),
)

notice_history = Table(
    "notice_history",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("notice_id", UUID, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("detail", Text),
    Column("attempt", Integer, nullable=False),
    Column("noted_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("business_at", DateTime(timezone=True), nullable=False),
    Index("notice_history_of", "notice_id", "id"),
)

# The templates that were told to be in use, at their last version.
template = Table(
    "template",
    metadata,
    Column("company", Text),
    Column("template", Text),
    Column("channel", Text),
    Column("language", Text),
    Column("tone", Text),
    Column("version", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    PrimaryKeyConstraint("company", "template", "channel", "language", "tone"),
)

plumbing.attach(metadata)
