"""Replicas: one row for each process that serves, or served, a deployment's model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import NotFound
from modelry.core.ids import new_id
from modelry.core.records import Replica
from modelry.core.states import ReplicaState, move
from modelry.server.store.naming import in_parts
from modelry.server.store.tables import deployments, model_versions, replicas
from modelry.server.store.transaction import Transaction

#: How many ended replicas of a deployment are remembered.
ENDED_KEPT = 10

_FINAL = [state.value for state in ReplicaState if state.is_final]
_SELECT = sa.select(replicas, model_versions.c.version.label("version")).join(
    model_versions, model_versions.c.id == replicas.c.model_version_id
)


def create_replica(
    tx: Transaction,
    deployment_id: str,
    model_version_id: str,
    *,
    max_batch: int | None = None,
    threads: int | None = None,
) -> Replica:
    """A replica that is to start; its worker has its id. Raises `NotFound`.

    It is served in the way the deployment wishes now, unless another way is named.
    """
    mine = sa.select(deployments.c.max_batch, deployments.c.threads)
    wished = tx.held(mine.where(deployments.c.id == deployment_id), deployments).one_or_none()
    if wished is None:
        raise NotFound(noun="deployment", name=deployment_id)
    _forget_ended(tx, deployment_id)
    replica_id = new_id("rep")
    tx.insert(
        replicas,
        {
            "id": replica_id,
            "deployment_id": deployment_id,
            "model_version_id": model_version_id,
            "max_batch": wished.max_batch if max_batch is None else max_batch,
            "threads": wished.threads if threads is None else threads,
            "worker_id": replica_id,
            "state": ReplicaState.STARTING.value,
            "created_at": tx.now(),
        },
    )
    return _record(tx.execute(_SELECT.where(replicas.c.id == replica_id)).one())


def _forget_ended(tx: Transaction, deployment_id: str) -> None:
    ended = sa.and_(replicas.c.deployment_id == deployment_id, replicas.c.state.in_(_FINAL))
    edge = (
        sa.select(replicas.c.number)
        .where(ended)
        .order_by(replicas.c.number.desc())
        .offset(ENDED_KEPT - 1)
        .limit(1)
        .scalar_subquery()
    )
    tx.change(sa.delete(replicas).where(ended, replicas.c.number < edge))


def list_live(tx: Transaction) -> list[Replica]:
    """Of all deployments, those that have not ended, the oldest first."""
    living = _SELECT.where(replicas.c.state.not_in(_FINAL)).order_by(replicas.c.number)
    return [_record(row) for row in tx.execute(living)]


def list_replicas(tx: Transaction, deployment_id: str) -> list[Replica]:
    """The live ones of a deployment and the last few ended ones, the newest first."""
    mine = _SELECT.where(replicas.c.deployment_id == deployment_id)
    return [_record(row) for row in tx.execute(mine.order_by(replicas.c.number.desc()))]


def list_of(tx: Transaction, deployment_ids: Collection[str]) -> dict[str, list[Replica]]:
    """Deployment → its replicas as `list_replicas` has them; for many deployments in one read."""
    found: dict[str, list[Replica]] = {one: [] for one in deployment_ids}
    for some in in_parts(deployment_ids):
        mine = _SELECT.where(replicas.c.deployment_id.in_(some))
        for row in tx.execute(mine.order_by(replicas.c.number.desc())):
            found[row.deployment_id].append(_record(row))
    return found


def set_replica_state(
    tx: Transaction,
    replica_id: str,
    target: ReplicaState,
    *,
    address: str | None = None,
    failure: dict[str, Any] | None = None,
) -> None:
    """One move of the table, else `IllegalMove`; the gateways hear of it."""
    mine = replicas.c.id == replica_id
    statement = sa.select(replicas.c.state, replicas.c.deployment_id).where(mine)
    before = tx.execute(statement.with_for_update()).one_or_none()
    if before is None:
        raise NotFound(noun="replica", name=replica_id)
    move(ReplicaState(before.state), target)
    values: dict[str, Any] = {"state": target.value}
    if address is not None:
        values["address"] = address
    if failure is not None:
        values["failure"] = failure
    if target is ReplicaState.READY:
        values["ready_at"] = tx.now()
    if target.is_final:
        values["ended_at"] = tx.now()
    tx.change(sa.update(replicas).where(mine).values(**values))
    tx.change_routes(before.deployment_id)


def _record(row: sa.Row[*tuple[Any, ...]]) -> Replica:
    return Replica(
        id=row.id,
        deployment_id=row.deployment_id,
        model_version_id=row.model_version_id,
        version=row.version,
        max_batch=row.max_batch,
        threads=row.threads,
        worker_id=row.worker_id,
        state=ReplicaState(row.state),
        address=row.address,
        created_at=row.created_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
        failure=row.failure,
    )
