"""Accounts, cases, step runs, holds, tasks, decisions and policies."""

from alembic import op

from cobranza.chassis import plumbing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CHANGED = (
    *("account", "receivable", "cancelled_invoice", "customer", "cash_feed", "collection_case", "step_run", "hold"),
    *("decision", "policy_version"),
)
_TABLES = (*_CHANGED, "task")


def upgrade() -> None:
    plumbing.create(op, app_role="dunning_app")
    op.execute(
        """
        CREATE TABLE account (account_id uuid PRIMARY KEY, company text NOT NULL, customer text NOT NULL, currency text NOT NULL,
            unapplied bigint NOT NULL DEFAULT 0, last_contact_on date, evaluated_on date, reason text, next_check_on date,
            decision_id uuid, decision_digest text, UNIQUE (company, customer, currency))
        """
    )
    op.execute("CREATE INDEX account_waiting ON account (company, reason) WHERE reason IN ('no_policy', 'cash_stale')")
    op.execute(
        """
        CREATE TABLE receivable (company text, receivable_id uuid, account_id uuid NOT NULL, invoice_id uuid,
            number text NOT NULL, issued_on date NOT NULL, due_on date NOT NULL, issued bigint NOT NULL, open bigint NOT NULL,
            cause text NOT NULL, recorded_on date NOT NULL, level int NOT NULL DEFAULT 0, level_step text,
            passed int NOT NULL DEFAULT 0, last_notice_on date, PRIMARY KEY (company, receivable_id))
        """
    )
    op.execute("CREATE INDEX receivable_open ON receivable (account_id) WHERE open > 0")
    op.execute("CREATE INDEX receivable_recorded ON receivable (account_id, recorded_on DESC)")
    op.execute("CREATE INDEX receivable_number ON receivable (company, number)")
    op.execute("CREATE INDEX receivable_invoice ON receivable (company, invoice_id)")
    op.execute("CREATE TABLE cancelled_invoice (company text, invoice_id uuid, PRIMARY KEY (company, invoice_id))")
    op.execute(
        """
        CREATE TABLE customer (company text, customer text, revision bigint NOT NULL, language text NOT NULL,
            segment text NOT NULL, PRIMARY KEY (company, customer))
        """
    )
    op.execute("CREATE TABLE cash_feed (company text PRIMARY KEY, through_on date NOT NULL)")
    op.execute(
        """
        CREATE TABLE collection_case (case_id uuid PRIMARY KEY, account_id uuid NOT NULL, company text NOT NULL,
            customer text NOT NULL, currency text NOT NULL, state text NOT NULL, policy text, policy_version int, heard_tone text,
            opened_on date NOT NULL, closed_on date, outcome text, previous_case_id uuid, version bigint NOT NULL,
            CONSTRAINT case_closed CHECK ((state = 'closed') = (closed_on IS NOT NULL)))
        """
    )
    op.execute("CREATE UNIQUE INDEX case_open ON collection_case (account_id) WHERE closed_on IS NULL")
    op.execute("CREATE INDEX case_by_opening ON collection_case (company, opened_on DESC, case_id)")
    op.execute("CREATE INDEX case_of_account ON collection_case (account_id, opened_on DESC)")
    op.execute(
        """
        CREATE TABLE step_run (case_id uuid, step text, run int, account_id uuid NOT NULL, company text NOT NULL,
            position int NOT NULL, state text NOT NULL, notice_step text, notice_run int, tone text,
            receivable_ids uuid[] NOT NULL, decision_id uuid NOT NULL, facts_hash text NOT NULL, reached_on date NOT NULL,
            expires_on date, answered_on date, reason text, answer jsonb, PRIMARY KEY (case_id, step, run),
            CONSTRAINT step_run_state CHECK (state IN ('requested', 'sent', 'failed', 'suppressed', 'skipped')))
        """
    )
    op.execute("CREATE INDEX step_run_decision ON step_run (decision_id)")
    op.execute("CREATE INDEX step_run_open ON step_run (case_id) WHERE state = 'requested'")
    op.execute(
        """
        CREATE TABLE hold (hold_id uuid PRIMARY KEY, company text NOT NULL, customer text NOT NULL, scope text NOT NULL,
            case_id uuid, account_id uuid, receivable_ids uuid[] NOT NULL, reason text NOT NULL, placed_on date NOT NULL,
            until_on date, placed_by text NOT NULL, released_on date, release_reason text, released_by text,
            version bigint NOT NULL, CONSTRAINT hold_scope CHECK (scope IN ('receivable', 'case', 'customer')))
        """
    )
    op.execute("CREATE INDEX hold_of_customer ON hold (company, customer)")
    op.execute(
        """
        CREATE TABLE task (task_id uuid PRIMARY KEY, company text NOT NULL, about text NOT NULL, state jsonb NOT NULL,
            UNIQUE (company, about))
        """
    )
    op.execute(
        """
        CREATE TABLE decision (decision_id uuid PRIMARY KEY, account_id uuid NOT NULL, company text NOT NULL,
            customer text NOT NULL, currency text NOT NULL, case_id uuid, previous_id uuid, as_of date NOT NULL,
            decided_at timestamptz NOT NULL, last_at timestamptz NOT NULL, times int NOT NULL DEFAULT 1, cause jsonb NOT NULL,
            policy text, policy_version int, policy_sha256 text, facts_hash text NOT NULL, facts jsonb NOT NULL,
            reasoning jsonb NOT NULL, outcome text NOT NULL, contact jsonb, reasons jsonb NOT NULL, next_check_on date,
            CONSTRAINT decision_outcome CHECK (outcome IN ('act', 'wait', 'stopped', 'skipped', 'ended')))
        """
    )
    op.execute("CREATE INDEX decision_of_account ON decision (account_id, as_of DESC, decision_id DESC)")
    op.execute(
        """
        CREATE TABLE policy_version (company text, policy text, version int, currency text NOT NULL, priority int NOT NULL,
            effective_from date NOT NULL, title text NOT NULL, state text NOT NULL, sha256 text NOT NULL, document jsonb NOT NULL,
            loaded_at timestamptz NOT NULL, activated_at timestamptz, PRIMARY KEY (company, policy, version),
            CONSTRAINT policy_state CHECK (state IN ('draft', 'active', 'retired')))
        """
    )
    op.execute("CREATE UNIQUE INDEX policy_active ON policy_version (company, policy) WHERE state = 'active'")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(_CHANGED)} TO dunning_app")
    op.execute("GRANT SELECT, INSERT ON task TO dunning_app")


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE {table}")
    plumbing.drop(op)
