"""Keys get limits; what they use is kept by the hour, with how far each journal of it has been read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds; keys that are there have no limits."""
    op.add_column("keys", sa.Column("limits", sa.Text(), nullable=True))
    op.create_table(
        "usage",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("compute_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "project_id", "key_id", "deployment_id", "version", "hour", name="pk_usage"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_key_id_hour", "usage", ["key_id", "hour"], unique=False)
    op.create_index("ix_usage_project_id_hour", "usage", ["project_id", "hour"], unique=False)
    op.create_table(
        "usage_journals",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_usage_journals"),
    )
