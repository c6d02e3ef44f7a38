"""Model versions, their files, and the audit that nobody can change; a list of jobs in an index's order."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

SQLITE_TRIGGER = """
CREATE TRIGGER audit_refuses_{word} BEFORE {word} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is only ever added to'); END
"""
POSTGRES_FUNCTION = """
CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit is only ever added to'; END $$
"""
POSTGRES_TRIGGER = """
CREATE TRIGGER audit_refuses_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit()
"""


def upgrade() -> None:
    """Apply."""
    _model_versions()
    _model_files()
    _artifact_blobs()
    _audit()
    op.drop_index(op.f("ix_jobs_namespace_created_at"), "jobs")
    op.create_index(op.f("ix_jobs_namespace_created_at_uid"), "jobs", ["namespace", "created_at", "uid"])


def _model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("model_path", sa.Text(), nullable=True),
        sa.Column("file_name", sa.String(length=255), nullable=True),
        sa.Column("digest", sa.String(length=71), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=True),
        sa.Column("form", sa.String(length=16), nullable=False),
        sa.Column("manifest", sa.String(length=71), nullable=True),
        sa.Column("artifact", sa.JSON(), nullable=True),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("parent", sa.String(length=32), nullable=True),
        sa.Column("job_uid", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.Column("reported", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint(
            "namespace", "name", "version", name=op.f("uq_model_versions_namespace_name_version")
        ),
    )
    for columns in (["namespace", "name", "created_at", "id"], ["state"], ["parent"], ["job_uid"]):
        op.create_index(op.f(f"ix_model_versions_{'_'.join(columns)}"), "model_versions", columns)


def _model_files() -> None:
    op.create_table(
        "model_files",
        sa.Column("version_id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=900), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=True),
        sa.Column("layer", sa.String(length=71), nullable=True),
        sa.PrimaryKeyConstraint("version_id", "path", name=op.f("pk_model_files")),
    )
    op.create_index(op.f("ix_model_files_digest"), "model_files", ["digest"])
    op.create_index(op.f("ix_model_files_layer"), "model_files", ["layer"])
    op.create_index(op.f("ix_model_versions_manifest"), "model_versions", ["manifest"])


def _artifact_blobs() -> None:
    op.create_table(
        "artifact_blobs",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.Column("version_id", sa.String(length=32), nullable=True),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", "digest", name=op.f("pk_artifact_blobs")),
    )
    for column in ("digest", "version_id"):
        op.create_index(op.f(f"ix_artifact_blobs_{column}"), "artifact_blobs", [column])


def _audit() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("model_id", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("claimed", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_model_id"), "audit", ["model_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRES_FUNCTION)
        op.execute(POSTGRES_TRIGGER)
    else:
        for word in ("UPDATE", "DELETE"):
            op.execute(SQLITE_TRIGGER.format(word=word))
