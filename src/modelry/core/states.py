"""The states of jobs, replicas and deployments, and the only moves between them.

What is *wished* (`Wish`) is a column beside the state and belongs to the web; the *state* is written by the
leading controller alone, through `move`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from modelry.core.errors import IllegalMove


class JobState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not JOB_MOVES[self]

    @property
    def is_active(self) -> bool:
        """True while a worker exists or is being made."""
        return self in (JobState.STARTING, JobState.RUNNING)


class JobWish(StrEnum):
    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return not REPLICA_MOVES[self]


class DeploymentState(StrEnum):
    """Derived by the controller from the replicas; a summary for people and for the gateway."""

    STARTING = "starting"
    READY = "ready"
    UPDATING = "updating"
    DEGRADED = "degraded"
    FAILED = "failed"
    #: Nobody asked for a while, so nothing runs; the next request starts it.
    IDLE = "idle"
    #: Somebody stopped it; it answers again once somebody starts it.
    STOPPED = "stopped"
    DELETING = "deleting"


class DeploymentWish(StrEnum):
    RUN = "run"
    STOP = "stop"
    DELETE = "delete"


_J = JobState
JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    _J.QUEUED: frozenset({_J.STARTING, _J.PAUSED, _J.FAILED, _J.CANCELLED}),
    _J.STARTING: frozenset({_J.RUNNING, _J.QUEUED, _J.PAUSED, _J.FAILED, _J.CANCELLED}),
    _J.RUNNING: frozenset({_J.SUCCEEDED, _J.QUEUED, _J.PAUSED, _J.FAILED, _J.CANCELLED}),
    _J.PAUSED: frozenset({_J.QUEUED, _J.CANCELLED}),
    _J.SUCCEEDED: frozenset(),
    _J.FAILED: frozenset(),
    _J.CANCELLED: frozenset(),
}

_R = ReplicaState
REPLICA_MOVES: dict[ReplicaState, frozenset[ReplicaState]] = {
    _R.STARTING: frozenset({_R.READY, _R.DRAINING, _R.STOPPED, _R.FAILED}),
    _R.READY: frozenset({_R.DRAINING, _R.STOPPED, _R.FAILED}),
    _R.DRAINING: frozenset({_R.STOPPED, _R.FAILED}),
    _R.STOPPED: frozenset(),
    _R.FAILED: frozenset(),
}

_D = DeploymentState
_ALIVE = frozenset(_D) - {_D.DELETING}
#: A deployment's state is a summary: all may follow all, but nothing comes back from deletion.
DEPLOYMENT_MOVES: dict[DeploymentState, frozenset[DeploymentState]] = {
    **{state: (_ALIVE - {state}) | {_D.DELETING} for state in _ALIVE},
    _D.DELETING: frozenset(),
}

State = TypeVar("State", JobState, ReplicaState, DeploymentState)


def may_move(state: State, target: State) -> bool:
    """Whether the table has this move."""
    table = {JobState: JOB_MOVES, ReplicaState: REPLICA_MOVES, DeploymentState: DEPLOYMENT_MOVES}
    return target in table[type(state)][state]  # type: ignore[index]


def move(state: State, target: State) -> State:
    """`target`, if the table has the move; raises `IllegalMove` otherwise."""
    if not may_move(state, target):
        noun = type(state).__name__.removesuffix("State").lower()
        raise IllegalMove(noun=noun, state=state.value, target=target.value)
    return target
