"""Accounts on which one customer alone pays; which debts an open suggestion would pay."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE virtual_account (
            company text, account_key text, customer text, PRIMARY KEY (company, account_key, customer))"""
    )
    op.execute("CREATE INDEX virtual_account_of_customer ON virtual_account (company, customer)")
    op.execute("CREATE INDEX suggestion_open ON suggestion USING gin (shares) WHERE state = 'open'")
    op.execute("GRANT SELECT, INSERT, DELETE ON virtual_account TO payments_app")


def downgrade() -> None:
    op.execute("DROP INDEX suggestion_open")
    op.execute("DROP TABLE virtual_account")
