"""Deployments: which model version is to answer under which name, and with how many copies."""

from __future__ import annotations

from dataclasses import dataclass

from modelry.core.ids import check_name
from modelry.core.records import Deployment, Replica
from modelry.server.control.jobs import check_threads
from modelry.server.control.references import read_model_reference
from modelry.server.store import Store, Transaction, deployments, models


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a deployment is to be; None leaves what is there, or takes the default of a new one."""

    #: `name`, `name:3` or `name@alias`; an alias is looked up now and does not follow later moves.
    model: str | None = None
    replicas: int | None = None
    #: Rows per runtime call at most.
    max_batch: int | None = None
    #: Compute threads of each replica.
    threads: int | None = None


def create_deployment(
    store: Store, project: str, name: str, model: str, shape: Shape
) -> Deployment:
    """A new deployment; the controller starts its replicas."""
    name = check_name(name, "deployment")
    threads = check_threads(shape.threads, 1)
    with store.write() as tx:
        return deployments.create(
            tx,
            project=project,
            name=name,
            model_version_id=_version_id(tx, project, model),
            replicas=1 if shape.replicas is None else shape.replicas,
            max_batch=32 if shape.max_batch is None else shape.max_batch,
            threads=threads,
        )


def list_deployments(store: Store, project: str) -> list[Deployment]:
    """The project's deployments by name."""
    with store.read() as tx:
        return deployments.list(tx, project)


def get_deployment(store: Store, project: str, name: str) -> tuple[Deployment, list[Replica]]:
    """One deployment and its replicas, the last few ended ones among them."""
    with store.read() as tx:
        found = deployments.get(tx, project, name)
        return found, deployments.list_replicas(tx, found.id)


def update_deployment(store: Store, project: str, name: str, shape: Shape) -> Deployment:
    """Changes what is wished; another version rolls out copy by copy, without one failed request."""
    threads = None if shape.threads is None else check_threads(shape.threads, 1)
    with store.write() as tx:
        version_id = None if shape.model is None else _version_id(tx, project, shape.model)
        return deployments.update(
            tx,
            project,
            name,
            model_version_id=version_id,
            replicas=shape.replicas,
            max_batch=shape.max_batch,
            threads=threads,
        )


def delete_deployment(store: Store, project: str, name: str) -> None:
    """Asks for the deployment's end; its replicas finish what they have accepted."""
    with store.write() as tx:
        deployments.wish_delete(tx, project, name)


def _version_id(tx: Transaction, project: str, reference: str) -> str:
    name, version = read_model_reference(reference)
    return models.get_version(tx, project, name, version).id
