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
    # The index alone answers as long as a vacuum has seen what changed.
    op.execute(
        """ALTER TABLE receivable_balance
        SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02)"""
    )


def downgrade() -> None:
    op.execute(
        "ALTER TABLE receivable_balance RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor)"
    )
    op.execute("DROP INDEX receivable_balance_of_customer")
