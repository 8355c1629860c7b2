"""Deployments: what is wished (the web's part) and their state, a summary that the controller writes.

The copies that serve them are in `replicas.py`, canaries and the way back in `rollouts.py`; this module hands the
functions of the former on.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import AlreadyExists, IllegalMove, InvalidParameter, NotFound
from modelry.core.ids import check_name, new_id
from modelry.core.records import Canary, Deployment
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState, move
from modelry.server.store import projects as project_rows
from modelry.server.store.naming import in_parts, normal, refuse_if_used
from modelry.server.store.replicas import (
    create_replica,
    list_live,
    list_replicas,
    set_replica_state,
)
from modelry.server.store.tables import (
    UNSETTLED,
    deployments,
    model_versions,
    models,
    projects,
    replicas,
)
from modelry.server.store.transaction import Transaction

__all__ = [
    "create",
    "create_replica",
    "get",
    "hold",
    "list",
    "list_all",
    "list_by_id",
    "list_changed",
    "list_live",
    "list_replicas",
    "list_unsettled",
    "remove",
    "set_replica_state",
    "set_replicas",
    "set_state",
    "update",
    "wake",
    "wish_delete",
    "write",
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
_canary_versions = model_versions.alias("canary_versions")
_SELECT = (
    sa.select(
        deployments,
        projects.c.name.label("project"),
        models.c.name.label("model"),
        model_versions.c.version.label("version"),
        _canary_versions.c.version.label("canary_version"),
        _ready.label("ready_replicas"),
    )
    .join(projects, projects.c.id == deployments.c.project_id)
    .join(model_versions, model_versions.c.id == deployments.c.model_version_id)
    .join(models, models.c.id == model_versions.c.model_id)
    .outerjoin(_canary_versions, _canary_versions.c.id == deployments.c.canary_version_id)
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
    max_replicas: int | None = None,
    idle_s: float | None = None,
    max_in_flight: int | None = None,
    max_queue: int | None = None,
    deadline_s: float | None = None,
) -> Deployment:
    """Raises `AlreadyExists`, and `NotFound` for a model version of another project.

    `replicas` run at first and at least; none of them means that it waits, stopped, to be started.
    """
    project_id = project_rows.id_of(tx, project)
    name = check_name(name, "deployment")
    hold_version(tx, project_id, model_version_id)
    fewest = max(1, replicas)
    values = {
        "id": new_id("dep"),
        "project_id": project_id,
        "name": name,
        "model_version_id": model_version_id,
        "replicas": replicas,
        "min_replicas": fewest,
        "max_replicas": fewest if max_replicas is None else max_replicas,
        "idle_s": idle_s,
        "max_batch": max_batch,
        "threads": threads,
        "max_in_flight": max_in_flight,
        "max_queue": max_queue,
        "deadline_s": deadline_s,
        "state": DeploymentState.STARTING.value,
        "wish": (DeploymentWish.RUN if replicas else DeploymentWish.STOP).value,
        "created_at": tx.now(),
        "updated_at": tx.now(),
        "changed": 0,
    }
    if not tx.insert_new(deployments, values):
        raise _taken(tx, project, name)
    tx.change_routes(str(values["id"]))
    return get(tx, project, name)


def _taken(tx: Transaction, project: str, name: str) -> AlreadyExists:
    if get(tx, project, name).wish is not DeploymentWish.DELETE:
        return AlreadyExists(noun="deployment", name=name)
    return AlreadyExists(
        f"The deployment '{name}' is being deleted; its name is free in a moment.",
        remedy="Ask again then; its replicas finish what they have accepted.",
    )


def hold_version(tx: Transaction, project_id: str, model_version_id: str) -> None:
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


def hold(tx: Transaction, project: str, name: str) -> Deployment:
    """As `get`, and nobody else changes it until the transaction ends; raises `IllegalMove` for one that is to go."""
    mine = _named(tx, project, name)
    tx.execute(sa.select(deployments.c.id).where(mine).with_for_update(key_share=True)).all()
    found = get(tx, project, name)
    if found.wish is DeploymentWish.DELETE:
        raise IllegalMove(noun="deployment", state="being deleted", target="another")
    return found


def list(tx: Transaction, project: str) -> builtins.list[Deployment]:
    """By name."""
    mine = _SELECT.where(deployments.c.project_id == project_rows.id_of(tx, project))
    return sorted((_record(row) for row in tx.execute(mine)), key=lambda one: one.name)


def list_all(tx: Transaction) -> builtins.list[Deployment]:
    """Of all projects, the oldest first."""
    return _list(tx, sa.true())


def list_unsettled(tx: Transaction) -> builtins.list[Deployment]:
    """Those that the controller has to look at: all but the stopped and the idle of which no replica lives."""
    # Two looks by index instead of one at every row: thousands of stopped ones cost nothing.
    wanted = sa.select(deployments.c.id).where(UNSETTLED)
    living = sa.select(replicas.c.deployment_id).where(
        replicas.c.state.in_([state.value for state in ReplicaState if not state.is_final])
    )
    return _list(tx, deployments.c.id.in_(sa.union(wanted, living)))


def list_changed(tx: Transaction, since: int) -> builtins.list[Deployment]:
    """Those of which gateways or the controller have something to hear since this routes number."""
    return _list(tx, deployments.c.changed > since)


def list_by_id(tx: Transaction, ids: Collection[str]) -> builtins.list[Deployment]:
    """Those of these that are there."""
    return [found for some in in_parts(ids) for found in _list(tx, deployments.c.id.in_(some))]


def _list(tx: Transaction, which: sa.ColumnElement[bool]) -> builtins.list[Deployment]:
    ordered = _SELECT.where(which).order_by(deployments.c.created_at, deployments.c.id)
    return [_record(row) for row in tx.execute(ordered)]


def update(
    tx: Transaction,
    project: str,
    name: str,
    *,
    model_version_id: str | None = None,
    replicas: int | None = None,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
    **settings: float | None,
) -> Deployment:
    """Changes what is wished; None leaves a field. Raises `IllegalMove` for one that is being deleted.

    `replicas` fixes their number; none of them stops it, and keeps the bounds for its next start. `settings` are
    `max_batch`, `threads`, and `idle_s`, `max_in_flight`, `max_queue`, `deadline_s`, where 0 takes a bound away.
    A deployment stays with its model, because requests and replicas name its versions by number.
    """
    found = hold(tx, project, name)
    values: dict[str, Any] = {}
    if model_version_id is not None and model_version_id != found.model_version_id:
        hold_version(tx, project_rows.id_of(tx, project), model_version_id)
        check_same_model(tx, found, model_version_id)
        values = roll(found, model_version_id)
    running = values.get("replicas", found.replicas)
    values |= _numbers(found, running, replicas, min_replicas, max_replicas)
    for field, value in settings.items():
        if value is not None:
            values[field] = value or None
    return write(tx, found, values)


def _numbers(
    found: Deployment, running: int, replicas: int | None, fewest: int | None, most: int | None
) -> dict[str, Any]:
    """The bounds as they will be, and `running` replicas brought between them."""
    if replicas == 0:
        return {"wish": DeploymentWish.STOP.value, "replicas": 0}
    if replicas is not None:
        fixed = dict.fromkeys(("replicas", "min_replicas", "max_replicas"), replicas)
        return {"wish": DeploymentWish.RUN.value, **fixed}
    low = found.min_replicas if fewest is None else fewest
    high = found.max_replicas if most is None else most
    if low > high:
        name, value = ("max", most) if fewest is None else ("min", fewest)
        raise InvalidParameter(
            name=f"{name}_replicas",
            value=value,
            expected=f"from {low} to {high}, or the other bound with it",
        )
    running = min(max(running, low), high) if running else 0
    return {"min_replicas": low, "max_replicas": high, "replicas": running}


def roll(found: Deployment, model_version_id: str) -> dict[str, Any]:
    """What changes with the wished version: the way back, a canary that has become it, and who sleeps wakes up."""
    values: dict[str, Any] = {
        "model_version_id": model_version_id,
        "previous_version": found.version,
    }
    if found.canary is not None and found.canary.model_version_id == model_version_id:
        values |= {"canary_version_id": None, "canary_percent": None}
    if found.wish is DeploymentWish.RUN and not found.replicas:
        # A version that cannot be loaded is to be seen now, not by the next caller.
        values["replicas"] = found.min_replicas
    return values


def write(tx: Transaction, found: Deployment, values: dict[str, Any]) -> Deployment:
    """Writes a change of what is wished to a row that `hold` has; everybody hears of it."""
    mine = deployments.c.id == found.id
    tx.change(sa.update(deployments).where(mine).values(**values, updated_at=tx.now()))
    tx.change_routes(found.id)
    return get(tx, found.project, found.name)


def check_same_model(tx: Transaction, deployment: Deployment, model_version_id: str) -> None:
    """Raises `InvalidParameter` for a version of another model."""
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


def wake(tx: Transaction, deployment_id: str) -> bool:
    """Starts an idle deployment, as a request asked; False, and nothing is written, where it is not idle."""
    return _resize(tx, deployment_id, deployments.c.min_replicas, from_=0)


def set_replicas(tx: Transaction, deployment: Deployment, replicas: int) -> bool:
    """As autoscaling decides; False if somebody has wished otherwise since `deployment` was read."""
    return _resize(tx, deployment.id, replicas, from_=deployment.replicas)


def _resize(
    tx: Transaction, deployment_id: str, replicas: int | sa.ColumnElement[int], *, from_: int
) -> bool:
    guard = sa.and_(
        deployments.c.id == deployment_id,
        deployments.c.replicas == from_,
        deployments.c.wish == DeploymentWish.RUN.value,
    )
    values = {"replicas": replicas, "updated_at": tx.now()}
    changed = tx.change(sa.update(deployments).where(guard).values(**values)) == 1
    if changed:
        tx.change_routes(deployment_id)
    return changed


def wish_delete(tx: Transaction, project: str, name: str) -> None:
    """Nothing answers under the name any more; the controller ends the replicas, then removes the row."""
    found = get(tx, project, name)
    write(tx, found, {"wish": DeploymentWish.DELETE.value})


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
    tx.change_routes(deployment_id)


def remove(tx: Transaction, deployment_id: str) -> None:
    """With its ended replicas; raises `InUse` while one lives."""
    mine = deployments.c.id == deployment_id
    tx.execute(sa.select(deployments.c.id).where(mine).with_for_update())
    living = [one.id for one in list_replicas(tx, deployment_id) if not one.state.is_final]
    refuse_if_used("deployment", deployment_id, [f"replica '{one}'" for one in living])
    tx.change(sa.delete(deployments).where(mine))
    tx.change_routes(removed=True)


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
        min_replicas=row.min_replicas,
        max_replicas=row.max_replicas,
        idle_s=row.idle_s,
        max_in_flight=row.max_in_flight,
        max_queue=row.max_queue,
        deadline_s=row.deadline_s,
        canary=_canary(row),
        previous_version=row.previous_version,
    )


def _canary(row: sa.Row[*tuple[Any, ...]]) -> Canary | None:
    if row.canary_version_id is None:
        return None
    return Canary(
        version=row.canary_version,
        model_version_id=row.canary_version_id,
        percent=row.canary_percent,
    )
