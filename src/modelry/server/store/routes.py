"""What the gateways know, read at one moment, and the number that tells them to read it again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from modelry.core.records import Deployment, Route, Snapshot
from modelry.core.states import DeploymentWish, ReplicaState
from modelry.server.store import deployments, keys
from modelry.server.store.tables import counters, model_versions, replicas
from modelry.server.store.transaction import ROUTES, Transaction


def number(tx: Transaction) -> int:
    """Grows with every change of routes or keys."""
    tx.flush()
    statement = sa.select(counters.c.value).where(counters.c.name == ROUTES)
    return tx.execute(statement).scalar_one()


def bump(tx: Transaction) -> None:
    """Tells the gateways to read again. The functions that change routes or keys do it themselves."""
    tx.change_routes()


def snapshot(tx: Transaction) -> Snapshot:
    """Everything an inference request needs; without deployments that are to be deleted and keys that ended."""
    wished = [one for one in deployments.list_all(tx) if one.wish is DeploymentWish.RUN]
    ready = _ready(tx)
    manifests = _manifests(
        tx,
        {one.model_version_id for one in wished}
        | {row.model_version_id for rows in ready.values() for row in rows},
    )
    return Snapshot(
        number=number(tx),
        routes={
            (one.project, one.name): _route(one, ready.get(one.id, []), manifests) for one in wished
        },
        keys={row.key.id: row for row in keys.list_living(tx)},
    )


def _ready(tx: Transaction) -> dict[str, list[sa.Row[*tuple[Any, ...]]]]:
    """Deployment → its ready replicas, the oldest first."""
    found: dict[str, list[sa.Row[*tuple[Any, ...]]]] = {}
    statement = (
        sa.select(
            replicas.c.id,
            replicas.c.deployment_id,
            replicas.c.model_version_id,
            replicas.c.address,
            model_versions.c.version,
        )
        .join(model_versions, model_versions.c.id == replicas.c.model_version_id)
        .where(replicas.c.state == ReplicaState.READY.value, replicas.c.address.is_not(None))
        .order_by(replicas.c.number)
    )
    for row in tx.execute(statement):
        found.setdefault(row.deployment_id, []).append(row)
    return found


def _manifests(tx: Transaction, version_ids: set[str]) -> dict[str, dict[str, Any]]:
    statement = sa.select(model_versions.c.id, model_versions.c.manifest)
    rows = tx.execute(statement.where(model_versions.c.id.in_(version_ids)))
    return {row.id: row.manifest for row in rows}


def _route(
    deployment: Deployment,
    ready: list[sa.Row[*tuple[Any, ...]]],
    manifests: dict[str, dict[str, Any]],
) -> Route:
    known = {deployment.version: deployment.model_version_id}
    known |= {row.version: row.model_version_id for row in ready}
    return Route(
        deployment_id=deployment.id,
        project=deployment.project,
        name=deployment.name,
        state=deployment.state,
        model=deployment.model,
        version=deployment.version,
        max_batch=deployment.max_batch,
        failure=deployment.failure,
        replicas=tuple((row.id, row.version, row.address) for row in ready),
        manifests={version: manifests[version_id] for version, version_id in known.items()},
    )
