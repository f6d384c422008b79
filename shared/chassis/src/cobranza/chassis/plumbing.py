"""The tables every service carries beside its own, and their versioned DDL."""

from __future__ import annotations

from typing import Final, Protocol

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

#: What services use of these tables; the plumbing's own grants.
_READ_WRITE: Final = "SELECT, INSERT, UPDATE, DELETE"


class Operations(Protocol):
    """The part of Alembic's `op` that the plumbing needs."""

    def execute(self, sqltext: str) -> None:
        """Run one statement."""
        ...


def _instant(name: str, *, default: bool = False, nullable: bool = True) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        server_default=func.clock_timestamp() if default else None,
        nullable=nullable and not default,
    )


def attach(metadata: MetaData) -> None:
    """Add the plumbing tables to a service's metadata."""
    Table(
        "outbox",
        metadata,
        Column("seq", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", UUID, nullable=False, unique=True),
        Column("topic", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("value", LargeBinary, nullable=False),
        _instant("occurred_at", nullable=False),
        _instant("sent_at"),
        # Two companies may share a customer code, so the key is part of it.
        UniqueConstraint("key", "subject", "sequence"),
        Index("outbox_unsent", "seq", postgresql_where=text("sent_at IS NULL")),
    )
    Table(
        "progress",
        metadata,
        Column("consumer", Text),
        Column("topic_id", UUID),
        Column("partition", Integer),
        Column("topic", Text, nullable=False),
        Column("next_offset", BigInteger, nullable=False),
        _instant("caught_up_at"),
        PrimaryKeyConstraint("consumer", "topic_id", "partition"),
    )
    Table(
        "inbox",
        metadata,
        Column("consumer", Text),
        Column("event_id", UUID),
        # Ingress topics only: the same id with another body is a conflict.
        Column("body_sha256", LargeBinary),
        _instant("seen_at", default=True),
        PrimaryKeyConstraint("consumer", "event_id"),
        Index("inbox_seen", "seen_at"),
    )
    Table(
        "version_seen",
        metadata,
        Column("consumer", Text),
        Column("company", Text),
        Column("subject", Text),
        Column("sequence", BigInteger, nullable=False),
        PrimaryKeyConstraint("consumer", "company", "subject"),
    )
    Table(
        "parked_key",
        metadata,
        Column("consumer", Text),
        Column("key", Text),
        _instant("since", default=True),
        PrimaryKeyConstraint("consumer", "key"),
    )
    Table(
        "parked",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("consumer", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("event_id", UUID),
        Column("topic", Text, nullable=False),
        Column("topic_id", UUID, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("raw_key", LargeBinary),
        Column("raw_headers", JSONB, nullable=False),
        Column("raw_value", LargeBinary),
        Column("state", Text, nullable=False),
        Column("error_class", Text),
        Column("error_text", Text),
        Column("pointer", Text),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("trace_id", Text),
        _instant("parked_at", default=True),
        _instant("closed_at"),
        Column("closed_by", Text),
        Column("close_reason", Text),
        UniqueConstraint("consumer", "topic_id", "partition", "offset"),
        CheckConstraint(
            "state IN ('poison', 'behind', 'conflict', 'released', 'discarded')",
            name="parked_state",
        ),
        Index("parked_open", "consumer", "key", "id", postgresql_where=text("closed_at IS NULL")),
    )
    Table(
        "consumer_stop",
        metadata,
        Column("consumer", Text),
        Column("topic", Text),
        Column("reason", Text, nullable=False),
        _instant("since", default=True),
        PrimaryKeyConstraint("consumer", "topic"),
    )
    Table(
        "operator_action",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("actor", Text, nullable=False),
        Column("verb", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("reason", Text, nullable=False),
        _instant("done_at", default=True),
    )
    Table(
        "timer",
        metadata,
        Column("timer_key", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("company", Text, nullable=False),
        Column("subject_id", UUID, nullable=False),
        _instant("due_at", nullable=False),
        Column("state", Text, nullable=False, server_default=text("'armed'")),
        Column("owner", UUID),
        _instant("lease_until"),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        CheckConstraint("state IN ('armed', 'claimed', 'fired', 'cancelled')", name="timer_state"),
        Index("timer_due", "due_at", postgresql_where=text("state = 'armed'")),
        Index("timer_claimed", "lease_until", postgresql_where=text("state = 'claimed'")),
    )
    Table(
        "idempotency",
        metadata,
        Column("company", Text),
        Column("principal", Text),
        Column("key", Text),
        Column("route", Text, nullable=False),
        Column("body_sha256", LargeBinary, nullable=False),
        Column("status", Integer, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("body", LargeBinary, nullable=False),
        _instant("created_at", default=True),
        PrimaryKeyConstraint("company", "principal", "key"),
    )


#: Version 1 of the plumbing; a later version is a new list that a new revision of each service runs.
_DDL_1: Final = (
    """CREATE TABLE outbox (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL UNIQUE, topic text NOT NULL,
        key text NOT NULL, type text NOT NULL, subject text NOT NULL, sequence bigint NOT NULL, headers jsonb NOT NULL,
        value bytea NOT NULL, occurred_at timestamptz NOT NULL, sent_at timestamptz, UNIQUE (key, subject, sequence))""",
    "CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_at IS NULL",
    """CREATE TABLE progress (
        consumer text, topic_id uuid, partition int, topic text NOT NULL, next_offset bigint NOT NULL,
        caught_up_at timestamptz, PRIMARY KEY (consumer, topic_id, partition))""",
    """CREATE TABLE inbox (
        consumer text, event_id uuid, body_sha256 bytea, seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (consumer, event_id))""",
    "CREATE INDEX inbox_seen ON inbox (seen_at)",
    """CREATE TABLE version_seen (
        consumer text, company text, subject text, sequence bigint NOT NULL, PRIMARY KEY (consumer, company, subject))""",
    """CREATE TABLE parked_key (
        consumer text, key text, since timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (consumer, key))""",
    """CREATE TABLE parked (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, consumer text NOT NULL, key text NOT NULL, event_id uuid,
        topic text NOT NULL, topic_id uuid NOT NULL, partition int NOT NULL, "offset" bigint NOT NULL, raw_key bytea,
        raw_headers jsonb NOT NULL, raw_value bytea, state text NOT NULL, error_class text, error_text text, pointer text,
        attempts int NOT NULL DEFAULT 0, trace_id text, parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        closed_at timestamptz, closed_by text, close_reason text, UNIQUE (consumer, topic_id, partition, "offset"),
        CONSTRAINT parked_state CHECK (state IN ('poison', 'behind', 'conflict', 'released', 'discarded')))""",
    "CREATE INDEX parked_open ON parked (consumer, key, id) WHERE closed_at IS NULL",
    """CREATE TABLE consumer_stop (
        consumer text, topic text, reason text NOT NULL, since timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (consumer, topic))""",
    """CREATE TABLE operator_action (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, actor text NOT NULL, verb text NOT NULL,
        subject text NOT NULL, reason text NOT NULL, done_at timestamptz NOT NULL DEFAULT clock_timestamp())""",
    """CREATE TABLE timer (
        timer_key text PRIMARY KEY, kind text NOT NULL, company text NOT NULL, subject_id uuid NOT NULL,
        due_at timestamptz NOT NULL, state text NOT NULL DEFAULT 'armed', owner uuid, lease_until timestamptz,
        attempts int NOT NULL DEFAULT 0,
        CONSTRAINT timer_state CHECK (state IN ('armed', 'claimed', 'fired', 'cancelled')))""",
    "CREATE INDEX timer_due ON timer (due_at) WHERE state = 'armed'",
    "CREATE INDEX timer_claimed ON timer (lease_until) WHERE state = 'claimed'",
    """CREATE TABLE idempotency (
        company text, principal text, key text, route text NOT NULL, body_sha256 bytea NOT NULL, status int NOT NULL,
        headers jsonb NOT NULL, body bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (company, principal, key))""",
)

_TABLES: Final = (
    "outbox", "progress", "inbox", "version_seen", "parked_key", "parked", "consumer_stop", "timer", "idempotency",
)  # fmt: skip


def create(op: Operations, *, app_role: str) -> None:
    """Create the plumbing tables of version 1 and grant them to `app_role`.

    Called by the first revision of every service. The operators' log is append-only.
    """
    for statement in _DDL_1:
        op.execute(statement)
    op.execute(f"GRANT {_READ_WRITE} ON {', '.join(_TABLES)} TO {app_role}")
    op.execute(f"GRANT SELECT, INSERT ON operator_action TO {app_role}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app_role}")


def drop(op: Operations) -> None:
    """Undo `create`."""
    for table in (*_TABLES, "operator_action"):
        op.execute(f"DROP TABLE {table}")
