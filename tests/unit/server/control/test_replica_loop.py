"""The laws of the replica plan: enough copies, never an empty house during a roll, patience with crashes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from modelry.core.records import Deployment, Replica
from modelry.core.specs import Outcome, OutcomeStatus, WorkerStatus
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState
from modelry.server.control.replica_loop import (
    FAILED_AFTER,
    Create,
    DeploymentView,
    Drain,
    Kill,
    Mark,
    Order,
    Remove,
    Summarize,
    plan,
)


def deployment(replicas: int = 2, version: int = 1) -> Deployment:
    return Deployment(
        id="dep_1",
        project="default",
        name="digits",
        model="digits",
        version=version,
        model_version_id=f"ver_{version}",
        replicas=replicas,
        max_batch=32,
        threads=1,
        state=DeploymentState.STARTING,
        wish=DeploymentWish.RUN,
        ready_replicas=0,
        created_at=0.0,
        updated_at=0.0,
    )


def replica(
    number: int, state: ReplicaState = ReplicaState.READY, version: int = 1, **more: float
) -> Replica:
    return Replica(
        id=f"rep_{number}",
        deployment_id="dep_1",
        model_version_id=f"ver_{version}",
        version=version,
        max_batch=int(more.get("max_batch", 32)),
        threads=1,
        worker_id=f"rep_{number}",
        state=state,
        address="unix:/x" if state is ReplicaState.READY else None,
        created_at=float(number),
        ready_at=more.get("ready_at"),
        ended_at=more.get("ended_at"),
    )


def alive(*replicas: Replica) -> dict[str, WorkerStatus]:
    return {
        r.worker_id: WorkerStatus(
            worker_id=r.worker_id, kind="replica", is_alive=True, address="unix:/x"
        )
        for r in replicas
    }


def test_missing_replicas_are_created() -> None:
    one = replica(1)
    actions = plan(DeploymentView(deployment(3), (one,), ()), alive(one), now=1.0)
    assert sum(isinstance(action, Create) for action in actions) == 2


def test_a_starting_replica_becomes_ready_with_its_address() -> None:
    one = replica(1, ReplicaState.STARTING)
    [action] = plan(DeploymentView(deployment(1), (one,), ()), alive(one), now=1.0)
    assert isinstance(action, Mark)
    assert (action.target, action.address) == (ReplicaState.READY, "unix:/x")


def test_a_starting_replica_unknown_to_the_agent_is_ordered_again() -> None:
    one = replica(1, ReplicaState.STARTING)
    [action] = plan(DeploymentView(deployment(1), (one,), ()), {}, now=1.0)
    assert isinstance(action, Order)


def test_old_replicas_serve_until_enough_new_ones_are_ready() -> None:
    old = (replica(1), replica(2))
    half = (replica(3, version=2), replica(4, ReplicaState.STARTING, version=2))
    statuses = alive(*old, *half)
    statuses["rep_4"] = WorkerStatus(worker_id="rep_4", kind="replica", is_alive=True)
    wished = deployment(2, version=2)
    actions = plan(DeploymentView(wished, (*old, *half), ()), statuses, now=5.0)
    assert not any(isinstance(action, Drain) for action in actions)

    both = (replica(3, version=2), replica(4, version=2))
    actions = plan(DeploymentView(wished, (*old, *both), ()), alive(*old, *both), now=5.0)
    assert [a.replica.id for a in actions if isinstance(a, Drain)] == ["rep_1", "rep_2"]


def test_other_settings_are_rolled_out_like_another_version() -> None:
    old = replica(1)
    wished = replace(deployment(1), max_batch=8)
    actions = plan(DeploymentView(wished, (old,), ()), alive(old), now=5.0)
    assert any(isinstance(action, Create) for action in actions)
    assert not any(isinstance(action, Drain) for action in actions)

    new = replica(2, max_batch=8)
    actions = plan(DeploymentView(wished, (old, new), ()), alive(old, new), now=5.0)
    assert [a.replica.id for a in actions if isinstance(a, Drain)] == ["rep_1"]


def test_pauses_between_crashes_double() -> None:
    def waits(crashes: int, since: float) -> bool:
        ended = tuple(replica(n, ReplicaState.FAILED, ended_at=100.0 - n) for n in range(crashes))
        actions = plan(DeploymentView(deployment(1), (), ended), {}, now=100.0 + since)
        return not any(isinstance(action, Create) for action in actions)

    assert not waits(0, 0.0)
    assert waits(1, 0.05)
    assert not waits(1, 0.11)
    assert waits(4, 0.7)
    assert not waits(4, 0.9)
    assert not waits(60, 30.0)


def test_a_healthy_life_resets_the_pause() -> None:
    crashed = tuple(replica(n, ReplicaState.FAILED, ended_at=50.0) for n in range(5))
    long_lived = replica(9, ReplicaState.FAILED, ready_at=60.0, ended_at=90.0)
    view = DeploymentView(deployment(1), (), (long_lived, *crashed))
    assert any(isinstance(action, Create) for action in plan(view, {}, now=90.001))


def test_a_deployment_that_never_starts_is_called_failed_with_the_reason() -> None:
    failure: dict[str, object] = {"code": "model_unloadable"}
    ended = tuple(
        replace(replica(n, ReplicaState.FAILED, ended_at=10.0), failure=failure)
        for n in range(FAILED_AFTER)
    )
    actions = plan(DeploymentView(deployment(1), (), ended), {}, now=10.0)
    [summary] = [action for action in actions if isinstance(action, Summarize)]
    assert summary.state is DeploymentState.FAILED
    assert summary.failure == failure


def test_a_silent_replica_is_replaced() -> None:
    one = replica(1)
    silent = {
        "rep_1": WorkerStatus(worker_id="rep_1", kind="replica", is_alive=True, silent_s=61.0)
    }
    actions = plan(DeploymentView(deployment(1), (one,), ()), silent, now=100.0)
    assert [type(action) for action in actions] == [Mark, Kill]


def test_a_deleted_deployment_drains_and_then_goes() -> None:
    doomed = replace(deployment(1), wish=DeploymentWish.DELETE)
    one = replica(1)
    actions = plan(DeploymentView(doomed, (one,), ()), alive(one), now=1.0)
    assert any(isinstance(action, Drain) for action in actions)
    assert plan(DeploymentView(doomed, (), ()), {}, now=1.0) == [Remove(doomed)]


def test_a_settled_deployment_needs_nothing() -> None:
    settled = replace(deployment(2), state=DeploymentState.READY)
    both = (replica(1), replica(2))
    assert plan(DeploymentView(settled, both, ()), alive(*both), now=1.0) == []


@given(
    states=st.lists(st.tuples(st.sampled_from(list(ReplicaState)), st.integers(1, 2)), max_size=8),
    wished=st.integers(0, 4),
    version=st.integers(1, 2),
)
def test_a_roll_never_drains_the_last_ready_replica_that_is_still_needed(
    states: list[tuple[ReplicaState, int]], wished: int, version: int
) -> None:
    replicas = [replica(n, state, v) for n, (state, v) in enumerate(states)]
    live = tuple(r for r in replicas if not r.state.is_final)
    view = DeploymentView(deployment(wished, version), live, ())
    actions = plan(view, alive(*live), now=1.0)
    drained = {action.replica.id for action in actions if isinstance(action, Drain)}
    ready = [r for r in live if r.state is ReplicaState.READY]
    left = [r for r in ready if r.id not in drained]
    assert len(left) >= min(wished, len(ready))


def test_an_ended_replica_tells_why() -> None:
    one = replica(1, ReplicaState.STARTING)
    gone = WorkerStatus(
        worker_id="rep_1",
        kind="replica",
        is_alive=False,
        outcome=Outcome(status=OutcomeStatus.LOST),
    )
    [action] = plan(DeploymentView(deployment(1), (one,), ()), {"rep_1": gone}, now=1.0)
    assert isinstance(action, Mark)
    assert action.failure is not None
    assert action.failure["code"] == "worker_lost"
