"""The read model: balances over time, counts, and the feed."""

from alembic import op

from cobranza.chassis import plumbing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_DDL = (
    """CREATE TABLE customer (company text, customer text, name text NOT NULL, segment text NOT NULL,
        country text NOT NULL, PRIMARY KEY (company, customer))""",
    """CREATE TABLE receivable (company text, receivable_id uuid, customer text NOT NULL, invoice_id uuid, instalment int,
        number text NOT NULL, kind text NOT NULL, currency text NOT NULL, issued_on date NOT NULL, due_on date NOT NULL,
        issued bigint NOT NULL, allocated bigint NOT NULL, credited bigint NOT NULL, written_off bigint NOT NULL,
        open bigint NOT NULL, version bigint NOT NULL, PRIMARY KEY (company, receivable_id))""",
    "CREATE INDEX receivable_open ON receivable (company, due_on, receivable_id) WHERE open > 0",
    "CREATE INDEX receivable_of_customer ON receivable (company, customer, due_on)",
    """CREATE TABLE receivable_movement (company text, receivable_id uuid, version bigint, effective_on date NOT NULL,
        recorded_on date NOT NULL, amount bigint NOT NULL, PRIMARY KEY (company, receivable_id, version))""",
    """CREATE TABLE receivable_balance (company text NOT NULL, receivable_id uuid NOT NULL, customer text NOT NULL,
        currency text NOT NULL, due_on date NOT NULL, from_on date NOT NULL, until_on date NOT NULL, amount bigint NOT NULL,
        PRIMARY KEY (company, receivable_id, from_on))""",
    "CREATE INDEX receivable_balance_now ON receivable_balance (company, until_on, from_on)",
    """CREATE TABLE credit (company text, customer text, currency text, unapplied bigint NOT NULL, version bigint NOT NULL,
        PRIMARY KEY (company, customer, currency))""",
    """CREATE TABLE credit_movement (company text, customer text, currency text, version bigint, effective_on date NOT NULL,
        recorded_on date NOT NULL, amount bigint NOT NULL, PRIMARY KEY (company, customer, currency, version))""",
    """CREATE TABLE credit_balance (company text NOT NULL, customer text NOT NULL, currency text NOT NULL,
        from_on date NOT NULL, until_on date NOT NULL, amount bigint NOT NULL,
        PRIMARY KEY (company, customer, currency, from_on))""",
    """CREATE TABLE payment (company text, payment_id uuid, customer text, currency text NOT NULL, amount bigint NOT NULL,
        value_on date NOT NULL, reversed_on date, PRIMARY KEY (company, payment_id))""",
    "CREATE INDEX payment_by_day ON payment (company, value_on)",
    """CREATE TABLE notice (company text, notice_id uuid, customer text NOT NULL, purpose text NOT NULL,
        channel text NOT NULL, state text NOT NULL, reason text, on_date date NOT NULL, delivery text NOT NULL,
        case_id uuid, step text, run int, lines jsonb NOT NULL, claimed bigint, currency text,
        PRIMARY KEY (company, notice_id))""",
    "CREATE INDEX notice_by_day ON notice (company, on_date)",
    """CREATE TABLE collection_case (company text, case_id uuid, customer text NOT NULL, currency text NOT NULL,
        opened_on date NOT NULL, closed_on date, outcome text, PRIMARY KEY (company, case_id))""",
    """CREATE TABLE feed (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL UNIQUE,
        company text NOT NULL, customer text, type text NOT NULL, happened_on date, at timestamptz NOT NULL,
        facts jsonb NOT NULL)""",
    "CREATE INDEX feed_of_company ON feed (company, seq)",
    "CREATE INDEX feed_of_customer ON feed (company, customer, seq)",
)
_TABLES = (
    "customer", "receivable", "receivable_movement", "receivable_balance", "credit", "credit_movement",
    "credit_balance", "payment", "notice", "collection_case", "feed",
)  # fmt: skip


def upgrade() -> None:
    plumbing.create(op, app_role="analytics_app")
    for statement in _DDL:
        op.execute(statement)
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(_TABLES)} TO analytics_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO analytics_app")


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE {table}")
    plumbing.drop(op)
