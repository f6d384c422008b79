"""What the whole policy language asks about: history of receivables, contacts, control totals, kinds of runs."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE account ADD contacts date[] NOT NULL DEFAULT '{}', ADD corrections jsonb NOT NULL DEFAULT '[]'
        """
    )
    op.execute(
        """
        ALTER TABLE receivable ADD allocated bigint NOT NULL DEFAULT 0, ADD history jsonb NOT NULL DEFAULT '{}',
            ADD payments jsonb NOT NULL DEFAULT '[]', ADD reopened_on date, ADD told_reversal boolean NOT NULL DEFAULT true,
            ADD product_line text, ADD acknowledged boolean
        """
    )
    # What was issued before is known by the last step alone, as of the last notice.
    op.execute(
        """
        UPDATE receivable SET allocated = issued - open, history = CASE WHEN level_step IS NULL OR last_notice_on IS NULL
            THEN '{}' ELSE jsonb_build_object(level_step, jsonb_build_object('on', last_notice_on, 'times', 1)) END
        """
    )
    op.execute("ALTER TABLE customer ADD country text, ADD protected_party text, ADD reachable boolean")
    op.execute("ALTER TABLE cancelled_invoice ADD replaced_by uuid")
    op.execute(
        "CREATE INDEX cancelled_invoice_replaced_by ON cancelled_invoice (company, replaced_by) WHERE replaced_by IS NOT NULL"
    )
    op.execute(
        """
        CREATE TABLE control_total (company text, currency text, verdict text NOT NULL, total_on date NOT NULL,
            PRIMARY KEY (company, currency))
        """
    )
    op.execute(
        """
        ALTER TABLE step_run ADD kind text NOT NULL DEFAULT 'notice', ADD has_risen boolean NOT NULL DEFAULT false,
            ADD attempts int NOT NULL DEFAULT 0, DROP CONSTRAINT step_run_state, ADD CONSTRAINT step_run_state CHECK (state IN
            ('proposed', 'approved', 'requested', 'undelivered', 'sent', 'failed', 'suppressed', 'skipped'))
        """
    )
    op.execute("DROP INDEX step_run_open")
    op.execute(
        """
        CREATE INDEX step_run_open ON step_run (case_id)
        WHERE state IN ('proposed', 'approved', 'requested', 'undelivered')
        """
    )
    op.execute("DROP INDEX account_waiting")
    op.execute(
        """
        CREATE INDEX account_waiting ON account (company, reason)
        WHERE reason IN ('no_policy', 'cash_stale', 'control_mismatch')
        """
    )
    op.execute("ALTER TABLE task ADD completed_at timestamptz, ADD disposition text, ADD completed_by text")
    op.execute("GRANT SELECT, INSERT, UPDATE ON control_total, task TO dunning_app")


def downgrade() -> None:
    op.execute("DROP INDEX account_waiting")
    op.execute("CREATE INDEX account_waiting ON account (company, reason) WHERE reason IN ('no_policy', 'cash_stale')")
    op.execute("DROP INDEX step_run_open")
    op.execute("DELETE FROM step_run WHERE state IN ('proposed', 'approved', 'undelivered')")
    op.execute("CREATE INDEX step_run_open ON step_run (case_id) WHERE state = 'requested'")
    op.execute(
        """
        ALTER TABLE step_run DROP COLUMN kind, DROP COLUMN has_risen, DROP COLUMN attempts, DROP CONSTRAINT step_run_state,
            ADD CONSTRAINT step_run_state CHECK (state IN ('requested', 'sent', 'failed', 'suppressed', 'skipped'))
        """
    )
    op.execute("REVOKE UPDATE ON task FROM dunning_app")
    op.execute("ALTER TABLE task DROP COLUMN completed_at, DROP COLUMN disposition, DROP COLUMN completed_by")
    op.execute("DROP TABLE control_total")
    op.execute("ALTER TABLE cancelled_invoice DROP COLUMN replaced_by")
    op.execute("ALTER TABLE customer DROP COLUMN country, DROP COLUMN protected_party, DROP COLUMN reachable")
    op.execute(
        """
        ALTER TABLE receivable DROP COLUMN allocated, DROP COLUMN history, DROP COLUMN payments, DROP COLUMN reopened_on,
            DROP COLUMN told_reversal, DROP COLUMN product_line, DROP COLUMN acknowledged
        """
    )
    op.execute("ALTER TABLE account DROP COLUMN contacts, DROP COLUMN corrections")
