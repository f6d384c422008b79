"""Documents and the due-date calendar."""

from alembic import op

from cobranza.chassis import plumbing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = ("customer", "invoice", "instalment", "credit_note", "accepted", "settlement")


def upgrade() -> None:
    plumbing.create(op, app_role="invoicing_app")
    op.execute(
        """
        CREATE TABLE customer (company text, customer text, revision bigint NOT NULL, state jsonb NOT NULL,
            version bigint NOT NULL, PRIMARY KEY (company, customer))
        """
    )
    op.execute(
        """
        CREATE TABLE invoice (company text, invoice_id uuid, customer text NOT NULL, number text NOT NULL,
            revision bigint NOT NULL, status text NOT NULL DEFAULT 'issued', state jsonb NOT NULL, issued_on date NOT NULL,
            version bigint NOT NULL, PRIMARY KEY (company, invoice_id),
            CONSTRAINT invoice_status CHECK (status IN ('issued', 'cancelled')))
        """
    )
    op.execute("CREATE INDEX invoice_of_customer ON invoice (company, customer, issued_on)")
    op.execute("CREATE INDEX invoice_number ON invoice (company, number)")
    op.execute("CREATE INDEX invoice_by_issue ON invoice (company, issued_on DESC, invoice_id)")
    op.execute(
        """
        CREATE TABLE instalment (company text, receivable_id uuid, invoice_id uuid NOT NULL, customer text NOT NULL,
            due_on date NOT NULL, settled boolean NOT NULL DEFAULT false, told_until int,
            version bigint NOT NULL DEFAULT 0, PRIMARY KEY (company, receivable_id))
        """
    )
    op.execute("CREATE INDEX instalment_of_invoice ON instalment (company, invoice_id)")
    op.execute(
        """
        CREATE TABLE credit_note (company text, credit_note_id uuid, customer text NOT NULL, state jsonb NOT NULL,
            PRIMARY KEY (company, credit_note_id))
        """
    )
    op.execute(
        """
        CREATE TABLE accepted (company text, system text, type text, external_id text, revision bigint,
            sha256 bytea NOT NULL, accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (company, system, type, external_id, revision))
        """
    )
    op.execute(
        """
        CREATE TABLE settlement (company text, receivable_id uuid, settled boolean NOT NULL,
            PRIMARY KEY (company, receivable_id))
        """
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(_TABLES)} TO invoicing_app")


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE {table}")
    plumbing.drop(op)
