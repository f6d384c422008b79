"""The read model of analytics: what every topic tells, arranged for questions.

Amounts are integer minor units beside their currency. A balance is kept as stretches of value dates,
so that "open as of D" is one range scan whatever was recorded later.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
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
    Column("name", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("country", Text, nullable=False),
    PrimaryKeyConstraint("company", "customer"),
)

receivable = Table(
    "receivable",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("customer", Text, nullable=False),
    Column("invoice_id", UUID),
    Column("instalment", Integer),
    Column("number", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("issued_on", Date, nullable=False),
    Column("due_on", Date, nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("allocated", BigInteger, nullable=False),
    Column("credited", BigInteger, nullable=False),
    Column("written_off", BigInteger, nullable=False),
    Column("open", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "receivable_id"),
    Index("receivable_open", "company", "due_on", "receivable_id", postgresql_where=text("open > 0")),
    Index("receivable_of_customer", "company", "customer", "due_on"),
)

receivable_movement = Table(
    "receivable_movement",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("version", BigInteger),
    Column("effective_on", Date, nullable=False),
    Column("recorded_on", Date, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "receivable_id", "version"),
)

receivable_balance = Table(
    "receivable_balance",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("customer", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("due_on", Date, nullable=False),
    Column("from_on", Date),
    Column("until_on", Date, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "receivable_id", "from_on"),
    Index("receivable_balance_now", "company", "until_on", "from_on"),
    Index("receivable_balance_of_customer", "company", "customer", "currency", "due_on", "from_on", "until_on"),
)

credit = Table(
    "credit",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("currency", Text),
    Column("unapplied", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "customer", "currency"),
)

credit_movement = Table(
    "credit_movement",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("currency", Text),
    Column("version", BigInteger),
    Column("effective_on", Date, nullable=False),
    Column("recorded_on", Date, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "customer", "currency", "version"),
)

credit_balance = Table(
    "credit_balance",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("currency", Text),
    Column("from_on", Date),
    Column("until_on", Date, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "customer", "currency", "from_on"),
)

payment = Table(
    "payment",
    metadata,
    Column("company", Text),
    Column("payment_id", UUID),
    Column("customer", Text),
    Column("currency", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("value_on", Date, nullable=False),
    Column("reversed_on", Date),
    PrimaryKeyConstraint("company", "payment_id"),
    Index("payment_by_day", "company", "value_on"),
)

notice = Table(
    "notice",
    metadata,
    Column("company", Text),
    Column("notice_id", UUID),
    Column("customer", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("on_date", Date, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("case_id", UUID),
    Column("step", Text),
    Column("run", Integer),
    Column("lines", JSONB, nullable=False),
    Column("claimed", BigInteger),
    Column("currency", Text),
    PrimaryKeyConstraint("company", "notice_id"),
    Index("notice_by_day", "company", "on_date"),
)

collection_case = Table(
    "collection_case",
    metadata,
    Column("company", Text),
    Column("case_id", UUID),
    Column("customer", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("opened_on", Date, nullable=False),
    Column("closed_on", Date),
    Column("outcome", Text),
    PrimaryKeyConstraint("company", "case_id"),
)

# What happened, newest last: the live page and a customer's time line; ids and values, no addresses.
feed = Table(
    "feed",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", UUID, nullable=False, unique=True),
    Column("company", Text, nullable=False),
    Column("customer", Text),
    Column("type", Text, nullable=False),
    Column("happened_on", Date),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("facts", JSONB, nullable=False),
    Index("feed_of_company", "company", "seq"),
    Index("feed_of_customer", "company", "customer", "seq"),
)

plumbing.attach(metadata)
