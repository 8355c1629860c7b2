"""Which replicas a deployment should have: what is missing, what is too much. Decides; does nothing.

A roll to another version, or to other settings, starts the new replicas first. Until enough of them are ready the old
ones serve beside them and are replaced when they die; then they drain, so no request ever meets an empty house. A
canary has replicas of its own beside the full number of the version it is tried against: taking it away needs no
start. A replica that ended is replaced after a pause that doubles each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from modelry.core.errors import ModelUnloadable, WorkerLost
from modelry.core.records import Deployment, Replica
from modelry.core.specs import OutcomeStatus, WorkerStatus
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState
from modelry.server.control.trouble import as_failure

#: A replica may take so long to become ready.
START_LIMIT_S = 120.0
#: A ready replica that shows no sign of life for so long is replaced.
SILENCE_LIMIT_S = 60.0
#: First pause after a replica ended by itself; doubles up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
#: A replica that was ready for so long counts as healthy: the pauses begin anew.
HEALTHY_S = 10.0
#: So many ends in a row without a ready replica, and the deployment is called failed (it is still tried).
FAILED_AFTER = 3

_SERVING = (ReplicaState.STARTING, ReplicaState.READY)


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """One deployment and its replicas as seen at one moment; `ended` newest first."""

    deployment: Deployment
    live: tuple[Replica, ...]
    ended: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Make:
    """What a replica is made as; two that are equal in it can stand in for each other."""

    model_version_id: str
    max_batch: int
    threads: int


@dataclass(frozen=True, slots=True)
class Create:
    """Make one more replica."""

    deployment: Deployment
    make: Make


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
    """What to do next for one deployment.

    First the truth about each process is written down; decisions follow in a round without such news.
    """
    return plan_news(view, statuses, now=now) or _plan_deployment(view, now)


def plan_news(
    view: DeploymentView, statuses: dict[str, WorkerStatus], *, now: float
) -> list[Action]:
    """What is to be written down of the processes; all that `plan` can say of a view at rest."""
    actions: list[Action] = []
    for replica in view.live:
        status = statuses.get(replica.worker_id)
        actions.extend(_plan_replica(view.deployment, replica, status, now))
    return actions


def is_at_rest(view: DeploymentView, now: float) -> bool:
    """Whether a view that `plan` had nothing to say about stays so until a process, or what is wished, changes."""
    return next_look_s(view, now) is None and not any(
        replica.state is ReplicaState.STARTING for replica in view.live
    )


def next_look_s(view: DeploymentView, now: float) -> float | None:
    """Seconds until a pause after an end is over and `plan` would say something new; None without a pause."""
    if not view.ended:
        return None
    makes = [make_of(view.deployment), *_canary_make(view.deployment), *_makes(view.ended)]
    waits = [_pause_left_s(view, make, now) for make in set(makes)]
    return min((wait for wait in waits if wait > 0.0), default=None)


def make_of(deployment: Deployment) -> Make:
    """How the deployment wishes the replicas of its version."""
    return Make(deployment.model_version_id, deployment.max_batch, deployment.threads)


def canary_replicas(deployment: Deployment) -> int:
    """How many replicas the canary gets: its share of the load's, at least one."""
    if deployment.canary is None or not deployment.replicas:
        return 0
    return max(1, math.ceil(deployment.replicas * deployment.canary.percent / 100.0))


def _plan_replica(
    deployment: Deployment, replica: Replica, status: WorkerStatus | None, now: float
) -> Sequence[Action]:
    if replica.state is ReplicaState.DRAINING:
        if status is None or not status.is_alive:
            return [Mark(replica, ReplicaState.STOPPED)]
        return ()
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
        return ()
    if status.silent_s > SILENCE_LIMIT_S:
        reason = f"it gave no sign of life for {status.silent_s:.0f} s"
        return [_give_up(replica, reason), Kill(replica)]
    return ()


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
    if deployment.wish is DeploymentWish.DELETE and not view.live:
        return [Remove(deployment)]
    wished = deployment.replicas if deployment.wish is DeploymentWish.RUN else 0
    mine = make_of(deployment)
    wanted = {mine: wished}
    wanted |= dict.fromkeys(_canary_make(deployment), canary_replicas(deployment) if wished else 0)
    actions: list[Action] = []
    kept: list[Replica] = []
    for make, number in wanted.items():
        members = _by_use(view, make)
        kept += members[:number]
        if make == mine:
            actions.extend(Drain(replica) for replica in members[number:])
            kept += members[number:]
        if len(members) < number and _pause_left_s(view, make, now) <= 0.0:
            actions.extend([Create(deployment, make)] * (number - len(members)))
    ready = _ready(replica for replica in kept if _made(replica) == mine)
    old = [replica for replica in view.live if replica.state in _SERVING and replica not in kept]
    if len(ready) >= wished:
        actions.extend(Drain(replica) for replica in old)
    else:
        actions.extend(_stand_in(view, old, wished - len(ready) - len(old), now))
    return [*actions, *_summarize(view, wished, ready)]


def _by_use(view: DeploymentView, make: Make) -> list[Replica]:
    """Those of one kind that serve or soon will: first the ready ones, of them the oldest."""
    found = [one for one in view.live if one.state in _SERVING and _made(one) == make]
    return sorted(found, key=lambda one: (one.state is not ReplicaState.READY, one.created_at))


def _stand_in(
    view: DeploymentView, old: Sequence[Replica], missing: int, now: float
) -> list[Action]:
    """While the wished version is not ready, what served before it is kept at its full number."""
    make = _make_before(view, old)
    if make is None or missing <= 0 or _pause_left_s(view, make, now) > 0.0:
        return []
    return [Create(view.deployment, make)] * missing


def _make_before(view: DeploymentView, old: Sequence[Replica]) -> Make | None:
    """What an interrupted roll falls back on; None where nothing served before, or the roll has been completed."""
    deployment, known = view.deployment, (*view.live, *view.ended)
    wished = (make_of(deployment), *_canary_make(deployment))
    before = [replica for replica in old if _made(replica) not in wished]
    if before:
        return _made(max(before, key=lambda r: (r.state is ReplicaState.READY, r.created_at)))
    if any(replica.ready_at for replica in known if _made(replica) == wished[0]):
        return None
    for replica in view.ended:
        died = replica.state is ReplicaState.FAILED and replica.ready_at
        during = (replica.ended_at or 0.0) >= deployment.updated_at
        if died and during and _made(replica) not in wished:
            return _made(replica)
    return None


def _canary_make(deployment: Deployment) -> list[Make]:
    if deployment.canary is None:
        return []
    version_id = deployment.canary.model_version_id
    return [Make(version_id, deployment.max_batch, deployment.threads)]


def _made(replica: Replica) -> Make:
    return Make(replica.model_version_id, replica.max_batch, replica.threads)


def _makes(some: Sequence[Replica]) -> list[Make]:
    return [_made(replica) for replica in some]


def _ready(some: Iterable[Replica]) -> list[Replica]:
    return [replica for replica in some if replica.state is ReplicaState.READY]


def _ends_in_a_row(view: DeploymentView, make: Make) -> list[Replica]:
    """Replicas of this kind that ended by themselves since the last healthy one, newest first."""
    row = []
    for replica in view.ended:
        if _made(replica) != make:
            continue
        if replica.state is not ReplicaState.FAILED:
            break
        if replica.ready_at and (replica.ended_at or 0.0) - replica.ready_at > HEALTHY_S:
            break
        row.append(replica)
    return row


def _pause_left_s(view: DeploymentView, make: Make, now: float) -> float:
    row = _ends_in_a_row(view, make)
    if not row or row[0].ended_at is None:
        return 0.0
    pause = min(FIRST_PAUSE_S * 2.0 ** (len(row) - 1), LONGEST_PAUSE_S)
    return row[0].ended_at + pause - now


def _summarize(view: DeploymentView, wished: int, ready: Sequence[Replica]) -> list[Action]:
    deployment = view.deployment
    others = [one for one in _ready(view.live) if _made(one) != make_of(deployment)]
    row = _ends_in_a_row(view, make_of(deployment))
    failure = _failure(row) if len(ready) < wished else None
    if deployment.wish is DeploymentWish.DELETE:
        state = DeploymentState.DELETING
    elif deployment.wish is DeploymentWish.STOP:
        state = DeploymentState.STOPPED
    elif wished == 0:
        state = DeploymentState.IDLE
    elif len(ready) >= wished:
        failure = _canary_failure(view)
        state = DeploymentState.READY if failure is None else DeploymentState.DEGRADED
    elif others:
        state = DeploymentState.DEGRADED if len(row) >= FAILED_AFTER else DeploymentState.UPDATING
    elif ready or (len(row) >= FAILED_AFTER and not _cannot_load(row)):
        state = DeploymentState.DEGRADED
    else:
        state = DeploymentState.FAILED if _cannot_load(row) else DeploymentState.STARTING
    if state is deployment.state and failure == deployment.failure:
        return []
    return [Summarize(deployment, state, failure)]


def _cannot_load(row: Sequence[Replica]) -> bool:
    """Whether none of the last few was ever ready: then a caller waits in vain.

    One that was ready and died comes back after its pause, and a request waits for that.
    """
    last = row[:FAILED_AFTER]
    return len(last) == FAILED_AFTER and not any(replica.ready_at for replica in last)


def _canary_failure(view: DeploymentView) -> dict[str, object] | None:
    """What keeps the canary from answering; None while it does, or may soon."""
    for make in _canary_make(view.deployment):
        row = _ends_in_a_row(view, make)
        answers = any(_made(replica) == make for replica in _ready(view.live))
        if len(row) >= FAILED_AFTER and not answers:
            return _failure(row)
    return None


def _failure(row: Sequence[Replica]) -> dict[str, object] | None:
    """Why the newest of a row ended; with the `version` where that cannot be loaded and is waited for in vain."""
    if not row or row[0].failure is None:
        return None
    return {**row[0].failure, "version": row[0].version} if _cannot_load(row) else row[0].failure
