"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "checkpoints",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("job_uid", "number", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("job_uid", "run", "round", name=op.f("uq_checkpoints_job_uid_run_round")),
    )
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
    op.create_table(
        "jobs",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("state_since", sa.Double(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("run_source", sa.JSON(), nullable=True),
        sa.Column("initial_weights", sa.String(length=71), nullable=True),
        sa.Column("run_folders", sa.JSON(), nullable=False),
        sa.Column("sent_scripts", sa.JSON(), nullable=True),
        sa.Column("trusted_roots", sa.Text(), nullable=True),
        sa.Column("extender", sa.JSON(), nullable=True),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("resumes", sa.Integer(), nullable=False),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=True),
        sa.Column("queued_fresh", sa.Boolean(), nullable=False),
        sa.Column("waits_for_sites", sa.Boolean(), nullable=False),
        sa.Column("flow_run_id", sa.String(length=64), nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("supervised_until", sa.Double(), nullable=False),
        sa.Column("log_lines", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_jobs")),
        sa.UniqueConstraint("namespace", "id", name=op.f("uq_jobs_namespace_id")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_jobs_namespace_created_at"), ["namespace", "created_at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_jobs_namespace_state_created_at"),
            ["namespace", "state", "created_at"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_jobs_state"), ["state"], unique=False)

    op.create_table(
        "namespaces",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_namespaces")),
    )
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

    op.create_table(
        "rounds",
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("cohort", sa.JSON(), nullable=False),
        sa.Column("weights", sa.String(length=71), nullable=False),
        sa.Column("new_weights", sa.String(length=71), nullable=True),
        sa.Column("selected_at", sa.Double(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=True),
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("collected_at", sa.Double(), nullable=True),
        sa.Column("committed_at", sa.Double(), nullable=True),
        sa.Column("evaluation_deadline", sa.Double(), nullable=True),
        sa.Column("evaluated_at", sa.Double(), nullable=True),
        sa.Column("training_metrics", sa.JSON(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("training_parameters", sa.JSON(), nullable=True),
        sa.Column("evaluation_parameters", sa.JSON(), nullable=True),
        sa.Column("aggregated", sa.String(length=71), nullable=True),
        sa.Column("finish_ran_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("job_uid", "run", "number", "attempt", name=op.f("pk_rounds")),
    )
    op.create_table(
        "sites",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("registration", sa.JSON(), nullable=False),
        sa.Column("registered_at", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("left_at", sa.Double(), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sites")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_table(
        "works",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_uid", sa.String(length=32), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("accepted_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("update", sa.String(length=71), nullable=True),
        sa.Column("update_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.String(length=71), nullable=True),
        sa.Column("files_bytes", sa.BigInteger(), nullable=False),
        sa.Column("num_samples", sa.BigInteger(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=True),
        sa.Column("log_tail", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("secured", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_works")),
        sa.UniqueConstraint(
            "job_uid",
            "run",
            "round",
            "attempt",
            "kind",
            "site",
            name=op.f("uq_works_job_uid_run_round_attempt_kind_site"),
        ),
    )
    with op.batch_alter_table("works", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_works_site_state"), ["site", "state"], unique=False)


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("works", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_works_site_state"))

    op.drop_table("works")
    op.drop_table("tokens")
    op.drop_table("sites")
    op.drop_table("rounds")
    with op.batch_alter_table("prepared_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_prepared_files_digest"))

    op.drop_table("prepared_files")
    op.drop_table("namespaces")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_state"))
        batch_op.drop_index(batch_op.f("ix_jobs_namespace_state_created_at"))
        batch_op.drop_index(batch_op.f("ix_jobs_namespace_created_at"))

    op.drop_table("jobs")
    op.drop_table("job_logs")
    op.drop_table("checkpoints")
