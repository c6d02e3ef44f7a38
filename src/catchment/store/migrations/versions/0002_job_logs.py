"""Job logs: lines of a job's life, and the number of the last one beside the job."""

import sqlalchemy as sa
from alembic import op

revision = "0002_job_logs"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "job_logs",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_uid", "number", name=op.f("pk_job_logs")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("log_lines", sa.Integer(), nullable=False, server_default="0"))
