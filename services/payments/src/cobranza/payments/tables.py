"""Payments' tables: the ledger, which the database itself keeps in balance, and projections of others' facts."""

from __future__ import annotations

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from cobranza.chassis import plumbing

metadata = MetaData()


def _booked_at(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


ledger_customer = Table(
    "ledger_customer",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    _booked_at("since"),
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
    Column("currency", CHAR(3), nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("allocated", BigInteger, nullable=False, server_default=text("0")),
    Column("credited", BigInteger, nullable=False, server_default=text("0")),
    Column("written_off", BigInteger, nullable=False, server_default=text("0")),
    # The part of it that a decision gave up: later money is a recovery of it.
    Column("given_up", BigInteger, nullable=False, server_default=text("0")),
    Column("open", BigInteger, Computed("issued - allocated - credited - written_off", persisted=True)),
    Column("issued_on", Date, nullable=False),
    Column("due_on", Date, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("company", "receivable_id"),
    UniqueConstraint("company", "receivable_id", "currency"),
    CheckConstraint("kind IN ('invoice', 'late_charge')", name="receivable_kind"),
    CheckConstraint(
        "kind = 'late_charge' OR (invoice_id IS NOT NULL AND instalment IS NOT NULL)", name="receivable_of_invoice"
    ),
    CheckConstraint("issued > 0", name="receivable_issued"),
    CheckConstraint("allocated >= 0", name="receivable_allocated"),
    CheckConstraint("credited >= 0", name="receivable_credited"),
    CheckConstraint("written_off >= 0", name="receivable_written_off"),
    CheckConstraint("open >= 0", name="receivable_open"),
    CheckConstraint("given_up BETWEEN 0 AND written_off", name="receivable_given_up"),
    Index("receivable_open_of_customer", "company", "customer", postgresql_where=text("open > 0")),
    Index("receivable_by_invoice", "company", "invoice_id"),
    Index("receivable_by_due", "company", "due_on", "receivable_id"),
    Index("receivable_of_customer", "company", "customer", "due_on", "receivable_id"),
)

receipt = Table(
    "receipt",
    metadata,
    Column("company", Text),
    Column("receipt_id", UUID),
    Column("arrived", BigInteger, Identity(always=True), nullable=False),
    # Null while nobody knows whose money it is; `told_customer` is the one its events were keyed by.
    Column("customer", Text),
    Column("told_customer", Text),
    Column("kind", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("system", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("allocated", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    Column("reversed", BigInteger, nullable=False, server_default=text("0")),
    Column("unapplied", BigInteger, Computed("amount - allocated - refunded - reversed", persisted=True)),
    Column("value_on", Date, nullable=False),
    # Why some of it is not applied, where something stood in the way.
    Column("reason", Text),
    Column("details", JSONB, nullable=False),
    Column("payer", JSONB),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("company", "receipt_id"),
    UniqueConstraint("company", "receipt_id", "currency"),
    UniqueConstraint("company", "kind", "system", "external_id"),
    CheckConstraint("kind IN ('cash', 'credit')", name="receipt_kind"),
    CheckConstraint("amount > 0", name="receipt_amount"),
    CheckConstraint("allocated >= 0", name="receipt_allocated"),
    CheckConstraint("refunded >= 0", name="receipt_refunded"),
    CheckConstraint("reversed >= 0", name="receipt_reversed"),
    CheckConstraint("unapplied >= 0", name="receipt_unapplied"),
    Index("receipt_unapplied_of_customer", "company", "customer", postgresql_where=text("unapplied > 0")),
    Index("receipt_by_value", "company", text("value_on DESC"), "receipt_id"),
    Index("receipt_of_customer", "company", "customer", text("value_on DESC"), "receipt_id"),
)

allocation = Table(
    "allocation",
    metadata,
    Column("allocation_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("receipt_id", UUID, nullable=False),
    Column("receivable_id", UUID, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    # Given with it: closed by a credit, or given up; negative where it is taken back.
    Column("discount", BigInteger, nullable=False, server_default=text("0")),
    Column("written_off", BigInteger, nullable=False, server_default=text("0")),
    Column("reverses", UUID, ForeignKey("allocation.allocation_id"), unique=True),
    Column("rule", Text, nullable=False),
    Column("cause_event_id", UUID, nullable=False),
    _booked_at("booked_at"),
    CheckConstraint("amount <> 0", name="allocation_amount"),
    CheckConstraint("(reverses IS NULL) = (amount > 0)", name="allocation_sign"),
    # Currencies cannot mix: the keys carry it.
    ForeignKeyConstraint(
        ["company", "receipt_id", "currency"], ["receipt.company", "receipt.receipt_id", "receipt.currency"]
    ),
    ForeignKeyConstraint(
        ["company", "receivable_id", "currency"],
        ["receivable.company", "receivable.receivable_id", "receivable.currency"],
    ),
    Index("allocation_of_receipt", "company", "receipt_id"),
    Index("allocation_of_receivable", "company", "receivable_id"),
)

journal_entry = Table(
    "journal_entry",
    metadata,
    Column("entry_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cause_event_id", UUID, nullable=False),
    Column("reverses", UUID, ForeignKey("journal_entry.entry_id"), unique=True),
    Column("effective_on", Date, nullable=False),
    _booked_at("booked_at"),
    UniqueConstraint("cause_event_id", "kind"),
)

journal_line = Table(
    "journal_line",
    metadata,
    Column("entry_id", UUID, ForeignKey("journal_entry.entry_id")),
    Column("line", Integer),
    Column("account", Text, nullable=False),
    Column("receivable_id", UUID),
    Column("receipt_id", UUID),
    Column("currency", CHAR(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("entry_id", "line"),
    CheckConstraint("amount <> 0", name="journal_line_amount"),
    Index("journal_line_of_receivable", "receivable_id", postgresql_where=text("receivable_id IS NOT NULL")),
    # Where a receipt's money came from and went, without its applications.
    Index(
        "journal_line_of_receipt",
        "receipt_id",
        postgresql_where=text("account IN ('CASH', 'ADJUSTMENT:credit_note') AND receipt_id IS NOT NULL"),
    ),
)

# What is unapplied of a customer in one currency; `-` stands for money whose payer is not known.
credit = Table(
    "credit",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("currency", CHAR(3)),
    Column("unapplied", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "customer", "currency"),
    CheckConstraint("unapplied >= 0", name="credit_unapplied"),
)

# Every reversal accepted; one without its receipt waits for it.
reversal = Table(
    "reversal",
    metadata,
    Column("company", Text),
    Column("receipt_id", UUID),
    Column("reversed_on", Date, nullable=False),
    Column("reason", Text, nullable=False),
    _booked_at("accepted_at"),
    PrimaryKeyConstraint("company", "receipt_id"),
)

invoice = Table(
    "invoice",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("customer", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("cancelled", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("company", "invoice_id"),
)

invoice_reference = Table(
    "invoice_reference",
    metadata,
    Column("company", Text),
    Column("reference", Text),
    Column("invoice_id", UUID),
    PrimaryKeyConstraint("company", "reference", "invoice_id"),
)

receipt_reference = Table(
    "receipt_reference",
    metadata,
    Column("company", Text),
    Column("receipt_id", UUID),
    Column("position", Integer),
    Column("reference", Text, nullable=False),
    Column("at_most", BigInteger),
    PrimaryKeyConstraint("company", "receipt_id", "position"),
    Index("receipt_reference_text", "company", "reference"),
)

# Dunning's holds, promises, plans and disputes; without a receivable all of the customer, without an amount all of it.
stop = Table(
    "stop",
    metadata,
    Column("company", Text),
    Column("kind", Text),
    Column("stop_id", UUID),
    Column("line", Integer),
    Column("customer", Text, nullable=False),
    Column("receivable_id", UUID),
    Column("amount", BigInteger),
    Column("reason", Text, nullable=False),
    Column("until_on", Date),
    PrimaryKeyConstraint("company", "kind", "stop_id", "line"),
    CheckConstraint("kind IN ('hold', 'promise', 'plan', 'dispute')", name="stop_kind"),
    Index("stop_of_customer", "company", "customer"),
)

input_parked = Table(
    "input_parked",
    metadata,
    Column("company", Text),
    Column("input_id", UUID),
    Column("customer", Text),
    Column("code", Text, nullable=False),
    Column("waiting", Boolean, nullable=False),
    PrimaryKeyConstraint("company", "input_id"),
    Index("input_parked_of_customer", "company", "customer", postgresql_where=text("waiting")),
)

# `-` is the feed of a watermark that covers all cash of the company.
cash_feed = Table(
    "cash_feed",
    metadata,
    Column("company", Text),
    Column("feed", Text),
    Column("through_on", Date, nullable=False),
    Column("stated_at", DateTime(timezone=True), nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "feed"),
)

# What became of the webhooks of payment providers; a refused one waits for a person.
webhook = Table(
    "webhook",
    metadata,
    Column("company", Text),
    Column("provider", Text),
    Column("event_id", Text),
    Column("kind", Text, nullable=False),
    Column("payment", Text),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("times", Integer, nullable=False, server_default=text("1")),
    _booked_at("first_at"),
    _booked_at("last_at"),
    PrimaryKeyConstraint("company", "provider", "event_id"),
    CheckConstraint("outcome IN ('accepted', 'duplicate', 'ignored', 'refused')", name="webhook_outcome"),
)

permit = Table(
    "permit",
    metadata,
    Column("notice_id", UUID),
    Column("attempt", Integer),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("lines", JSONB, nullable=False),
    Column("refusals", JSONB, nullable=False),
    Column("credit", JSONB),
    Column("claimed", JSONB),
    Column("handed_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("notice_id", "attempt"),
    CheckConstraint("granted = (expires_at IS NOT NULL)", name="permit_expires"),
    Index("permit_handed", "handed_at", postgresql_where=text("handed_at IS NOT NULL")),
)

# One row: set while the ledger does not balance, and then nobody is asked for money.
ledger_stop = Table(
    "ledger_stop",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("stopped", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    CheckConstraint("id = 1", name="ledger_stop_one"),
)

bank_mapping = Table(
    "bank_mapping",
    metadata,
    Column("company", Text),
    Column("name", Text),
    Column("mapping", JSONB, nullable=False),
    Column("saved_by", Text, nullable=False),
    _booked_at("saved_at"),
    PrimaryKeyConstraint("company", "name"),
)

bank_import = Table(
    "bank_import",
    metadata,
    Column("import_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("format", Text, nullable=False),
    Column("mapping", Text),
    Column("state", Text, nullable=False),
    # Its statements with their control records, and what was left alone.
    Column("statements", JSONB, nullable=False),
    Column("ignored", JSONB, nullable=False),
    Column("watermark", Text),
    Column("checked_by", Text, nullable=False),
    _booked_at("checked_at"),
    Column("imported_at", DateTime(timezone=True)),
    Column("undone_by", Text),
    Column("undone_at", DateTime(timezone=True)),
    CheckConstraint("state IN ('checked', 'importing', 'imported', 'undoing', 'undone')", name="bank_import_state"),
    # Two files of a company cannot race for the same movement.
    Index(
        "bank_import_one_at_a_time", "company", unique=True, postgresql_where=text("state IN ('importing', 'undoing')")
    ),
    Index("bank_import_by_time", "company", text("checked_at DESC"), text("import_id DESC")),
    Index("bank_import_by_content", "company", "sha256"),
)

bank_line = Table(
    "bank_line",
    metadata,
    Column("import_id", UUID, ForeignKey("bank_import.import_id", ondelete="CASCADE")),
    Column("position", Integer),
    Column("line", Integer, nullable=False),
    Column("company", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("entry_ref", Text),
    Column("kind", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("booked_on", Date, nullable=False),
    Column("value_on", Date, nullable=False),
    Column("content", Text, nullable=False),
    # What the payments ledger is told, and what only the bank's line has: texts and references.
    Column("told", JSONB, nullable=False),
    Column("texts", JSONB, nullable=False),
    Column("trace", JSONB, nullable=False),
    Column("verdict", Text, nullable=False, server_default=text("'new'")),
    Column("note", Text),
    Column("other_import", UUID),
    Column("other_line", Integer),
    # The payment that it became, or that it reversed.
    Column("external_id", Text),
    Column("receipt_id", UUID),
    Column("live", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("import_id", "position"),
    CheckConstraint("kind IN ('credit', 'reversal')", name="bank_line_kind"),
    CheckConstraint("verdict IN ('new', 'known', 'conflict', 'unmatched', 'refused')", name="bank_line_verdict"),
    CheckConstraint("amount > 0", name="bank_line_amount"),
    Index("bank_line_once", "company", "identity", unique=True, postgresql_where=text("live")),
    Index("bank_line_of_identity", "company", "identity"),
    Index("bank_line_of_entry", "company", "account", "entry_ref", postgresql_where=text("live")),
    Index("bank_line_of_receipt", "company", "receipt_id", postgresql_where=text("live")),
)

# ------------------------------------------------------------------ cash application

# Customers as payers may call them; the keys are made by domain.matching.
party = Table(
    "party",
    metadata,
    Column("company", Text),
    Column("customer", Text),
    Column("name", Text, nullable=False),
    Column("customer_key", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("tax_key", Text),
    PrimaryKeyConstraint("company", "customer"),
    Index("party_by_customer_key", "company", "customer_key"),
    Index("party_by_name", "company", "name_key"),
    Index("party_by_tax_id", "company", "tax_key", postgresql_where=text("tax_key IS NOT NULL")),
)

# Accounts of the company on which one customer alone pays; of two customers it names nobody.
virtual_account = Table(
    "virtual_account",
    metadata,
    Column("company", Text),
    Column("account_key", Text),
    Column("customer", Text),
    PrimaryKeyConstraint("company", "account_key", "customer"),
    Index("virtual_account_of_customer", "company", "customer"),
)

# From which accounts a customer pays, and by which receipt that became known.
payer_account = Table(
    "payer_account",
    metadata,
    Column("company", Text),
    Column("account_key", Text),
    Column("customer", Text),
    Column("why", Text, nullable=False),
    Column("receipt_id", UUID, nullable=False),
    _booked_at("learned_at"),
    PrimaryKeyConstraint("company", "account_key", "customer"),
)

invoice_discount = Table(
    "invoice_discount",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("amount", BigInteger, nullable=False),
    Column("until_on", Date, nullable=False),
    PrimaryKeyConstraint("company", "invoice_id"),
    CheckConstraint("amount > 0", name="invoice_discount_amount"),
)

promise_awaited = Table(
    "promise_awaited",
    metadata,
    Column("company", Text),
    Column("promise_id", UUID),
    Column("customer", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("made_on", Date, nullable=False),
    Column("limit_on", Date, nullable=False),
    Column("receivables", ARRAY(UUID), nullable=False),
    PrimaryKeyConstraint("company", "promise_id"),
    Index("promise_awaited_of_customer", "company", "customer"),
)

# Receipts that were left unapplied, or may be applied since something changed.
match_queue = Table(
    "match_queue",
    metadata,
    Column("company", Text),
    Column("receipt_id", UUID),
    _booked_at("not_before"),
    PrimaryKeyConstraint("company", "receipt_id"),
    Index("match_queue_by_time", "not_before"),
)

suggestion = Table(
    "suggestion",
    metadata,
    Column("suggestion_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("receipt_id", UUID, nullable=False),
    Column("rule", Text, nullable=False),
    Column("confidence", Numeric(3, 2), nullable=False),
    Column("customer", Text),
    Column("shares", JSONB, nullable=False),
    Column("differences", JSONB, nullable=False),
    Column("inputs", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    _booked_at("made_at"),
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    Column("reason", Text),
    ForeignKeyConstraint(["company", "receipt_id"], ["receipt.company", "receipt.receipt_id"]),
    CheckConstraint("state IN ('open', 'applied', 'accepted', 'rejected', 'superseded')", name="suggestion_state"),
    Index("suggestion_of_receipt", "company", "receipt_id"),
    Index("suggestion_open", "shares", postgresql_using="gin", postgresql_where=text("state = 'open'")),
)

# What people did with money, each once: a repeat of the same action has no effect.
match_action = Table(
    "match_action",
    metadata,
    Column("action_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("receipt_id", UUID, nullable=False),
    Column("verb", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
    _booked_at("done_at"),
    CheckConstraint("verb IN ('accept', 'reject', 'apply', 'move', 'undo')", name="match_action_verb"),
    Index("match_action_of_receipt", "company", "receipt_id"),
)

# ------------------------------------------------------------------ control totals

# One run of the ERP's total of a day; without parts it is one that did not come.
control_total = Table(
    "control_total",
    metadata,
    Column("control_total_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("system", Text, nullable=False),
    Column("total_on", Date, nullable=False),
    Column("run_id", Text),
    Column("parts", Integer, nullable=False),
    Column("stated_count", Integer),
    Column("stated_total", BigInteger),
    Column("arrived", BigInteger, Identity(always=True), nullable=False),
    Column("first_at", DateTime(timezone=True), nullable=False),
    # Null until it was compared with the ledger.
    Column("verdict", Text),
    Column("found_count", Integer),
    Column("found_total", BigInteger),
    Column("differing", Integer),
    Column("checked_at", DateTime(timezone=True)),
    CheckConstraint("verdict IN ('matched', 'mismatch', 'missing')", name="control_total_verdict"),
    CheckConstraint("(parts = 0) = (stated_total IS NULL)", name="control_total_stated"),
    CheckConstraint("(verdict IS NULL) = (checked_at IS NULL)", name="control_total_checked"),
    Index("control_total_by_day", "company", text("total_on DESC"), text("arrived DESC")),
)

control_total_part = Table(
    "control_total_part",
    metadata,
    Column("control_total_id", UUID, ForeignKey("control_total.control_total_id")),
    Column("part", Integer),
    Column("told", JSONB, nullable=False),
    PrimaryKeyConstraint("control_total_id", "part"),
)

control_total_customer = Table(
    "control_total_customer",
    metadata,
    Column("control_total_id", UUID, ForeignKey("control_total.control_total_id")),
    Column("customer", Text),
    Column("stated", BigInteger, nullable=False),
    PrimaryKeyConstraint("control_total_id", "customer"),
)

control_total_difference = Table(
    "control_total_difference",
    metadata,
    Column("control_total_id", UUID, ForeignKey("control_total.control_total_id")),
    Column("customer", Text),
    Column("stated", BigInteger, nullable=False),
    Column("found", BigInteger, nullable=False),
    Column("distance", BigInteger, Computed("abs(stated - found)", persisted=True)),
    PrimaryKeyConstraint("control_total_id", "customer"),
    Index("control_total_difference_by_size", "control_total_id", text("distance DESC"), "customer"),
)

# The worst of the systems' last verdicts; its row is the lock of all checks of the currency.
control_standing = Table(
    "control_standing",
    metadata,
    Column("company", Text),
    Column("currency", CHAR(3)),
    Column("standing", Text),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "currency"),
    CheckConstraint("standing IN ('matched', 'mismatch', 'missing')", name="control_standing_verdict"),
)

# ------------------------------------------------------------------ fiscal receipts

# What the tax authority knows of an invoice, where receipts are owed at all.
invoice_fiscal = Table(
    "invoice_fiscal",
    metadata,
    Column("company", Text),
    Column("invoice_id", UUID),
    Column("fiscal_id", Text),
    Column("payment_method_code", Text),
    PrimaryKeyConstraint("company", "invoice_id"),
)

fiscal_receipt = Table(
    "fiscal_receipt",
    metadata,
    Column("fiscal_receipt_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("grouping_by", Text, nullable=False),
    # What it is owed for, a payment or a month, and which one of that it is.
    Column("period", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("method", Text, nullable=False),
    Column("received_on", Date, nullable=False),
    Column("deadline_on", Date, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("alert", Text),
    Column("replaces", UUID),
    Column("answer", JSONB),
    UniqueConstraint("company", "customer", "period", "number"),
    CheckConstraint("state IN ('gathering', 'due', 'answered', 'rejected', 'cancelled')", name="fiscal_receipt_state"),
    CheckConstraint("grouping_by IN ('per_payment', 'monthly')", name="fiscal_receipt_grouping"),
    Index("fiscal_receipt_by_deadline", "company", "deadline_on", "fiscal_receipt_id"),
    Index("fiscal_receipt_open", "company", "deadline_on", postgresql_where=text("state IN ('due', 'rejected')")),
)

fiscal_receipt_line = Table(
    "fiscal_receipt_line",
    metadata,
    Column("fiscal_receipt_id", UUID, ForeignKey("fiscal_receipt.fiscal_receipt_id")),
    Column("line", Integer),
    Column("company", Text, nullable=False),
    Column("invoice_id", UUID, nullable=False),
    Column("receivable_id", UUID, nullable=False),
    Column("payment_id", UUID, nullable=False),
    Column("fiscal_id", Text),
    Column("place", Integer, nullable=False),
    Column("part_number", Integer, nullable=False),
    Column("previous", BigInteger, nullable=False),
    Column("paid", BigInteger, nullable=False),
    Column("remaining", BigInteger, Computed("previous - paid", persisted=True)),
    Column("state", Text, nullable=False),
    # What each allocation gave of it, in minor units.
    Column("shares", JSONB, nullable=False),
    PrimaryKeyConstraint("fiscal_receipt_id", "line"),
    CheckConstraint("state IN ('live', 'dropped', 'cancelled')", name="fiscal_receipt_line_state"),
    CheckConstraint("paid > 0", name="fiscal_receipt_line_paid"),
    CheckConstraint("remaining >= 0", name="fiscal_receipt_line_remaining"),
    Index("fiscal_receipt_line_of_invoice", "company", "invoice_id"),
)

# ------------------------------------------------------------------ late charges, and what ends a debt

# Rules as they were activated; a version never changes.
charge_rules = Table(
    "charge_rules",
    metadata,
    Column("company", Text),
    Column("rules", Text),
    Column("version", Integer),
    Column("sha256", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("effective_from", Date, nullable=False),
    Column("document", JSONB, nullable=False),
    Column("activated_by", Text, nullable=False),
    _booked_at("activated_at"),
    PrimaryKeyConstraint("company", "rules", "version"),
)

# Published rates and values of units of account, of all companies; what was loaded is never overwritten.
charge_rate = Table(
    "charge_rate",
    metadata,
    Column("series", Text),
    Column("from_on", Date),
    Column("to_on", Date, nullable=False),
    Column("percent", Numeric(15, 6), nullable=False),
    Column("published", Text, nullable=False),
    Column("loaded_by", Text, nullable=False),
    _booked_at("loaded_at"),
    PrimaryKeyConstraint("series", "from_on"),
    CheckConstraint("to_on >= from_on", name="charge_rate_forward"),
)

# Steps that asked for a charge, each once, and what became of each debt of theirs.
charge_request = Table(
    "charge_request",
    metadata,
    Column("company", Text),
    Column("case_id", UUID),
    Column("step", Text),
    Column("run", Integer),
    Column("customer", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("effect", Text, nullable=False),
    Column("reached_on", Date, nullable=False),
    Column("told", JSONB, nullable=False),
    # Of the step's event, so that the charge's own events name their cause.
    Column("event_id", UUID, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("try_at", DateTime(timezone=True)),
    _booked_at("asked_at"),
    PrimaryKeyConstraint("company", "case_id", "step", "run"),
    CheckConstraint("state IN ('asked', 'booked', 'partly', 'refused', 'waits')", name="charge_request_state"),
    Index("charge_request_to_try", "try_at", postgresql_where=text("try_at IS NOT NULL")),
    Index("charge_request_of_customer", "company", "customer", text("reached_on DESC")),
)

late_charge = Table(
    "late_charge",
    metadata,
    Column("company", Text),
    Column("receivable_id", UUID),
    Column("customer", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("case_id", UUID, nullable=False),
    Column("step", Text, nullable=False),
    Column("run", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # The debt it is on; null for a charge on the whole case.
    Column("debt_id", UUID),
    Column("invoice_id", UUID),
    Column("amount", BigInteger, nullable=False),
    Column("settle", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("from_on", Date),
    Column("through_on", Date),
    Column("assessed_on", Date, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("company", "receivable_id"),
    ForeignKeyConstraint(
        ["company", "receivable_id", "currency"],
        ["receivable.company", "receivable.receivable_id", "receivable.currency"],
    ),
    CheckConstraint("kind IN ('interest', 'compensation', 'fee')", name="late_charge_kind"),
    CheckConstraint("amount > 0", name="late_charge_amount"),
    Index("late_charge_of_customer", "company", "customer"),
    Index(
        "late_charge_one_compensation",
        "company",
        "invoice_id",
        unique=True,
        postgresql_where=text("kind = 'compensation'"),
    ),
)

late_charge_debt = Table(
    "late_charge_debt",
    metadata,
    Column("company", Text),
    Column("debt_id", UUID),
    Column("receivable_id", UUID),
    PrimaryKeyConstraint("company", "debt_id", "receivable_id"),
    ForeignKeyConstraint(["company", "receivable_id"], ["late_charge.company", "late_charge.receivable_id"]),
    Index("late_charge_debt_of_charge", "company", "receivable_id"),
)

# Forgiven by somebody, or withdrawn because less was due than was posted.
late_charge_credit = Table(
    "late_charge_credit",
    metadata,
    Column("credit_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("receivable_id", UUID, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("approved_by", Text),
    Column("credited_on", Date, nullable=False),
    _booked_at("booked_at"),
    ForeignKeyConstraint(["company", "receivable_id"], ["late_charge.company", "late_charge.receivable_id"]),
    CheckConstraint("kind IN ('waiver', 'withdrawal')", name="late_charge_credit_kind"),
    CheckConstraint("amount > 0", name="late_charge_credit_amount"),
    Index("late_charge_credit_of_charge", "company", "receivable_id"),
)

# What debtors say to have paid, while the hold that it brought lasts.
payment_claim = Table(
    "payment_claim",
    metadata,
    Column("company", Text),
    Column("claim_id", UUID),
    Column("customer", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("paid_on", Date),
    Column("reference", Text),
    Column("receivables", ARRAY(UUID), nullable=False),
    PrimaryKeyConstraint("company", "claim_id"),
    Index("payment_claim_of_amount", "company", "currency", "amount"),
)

# Debts with charges whose balance changed.
charge_look = Table(
    "charge_look",
    metadata,
    Column("company", Text),
    Column("debt_id", UUID),
    _booked_at("not_before"),
    Column("reason", Text),
    PrimaryKeyConstraint("company", "debt_id"),
    Index("charge_look_by_time", "not_before"),
)

# Waivers, write-offs and refunds that people asked for, each once; large ones wait for a second person.
ledger_action = Table(
    "ledger_action",
    metadata,
    Column("action_id", UUID, primary_key=True),
    Column("company", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("subject_id", UUID, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    _booked_at("asked_at"),
    Column("state", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    Column("decision_note", Text),
    CheckConstraint("verb IN ('waive', 'write_off', 'refund')", name="ledger_action_verb"),
    CheckConstraint("state IN ('waiting', 'done', 'refused')", name="ledger_action_state"),
    CheckConstraint("amount > 0", name="ledger_action_amount"),
    CheckConstraint(
        "decided_by IS NULL OR state = 'refused' OR decided_by <> asked_by", name="ledger_action_second_person"
    ),
    Index("ledger_action_of_subject", "company", "subject_id"),
    Index("ledger_action_waiting", "company", "asked_at", postgresql_where=text("state = 'waiting'")),
)

plumbing.attach(metadata)
