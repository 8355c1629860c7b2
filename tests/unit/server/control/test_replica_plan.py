"""The laws of the replica plan: enough copies, never an empty house during a roll, patience with crashes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.core.records import Canary, Deployment, Replica
from modelry.core.specs import Outcome, OutcomeStatus, WorkerStatus
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState
from modelry.server.control.replica_plan import (
    FAILED_AFTER,
    Create,
    DeploymentView,
    Drain,
    Kill,
    Make,
    Mark,
    Order,
    Remove,
    Summarize,
    canary_replicas,
    next_look_s,
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
    assert summary.failure == {**failure, "version": 1}


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


# A roll that does not get there.


def on_trial(wished: Deployment, percent: float, version: int = 2) -> Deployment:
    canary = Canary(version=version, model_version_id=f"ver_{version}", percent=percent)
    return replace(wished, canary=canary)


def made(actions: list[object]) -> list[str]:
    return [action.make.model_version_id for action in actions if isinstance(action, Create)]


def crashed(number: int, version: int = 1, **more: float) -> Replica:
    return replica(number, ReplicaState.FAILED, version, **{"ended_at": 100.0, **more})


def test_an_old_replica_that_dies_during_a_broken_roll_is_replaced() -> None:
    left = replica(1)
    broken = tuple(crashed(n, version=2) for n in range(5, 9))
    died = crashed(2, ready_at=1.0)
    view = DeploymentView(deployment(2, version=2), (left,), (*broken, died))
    assert made(plan(view, alive(left), now=100.2)) == ["ver_1"]


def test_even_the_last_old_replica_is_replaced_while_the_new_version_never_was_ready() -> None:
    broken = tuple(crashed(n, version=2) for n in range(5, 9))
    died = crashed(1, ready_at=1.0, ended_at=99.0)
    wished = replace(deployment(1, version=2), updated_at=50.0)
    assert made(plan(DeploymentView(wished, (), (*broken, died)), {}, now=100.2)) == ["ver_1"]


def test_after_a_complete_roll_nothing_goes_back_to_the_old_version() -> None:
    died = crashed(2, version=2, ready_at=60.0)
    drained = replica(1, ReplicaState.STOPPED, ready_at=1.0, ended_at=61.0)
    before = crashed(0, ready_at=0.5, ended_at=55.0)
    wished = replace(deployment(1, version=2), updated_at=50.0)
    view = DeploymentView(wished, (), (died, drained, before))
    assert made(plan(view, {}, now=101.0)) == ["ver_2"]


def test_an_old_replica_is_replaced_in_the_way_it_was_served() -> None:
    old = (replica(1, max_batch=8), replica(2, ReplicaState.DRAINING, max_batch=8))
    view = DeploymentView(deployment(2), old, tuple(crashed(n) for n in range(3)))
    [action] = [a for a in plan(view, alive(*old), now=100.2) if isinstance(a, Create)]
    assert action.make == Make("ver_1", 8, 1)


def test_one_that_was_ready_and_died_is_waited_for_and_one_that_never_loads_is_failed() -> None:
    def state(*ended: Replica) -> DeploymentState:
        actions = plan(DeploymentView(deployment(1), (), ended), {}, now=100.0)
        [summary] = [action for action in actions if isinstance(action, Summarize)]
        return summary.state

    never = tuple(crashed(n) for n in range(FAILED_AFTER))
    was = tuple(crashed(n, ready_at=99.0) for n in range(FAILED_AFTER))
    assert state(*never) is DeploymentState.FAILED
    assert state(*was) is DeploymentState.DEGRADED
    assert state(was[0], *never) is DeploymentState.DEGRADED


def test_the_next_look_is_when_the_pause_is_over() -> None:
    view = DeploymentView(deployment(1), (), (crashed(2), crashed(1)))
    left = next_look_s(view, 100.05)
    assert left == pytest.approx(0.15)
    assert next_look_s(DeploymentView(deployment(1), (replica(1),), ()), 100.0) is None


# Canaries.


@pytest.mark.parametrize(
    ("replicas", "percent", "expected"),
    [(1, 0, 1), (1, 100, 1), (4, 10, 1), (4, 60, 3), (0, 50, 0)],
)
def test_a_canary_has_replicas_for_its_share(replicas: int, percent: float, expected: int) -> None:
    assert canary_replicas(on_trial(deployment(replicas), percent)) == expected


def test_a_canary_starts_beside_the_full_number_and_drains_nobody() -> None:
    serving = (replica(1), replica(2))
    wished = replace(on_trial(deployment(2), 50), state=DeploymentState.READY)
    actions = plan(DeploymentView(wished, serving, ()), alive(*serving), now=5.0)
    assert made(actions) == ["ver_2"]
    assert len(actions) == 1


def test_a_canary_that_cannot_load_leaves_the_deployment_serving_and_says_why() -> None:
    failure: dict[str, object] = {"code": "model_unloadable"}
    ended = tuple(replace(crashed(n, version=2), failure=failure) for n in range(5, 8))
    one = replica(1)
    view = DeploymentView(on_trial(deployment(1), 10), (one,), ended)
    [summary] = plan(view, alive(one), now=100.0)
    assert isinstance(summary, Summarize)
    assert summary.state is DeploymentState.DEGRADED
    assert summary.failure == {**failure, "version": 2}


def test_a_canary_that_loads_and_dies_again_and_again_may_be_waited_for() -> None:
    failure: dict[str, object] = {"code": "worker_lost"}
    died = (crashed(n, version=2, ready_at=99.0) for n in range(5, 8))
    ended = tuple(replace(one, failure=failure) for one in died)
    tried, mine = on_trial(deployment(), 10.0), (replica(1), replica(2))
    actions = plan(DeploymentView(tried, mine, ended), alive(*mine), now=100.0)
    (summary,) = [action for action in actions if isinstance(action, Summarize)]
    assert (summary.state, summary.failure) == (DeploymentState.DEGRADED, failure)


def test_a_canary_taken_away_drains_at_once_and_a_promoted_one_stays() -> None:
    main, trial = replica(1), replica(2, version=2)
    back = DeploymentView(deployment(1), (main, trial), ())
    drained = [
        a.replica.id for a in plan(back, alive(main, trial), now=5.0) if isinstance(a, Drain)
    ]
    assert drained == ["rep_2"]
    forward = DeploymentView(deployment(1, version=2), (main, trial), ())
    actions = plan(forward, alive(main, trial), now=5.0)
    assert [a.replica.id for a in actions if isinstance(a, Drain)] == ["rep_1"]
    assert not made(actions)


# Sleep and stop.


@pytest.mark.parametrize(
    ("wish", "state"),
    [
        (DeploymentWish.RUN, DeploymentState.IDLE),
        (DeploymentWish.STOP, DeploymentState.STOPPED),
    ],
)
def test_without_replicas_a_deployment_sleeps_or_is_stopped(
    wish: DeploymentWish, state: DeploymentState
) -> None:
    one, trial = replica(1), replica(2, version=2)
    wished = on_trial(replace(deployment(0), wish=wish), 50)
    actions = plan(DeploymentView(wished, (one, trial), ()), alive(one, trial), now=5.0)
    assert {a.replica.id for a in actions if isinstance(a, Drain)} == {"rep_1", "rep_2"}
    [summary] = [action for action in actions if isinstance(action, Summarize)]
    assert summary.state is state


# From anywhere to where it should be.


class World:
    """A machine and a database in which every action succeeds, unless a version cannot load."""

    def __init__(self, wished: Deployment, replicas: list[Replica], broken: set[str]) -> None:
        self.deployment = wished
        self.rows = {one.id: one for one in replicas}
        serving = (ReplicaState.STARTING, ReplicaState.READY)
        #: Those that drain are about to end by themselves.
        self.alive = {one.id for one in replicas if one.state in serving}
        self.broken = broken
        self.now = 1000.0
        self.is_removed = False
        self.fewest_ready = self.ready()

    def ready(self) -> int:
        return sum(one.state is ReplicaState.READY for one in self.rows.values())

    def round(self) -> bool:
        """One look and what follows; False when nothing was to be done."""
        live = tuple(one for one in self.rows.values() if not one.state.is_final)
        over = [one for one in self.rows.values() if one.state.is_final]
        ended = tuple(sorted(over, key=lambda one: -(one.ended_at or 0.0))[:10])
        view = DeploymentView(self.deployment, live, ended)
        actions = plan(view, self.statuses(), now=self.now)
        for action in actions:
            self.apply(action)
        self.fewest_ready = min(self.fewest_ready, self.ready())
        self.now += 40.0  # every pause is over, and no start takes too long
        return bool(actions)

    def statuses(self) -> dict[str, WorkerStatus]:
        found = {}
        for one in self.rows.values():
            if one.id not in self.alive and one.state is not ReplicaState.STARTING:
                continue
            fails = one.model_version_id in self.broken and one.state is ReplicaState.STARTING
            found[one.id] = WorkerStatus(
                worker_id=one.id,
                kind="replica",
                is_alive=one.id in self.alive and not fails,
                address="unix:/x",
            )
        return found

    def apply(self, action: object) -> None:
        match action:
            case Create(_, make):
                name = f"new_{len(self.rows)}"
                self.alive.add(name)
                self.rows[name] = Replica(
                    id=name,
                    deployment_id="dep_1",
                    model_version_id=make.model_version_id,
                    version=int(make.model_version_id[4:]),
                    max_batch=make.max_batch,
                    threads=make.threads,
                    worker_id=name,
                    state=ReplicaState.STARTING,
                    address=None,
                    created_at=self.now,
                )
            case Mark(one, target):
                self.write(one, target)
            case Drain(one):
                self.write(one, ReplicaState.DRAINING)
                self.alive.discard(one.id)
            case Kill(one):
                self.alive.discard(one.id)
            case Summarize(_, state, failure):
                self.deployment = replace(self.deployment, state=state, failure=failure)
            case Remove():
                self.is_removed = True

    def write(self, one: Replica, target: ReplicaState) -> None:
        ready_at = self.now if target is ReplicaState.READY else one.ready_at
        ended_at = self.now if target.is_final else one.ended_at
        self.rows[one.id] = replace(one, state=target, ready_at=ready_at, ended_at=ended_at)

    def settle(self) -> None:
        for _ in range(40):
            if not self.round() or self.is_removed:
                return
        raise AssertionError(f"it does not come to rest: {self.rows}")

    def serving(self) -> list[str]:
        live = [one for one in self.rows.values() if not one.state.is_final]
        assert all(one.state is ReplicaState.READY for one in live)
        return sorted(one.model_version_id for one in live)


anything = st.builds(
    lambda states, replicas, version, wish, percent: World(
        replace(
            on_trial(deployment(replicas, version), percent, 3)
            if percent is not None
            else deployment(replicas, version),
            wish=wish,
        ),
        [
            replica(n, state, v, ready_at=1.0, ended_at=2.0 if state.is_final else None)
            for n, (state, v) in enumerate(states)
        ],
        set(),
    ),
    st.lists(st.tuples(st.sampled_from(list(ReplicaState)), st.integers(1, 3)), max_size=8),
    st.integers(0, 4),
    st.integers(1, 2),
    st.sampled_from([DeploymentWish.RUN, DeploymentWish.STOP]),
    st.one_of(st.none(), st.floats(0, 100)),
)


@given(anything)
def test_from_any_state_the_plan_comes_to_what_is_wished(world: World) -> None:
    wished = world.deployment
    world.settle()
    number = wished.replicas if wished.wish is DeploymentWish.RUN else 0
    trial = canary_replicas(wished) if number else 0
    assert world.serving() == sorted([f"ver_{wished.version}"] * number + ["ver_3"] * trial)
    expected = {
        (DeploymentWish.RUN, True): DeploymentState.READY,
        (DeploymentWish.RUN, False): DeploymentState.IDLE,
    }.get((wished.wish, number > 0), DeploymentState.STOPPED)
    assert world.deployment.state is expected


@given(anything)
def test_on_the_way_there_are_never_fewer_ready_than_before_or_wished(world: World) -> None:
    number = world.deployment.replicas if world.deployment.wish is DeploymentWish.RUN else 0
    before = world.ready()
    world.settle()
    assert world.fewest_ready >= min(before, number)


@given(anything)
def test_a_version_that_cannot_load_never_takes_the_place_of_one_that_serves(world: World) -> None:
    world.broken = {f"ver_{world.deployment.version}"}
    world.rows = {
        one.id: one for one in world.rows.values() if one.model_version_id not in world.broken
    }
    number = world.deployment.replicas if world.deployment.wish is DeploymentWish.RUN else 0
    before = world.ready()
    for _ in range(30):
        world.round()
    assert world.ready() >= min(before, number)
    if number and before:
        assert world.deployment.state in (DeploymentState.DEGRADED, DeploymentState.UPDATING)


@given(anything)
@settings(max_examples=50)
def test_a_deleted_deployment_comes_to_its_end_from_anywhere(world: World) -> None:
    world.deployment = replace(world.deployment, wish=DeploymentWish.DELETE)
    world.settle()
    assert world.is_removed
    assert world.serving() == []
