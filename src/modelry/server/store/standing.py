"""How many there are in each state, for `/metrics`."""

from __future__ import annotations

import sqlalchemy as sa

from modelry.server.store.tables import deployments, jobs, projects, replicas
from modelry.server.store.transaction import Transaction


def job_states(tx: Transaction, project: str | None = None) -> list[tuple[str, str, int]]:
    """(project, state, jobs), of one project or all."""
    statement = (
        sa.select(projects.c.name, jobs.c.state, sa.func.count())
        .join(projects, projects.c.id == jobs.c.project_id)
        .group_by(projects.c.name, jobs.c.state)
        .order_by(projects.c.name, jobs.c.state)
    )
    if project is not None:
        statement = statement.where(projects.c.name == project)
    return [(name, state, count) for name, state, count in tx.execute(statement)]


def replica_states(
    tx: Transaction, most: int, project: str | None = None
) -> list[tuple[str, str, str, int]]:
    """(project, deployment, state, replicas) of those that have not ended; at most `most`."""
    statement = (
        sa.select(projects.c.name, deployments.c.name, replicas.c.state, sa.func.count())
        .join(deployments, deployments.c.id == replicas.c.deployment_id)
        .join(projects, projects.c.id == deployments.c.project_id)
        .where(replicas.c.ended_at.is_(None))
        .group_by(projects.c.name, deployments.c.name, replicas.c.state)
        .order_by(projects.c.name, deployments.c.name, replicas.c.state)
        .limit(most)
    )
    if project is not None:
        statement = statement.where(projects.c.name == project)
    return [
        (name, deployed, state, count) for name, deployed, state, count in tx.execute(statement)
    ]
