"""On which day an account was last looked at again after nobody had in time; risk, tags and age of customers."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE account ADD caught_up_on date")
    op.execute("ALTER TABLE customer ADD risk text, ADD tags text[] NOT NULL DEFAULT '{}', ADD since date")


def downgrade() -> None:
    op.execute("ALTER TABLE customer DROP COLUMN risk, DROP COLUMN tags, DROP COLUMN since")
    op.execute("ALTER TABLE account DROP COLUMN caught_up_on")
