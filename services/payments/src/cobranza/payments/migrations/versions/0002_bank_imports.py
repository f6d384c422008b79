"""Bank files: mappings, imports and their lines."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = (
    """CREATE TABLE bank_mapping (
        company text, name text, mapping jsonb NOT NULL, saved_by text NOT NULL,
        saved_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (company, name))""",
    """CREATE TABLE bank_import (
        import_id uuid PRIMARY KEY, company text NOT NULL, name text NOT NULL, sha256 bytea NOT NULL, format text NOT NULL,
        mapping text, state text NOT NULL, statements jsonb NOT NULL, ignored jsonb NOT NULL, watermark text,
        checked_by text NOT NULL, checked_at timestamptz NOT NULL DEFAULT clock_timestamp(), imported_at timestamptz,
        undone_by text, undone_at timestamptz,
        CONSTRAINT bank_import_state CHECK (state IN ('checked', 'importing', 'imported', 'undoing', 'undone')))""",
    "CREATE UNIQUE INDEX bank_import_one_at_a_time ON bank_import (company) WHERE state IN ('importing', 'undoing')",
    "CREATE INDEX bank_import_by_time ON bank_import (company, checked_at DESC, import_id DESC)",
    "CREATE INDEX bank_import_by_content ON bank_import (company, sha256)",
    """CREATE TABLE bank_line (
        import_id uuid REFERENCES bank_import ON DELETE CASCADE, position int, line int NOT NULL, company text NOT NULL,
        account text NOT NULL, identity text NOT NULL, entry_ref text, kind text NOT NULL, currency char(3) NOT NULL,
        amount bigint NOT NULL, booked_on date NOT NULL, value_on date NOT NULL, content text NOT NULL, told jsonb NOT NULL,
        texts jsonb NOT NULL, trace jsonb NOT NULL, verdict text NOT NULL DEFAULT 'new', note text, other_import uuid,
        other_line int, external_id text, receipt_id uuid, live boolean NOT NULL DEFAULT false,
        PRIMARY KEY (import_id, position),
        CONSTRAINT bank_line_kind CHECK (kind IN ('credit', 'reversal')),
        CONSTRAINT bank_line_verdict CHECK (verdict IN ('new', 'known', 'conflict', 'unmatched', 'refused')),
        CONSTRAINT bank_line_amount CHECK (amount > 0))""",
    "CREATE UNIQUE INDEX bank_line_once ON bank_line (company, identity) WHERE live",
    "CREATE INDEX bank_line_of_identity ON bank_line (company, identity)",
    "CREATE INDEX bank_line_of_entry ON bank_line (company, account, entry_ref) WHERE live",
    "CREATE INDEX bank_line_of_receipt ON bank_line (company, receipt_id) WHERE live",
)

_GRANTS = (
    "SELECT, INSERT, UPDATE ON bank_mapping",
    # An import that was only checked is forgotten after a week.
    "SELECT, INSERT, UPDATE, DELETE ON bank_import, bank_line",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for grant in _GRANTS:
        op.execute(f"GRANT {grant} TO payments_app")


def downgrade() -> None:
    for table in ("bank_line", "bank_import", "bank_mapping"):
        op.execute(f"DROP TABLE {table}")
