"""What a customer ever owed and paid is found at once, and where each receipt's money came from and went."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX receivable_of_customer ON receivable (company, customer, due_on, receivable_id)")
    op.execute("CREATE INDEX receipt_of_customer ON receipt (company, customer, value_on DESC, receipt_id)")
    op.execute(
        """CREATE INDEX journal_line_of_receipt ON journal_line (receipt_id)
            WHERE account IN ('CASH', 'ADJUSTMENT:credit_note') AND receipt_id IS NOT NULL"""
    )


def downgrade() -> None:
    op.execute("DROP INDEX journal_line_of_receipt")
    op.execute("DROP INDEX receipt_of_customer")
    op.execute("DROP INDEX receivable_of_customer")
