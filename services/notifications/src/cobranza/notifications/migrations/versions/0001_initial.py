"""Notices, their history, and what letters need of customers and invoices."""

from alembic import op

from cobranza.chassis import plumbing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing.create(op, app_role="notifications_app")
    op.execute(
        "CREATE TABLE customer (company text, customer text, state jsonb NOT NULL, PRIMARY KEY (company, customer))"
    )
    op.execute(
        """
        CREATE TABLE invoice (company text, invoice_id uuid, concept text, fiscal_id text,
            PRIMARY KEY (company, invoice_id))
        """
    )
    op.execute(
        """
        CREATE TABLE notice (
            notice_id uuid PRIMARY KEY, company text NOT NULL, customer text NOT NULL, purpose text NOT NULL,
            channel text NOT NULL, case_id uuid, step text, run int, template text NOT NULL, tone text NOT NULL,
            language text NOT NULL, on_unknown text NOT NULL, lines jsonb NOT NULL, conditions jsonb NOT NULL,
            receipt jsonb, contact_decision jsonb NOT NULL, state text NOT NULL DEFAULT 'queued', reason text,
            detail text, attempt int NOT NULL DEFAULT 0, lease_until timestamptz,
            try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), handed_at timestamptz,
            requested_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, told_on date, permit jsonb,
            delivery text, contact_point_id uuid, subject text, body_text text, body_html text, headers jsonb,
            version bigint NOT NULL DEFAULT 0, cause_id uuid NOT NULL, correlation_id text NOT NULL, traceparent text,
            CONSTRAINT notice_state
                CHECK (state IN ('queued', 'sending', 'sent', 'failed', 'unknown', 'suppressed', 'expired')),
            CONSTRAINT notice_intent CHECK (state NOT IN ('sending', 'sent', 'unknown') OR body_text IS NOT NULL))
        """
    )
    op.execute("CREATE INDEX notice_waiting ON notice (try_at) WHERE state = 'queued'")
    op.execute("CREATE INDEX notice_unsettled ON notice (changed_at) WHERE state IN ('sending', 'unknown')")
    op.execute("CREATE INDEX notice_newest ON notice (company, requested_at DESC, notice_id)")
    op.execute("CREATE INDEX notice_of_customer ON notice (company, customer)")
    op.execute(
        """
        CREATE TABLE notice_history (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, notice_id uuid NOT NULL, state text NOT NULL,
            reason text, detail text, attempt int NOT NULL, noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            business_at timestamptz NOT NULL)
        """
    )
    op.execute("CREATE INDEX notice_history_of ON notice_history (notice_id, id)")
    op.execute("GRANT SELECT, INSERT, UPDATE ON customer, invoice, notice TO notifications_app")
    op.execute("GRANT SELECT, INSERT ON notice_history TO notifications_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO notifications_app")


def downgrade() -> None:
    for table in ("notice_history", "notice", "invoice", "customer"):
        op.execute(f"DROP TABLE {table}")
    plumbing.drop(op)
