"""What was agreed with debtors, what they dispute, who else collects; receipts of nobody; notices by day."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("agreement", "unknown_receipt", "product_line", "notice_day")


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE account ADD stops jsonb NOT NULL DEFAULT '[]', ADD promises jsonb NOT NULL DEFAULT '[]',
            ADD effects jsonb NOT NULL DEFAULT '[]', ADD handed_over uuid[] NOT NULL DEFAULT '{}',
            ADD evidence text[] NOT NULL DEFAULT '{}', ADD closed_tone text
        """
    )
    op.execute(
        """
        UPDATE account a SET closed_tone = c.heard_tone FROM (
            SELECT DISTINCT ON (account_id) account_id, heard_tone FROM collection_case
            WHERE closed_on IS NOT NULL AND heard_tone IS NOT NULL ORDER BY account_id, opened_on DESC, case_id DESC) c
        WHERE c.account_id = a.account_id
        """
    )
    op.execute(
        """
        CREATE TABLE agreement (agreement_id uuid PRIMARY KEY, company text NOT NULL, account_id uuid NOT NULL,
            kind text NOT NULL, state text NOT NULL, told jsonb NOT NULL, recorded_by text NOT NULL, approved_by text,
            version bigint NOT NULL,
            CONSTRAINT agreement_kind CHECK (kind IN ('promise', 'plan', 'dispute', 'hand_over')))
        """
    )
    op.execute("CREATE INDEX agreement_of_account ON agreement (account_id)")
    op.execute("CREATE INDEX agreement_open ON agreement (company, kind) WHERE state = 'open'")
    op.execute(
        """
        CREATE TABLE unknown_receipt (company text, payment_id uuid, currency text NOT NULL, amount bigint NOT NULL,
            PRIMARY KEY (company, payment_id))
        """
    )
    op.execute(
        """
        CREATE TABLE product_line (company text, invoice_id uuid, product_line text NOT NULL,
            PRIMARY KEY (company, invoice_id))
        """
    )
    op.execute(
        """
        CREATE TABLE notice_day (company text, on_date date, notices int NOT NULL DEFAULT 0, braked_at timestamptz,
            released_by text, PRIMARY KEY (company, on_date))
        """
    )
    op.execute("DROP INDEX account_waiting")
    op.execute(
        """
        CREATE INDEX account_waiting ON account (company, reason)
        WHERE reason IN ('no_policy', 'cash_stale', 'control_mismatch', 'payer_unknown', 'braked')
        """
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(_TABLES)} TO dunning_app")
    op.execute("GRANT DELETE ON unknown_receipt TO dunning_app")


def downgrade() -> None:
    op.execute("DROP INDEX account_waiting")
    op.execute(
        """
        CREATE INDEX account_waiting ON account (company, reason)
        WHERE reason IN ('no_policy', 'cash_stale', 'control_mismatch')
        """
    )
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute(
        """
        ALTER TABLE account DROP COLUMN stops, DROP COLUMN promises, DROP COLUMN effects, DROP COLUMN handed_over,
            DROP COLUMN evidence, DROP COLUMN closed_tone
        """
    )
