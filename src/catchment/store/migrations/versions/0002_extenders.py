"""Extenders: packed scripts, what broadcast sent, what aggregate left, files from the sites."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("extender", sa.JSON(), nullable=True))
    with op.batch_alter_table("rounds", schema=None) as batch_op:
        batch_op.add_column(sa.Column("training_parameters", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("evaluation_parameters", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("aggregated", sa.String(length=71), nullable=True))
        batch_op.add_column(sa.Column("finish_ran_at", sa.Double(), nullable=True))
    with op.batch_alter_table("works", schema=None) as batch_op:
        batch_op.add_column(sa.Column("files", sa.String(length=71), nullable=True))
        batch_op.add_column(sa.Column("files_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "prepared_files",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "job_uid", "run", "round", "attempt", "kind", "name", name=op.f("pk_prepared_files")
        ),
    )
    with op.batch_alter_table("prepared_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_prepared_files_digest"), ["digest"], unique=False)


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("prepared_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_prepared_files_digest"))
    op.drop_table("prepared_files")
    with op.batch_alter_table("works", schema=None) as batch_op:
        batch_op.drop_column("files_bytes")
        batch_op.drop_column("files")
    with op.batch_alter_table("rounds", schema=None) as batch_op:
        for name in ("finish_ran_at", "aggregated", "evaluation_parameters", "training_parameters"):
            batch_op.drop_column(name)
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("extender")
