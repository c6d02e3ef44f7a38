"""Sites that are simulated clients of one job."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    op.add_column("sites", sa.Column("simulates", sa.String(length=32), nullable=True))
    op.create_index(op.f("ix_sites_simulates"), "sites", ["simulates"])
