"""Late charges: their rules, rates, requests and what became of them; and decisions that end a debt."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = (
    "ALTER TABLE receivable ADD COLUMN given_up bigint NOT NULL DEFAULT 0",
    "ALTER TABLE receivable ADD CONSTRAINT receivable_given_up CHECK (given_up BETWEEN 0 AND written_off)",
    """CREATE TABLE charge_rules (
        company text, rules text, version int, sha256 text NOT NULL, currency char(3) NOT NULL, effective_from date NOT NULL,
        document jsonb NOT NULL, activated_by text NOT NULL, activated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (company, rules, version))""",
    """CREATE TABLE charge_rate (
        series text, from_on date, to_on date NOT NULL, percent numeric(15, 6) NOT NULL, published text NOT NULL,
        loaded_by text NOT NULL, loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (series, from_on),
        CONSTRAINT charge_rate_forward CHECK (to_on >= from_on))""",
    """CREATE TABLE charge_request (
        company text, case_id uuid, step text, run int, customer text NOT NULL, currency char(3) NOT NULL,
        effect text NOT NULL, reached_on date NOT NULL, told jsonb NOT NULL, event_id uuid NOT NULL, correlation_id text NOT NULL,
        state text NOT NULL, lines jsonb NOT NULL,
        try_at timestamptz, asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (company, case_id, step, run),
        CONSTRAINT charge_request_state CHECK (state IN ('asked', 'booked', 'partly', 'refused', 'waits')))""",
    "CREATE INDEX charge_request_to_try ON charge_request (try_at) WHERE try_at IS NOT NULL",
    "CREATE INDEX charge_request_of_customer ON charge_request (company, customer, reached_on DESC)",
    """CREATE TABLE late_charge (
        company text, receivable_id uuid, customer text NOT NULL, currency char(3) NOT NULL, case_id uuid NOT NULL,
        step text NOT NULL, run int NOT NULL, code text NOT NULL, kind text NOT NULL, debt_id uuid, invoice_id uuid,
        amount bigint NOT NULL, settle text NOT NULL, rule text NOT NULL, from_on date, through_on date,
        assessed_on date NOT NULL, version bigint NOT NULL, PRIMARY KEY (company, receivable_id),
        FOREIGN KEY (company, receivable_id, currency) REFERENCES receivable (company, receivable_id, currency),
        CONSTRAINT late_charge_kind CHECK (kind IN ('interest', 'compensation', 'fee')),
        CONSTRAINT late_charge_amount CHECK (amount > 0))""",
    "CREATE INDEX late_charge_of_customer ON late_charge (company, customer)",
    # The law grants one compensation per invoice, however often it is late.
    """CREATE UNIQUE INDEX late_charge_one_compensation ON late_charge (company, invoice_id)
        WHERE kind = 'compensation'""",
    """CREATE TABLE late_charge_debt (
        company text, debt_id uuid, receivable_id uuid, PRIMARY KEY (company, debt_id, receivable_id),
        FOREIGN KEY (company, receivable_id) REFERENCES late_charge (company, receivable_id))""",
    "CREATE INDEX late_charge_debt_of_charge ON late_charge_debt (company, receivable_id)",
    """CREATE TABLE late_charge_credit (
        credit_id uuid PRIMARY KEY, company text NOT NULL, receivable_id uuid NOT NULL, kind text NOT NULL,
        amount bigint NOT NULL, reason text NOT NULL, actor text NOT NULL, approved_by text, credited_on date NOT NULL,
        booked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        FOREIGN KEY (company, receivable_id) REFERENCES late_charge (company, receivable_id),
        CONSTRAINT late_charge_credit_kind CHECK (kind IN ('waiver', 'withdrawal')),
        CONSTRAINT late_charge_credit_amount CHECK (amount > 0))""",
    "CREATE INDEX late_charge_credit_of_charge ON late_charge_credit (company, receivable_id)",
    """CREATE TABLE payment_claim (
        company text, claim_id uuid, customer text NOT NULL, currency char(3) NOT NULL, amount bigint NOT NULL, paid_on date,
        reference text, receivables uuid[] NOT NULL, PRIMARY KEY (company, claim_id))""",
    "CREATE INDEX payment_claim_of_amount ON payment_claim (company, currency, amount)",
    """CREATE TABLE charge_look (
        company text, debt_id uuid, not_before timestamptz NOT NULL DEFAULT clock_timestamp(), reason text,
        PRIMARY KEY (company, debt_id))""",
    "CREATE INDEX charge_look_by_time ON charge_look (not_before)",
    """CREATE TABLE ledger_action (
        action_id uuid PRIMARY KEY, company text NOT NULL, verb text NOT NULL, subject_id uuid NOT NULL,
        currency char(3) NOT NULL, amount bigint NOT NULL, reason text NOT NULL, note text NOT NULL, asked_by text NOT NULL,
        asked_at timestamptz NOT NULL DEFAULT clock_timestamp(), state text NOT NULL, decided_by text,
        decided_at timestamptz, decision_note text,
        CONSTRAINT ledger_action_verb CHECK (verb IN ('waive', 'write_off', 'refund')),
        CONSTRAINT ledger_action_state CHECK (state IN ('waiting', 'done', 'refused')),
        CONSTRAINT ledger_action_amount CHECK (amount > 0),
        CONSTRAINT ledger_action_second_person CHECK (decided_by IS NULL OR state = 'refused' OR decided_by <> asked_by))""",
    "CREATE INDEX ledger_action_of_subject ON ledger_action (company, subject_id)",
    "CREATE INDEX ledger_action_waiting ON ledger_action (company, asked_at) WHERE state = 'waiting'",
)

_GRANTS = (
    "UPDATE (given_up) ON receivable",
    "SELECT, INSERT ON charge_rules, charge_rate, late_charge_debt, late_charge_credit, ledger_action, late_charge",
    "UPDATE (state, lines, try_at) ON charge_request",
    "SELECT, INSERT ON charge_request",
    "UPDATE (version) ON late_charge",
    "UPDATE (state, decided_by, decided_at, decision_note) ON ledger_action",
    "SELECT, INSERT, UPDATE, DELETE ON charge_look, payment_claim",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for grant in _GRANTS:
        op.execute(f"GRANT {grant} TO payments_app")


def downgrade() -> None:
    for table in (
        "ledger_action", "charge_look", "payment_claim", "late_charge_credit", "late_charge_debt", "late_charge",
        "charge_request", "charge_rate", "charge_rules",
    ):  # fmt: skip
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE receivable DROP COLUMN given_up")
