"""Deployments: which model version is to answer under which name, and with how many copies."""

from __future__ import annotations

from dataclasses import dataclass

from modelry.core.errors import InvalidParameter
from modelry.core.ids import check_name
from modelry.core.records import Deployment, Replica
from modelry.server.control.jobs import check_threads
from modelry.server.control.references import read_model_reference
from modelry.server.store import Store, Transaction, deployments, models, rollouts

#: The shortest time without a request after which a deployment may sleep: about as long as waking takes.
SHORTEST_IDLE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A canary as it is wished; None leaves what is there."""

    #: A version of the deployment's model: `name:4` or `name@alias`.
    model: str | None = None
    #: Share of the unpinned requests, 0 to 100.
    percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a deployment is to be; None leaves what is there, or takes the default of a new one."""

    #: `name`, `name:3` or `name@alias`; an alias is looked up now and does not follow later moves.
    model: str | None = None
    #: A fixed number of replicas; none stops it.
    replicas: int | None = None
    #: The bounds between which autoscaling chooses their number.
    min_replicas: int | None = None
    max_replicas: int | None = None
    #: Seconds without a request after which it sleeps, `SHORTEST_IDLE_S` or more; 0: never.
    idle_s: float | None = None
    #: Rows per runtime call at most.
    max_batch: int | None = None
    #: Compute threads of each replica.
    threads: int | None = None
    #: Requests worked on at once, and waiting beside them (or beside what the replicas run), at most; 0: no bound.
    max_in_flight: int | None = None
    max_queue: int | None = None
    #: The deadline of requests that name none; 0: the service's.
    deadline_s: float | None = None
    canary: Trial | None = None


def create_deployment(
    store: Store, project: str, name: str, model: str, shape: Shape
) -> Deployment:
    """A new deployment; the controller starts its replicas. Raises `InvalidParameter` for bounds that cross."""
    name = check_name(name, "deployment")
    _check_idle(shape)
    threads = check_threads(shape.threads, 1)
    fewest, most = _bounds(shape)
    with store.write() as tx:
        return deployments.create(
            tx,
            project=project,
            name=name,
            model_version_id=_version_id(tx, project, model),
            replicas=fewest,
            max_replicas=most,
            max_batch=32 if shape.max_batch is None else shape.max_batch,
            threads=threads,
            idle_s=shape.idle_s or None,
            max_in_flight=shape.max_in_flight or None,
            max_queue=shape.max_queue or None,
            deadline_s=shape.deadline_s or None,
        )


def _bounds(shape: Shape) -> tuple[int, int]:
    """The fewest and the most replicas of a new deployment."""
    _check_one_way(shape)
    if shape.replicas is not None:
        return shape.replicas, max(1, shape.replicas)
    fewest = 1 if shape.min_replicas is None else shape.min_replicas
    most = fewest if shape.max_replicas is None else shape.max_replicas
    if most < fewest:
        raise InvalidParameter(name="max_replicas", value=most, expected=f"{fewest} or more")
    return fewest, most


def _check_one_way(shape: Shape) -> None:
    if shape.replicas is not None and (shape.min_replicas, shape.max_replicas) != (None, None):
        raise InvalidParameter(
            name="replicas",
            value=shape.replicas,
            expected="either a fixed number, or min_replicas and max_replicas",
        )


def _check_idle(shape: Shape) -> None:
    """One that fell asleep sooner than it wakes would start and stop without end."""
    if shape.idle_s is not None and 0.0 < shape.idle_s < SHORTEST_IDLE_S:
        raise InvalidParameter(
            name="idle_s",
            value=shape.idle_s,
            expected=f"{SHORTEST_IDLE_S:g} seconds or more, or 0 for a deployment that never sleeps",
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
    """Changes what is wished; another version rolls out without one failed request."""
    _check_one_way(shape)
    _check_idle(shape)
    threads = None if shape.threads is None else check_threads(shape.threads, 1)
    with store.write() as tx:
        found = deployments.update(
            tx,
            project,
            name,
            model_version_id=_found_id(tx, project, shape.model),
            replicas=shape.replicas,
            min_replicas=shape.min_replicas,
            max_replicas=shape.max_replicas,
            idle_s=shape.idle_s,
            max_batch=shape.max_batch,
            threads=threads,
            max_in_flight=shape.max_in_flight,
            max_queue=shape.max_queue,
            deadline_s=shape.deadline_s,
        )
        if shape.canary is None:
            return found
        version_id = _found_id(tx, project, shape.canary.model)
        percent = shape.canary.percent
        return rollouts.set_canary(tx, project, name, model_version_id=version_id, percent=percent)


def promote_canary(store: Store, project: str, name: str) -> Deployment:
    """The canary becomes the version that serves; what it replaces stays the way back."""
    with store.write() as tx:
        return rollouts.promote(tx, project, name)


def roll_back(store: Store, project: str, name: str) -> Deployment:
    """Takes the canary away; without one, the version before serves again."""
    with store.write() as tx:
        return rollouts.rollback(tx, project, name)


def stop_deployment(store: Store, project: str, name: str) -> Deployment:
    """Ends its replicas; it keeps its settings and answers nothing until it is started."""
    with store.write() as tx:
        return rollouts.stop(tx, project, name)


def start_deployment(store: Store, project: str, name: str) -> Deployment:
    """Starts one that was stopped, or that sleeps, with the settings it had."""
    with store.write() as tx:
        return rollouts.start(tx, project, name)


def delete_deployment(store: Store, project: str, name: str) -> None:
    """Asks for the deployment's end; its replicas finish what they have accepted."""
    with store.write() as tx:
        deployments.wish_delete(tx, project, name)


def _found_id(tx: Transaction, project: str, reference: str | None) -> str | None:
    return None if reference is None else _version_id(tx, project, reference)


def _version_id(tx: Transaction, project: str, reference: str) -> str:
    name, version = read_model_reference(reference)
    return models.get_version(tx, project, name, version).id
