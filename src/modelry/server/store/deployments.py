"""Deployments: what is wished (the web's part) and their state, a summary that the controller writes.

The copies that serve them are in `replicas.py`; this module hands its functions on.
"""

from __future__ import annotations

import builtins
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import AlreadyExists, IllegalMove, InvalidParameter, NotFound
from modelry.core.ids import check_name, new_id
from modelry.core.records import Deployment
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState, move
from modelry.server.store import projects as project_rows
from modelry.server.store.naming import normal, refuse_if_used
from modelry.server.store.replicas import (
    create_replica,
    list_live,
    list_replicas,
    set_replica_state,
)
from modelry.server.store.tables import deployments, model_versions, models, projects, replicas
from modelry.server.store.transaction import Transaction

__all__ = [
    "create",
    "create_replica",
    "get",
    "list",
    "list_all",
    "list_live",
    "list_replicas",
    "remove",
    "set_replica_state",
    "set_state",
    "update",
    "wish_delete",
]

_ready = (
    sa.select(sa.func.count())
    .select_from(replicas)
    .where(
        replicas.c.deployment_id == deployments.c.id,
        replicas.c.model_version_id == deployments.c.model_version_id,
        replicas.c.state == ReplicaState.READY.value,
    )
    .scalar_subquery()
)
_SELECT = (
    sa.select(
        deployments,
        projects.c.name.label("project"),
        models.c.name.label("model"),
        model_versions.c.version.label("version"),
        _ready.label("ready_replicas"),
    )
    .join(projects, projects.c.id == deployments.c.project_id)
    .join(model_versions, model_versions.c.id == deployments.c.model_version_id)
    .join(models, models.c.id == model_versions.c.model_id)
)


def create(
    tx: Transaction,
    *,
    project: str,
    name: str,
    model_version_id: str,
    replicas: int,
    max_batch: int,
    threads: int,
) -> Deployment:
    """Raises `AlreadyExists`, and `NotFound` for a model version of another project."""
    project_id = project_rows.id_of(tx, project)
    name = check_name(name, "deployment")
    _hold_version(tx, project_id, model_version_id)
    values = {
        "id": new_id("dep"),
        "project_id": project_id,
        "name": name,
        "model_version_id": model_version_id,
        "replicas": replicas,
        "max_batch": max_batch,
        "threads": threads,
        "state": DeploymentState.STARTING.value,
        "wish": DeploymentWish.RUN.value,
        "created_at": tx.now(),
        "updated_at": tx.now(),
    }
    if not tx.insert_new(deployments, values):
        raise AlreadyExists(noun="deployment", name=name)
    tx.change_routes()
    return get(tx, project, name)


def _hold_version(tx: Transaction, project_id: str, model_version_id: str) -> None:
    """Raises `NotFound` unless the project has it; then it stays until the transaction ends."""
    statement = (
        sa.select(model_versions.c.id)
        .join(models, models.c.id == model_versions.c.model_id)
        .where(model_versions.c.id == model_version_id, models.c.project_id == project_id)
    )
    if tx.held(statement, model_versions).one_or_none() is None:
        raise NotFound(noun="model version", name=model_version_id)


def get(tx: Transaction, project: str, name: str) -> Deployment:
    """Raises `NotFound`."""
    row = tx.execute(_SELECT.where(_named(tx, project, name))).one_or_none()
    if row is None:
        raise NotFound(noun="deployment", name=name)
    return _record(row)


def list(tx: Transaction, project: str) -> builtins.list[Deployment]:
    """By name."""
    mine = _SELECT.where(deployments.c.project_id == project_rows.id_of(tx, project))
    return sorted((_record(row) for row in tx.execute(mine)), key=lambda one: one.name)


def list_all(tx: Transaction) -> builtins.list[Deployment]:
    """Of all projects, the oldest first."""
    ordered = _SELECT.order_by(deployments.c.created_at, deployments.c.id)
    return [_record(row) for row in tx.execute(ordered)]


def update(
    tx: Transaction,
    project: str,
    name: str,
    *,
    model_version_id: str | None = None,
    replicas: int | None = None,
    max_batch: int | None = None,
    threads: int | None = None,
) -> Deployment:
    """Changes what is wished; None leaves a field. Raises `IllegalMove` for one that is being deleted.

    A deployment stays with its model, because requests and replicas name its versions by number.
    """
    if model_version_id is not None:
        _hold_version(tx, project_rows.id_of(tx, project), model_version_id)
        _check_same_model(tx, get(tx, project, name), model_version_id)
    wished = {
        "model_version_id": model_version_id,
        "replicas": replicas,
        "max_batch": max_batch,
        "threads": threads,
    }
    values = {field: value for field, value in wished.items() if value is not None}
    changed = tx.change(
        sa.update(deployments)
        .where(_named(tx, project, name), deployments.c.wish == DeploymentWish.RUN.value)
        .values(**values, updated_at=tx.now())
    )
    found = get(tx, project, name)
    if changed != 1:
        raise IllegalMove(noun="deployment", state="being deleted", target="another")
    tx.change_routes()
    return found


def _check_same_model(tx: Transaction, deployment: Deployment, model_version_id: str) -> None:
    statement = (
        sa.select(models.c.name)
        .join(model_versions, model_versions.c.model_id == models.c.id)
        .where(model_versions.c.id == model_version_id)
    )
    model = tx.execute(statement).scalar_one()
    if model != deployment.model:
        raise InvalidParameter(
            name="model",
            value=model,
            expected=f"a version of '{deployment.model}', or make another deployment",
        )


def wish_delete(tx: Transaction, project: str, name: str) -> None:
    """Nothing answers under the name any more; the controller ends the replicas, then removes the row."""
    changed = tx.change(
        sa.update(deployments)
        .where(_named(tx, project, name))
        .values(wish=DeploymentWish.DELETE.value, updated_at=tx.now())
    )
    if changed != 1:
        raise NotFound(noun="deployment", name=name)
    tx.change_routes()


def set_state(
    tx: Transaction,
    deployment_id: str,
    state: DeploymentState,
    *,
    failure: dict[str, Any] | None = None,
) -> None:
    """The summary and, where it is bad news, the reason. Raises `IllegalMove` for life after deletion."""
    mine = deployments.c.id == deployment_id
    statement = sa.select(deployments.c.state).where(mine).with_for_update()
    before = tx.execute(statement).scalar_one_or_none()
    if before is None:
        raise NotFound(noun="deployment", name=deployment_id)
    if before != state.value:
        move(DeploymentState(before), state)
    tx.change(sa.update(deployments).where(mine).values(state=state.value, failure=failure))
    tx.change_routes()


def remove(tx: Transaction, deployment_id: str) -> None:
    """With its ended replicas; raises `InUse` while one lives."""
    mine = deployments.c.id == deployment_id
    tx.execute(sa.select(deployments.c.id).where(mine).with_for_update())
    living = [one.id for one in list_replicas(tx, deployment_id) if not one.state.is_final]
    refuse_if_used("deployment", deployment_id, [f"replica '{one}'" for one in living])
    tx.change(sa.delete(deployments).where(mine))
    tx.change_routes()


def _named(tx: Transaction, project: str, name: str) -> sa.ColumnElement[bool]:
    project_id = project_rows.id_of(tx, project)
    return sa.and_(deployments.c.project_id == project_id, deployments.c.name == normal(name))


def _record(row: sa.Row[*tuple[Any, ...]]) -> Deployment:
    return Deployment(
        id=row.id,
        project=row.project,
        name=row.name,
        model=row.model,
        version=row.version,
        model_version_id=row.model_version_id,
        replicas=row.replicas,
        max_batch=row.max_batch,
        threads=row.threads,
        state=DeploymentState(row.state),
        wish=DeploymentWish(row.wish),
        ready_replicas=row.ready_replicas,
        created_at=row.created_at,
        updated_at=row.updated_at,
        failure=row.failure,
    )
