"""Dunning's tables: what is known of each debtor's account, its cases, step runs and decisions."""

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
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from cobranza.chassis import plumbing

metadata = MetaData()
_WAITING = text("reason IN ('no_policy', 'cash_stale', 'control_mismatch', 'payer_unknown', 'braked')")
_UNDER_WAY = text("state IN ('proposed', 'approved', 'requested', 'undelivered')")

# One debtor of one company in one currency: what is evaluated, and the lock of everything below it.
account = Table(
    "account",
    metadata,
    Column("account_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("unapplied", BigInteger, nullable=False, server_default=text("0")),
    Column("last_contact_on", Date),
    # Days of contacts that a limit may ask for, and what the debtor is to be told we were wrong about.
    Column("contacts", ARRAY(Date), nullable=False, server_default=text("'{}'")),
    Column("corrections", JSONB, nullable=False, server_default=text("'[]'")),
    # What was agreed with the debtor or disputed, effects that can be taken back, what somebody else collects.
    Column("stops", JSONB, nullable=False, server_default=text("'[]'")),
    Column("promises", JSONB, nullable=False, server_default=text("'[]'")),
    Column("effects", JSONB, nullable=False, server_default=text("'[]'")),
    Column("handed_over", ARRAY(UUID), nullable=False, server_default=text("'{}'")),
    Column("evidence", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("closed_tone", Text),
    # The last evaluation: what it found and when it must be made again.
    Column("evaluated_on", Date),
    # Since when it is looked at in time again: that day reaches no effect.
    Column("caught_up_on", Date),
    Column("reason", Text),
    Column("next_check_on", Date),
    Column("decision_id", UUID),
    Column("decision_digest", Text),
    UniqueConstraint("company", "customer", "currency"),
    Index("account_waiting", "company", "reason", postgresql_where=_WAITING),
)

receivable = Table(
    "receivable",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("account_id", UUID, nullable=False),
    Column("invoice_id", UUID),
    Column("number", Text, nullable=False),
    Column("issued_on", Date, nullable=False),
    Column("due_on", Date, nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("open", BigInteger, nullable=False),
    Column("cause", Text, nullable=False),
    Column("recorded_on", Date, nullable=False),
    # What was done about it: the last step issued, and up to which step the ladder is behind it.
    Column("level", Integer, nullable=False, server_default=text("0")),
    Column("level_step", Text),
    Column("passed", Integer, nullable=False, server_default=text("0")),
    Column("last_notice_on", Date),
    Column("allocated", BigInteger, nullable=False, server_default=text("0")),
    # When each step was issued for it, and its last part payments.
    Column("history", JSONB, nullable=False, server_default=text("'{}'")),
    Column("payments", JSONB, nullable=False, server_default=text("'[]'")),
    Column("reopened_on", Date),
    Column("told_reversal", Boolean, nullable=False, server_default=text("true")),
    Column("product_line", Text),
    Column("acknowledged", Boolean),
    PrimaryKeyConstraint("company", "receivable_id"),
    Index("receivable_open", "account_id", postgresql_where=text("open > 0")),
    Index("receivable_recorded", "account_id", text("recorded_on DESC")),
    Index("receivable_number", "company", "number"),
    Index("receivable_invoice", "company", "invoice_id"),
)

# By how much a receivable moved on each business day: what a back-test plays.
balance_change = Table(
    "balance_change",
    metadata,
    Column("receivable_id", UUID),
    Column("on_date", Date),
    Column("open", BigInteger, nullable=False),
    Column("allocated", BigInteger, nullable=False),
    PrimaryKeyConstraint("receivable_id", "on_date"),
)

# The invoice may be cancelled here before its receivables are heard of on the other topic.
cancelled_invoice = Table(
    "cancelled_invoice",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("replaced_by", UUID),
    PrimaryKeyConstraint("company", "invoice_id"),
    Index("cancelled_invoice_replaced_by", "company", "replaced_by", postgresql_where=text("replaced_by IS NOT NULL")),
)

customer = Table(
    "customer",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("revision", BigInteger, nullable=False),
    Column("language", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("country", Text),
    Column("protected_party", Text),
    Column("reachable", Boolean),
    Column("risk", Text),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("since", Date),
    PrimaryKeyConstraint("company", "customer"),
)

cash_feed = Table(
    "cash_feed",
    metadata,
    Column("company", Text, primary_key=True),
    Column("through_on", Date, nullable=False),
)

control_total = Table(
    "control_total",
    metadata,
    Column("company", Text),
    Column("currency", Text),
    Column("verdict", Text, nullable=False),
    Column("total_on", Date, nullable=False),
    PrimaryKeyConstraint("company", "currency"),
)

collection_case = Table(
    "collection_case",
    metadata,
    Column("case_id", UUID, primary_key=True),
    Column("account_id", UUID, nullable=False),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("policy", Text),
    Column("policy_version", Integer),
    Column("heard_tone", Text),
    Column("opened_on", Date, nullable=False),
    Column("closed_on", Date),
    Column("outcome", Text),
    Column("previous_case_id", UUID),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("(state = 'closed') = (closed_on IS NOT NULL)", name="case_closed"),
    Index("case_open", "account_id", unique=True, postgresql_where=text("closed_on IS NULL")),
    Index("case_by_opening", "company", text("opened_on DESC"), "case_id"),
    Index("case_of_account", "account_id", text("opened_on DESC")),
)

step_run = Table(
    "step_run",
    metadata,
    Column("case_id", UUID),
    Column("step", Text),
    Column("run", Integer),
    Column("account_id", UUID, nullable=False),
    Column("company", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", Text, nullable=False),
    # The notice that carries it: the highest step moving that day speaks for the lower ones.
    Column("notice_step", Text),
    Column("notice_run", Integer),
    Column("tone", Text),
    Column("receivable_ids", ARRAY(UUID), nullable=False),
    Column("decision_id", UUID, nullable=False),
    Column("facts_hash", Text, nullable=False),
    Column("reached_on", Date, nullable=False),
    Column("expires_on", Date),
    Column("answered_on", Date),
    Column("reason", Text),
    Column("answer", JSONB),
    Column("kind", Text, nullable=False, server_default=text("'notice'")),
    Column("has_risen", Boolean, nullable=False, server_default=text("false")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("case_id", "step", "run"),
    CheckConstraint(
        "state IN ('proposed', 'approved', 'requested', 'undelivered', 'sent', 'failed', 'suppressed', 'skipped')",
        name="step_run_state",
    ),
    Index("step_run_decision", "decision_id"),
    Index("step_run_open", "case_id", postgresql_where=_UNDER_WAY),
)

hold = Table(
    "hold",
    metadata,
    Column("hold_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("case_id", UUID),
    Column("account_id", UUID),
    Column("receivable_ids", ARRAY(UUID), nullable=False),
    Column("reason", Text, nullable=False),
    Column("placed_on", Date, nullable=False),
    Column("until_on", Date),
    Column("placed_by", Text, nullable=False),
    Column("released_on", Date),
    Column("release_reason", Text),
    Column("released_by", Text),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("scope IN ('receivable', 'case', 'customer')", name="hold_scope"),
    Index("hold_of_customer", "company", "customer"),
)

# Promises, plans, disputes and hand-overs, each as it was last told.
agreement = Table(
    "agreement",
    metadata,
    Column("agreement_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("account_id", UUID, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("told", JSONB, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("approved_by", Text),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("kind IN ('promise', 'plan', 'dispute', 'hand_over')", name="agreement_kind"),
    Index("agreement_of_account", "account_id"),
    Index("agreement_open", "company", "kind", postgresql_where=text("state = 'open'")),
)

# Receipts whose payer nobody knows: they may be the money an effect is about.
unknown_receipt = Table(
    "unknown_receipt",
    metadata,
    Column("company", Text),
    Column("payment_id", UUID),
    Column("currency", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "payment_id"),
)

# The invoice may tell its product line before its receivables are heard of on the other topic.
product_line = Table(
    "product_line",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("product_line", Text, nullable=False),
    PrimaryKeyConstraint("company", "invoice_id"),
)

# How many notices were requested on a day, and until which day a person let more leave.
notice_day = Table(
    "notice_day",
    metadata,
    Column("company", Text),
    Column("on_date", Date),
    Column("notices", Integer, nullable=False, server_default=text("0")),
    Column("braked_at", DateTime(timezone=True)),
    Column("released_by", Text),
    PrimaryKeyConstraint("company", "on_date"),
)

task = Table(
    "task",
    metadata,
    Column("task_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    # What the task is about: the same cause asks a person once.
    Column("about", Text, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("completed_at", DateTime(timezone=True)),
    Column("disposition", Text),
    Column("completed_by", Text),
    UniqueConstraint("company", "about"),
)

decision = Table(
    "decision",
    metadata,
    Column("decision_id", UUID, primary_key=True),
    Column("account_id", UUID, nullable=False),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("case_id", UUID),
    Column("previous_id", UUID),
    Column("as_of", Date, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("times", Integer, nullable=False, server_default=text("1")),
    Column("cause", JSONB, nullable=False),
    Column("policy", Text),
    Column("policy_version", Integer),
    Column("policy_sha256", Text),
    Column("facts_hash", Text, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("reasoning", JSONB, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("contact", JSONB),
    Column("reasons", JSONB, nullable=False),
    Column("next_check_on", Date),
    CheckConstraint("outcome IN ('act', 'wait', 'stopped', 'skipped', 'ended')", name="decision_outcome"),
    Index("decision_of_account", "account_id", text("as_of DESC"), text("decision_id DESC")),
)

policy_version = Table(
    "policy_version",
    metadata,
    Column("company", Text),
    Column("policy", Text),
    Column("version", Integer),
    Column("currency", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("effective_from", Date, nullable=False),
    Column("title", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("document", JSONB, nullable=False),
    Column("loaded_at", DateTime(timezone=True), nullable=False),
    Column("activated_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("company", "policy", "version"),
    CheckConstraint("state IN ('draft', 'active', 'retired')", name="policy_state"),
    Index("policy_active", "company", "policy", unique=True, postgresql_where=text("state = 'active'")),
)

# What other services have in use that a policy may name: templates, contact rules, charge rules.
announced = Table(
    "announced",
    metadata,
    Column("company", Text),
    Column("type", Text),
    Column("about", Text),
    Column("told", JSONB, nullable=False),
    PrimaryKeyConstraint("company", "type", "about"),
)

# A policy tried over the live portfolio: what a day would bring, or how two versions differ.
policy_trial = Table(
    "policy_trial",
    metadata,
    Column("trial_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("asked", JSONB, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("accounts", Integer),
    Column("played", Integer, nullable=False, server_default=text("0")),
    Column("fault", JSONB),
    Column("result", JSONB),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint("kind IN ('preview', 'back_test')", name="policy_trial_kind"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="policy_trial_state"),
    Index("policy_trial_newest", "company", "kind", text("trial_id DESC")),
    Index("policy_trial_open", "trial_id", postgresql_where=text("state IN ('waiting', 'running')")),
)

plumbing.attach(metadata)
