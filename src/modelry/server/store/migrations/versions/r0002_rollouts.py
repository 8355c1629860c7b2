"""Deployments learn bounds for their replicas, canaries, limits and the number of their last change.

Before, a deployment with no replicas was one that its owner had stopped; that is a wish of its own now, so that a start
finds its settings again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

#: What the controller need not look at, unless a replica of it lives.
SETTLED = (
    "replicas = 0 AND (wish = 'stop' AND state = 'stopped' OR wish = 'run' AND state = 'idle')"
)


def upgrade() -> None:
    """Adds columns; every deployment keeps the number of replicas it has."""
    for column in _columns():
        op.add_column("deployments", column)
    # A foreign key on a new column: only this form is understood by SQLite and PostgreSQL alike.
    op.execute(
        "ALTER TABLE deployments ADD COLUMN canary_version_id VARCHAR"
        " CONSTRAINT fk_deployments_canary_version_id REFERENCES model_versions (id)"
    )
    op.create_index("ix_deployments_canary_version_id", "deployments", ["canary_version_id"])
    op.create_index("ix_deployments_changed", "deployments", ["changed"])
    where = sa.text(f"NOT ({SETTLED})")
    op.create_index(
        "ix_deployments_unsettled",
        "deployments",
        ["id"],
        sqlite_where=where,
        postgresql_where=where,
    )
    _keep_meaning()


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("min_replicas", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("max_replicas", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("idle_s", sa.Double(), nullable=True),
        sa.Column("max_in_flight", sa.Integer(), nullable=True),
        sa.Column("max_queue", sa.Integer(), nullable=True),
        sa.Column("deadline_s", sa.Double(), nullable=True),
        sa.Column("canary_percent", sa.Double(), nullable=True),
        sa.Column("previous_version", sa.Integer(), nullable=True),
        sa.Column("changed", sa.BigInteger(), nullable=False, server_default="0"),
    ]


def _keep_meaning() -> None:
    op.execute(
        "UPDATE deployments SET min_replicas = replicas, max_replicas = replicas WHERE replicas > 0"
    )
    op.execute("UPDATE deployments SET wish = 'stop' WHERE replicas = 0 AND wish = 'run'")
    op.execute("INSERT INTO counters (name, value) VALUES ('removals', 0)")
