"""Which templates were told to be in use."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE template (company text, template text, channel text, language text, tone text, version int NOT NULL,
            sha256 text NOT NULL, PRIMARY KEY (company, template, channel, language, tone))
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON template TO notifications_app")


def downgrade() -> None:
    op.execute("DROP TABLE template")
