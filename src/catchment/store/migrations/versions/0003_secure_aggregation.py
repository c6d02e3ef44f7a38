"""Messages of secure aggregation, and the identity keys of sites."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.add_column("sites", sa.Column("identity", sa.String(length=64), nullable=True))
    op.create_table(
        "secagg_messages",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "job_uid", "run", "round", "attempt", "step", "site", name=op.f("pk_secagg_messages")
        ),
    )
