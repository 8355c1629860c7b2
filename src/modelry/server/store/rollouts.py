"""Another version on trial, the way forward and the way back, and the switch: one word each, one row changed."""

from __future__ import annotations

from modelry.core.errors import InvalidParameter, NotFound
from modelry.core.records import Deployment
from modelry.core.states import DeploymentWish
from modelry.server.store import models
from modelry.server.store import projects as project_rows
from modelry.server.store.deployments import check_same_model, hold, hold_version, roll, write
from modelry.server.store.transaction import Transaction


def set_canary(
    tx: Transaction,
    project: str,
    name: str,
    *,
    model_version_id: str | None = None,
    percent: float | None = None,
) -> Deployment:
    """Gives a version of the same model a share of the unpinned requests; None leaves what is there.

    Raises `InvalidParameter` for the version that serves already, and where there is no canary to change.
    """
    found = hold(tx, project, name)
    canary = found.canary
    version_id = model_version_id or (canary.model_version_id if canary else None)
    if version_id is None:
        raise InvalidParameter(name="canary", value=None, expected="a model version to try")
    if version_id == found.model_version_id:
        raise InvalidParameter(
            name="canary",
            value=f"{found.model}:{found.version}",
            expected="another version than the one that serves",
        )
    hold_version(tx, project_rows.id_of(tx, project), version_id)
    check_same_model(tx, found, version_id)
    if percent is None:
        percent = canary.percent if canary else 0.0
    return write(tx, found, {"canary_version_id": version_id, "canary_percent": percent})


def promote(tx: Transaction, project: str, name: str) -> Deployment:
    """The canary becomes the version that serves; raises `NotFound` where there is none."""
    found = hold(tx, project, name)
    if found.canary is None:
        raise NotFound(
            f"The deployment '{name}' has no canary to promote.",
            remedy=f"`modelry deployments canary {name} {found.model}:VERSION` begins one.",
        )
    return write(tx, found, roll(found, found.canary.model_version_id))


def rollback(tx: Transaction, project: str, name: str) -> Deployment:
    """Takes the canary away; without one, goes back to the version before. Raises `NotFound` without either."""
    found = hold(tx, project, name)
    if found.canary is not None:
        return write(tx, found, {"canary_version_id": None, "canary_percent": None})
    if found.previous_version is None:
        raise NotFound(
            f"The deployment '{name}' has no version to go back to.",
            remedy=f"`modelry deployments update {name} --model {found.model}:VERSION` names one.",
        )
    target = models.get_version(tx, project, found.model, found.previous_version)
    hold_version(tx, project_rows.id_of(tx, project), target.id)
    return write(tx, found, roll(found, target.id))


def stop(tx: Transaction, project: str, name: str) -> Deployment:
    """Nothing of it runs until somebody starts it; what it was set to stays."""
    found = hold(tx, project, name)
    return write(tx, found, {"wish": DeploymentWish.STOP.value, "replicas": 0})


def start(tx: Transaction, project: str, name: str) -> Deployment:
    """As it was before it was stopped; an idle one wakes; one that runs stays as it is."""
    found = hold(tx, project, name)
    running = found.replicas or found.min_replicas
    return write(tx, found, {"wish": DeploymentWish.RUN.value, "replicas": running})
