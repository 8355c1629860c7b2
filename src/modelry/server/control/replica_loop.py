"""Which replicas run: for each deployment what is missing, what is too much (`plan`, pure), and doing it.

A roll to another version, or to other settings, starts the new replicas first; the old ones drain when enough new ones
are ready, so no request ever meets an empty house. A replica that ended is replaced after a pause that doubles each
time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from modelry.core.errors import ModelryError, ModelUnloadable, WorkerLost
from modelry.core.records import Deployment, Replica
from modelry.core.specs import Limits, OutcomeStatus, ReplicaSpec, StopReason, WorkerStatus
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState
from modelry.server.compute.base import Backend
from modelry.server.control.trouble import EVERYBODYS, as_failure, as_known
from modelry.server.store import Store, Transaction, deployments, models, replicas

log = logging.getLogger(__name__)

#: A replica may take so long to become ready.
START_LIMIT_S = 120.0
#: A ready replica that shows no sign of life for so long is replaced.
SILENCE_LIMIT_S = 60.0
#: How long a replica may take to answer what it has accepted.
DRAIN_GRACE_S = 60.0
#: First pause after a replica ended by itself; doubles up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
#: A replica that was ready for so long counts as healthy: the pauses begin anew.
HEALTHY_S = 10.0
#: So many ends in a row without a ready replica, and the deployment is called failed (it is still tried).
FAILED_AFTER = 3


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """One deployment and its replicas as seen at one moment; `ended` newest first."""

    deployment: Deployment
    live: tuple[Replica, ...]
    ended: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Create:
    """Make one more replica of the wished version."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Order:
    """Tell the agent (again) to start this replica."""

    deployment: Deployment
    replica: Replica


@dataclass(frozen=True, slots=True)
class Mark:
    """Write a replica's new state."""

    replica: Replica
    target: ReplicaState
    address: str | None = None
    failure: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Take the replica off the routes and let it finish."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Kill:
    """End the replica's process at once."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Summarize:
    """Write the deployment's new state."""

    deployment: Deployment
    state: DeploymentState
    failure: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing is left of a deployment that was to be deleted."""

    deployment: Deployment


Action = Create | Order | Mark | Drain | Kill | Summarize | Remove


def plan(view: DeploymentView, statuses: dict[str, WorkerStatus], *, now: float) -> list[Action]:
    """What to do next for one deployment; decides without doing."""
    actions: list[Action] = []
    for replica in view.live:
        actions.extend(
            _plan_replica(view.deployment, replica, statuses.get(replica.worker_id), now)
        )
    return actions or _plan_deployment(view, now)


def _plan_replica(
    deployment: Deployment, replica: Replica, status: WorkerStatus | None, now: float
) -> list[Action]:
    """First the truth about each process; decisions follow in a round without news."""
    if replica.state is ReplicaState.DRAINING:
        if status is None or not status.is_alive:
            return [Mark(replica, ReplicaState.STOPPED)]
        return []
    if status is None:
        if replica.state is ReplicaState.STARTING:
            return [Order(deployment, replica)]
        return [Mark(replica, ReplicaState.FAILED, failure=as_failure(WorkerLost(times=1)))]
    if not status.is_alive:
        return [_ended(replica, status)]
    if replica.state is ReplicaState.STARTING:
        if status.address:
            return [Mark(replica, ReplicaState.READY, address=status.address)]
        if now - replica.created_at > START_LIMIT_S:
            reason = f"it was not ready after {START_LIMIT_S:.0f} s"
            return [_give_up(replica, reason), Kill(replica)]
        return []
    if status.silent_s > SILENCE_LIMIT_S:
        reason = f"it gave no sign of life for {status.silent_s:.0f} s"
        return [_give_up(replica, reason), Kill(replica)]
    return []


def _give_up(replica: Replica, reason: str) -> Mark:
    return Mark(replica, ReplicaState.FAILED, failure=as_failure(ModelUnloadable(reason=reason)))


def _ended(replica: Replica, status: WorkerStatus) -> Mark:
    outcome = status.outcome
    if outcome is not None and outcome.failure is not None:
        return Mark(replica, ReplicaState.FAILED, failure=msgspec.to_builtins(outcome.failure))
    if outcome is None or outcome.status is OutcomeStatus.LOST:
        return Mark(replica, ReplicaState.FAILED, failure=as_failure(WorkerLost(times=1)))
    return Mark(replica, ReplicaState.STOPPED)


def _plan_deployment(view: DeploymentView, now: float) -> list[Action]:
    deployment = view.deployment
    wished = deployment.replicas if deployment.wish is DeploymentWish.RUN else 0
    serving = [r for r in view.live if r.state in (ReplicaState.STARTING, ReplicaState.READY)]
    current = [r for r in serving if _is_as_wished(r, deployment)]
    old = [r for r in serving if not _is_as_wished(r, deployment)]
    ready = [r for r in current if r.state is ReplicaState.READY]
    actions: list[Action] = []
    if len(current) < wished and _may_start(view, now):
        actions.extend(Create(deployment) for _ in range(wished - len(current)))
    if len(current) > wished:
        by_use = sorted(current, key=lambda r: (r.state is ReplicaState.READY, -r.created_at))
        actions.extend(Drain(replica) for replica in by_use[: len(current) - wished])
    if old and len(ready) >= wished:
        actions.extend(Drain(replica) for replica in old)
    if deployment.wish is DeploymentWish.DELETE and not view.live:
        return [Remove(deployment)]
    return [*actions, *_summarize(view, wished, ready, old)]


def _is_as_wished(replica: Replica, deployment: Deployment) -> bool:
    """Whether it serves the wished version in the wished way; another one is rolled out of service."""
    return (replica.model_version_id, replica.max_batch, replica.threads) == (
        deployment.model_version_id,
        deployment.max_batch,
        deployment.threads,
    )


def _ends_in_a_row(view: DeploymentView) -> list[Replica]:
    """Replicas of the wished version that ended by themselves since the last healthy one, newest first."""
    row = []
    for replica in view.ended:
        if not _is_as_wished(replica, view.deployment):
            continue
        if replica.state is not ReplicaState.FAILED:
            break
        if replica.ready_at and (replica.ended_at or 0.0) - replica.ready_at > HEALTHY_S:
            break
        row.append(replica)
    return row


def _may_start(view: DeploymentView, now: float) -> bool:
    row = _ends_in_a_row(view)
    if not row or row[0].ended_at is None:
        return True
    pause = min(FIRST_PAUSE_S * 2.0 ** (len(row) - 1), LONGEST_PAUSE_S)
    return now - row[0].ended_at >= pause


def _summarize(
    view: DeploymentView, wished: int, ready: Sequence[Replica], old: Sequence[Replica]
) -> list[Action]:
    deployment = view.deployment
    row = _ends_in_a_row(view)
    failure = row[0].failure if row and len(ready) < wished else None
    if deployment.wish is DeploymentWish.DELETE:
        state = DeploymentState.DELETING
    elif wished == 0:
        state = DeploymentState.STOPPED
    elif len(ready) >= wished:
        state = DeploymentState.READY
    elif any(replica.state is ReplicaState.READY for replica in old):
        state = DeploymentState.DEGRADED if len(row) >= FAILED_AFTER else DeploymentState.UPDATING
    elif ready:
        state = DeploymentState.DEGRADED
    else:
        state = DeploymentState.FAILED if len(row) >= FAILED_AFTER else DeploymentState.STARTING
    if state is deployment.state and failure == deployment.failure:
        return []
    return [Summarize(deployment, state, failure)]


class ReplicaLoop:
    """Carries the plan out. Holds no state of its own: the store and the agent have it all."""

    def __init__(self, store: Store, compute: Backend, *, artifacts: str) -> None:
        self._store = store
        self._compute = compute
        self._artifacts = artifacts

    def step(self, epoch: int, statuses: dict[str, WorkerStatus]) -> bool:
        """One round; True if a state changed."""
        with self._store.read() as tx:
            views = _read_views(tx)
            now = tx.now()
        changed = False
        for view in views:
            changed |= self._step_one(epoch, view, statuses, now)
        self._tend(epoch, statuses)
        return changed

    def _step_one(
        self, epoch: int, view: DeploymentView, statuses: dict[str, WorkerStatus], now: float
    ) -> bool:
        """One deployment's trouble is not its neighbours'."""
        actions = plan(view, statuses, now=now)
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
        return bool(actions)

    def _apply(self, epoch: int, action: Action) -> None:
        match action:
            case Create(deployment):
                with self._store.lead(epoch) as tx:
                    replica = replicas.create_replica(
                        tx, deployment.id, deployment.model_version_id
                    )
                self._order(epoch, deployment, replica)
            case Order(deployment, replica):
                self._order(epoch, deployment, replica)
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

    def _order(self, epoch: int, deployment: Deployment, replica: Replica) -> None:
        try:
            with self._store.read() as tx:
                spec = _spec(tx, deployment, replica, self._artifacts)
            self._compute.start(epoch, spec)
        except EVERYBODYS:
            raise
        except Exception as error:
            known = as_known(error)
            if known.retryable:
                raise
            log.exception("replica refused id=%s", replica.id)
            self._mark(epoch, replica, ReplicaState.FAILED, None, as_failure(known))

    def _tend(self, epoch: int, statuses: dict[str, WorkerStatus]) -> None:
        """Asks draining replicas to end, ends those no row knows, clears the folders of recorded ones."""
        with self._store.read() as tx:
            rows = {replica.worker_id: replica for replica in replicas.list_live(tx)}
        for worker_id, status in statuses.items():
            if status.kind != "replica":
                continue
            try:
                self._tend_one(epoch, status, rows.get(worker_id))
            except EVERYBODYS:
                raise
            except ModelryError as error:
                log.warning("worker not cleared worker=%s error=%s", worker_id, error)

    def _tend_one(self, epoch: int, status: WorkerStatus, replica: Replica | None) -> None:
        if replica is None and not status.is_alive:
            self._compute.forget(epoch, status.worker_id)
        elif replica is None or replica.state is ReplicaState.DRAINING and status.is_alive:
            self._compute.stop(epoch, status.worker_id, StopReason.DRAIN, DRAIN_GRACE_S)


def _read_views(tx: Transaction) -> list[DeploymentView]:
    views = []
    for deployment in deployments.list_all(tx):
        rows = replicas.list_replicas(tx, deployment.id)
        live = tuple(replica for replica in rows if not replica.state.is_final)
        ended = tuple(
            sorted(
                (replica for replica in rows if replica.state.is_final),
                key=lambda replica: -(replica.ended_at or 0.0),
            )
        )
        views.append(DeploymentView(deployment, live, ended))
    return views


def _spec(tx: Transaction, deployment: Deployment, replica: Replica, artifacts: str) -> ReplicaSpec:
    version = models.get_version_by_id(tx, replica.model_version_id)
    return ReplicaSpec(
        worker_id=replica.worker_id,
        replica_id=replica.id,
        deployment=deployment.name,
        model=version.model,
        version=version.version,
        files=list(version.files),
        artifacts=artifacts,
        threads=replica.threads,
        max_batch=replica.max_batch,
        limits=Limits(),
    )
