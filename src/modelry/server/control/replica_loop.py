"""Carries out which replicas run: looks, plans (`replica_plan.py`, `scaling.py`), and does it.

It remembers nothing that counts: the store and the agent have it all, and a new leader begins with reading both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from modelry.core.errors import ModelryError
from modelry.core.records import Load, Replica
from modelry.core.specs import Limits, ReplicaSpec, StopReason, WorkerStatus
from modelry.core.states import ReplicaState
from modelry.server.compute.base import Backend
from modelry.server.control.replica_plan import (
    Action,
    Create,
    DeploymentView,
    Drain,
    Kill,
    Mark,
    Order,
    Remove,
    Summarize,
    is_at_rest,
    next_look_s,
    plan,
    plan_news,
)
from modelry.server.control.scaling import Watch, decide, is_scaled
from modelry.server.control.trouble import EVERYBODYS, as_failure, as_known
from modelry.server.control.watching import Watched
from modelry.server.store import Store, Transaction, deployments, models, replicas

log = logging.getLogger(__name__)

#: How long a replica may take to answer what it has accepted.
DRAIN_GRACE_S = 60.0
#: Between two looks at the loads.
LOADS_EVERY_S = 0.5

#: Deployment → how busy it was; one that is missing was never asked.
ReadLoads = Callable[[], dict[str, Load]]


def no_loads() -> dict[str, Load]:
    """For a service that counts nothing: nobody was ever asked."""
    return {}


class ReplicaLoop:
    """The deployments' part of a controller's round."""

    def __init__(
        self,
        store: Store,
        compute: Backend,
        *,
        artifacts: str,
        read_loads: ReadLoads = no_loads,
    ) -> None:
        self._store = store
        self._compute = compute
        self._artifacts = artifacts
        self._read_loads = read_loads
        self._watched = Watched()
        self._watches: dict[str, Watch] = {}
        #: Deployment → its view when there was nothing left to do about it.
        self._resting: dict[str, DeploymentView] = {}
        self._loads_at = 0.0
        #: Seconds until something is to be done that nobody will ring for; None where nothing is.
        self.next_look_s: float | None = None

    def step(self, epoch: int, statuses: dict[str, WorkerStatus]) -> bool:
        """One round; True if a state changed."""
        with self._store.read() as tx:
            self._watched.catch_up(tx, epoch)
            now = tx.now()
        views = list(self._watched.views.values())
        changed = self._scale(epoch, views, now)
        for view in views:
            changed |= self._step_one(epoch, view, statuses, now)
        self._tend(epoch, views, statuses)
        if len(self._resting) > len(views):
            known = self._watched.views
            self._resting = {key: view for key, view in self._resting.items() if key in known}
        waits = [next_look_s(view, now) for view in views]
        self.next_look_s = min((wait for wait in waits if wait is not None), default=None)
        return changed

    def _scale(self, epoch: int, views: list[DeploymentView], now: float) -> bool:
        """Gives each deployment whose load decides it another number of replicas; the next round acts on it."""
        scaled = [view for view in views if is_scaled(view.deployment)]
        if not scaled or now - self._loads_at < LOADS_EVERY_S:
            return False
        self._loads_at = now
        loads = self._read_loads()
        before, self._watches = self._watches, {}
        changed = False
        for view in scaled:
            key = view.deployment.id
            number, watch = decide(
                view.deployment,
                loads.get(key, Load()),
                before.get(key, Watch()),
                now,
                awake_since=_awake_since(view),
            )
            self._watches[key] = watch
            if number != view.deployment.replicas:
                changed |= self._resize(epoch, view, number)
        return changed

    def _resize(self, epoch: int, view: DeploymentView, number: int) -> bool:
        name, before = view.deployment.name, view.deployment.replicas
        with self._store.lead(epoch) as tx:
            done = deployments.set_replicas(tx, view.deployment, number)
        if done:
            log.info("deployment scaled name=%s from=%s to=%s", name, before, number)
        return done

    def _step_one(
        self, epoch: int, view: DeploymentView, statuses: dict[str, WorkerStatus], now: float
    ) -> bool:
        """One deployment's trouble is not its neighbours'."""
        key = view.deployment.id
        # Most of hundreds are at rest: of them only the processes are looked at.
        look = plan_news if self._resting.get(key) is view else plan
        actions = look(view, statuses, now=now)
        if not actions:
            if look is plan and is_at_rest(view, now):
                self._resting[key] = view
            return False
        self._resting.pop(key, None)
        self._watched.touch(view.deployment.id)
        try:
            for action in actions:
                self._apply(epoch, action)
        except EVERYBODYS:
            raise
        except Exception as error:
            known = as_known(error)
            log.warning(
                "deployment put off name=%s error=%s",
                view.deployment.name,
                known,
                exc_info=not known.retryable,
            )
            return False
        return True

    def _apply(self, epoch: int, action: Action) -> None:
        match action:
            case Create(deployment, make):
                with self._store.lead(epoch) as tx:
                    replica = replicas.create_replica(
                        tx,
                        deployment.id,
                        make.model_version_id,
                        max_batch=make.max_batch,
                        threads=make.threads,
                    )
                self._order(epoch, deployment.name, replica)
            case Order(deployment, replica):
                self._order(epoch, deployment.name, replica)
            case Mark(replica, target, address, failure):
                self._mark(epoch, replica, target, address, failure)
            case Drain(replica):
                self._mark(epoch, replica, ReplicaState.DRAINING, None, None)
            case Kill(replica):
                self._compute.stop(epoch, replica.worker_id, StopReason.DRAIN, 0.0)
            case Summarize(deployment, state, failure):
                with self._store.lead(epoch) as tx:
                    deployments.set_state(tx, deployment.id, state, failure=failure)
                log.info("deployment name=%s state=%s", deployment.name, state)
            case Remove(deployment):
                with self._store.lead(epoch) as tx:
                    deployments.remove(tx, deployment.id)

    def _mark(
        self,
        epoch: int,
        replica: Replica,
        target: ReplicaState,
        address: str | None,
        failure: dict[str, object] | None,
    ) -> None:
        with self._store.lead(epoch) as tx:
            replicas.set_replica_state(tx, replica.id, target, address=address, failure=failure)
        log.info("replica id=%s state=%s", replica.id, target)

    def _order(self, epoch: int, name: str, replica: Replica) -> None:
        try:
            with self._store.read() as tx:
                spec = _spec(tx, name, replica, self._artifacts)
            self._compute.start(epoch, spec)
        except EVERYBODYS:
            raise
        except Exception as error:
            known = as_known(error)
            if known.retryable:
                raise
            log.exception("replica refused id=%s", replica.id)
            self._mark(epoch, replica, ReplicaState.FAILED, None, as_failure(known))

    def _tend(
        self, epoch: int, views: list[DeploymentView], statuses: dict[str, WorkerStatus]
    ) -> None:
        """Asks draining replicas to end, ends those no row knows, clears the folders of recorded ones."""
        rows = {replica.worker_id: replica for view in views for replica in view.live}
        odd = [
            status
            for status in statuses.values()
            if status.kind == "replica" and _is_odd(status, rows.get(status.worker_id))
        ]
        if not odd:
            return
        with self._store.read() as tx:
            rows = {replica.worker_id: replica for replica in replicas.list_live(tx)}
        for status in odd:
            try:
                self._tend_one(epoch, status, rows.get(status.worker_id))
            except EVERYBODYS:
                raise
            except ModelryError as error:
                log.warning("worker not cleared worker=%s error=%s", status.worker_id, error)

    def _tend_one(self, epoch: int, status: WorkerStatus, replica: Replica | None) -> None:
        if replica is None and not status.is_alive:
            self._compute.forget(epoch, status.worker_id)
        elif replica is None or replica.state is ReplicaState.DRAINING and status.is_alive:
            self._compute.stop(epoch, status.worker_id, StopReason.DRAIN, DRAIN_GRACE_S)


def _is_odd(status: WorkerStatus, replica: Replica | None) -> bool:
    """Whether a process and its row do not say the same; the rows may be those of the round's begin."""
    return not status.is_alive or replica is None or replica.state is ReplicaState.DRAINING


def _awake_since(view: DeploymentView) -> float:
    """When the deployment was last changed, or the newest of its replicas began to answer."""
    ready = (replica.ready_at or 0.0 for replica in view.live)
    return max(view.deployment.updated_at, *ready, 0.0)


def _spec(tx: Transaction, deployment: str, replica: Replica, artifacts: str) -> ReplicaSpec:
    version = models.get_version_by_id(tx, replica.model_version_id)
    return ReplicaSpec(
        worker_id=replica.worker_id,
        replica_id=replica.id,
        deployment=deployment,
        model=version.model,
        version=version.version,
        files=list(version.files),
        artifacts=artifacts,
        threads=replica.threads,
        max_batch=replica.max_batch,
        limits=Limits(),
    )
