"""How the service stands, in one look: who leads, what works, what is stored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from modelry import __version__
from modelry.artifacts import Artifacts
from modelry.server.store import Store, Transaction, datasets, deployments, jobs, leases, models


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The controller that leads."""

    #: The machine and the process, `host-pid`.
    holder: str
    epoch: int
    #: Since when, by the database's clock.
    since: float
    #: False while nobody leads: jobs and deployments then stand still.
    is_leading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Processes at work for the project."""

    jobs: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Content of all projects together; what several share is stored once."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The service and one project in it."""

    version: str
    project: str
    #: `sqlite` or `postgresql`.
    database: str
    #: None before the first controller ever led.
    controller: Leader | None
    #: The project's nouns: data sets, models, deployments.
    counts: dict[str, int]
    #: Unfinished jobs of the project by state.
    jobs: dict[str, int]
    workers: Workers
    storage: Storage


def look(store: Store, artifacts: Artifacts, project: str) -> Status:
    """The status as one project sees it."""
    files, size_bytes = artifacts.usage()
    with store.read() as tx:
        unfinished = [job for job in jobs.list_unfinished(tx) if job.project == project]
        deployed = deployments.list(tx, project)
        return Status(
            version=__version__,
            project=project,
            database=store.kind,
            controller=_leader(tx),
            counts={
                "datasets": len(datasets.list(tx, project)),
                "models": len(models.list(tx, project)),
                "deployments": len(deployed),
            },
            jobs=dict(Counter(job.state.value for job in unfinished)),
            workers=Workers(
                jobs=sum(job.state.is_active for job in unfinished),
                replicas=sum(deployment.ready_replicas for deployment in deployed),
            ),
            storage=Storage(files=files, size_bytes=size_bytes),
        )


def _leader(tx: Transaction) -> Leader | None:
    lease = leases.find(tx)
    if lease is None:
        return None
    return Leader(
        holder=lease.holder, epoch=lease.epoch, since=lease.acquired_at, is_leading=lease.is_held
    )
