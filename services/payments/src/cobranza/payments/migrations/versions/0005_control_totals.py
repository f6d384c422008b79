"""Control totals by run, compared with the ledger; totals kept before were never compared and are not carried over."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = (
    "DROP TABLE control_total",
    """CREATE TABLE control_total (
        control_total_id uuid PRIMARY KEY, company text NOT NULL, currency char(3) NOT NULL, system text NOT NULL,
        total_on date NOT NULL, run_id text, parts int NOT NULL, stated_count int, stated_total bigint,
        arrived bigint GENERATED ALWAYS AS IDENTITY, first_at timestamptz NOT NULL, verdict text, found_count int,
        found_total bigint, differing int, checked_at timestamptz,
        CONSTRAINT control_total_verdict CHECK (verdict IN ('matched', 'mismatch', 'missing')),
        CONSTRAINT control_total_stated CHECK ((parts = 0) = (stated_total IS NULL)),
        CONSTRAINT control_total_checked CHECK ((verdict IS NULL) = (checked_at IS NULL)))""",
    "CREATE INDEX control_total_by_day ON control_total (company, total_on DESC, arrived DESC)",
    """CREATE TABLE control_total_part (
        control_total_id uuid REFERENCES control_total, part int, told jsonb NOT NULL,
        PRIMARY KEY (control_total_id, part))""",
    """CREATE TABLE control_total_customer (
        control_total_id uuid REFERENCES control_total, customer text, stated bigint NOT NULL,
        PRIMARY KEY (control_total_id, customer))""",
    """CREATE TABLE control_total_difference (
        control_total_id uuid REFERENCES control_total, customer text, stated bigint NOT NULL, found bigint NOT NULL,
        distance bigint GENERATED ALWAYS AS (abs(stated - found)) STORED, PRIMARY KEY (control_total_id, customer))""",
    "CREATE INDEX control_total_difference_by_size ON control_total_difference (control_total_id, distance DESC, customer)",
    """CREATE TABLE control_standing (
        company text, currency char(3), standing text, version bigint NOT NULL, PRIMARY KEY (company, currency),
        CONSTRAINT control_standing_verdict CHECK (standing IN ('matched', 'mismatch', 'missing')))""",
)

_GRANTS = (
    "SELECT, INSERT, UPDATE ON control_total, control_standing",
    "SELECT, INSERT ON control_total_part, control_total_customer",
    "SELECT, INSERT, DELETE ON control_total_difference",
)

_BEFORE = """CREATE TABLE control_total (
    company text, currency char(3), total_on date, system text, told jsonb NOT NULL, verdict text,
    PRIMARY KEY (company, currency, total_on, system),
    CONSTRAINT control_total_verdict CHECK (verdict IN ('matched', 'mismatch', 'missing')))"""


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for grant in _GRANTS:
        op.execute(f"GRANT {grant} TO payments_app")


def downgrade() -> None:
    for table in (
        "control_standing", "control_total_difference", "control_total_customer", "control_total_part", "control_total",
    ):  # fmt: skip
        op.execute(f"DROP TABLE {table}")
    op.execute(_BEFORE)
    op.execute("GRANT SELECT, INSERT, UPDATE ON control_total TO payments_app")
