"""Cash application: payers, suggestions and what people decided about them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = (
    "ALTER TABLE allocation ADD COLUMN discount bigint NOT NULL DEFAULT 0",
    "ALTER TABLE allocation ADD COLUMN written_off bigint NOT NULL DEFAULT 0",
    """CREATE TABLE party (
        company text, customer text, name text NOT NULL, customer_key text NOT NULL, name_key text NOT NULL, tax_key text,
        PRIMARY KEY (company, customer))""",
    "CREATE INDEX party_by_customer_key ON party (company, customer_key)",
    "CREATE INDEX party_by_name ON party (company, name_key)",
    "CREATE INDEX party_by_tax_id ON party (company, tax_key) WHERE tax_key IS NOT NULL",
    """CREATE TABLE payer_account (
        company text, account_key text, customer text, why text NOT NULL, receipt_id uuid NOT NULL,
        learned_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (company, account_key, customer))""",
    """CREATE TABLE invoice_discount (
        company text, invoice_id uuid, amount bigint NOT NULL, until_on date NOT NULL, PRIMARY KEY (company, invoice_id),
        CONSTRAINT invoice_discount_amount CHECK (amount > 0))""",
    """CREATE TABLE promise_awaited (
        company text, promise_id uuid, customer text NOT NULL, currency char(3) NOT NULL, amount bigint NOT NULL,
        made_on date NOT NULL, limit_on date NOT NULL, receivables uuid[] NOT NULL, PRIMARY KEY (company, promise_id))""",
    "CREATE INDEX promise_awaited_of_customer ON promise_awaited (company, customer)",
    """CREATE TABLE match_queue (
        company text, receipt_id uuid, not_before timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (company, receipt_id))""",
    "CREATE INDEX match_queue_by_time ON match_queue (not_before)",
    """CREATE TABLE suggestion (
        suggestion_id uuid PRIMARY KEY, company text NOT NULL, receipt_id uuid NOT NULL, rule text NOT NULL,
        confidence numeric(3, 2) NOT NULL, customer text, shares jsonb NOT NULL, differences jsonb NOT NULL,
        inputs jsonb NOT NULL, state text NOT NULL, made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        decided_by text, decided_at timestamptz, reason text,
        FOREIGN KEY (company, receipt_id) REFERENCES receipt (company, receipt_id),
        CONSTRAINT suggestion_state CHECK (state IN ('open', 'applied', 'accepted', 'rejected', 'superseded')))""",
    "CREATE INDEX suggestion_of_receipt ON suggestion (company, receipt_id)",
    """CREATE TABLE match_action (
        action_id uuid PRIMARY KEY, company text NOT NULL, receipt_id uuid NOT NULL, verb text NOT NULL, actor text NOT NULL,
        reason text NOT NULL, lines jsonb NOT NULL, done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT match_action_verb CHECK (verb IN ('accept', 'reject', 'apply', 'move', 'undo')))""",
    "CREATE INDEX match_action_of_receipt ON match_action (company, receipt_id)",
)

_GRANTS = (
    "SELECT, INSERT, UPDATE ON party, suggestion, invoice_discount",
    "SELECT, INSERT ON payer_account, match_action",
    "SELECT, INSERT, UPDATE, DELETE ON match_queue, promise_awaited",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for grant in _GRANTS:
        op.execute(f"GRANT {grant} TO payments_app")


def downgrade() -> None:
    for table in (
        "match_action", "suggestion", "match_queue", "promise_awaited", "invoice_discount", "payer_account", "party",
    ):  # fmt: skip
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE allocation DROP COLUMN discount, DROP COLUMN written_off")
