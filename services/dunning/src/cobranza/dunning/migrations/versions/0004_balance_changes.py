"""How receivables moved by business day; of those known already, that they were issued and where they stand."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE balance_change (receivable_id uuid, on_date date, open bigint NOT NULL, allocated bigint NOT NULL,
            PRIMARY KEY (receivable_id, on_date))
        """
    )
    op.execute(
        """
        INSERT INTO balance_change (receivable_id, on_date, open, allocated)
        SELECT receivable_id, on_date, sum(open), sum(allocated) FROM (
            SELECT receivable_id, issued_on AS on_date, issued AS open, 0 AS allocated FROM receivable
            UNION ALL SELECT receivable_id, greatest(recorded_on, issued_on), open - issued, allocated FROM receivable
            WHERE open <> issued OR allocated <> 0) AS moved
        GROUP BY receivable_id, on_date
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON balance_change TO dunning_app")


def downgrade() -> None:
    op.execute("DROP TABLE balance_change")
