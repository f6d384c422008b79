"""The receivables ledger, what it needs to know of others, and the notice permits."""

from alembic import op

from cobranza.chassis import plumbing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LEDGER = (
    # One row per customer is the lock of all that the customer owes and owns.
    """CREATE TABLE ledger_customer (company text, customer text, since timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (company, customer))""",
    """CREATE TABLE receivable (
        company text, receivable_id uuid, customer text NOT NULL, invoice_id uuid, instalment int, number text NOT NULL,
        kind text NOT NULL, currency char(3) NOT NULL, issued bigint NOT NULL, allocated bigint NOT NULL DEFAULT 0,
        credited bigint NOT NULL DEFAULT 0, written_off bigint NOT NULL DEFAULT 0,
        open bigint GENERATED ALWAYS AS (issued - allocated - credited - written_off) STORED,
        issued_on date NOT NULL, due_on date NOT NULL, version bigint NOT NULL DEFAULT 1,
        PRIMARY KEY (company, receivable_id), UNIQUE (company, receivable_id, currency),
        CONSTRAINT receivable_kind CHECK (kind IN ('invoice', 'late_charge')),
        CONSTRAINT receivable_of_invoice CHECK (kind = 'late_charge' OR (invoice_id IS NOT NULL AND instalment IS NOT NULL)),
        CONSTRAINT receivable_issued CHECK (issued > 0), CONSTRAINT receivable_allocated CHECK (allocated >= 0),
        CONSTRAINT receivable_credited CHECK (credited >= 0), CONSTRAINT receivable_written_off CHECK (written_off >= 0),
        CONSTRAINT receivable_open CHECK (open >= 0))""",
    "CREATE INDEX receivable_open_of_customer ON receivable (company, customer) WHERE open > 0",
    "CREATE INDEX receivable_by_invoice ON receivable (company, invoice_id)",
    "CREATE INDEX receivable_by_due ON receivable (company, due_on, receivable_id)",
    """CREATE TABLE receipt (
        company text, receipt_id uuid, arrived bigint GENERATED ALWAYS AS IDENTITY, customer text, told_customer text,
        kind text NOT NULL, currency char(3) NOT NULL,
        system text NOT NULL, external_id text NOT NULL, sha256 bytea NOT NULL, amount bigint NOT NULL,
        allocated bigint NOT NULL DEFAULT 0, refunded bigint NOT NULL DEFAULT 0, reversed bigint NOT NULL DEFAULT 0,
        unapplied bigint GENERATED ALWAYS AS (amount - allocated - refunded - reversed) STORED,
        value_on date NOT NULL, reason text, details jsonb NOT NULL, payer jsonb, version bigint NOT NULL DEFAULT 1,
        PRIMARY KEY (company, receipt_id), UNIQUE (company, receipt_id, currency),
        UNIQUE (company, kind, system, external_id),
        CONSTRAINT receipt_kind CHECK (kind IN ('cash', 'credit')), CONSTRAINT receipt_amount CHECK (amount > 0),
        CONSTRAINT receipt_allocated CHECK (allocated >= 0), CONSTRAINT receipt_refunded CHECK (refunded >= 0),
        CONSTRAINT receipt_reversed CHECK (reversed >= 0), CONSTRAINT receipt_unapplied CHECK (unapplied >= 0))""",
    "CREATE INDEX receipt_unapplied_of_customer ON receipt (company, customer) WHERE unapplied > 0",
    "CREATE INDEX receipt_by_value ON receipt (company, value_on DESC, receipt_id)",
    """CREATE TABLE allocation (
        allocation_id uuid PRIMARY KEY, company text NOT NULL, receipt_id uuid NOT NULL, receivable_id uuid NOT NULL,
        currency char(3) NOT NULL, amount bigint NOT NULL, reverses uuid UNIQUE REFERENCES allocation, rule text NOT NULL,
        cause_event_id uuid NOT NULL, booked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT allocation_amount CHECK (amount <> 0), CONSTRAINT allocation_sign CHECK ((reverses IS NULL) = (amount > 0)),
        FOREIGN KEY (company, receipt_id, currency) REFERENCES receipt (company, receipt_id, currency),
        FOREIGN KEY (company, receivable_id, currency) REFERENCES receivable (company, receivable_id, currency))""",
    "CREATE INDEX allocation_of_receipt ON allocation (company, receipt_id)",
    "CREATE INDEX allocation_of_receivable ON allocation (company, receivable_id)",
    """CREATE TABLE journal_entry (
        entry_id uuid PRIMARY KEY, company text NOT NULL, kind text NOT NULL, cause_event_id uuid NOT NULL,
        reverses uuid UNIQUE REFERENCES journal_entry, effective_on date NOT NULL,
        booked_at timestamptz NOT NULL DEFAULT clock_timestamp(), UNIQUE (cause_event_id, kind))""",
    """CREATE TABLE journal_line (
        entry_id uuid REFERENCES journal_entry, line int, account text NOT NULL, receivable_id uuid, receipt_id uuid,
        currency char(3) NOT NULL, amount bigint NOT NULL, PRIMARY KEY (entry_id, line),
        CONSTRAINT journal_line_amount CHECK (amount <> 0))""",
    "CREATE INDEX journal_line_of_receivable ON journal_line (receivable_id) WHERE receivable_id IS NOT NULL",
    # All lines of an entry go in by one statement, so the check is paid once for a whole batch.
    """CREATE FUNCTION journal_balances() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM journal_line l WHERE l.entry_id IN (SELECT entry_id FROM fresh)
            GROUP BY l.entry_id, l.currency HAVING sum(l.amount) <> 0)
        THEN RAISE EXCEPTION 'journal entry does not balance' USING ERRCODE = 'check_violation'; END IF;
        RETURN NULL; END $$""",
    """CREATE TRIGGER journal_balances AFTER INSERT ON journal_line REFERENCING NEW TABLE AS fresh
        FOR EACH STATEMENT EXECUTE FUNCTION journal_balances()""",
    """CREATE TABLE credit (
        company text, customer text, currency char(3), unapplied bigint NOT NULL, version bigint NOT NULL,
        PRIMARY KEY (company, customer, currency), CONSTRAINT credit_unapplied CHECK (unapplied >= 0))""",
    """CREATE TABLE reversal (
        company text, receipt_id uuid, reversed_on date NOT NULL, reason text NOT NULL,
        accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (company, receipt_id))""",
)

_KNOWN = (
    """CREATE TABLE invoice (
        company text, invoice_id uuid, customer text NOT NULL, number text NOT NULL, system text NOT NULL,
        cancelled boolean NOT NULL DEFAULT false, PRIMARY KEY (company, invoice_id))""",
    """CREATE TABLE invoice_reference (company text, reference text, invoice_id uuid,
        PRIMARY KEY (company, reference, invoice_id))""",
    """CREATE TABLE receipt_reference (
        company text, receipt_id uuid, position int, reference text NOT NULL, at_most bigint,
        PRIMARY KEY (company, receipt_id, position))""",
    "CREATE INDEX receipt_reference_text ON receipt_reference (company, reference)",
    """CREATE TABLE stop (
        company text, kind text, stop_id uuid, line int, customer text NOT NULL, receivable_id uuid, amount bigint,
        reason text NOT NULL, until_on date, PRIMARY KEY (company, kind, stop_id, line),
        CONSTRAINT stop_kind CHECK (kind IN ('hold', 'promise', 'plan', 'dispute')))""",
    "CREATE INDEX stop_of_customer ON stop (company, customer)",
    """CREATE TABLE input_parked (
        company text, input_id uuid, customer text, code text NOT NULL, waiting boolean NOT NULL,
        PRIMARY KEY (company, input_id))""",
    "CREATE INDEX input_parked_of_customer ON input_parked (company, customer) WHERE waiting",
    """CREATE TABLE cash_feed (
        company text, feed text, through_on date NOT NULL, stated_at timestamptz NOT NULL, version bigint NOT NULL,
        PRIMARY KEY (company, feed))""",
    """CREATE TABLE control_total (
        company text, currency char(3), total_on date, system text, told jsonb NOT NULL, verdict text,
        PRIMARY KEY (company, currency, total_on, system),
        CONSTRAINT control_total_verdict CHECK (verdict IN ('matched', 'mismatch', 'missing')))""",
    """CREATE TABLE fiscal_receipt_answer (
        company text, fiscal_receipt_id uuid, told jsonb NOT NULL, PRIMARY KEY (company, fiscal_receipt_id))""",
)

_PERMITS = (
    """CREATE TABLE permit (
        notice_id uuid, attempt int, company text NOT NULL, customer text NOT NULL, granted boolean NOT NULL,
        asked_at timestamptz NOT NULL, expires_at timestamptz, lines jsonb NOT NULL, refusals jsonb NOT NULL, credit jsonb,
        claimed jsonb, handed_at timestamptz, PRIMARY KEY (notice_id, attempt),
        CONSTRAINT permit_expires CHECK (granted = (expires_at IS NOT NULL)))""",
    "CREATE INDEX permit_handed ON permit (handed_at) WHERE handed_at IS NOT NULL",
    """CREATE TABLE ledger_stop (
        id int PRIMARY KEY DEFAULT 1, stopped boolean NOT NULL, reason text NOT NULL, since timestamptz NOT NULL,
        CONSTRAINT ledger_stop_one CHECK (id = 1))""",
    "INSERT INTO ledger_stop (stopped, reason, since) VALUES (false, 'never checked', clock_timestamp())",
)

# The app role owns nothing and deletes nothing of the ledger: corrections are reversing entries.
_GRANTS = (
    "SELECT, INSERT ON ledger_customer, receivable, receipt, allocation, journal_entry, journal_line, reversal, permit",
    "UPDATE (since) ON ledger_customer",
    "UPDATE (allocated, credited, written_off, due_on, version) ON receivable",
    "UPDATE (customer, allocated, refunded, reversed, reason, payer, version) ON receipt",
    "UPDATE (handed_at) ON permit",
    "SELECT, INSERT, UPDATE (unapplied, version) ON credit",
    "SELECT, INSERT, UPDATE ON invoice, cash_feed, control_total, fiscal_receipt_answer, input_parked",
    "SELECT, INSERT ON invoice_reference, receipt_reference",
    "SELECT, INSERT, DELETE ON stop",
    "SELECT, UPDATE (stopped, reason, since) ON ledger_stop",
)

_TABLES = (
    "ledger_stop", "permit", "fiscal_receipt_answer", "control_total", "cash_feed", "input_parked", "stop",
    "receipt_reference", "invoice_reference", "invoice", "reversal", "credit", "journal_line", "journal_entry",
    "allocation", "receipt", "receivable", "ledger_customer",
)  # fmt: skip


def upgrade() -> None:
    plumbing.create(op, app_role="payments_app")
    for statement in (*_LEDGER, *_KNOWN, *_PERMITS):
        op.execute(statement)
    for grant in _GRANTS:
        op.execute(f"GRANT {grant} TO payments_app")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION journal_balances")
    plumbing.drop(op)
