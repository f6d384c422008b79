"""Webhooks of payment providers."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE webhook (
            company text, provider text, event_id text, kind text NOT NULL, payment text, outcome text NOT NULL,
            detail text NOT NULL, times int NOT NULL DEFAULT 1, first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            last_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (company, provider, event_id),
            CONSTRAINT webhook_outcome CHECK (outcome IN ('accepted', 'duplicate', 'ignored', 'refused')))"""
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON webhook TO payments_app")


def downgrade() -> None:
    op.execute("DROP TABLE webhook")
