"""ModelJobs: extractions and conversions, their events and lines."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "model_jobs",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("phase", sa.String(length=10), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_by", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("phase_since", sa.Double(), nullable=False),
        sa.Column("flow_run_id", sa.String(length=64), nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("resumes", sa.Integer(), nullable=False),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("source_id", sa.String(length=32), nullable=True),
        sa.Column("result_id", sa.String(length=32), nullable=True),
        sa.Column("log_lines", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_model_jobs")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_model_jobs_namespace_name")),
    )
    for column in ("flow_run_id", "source_id", "phase"):
        op.create_index(op.f(f"ix_model_jobs_{column}"), "model_jobs", [column])
    op.create_table(
        "model_job_files",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=900), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_uid", "path", name=op.f("pk_model_job_files")),
    )
    op.create_index(op.f("ix_model_job_files_digest"), "model_job_files", ["digest"])
    op.create_table(
        "model_job_events",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_model_job_events")),
    )
    op.create_index(op.f("ix_model_job_events_job_uid"), "model_job_events", ["job_uid"])
    op.create_table(
        "model_job_lines",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_uid", "number", name=op.f("pk_model_job_lines")),
    )
