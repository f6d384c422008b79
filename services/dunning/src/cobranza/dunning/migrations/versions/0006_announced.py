"""What other services have in use that a policy may name."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE announced (company text, type text, about text, told jsonb NOT NULL,
            PRIMARY KEY (company, type, about))
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON announced TO dunning_app")


def downgrade() -> None:
    op.execute("DROP TABLE announced")
