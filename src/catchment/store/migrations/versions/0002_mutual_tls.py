"""Mutual TLS: certificates of sites, works that need them, trusted roots of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_mutual_tls"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("sites", sa.Column("certificate", sa.Text(), nullable=True))
    op.add_column("works", sa.Column("secured", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("trusted_roots", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo."""
    for table, column in (("jobs", "trusted_roots"), ("works", "secured"), ("sites", "certificate")):
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column(column)
