"""One customer's balances, and how many customers owe, without reading every balance of the company."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE INDEX receivable_balance_of_customer
        ON receivable_balance (company, customer, currency, due_on, from_on, until_on)"""
    )


def downgrade() -> None:
    op.execute("DROP INDEX receivable_balance_of_customer")
