"""State of strategies, and what differential privacy costs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("initial_state", sa.String(length=71), nullable=True))
    op.add_column("rounds", sa.Column("state_before", sa.String(length=71), nullable=True))
    op.add_column("rounds", sa.Column("new_state", sa.String(length=71), nullable=True))
    op.add_column("rounds", sa.Column("strategy", sa.JSON(), nullable=True))
    op.add_column("rounds", sa.Column("privacy", sa.JSON(), nullable=True))
    op.add_column("works", sa.Column("counted_in", sa.Integer(), nullable=True))
    op.add_column("checkpoints", sa.Column("state", sa.String(length=71), nullable=True))
