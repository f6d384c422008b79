"""Policies that are tried over the live portfolio: previews of a day and back-tests, with their results."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE policy_trial (trial_id uuid PRIMARY KEY, company text NOT NULL, kind text NOT NULL, asked jsonb NOT NULL,
            asked_by text NOT NULL, asked_at timestamptz NOT NULL, state text NOT NULL DEFAULT 'waiting',
            attempts int NOT NULL DEFAULT 0, accounts int, played int NOT NULL DEFAULT 0, fault jsonb, result jsonb,
            ended_at timestamptz, CONSTRAINT policy_trial_kind CHECK (kind IN ('preview', 'back_test')),
            CONSTRAINT policy_trial_state CHECK (state IN ('waiting', 'running', 'done', 'failed')))
        """
    )
    op.execute("CREATE INDEX policy_trial_newest ON policy_trial (company, kind, trial_id DESC)")
    op.execute("CREATE INDEX policy_trial_open ON policy_trial (trial_id) WHERE state IN ('waiting', 'running')")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON policy_trial TO dunning_app")


def downgrade() -> None:
    op.execute("DROP TABLE policy_trial")
