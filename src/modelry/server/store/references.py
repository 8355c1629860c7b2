"""What the rows name in the artifacts: everything else there may be swept away."""

from __future__ import annotations

import sqlalchemy as sa

from modelry.core.states import JobState
from modelry.server.store.tables import (
    checkpoints,
    dataset_versions,
    jobs,
    model_versions,
    upload_files,
)
from modelry.server.store.transaction import Transaction

_unfinished = jobs.c.state.in_([state.value for state in JobState if not state.is_final])


def digests(tx: Transaction) -> set[str]:
    """Of versions, uploads and the checkpoints of unfinished jobs."""
    found = set(tx.execute(sa.select(upload_files.c.digest).distinct()).scalars())
    folders = (
        sa.select(dataset_versions.c.files),
        sa.select(model_versions.c.files),
        sa.select(checkpoints.c.files)
        .join(jobs, jobs.c.id == checkpoints.c.job_id)
        .where(_unfinished),
    )
    for statement in folders:
        for files in tx.execute(statement).scalars():
            found.update(file["digest"] for file in files)
    return found


def oldest_unfinished(tx: Transaction) -> float | None:
    """When the oldest unfinished job began; what it writes may be named by no row yet."""
    began = sa.func.min(sa.func.coalesce(jobs.c.started_at, jobs.c.created_at))
    return tx.execute(sa.select(began).where(_unfinished)).scalar_one()
