"""Fiscal receipts that are owed, with the lines they are for; answers kept before asked for nothing and go."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = (
    "DROP TABLE fiscal_receipt_answer",
    """CREATE TABLE invoice_fiscal (
        company text, invoice_id uuid, fiscal_id text, payment_method_code text, PRIMARY KEY (company, invoice_id))""",
    """CREATE TABLE fiscal_receipt (
        fiscal_receipt_id uuid PRIMARY KEY, company text NOT NULL, customer text NOT NULL, currency char(3) NOT NULL,
        grouping_by text NOT NULL, period text NOT NULL, number int NOT NULL, method text NOT NULL,
        received_on date NOT NULL, deadline_on date NOT NULL, state text NOT NULL, version bigint NOT NULL, alert text,
        replaces uuid, answer jsonb, UNIQUE (company, customer, period, number),
        CONSTRAINT fiscal_receipt_state CHECK (state IN ('gathering', 'due', 'answered', 'rejected', 'cancelled')),
        CONSTRAINT fiscal_receipt_grouping CHECK (grouping_by IN ('per_payment', 'monthly')))""",
    "CREATE INDEX fiscal_receipt_by_deadline ON fiscal_receipt (company, deadline_on, fiscal_receipt_id)",
    "CREATE INDEX fiscal_receipt_open ON fiscal_receipt (company, deadline_on) WHERE state IN ('due', 'rejected')",
    """CREATE TABLE fiscal_receipt_line (
        fiscal_receipt_id uuid REFERENCES fiscal_receipt, line int, company text NOT NULL, invoice_id uuid NOT NULL,
        receivable_id uuid NOT NULL, payment_id uuid NOT NULL, fiscal_id text, place int NOT NULL,
        part_number int NOT NULL, previous bigint NOT NULL, paid bigint NOT NULL,
        remaining bigint GENERATED ALWAYS AS (previous - paid) STORED, state text NOT NULL, shares jsonb NOT NULL,
        PRIMARY KEY (fiscal_receipt_id, line),
        CONSTRAINT fiscal_receipt_line_state CHECK (state IN ('live', 'dropped', 'cancelled')),
        CONSTRAINT fiscal_receipt_line_paid CHECK (paid > 0),
        CONSTRAINT fiscal_receipt_line_remaining CHECK (remaining >= 0))""",
    "CREATE INDEX fiscal_receipt_line_of_invoice ON fiscal_receipt_line (company, invoice_id)",
)

_GRANTS = (
    "SELECT, INSERT, UPDATE ON invoice_fiscal, fiscal_receipt",
    "SELECT, INSERT, UPDATE (part_number, previous, paid, state, shares) ON fiscal_receipt_line",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for grant in _GRANTS:
        op.execute(f"GRANT {grant} TO payments_app")


def downgrade() -> None:
    for table in ("fiscal_receipt_line", "fiscal_receipt", "invoice_fiscal"):
        op.execute(f"DROP TABLE {table}")
    op.execute("""CREATE TABLE fiscal_receipt_answer (
        company text, fiscal_receipt_id uuid, told jsonb NOT NULL, PRIMARY KEY (company, fiscal_receipt_id))""")
    op.execute("GRANT SELECT, INSERT, UPDATE ON fiscal_receipt_answer TO payments_app")
