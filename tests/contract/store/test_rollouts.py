"""Canaries, the way forward and back, sleep, stop and start, and what the gateways hear of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from modelry.core.errors import IllegalMove, InUse, InvalidParameter, NotFound
from modelry.core.records import Deployment, Snapshot
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState
from modelry.server.store import Store, Transaction, deployments, models, rollouts, routes
from tests.contract.store.rows import PROJECT, deployment, model_version

NAME = "answers"


def two_versions(tx: Transaction, **given: object) -> tuple[str, str, Deployment]:
    one, two = model_version(tx), model_version(tx)
    return one.id, two.id, deployment(tx, one, NAME, **given)


def get(tx: Transaction) -> Deployment:
    return deployments.get(tx, PROJECT, NAME)


def settle(tx: Transaction, made: Deployment, state: DeploymentState) -> None:
    deployments.set_state(tx, made.id, state)


# Versions.


def test_a_canary_has_a_version_and_a_share_that_change_one_by_one(store: Store) -> None:
    with store.write() as tx:
        one, two, _ = two_versions(tx)
        three = model_version(tx)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=10.0)
        canary = get(tx).canary
        assert canary is not None
        assert (canary.version, canary.model_version_id, canary.percent) == (2, two, 10.0)
        rollouts.set_canary(tx, PROJECT, NAME, percent=50.0)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=three.id)
        assert get(tx).canary == replace(canary, version=3, model_version_id=three.id, percent=50.0)
        assert get(tx).version == 1


def test_what_cannot_be_a_canary_is_refused(store: Store) -> None:
    with store.write() as tx:
        one, _, _ = two_versions(tx)
        letters = model_version(tx, "letters").id
        with pytest.raises(InvalidParameter, match="canary"):
            rollouts.set_canary(tx, PROJECT, NAME, percent=10.0)
        with pytest.raises(InvalidParameter, match="digits:1"):
            rollouts.set_canary(tx, PROJECT, NAME, model_version_id=one, percent=10.0)
        with pytest.raises(InvalidParameter, match="letters"):
            rollouts.set_canary(tx, PROJECT, NAME, model_version_id=letters, percent=10.0)
        with pytest.raises(NotFound, match="mdv_none"):
            rollouts.set_canary(tx, PROJECT, NAME, model_version_id="mdv_none", percent=10.0)
        assert get(tx).canary is None


def test_promotion_makes_the_canary_the_version_and_rollback_goes_back(store: Store) -> None:
    with store.write() as tx:
        _, two, _ = two_versions(tx)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=10.0)
        promoted = rollouts.promote(tx, PROJECT, NAME)
        assert (promoted.version, promoted.previous_version, promoted.canary) == (2, 1, None)
        back = rollouts.rollback(tx, PROJECT, NAME)
        assert (back.version, back.previous_version) == (1, 2)


def test_rollback_takes_a_canary_away_first(store: Store) -> None:
    with store.write() as tx:
        one, two, _ = two_versions(tx)
        three = model_version(tx)
        deployments.update(tx, PROJECT, NAME, model_version_id=two)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=three.id, percent=10.0)
        without = rollouts.rollback(tx, PROJECT, NAME)
        assert (without.version, without.canary) == (2, None)
        assert rollouts.rollback(tx, PROJECT, NAME).version == 1


def test_without_a_way_there_is_a_sentence_and_a_remedy(store: Store) -> None:
    with store.write() as tx:
        two_versions(tx)
        with pytest.raises(NotFound, match="no canary") as caught:
            rollouts.promote(tx, PROJECT, NAME)
        assert "modelry deployments canary" in caught.value.remedy
        with pytest.raises(NotFound, match="no version to go back to"):
            rollouts.rollback(tx, PROJECT, NAME)


def test_a_version_before_that_was_deleted_is_not_found(store: Store) -> None:
    with store.write() as tx:
        _, two, _ = two_versions(tx)
        deployments.update(tx, PROJECT, NAME, model_version_id=two)
        models.delete_version(tx, PROJECT, "digits", 1)
        with pytest.raises(NotFound, match="digits:1"):
            rollouts.rollback(tx, PROJECT, NAME)


def test_a_version_on_trial_cannot_be_deleted(store: Store) -> None:
    with store.write() as tx:
        _, two, _ = two_versions(tx)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=10.0)
        with pytest.raises(InUse, match=NAME):
            models.delete_version(tx, PROJECT, "digits", 2)


def test_deploying_the_canary_s_version_ends_the_trial_and_another_one_does_not(
    store: Store,
) -> None:
    with store.write() as tx:
        _, two, _ = two_versions(tx)
        three = model_version(tx)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=10.0)
        assert deployments.update(tx, PROJECT, NAME, model_version_id=three.id).canary is not None
        assert deployments.update(tx, PROJECT, NAME, model_version_id=two).canary is None


# Numbers.


def test_bounds_hold_the_number_between_them(store: Store) -> None:
    with store.write() as tx:
        made = two_versions(tx)[2]
        wide = deployments.update(tx, PROJECT, NAME, min_replicas=2, max_replicas=4)
        assert (wide.replicas, wide.min_replicas, wide.max_replicas) == (2, 2, 4)
        assert deployments.set_replicas(tx, wide, 4)
        assert not deployments.set_replicas(tx, made, 1), "it was read before the last change"
        assert deployments.update(tx, PROJECT, NAME, max_replicas=3).replicas == 3
        with pytest.raises(InvalidParameter, match="min_replicas"):
            deployments.update(tx, PROJECT, NAME, min_replicas=5)
        with pytest.raises(InvalidParameter, match="max_replicas"):
            deployments.update(tx, PROJECT, NAME, max_replicas=1)
        fixed = deployments.update(tx, PROJECT, NAME, replicas=1)
        assert (fixed.replicas, fixed.min_replicas, fixed.max_replicas) == (1, 1, 1)


def test_a_bound_of_zero_is_none(store: Store) -> None:
    with store.write() as tx:
        two_versions(tx)
        limits = {"idle_s": 60.0, "max_in_flight": 8, "max_queue": 16, "deadline_s": 2.5}
        found = deployments.update(tx, PROJECT, NAME, **limits)
        assert {name: getattr(found, name) for name in limits} == limits
        none = deployments.update(tx, PROJECT, NAME, **dict.fromkeys(limits, 0))
        assert all(getattr(none, name) is None for name in limits)


def test_who_sleeps_is_woken_once_and_with_its_fewest_replicas(store: Store) -> None:
    with store.write() as tx:
        made = two_versions(tx, replicas=2, max_replicas=4, idle_s=60.0)[2]
        assert not deployments.wake(tx, made.id), "it is awake"
        assert deployments.set_replicas(tx, made, 0)
        assert deployments.wake(tx, made.id)
        assert get(tx).replicas == 2
        assert not deployments.wake(tx, made.id)
        assert not deployments.wake(tx, "dep_none")


def test_a_stopped_deployment_is_not_woken_and_starts_as_it_was(store: Store) -> None:
    with store.write() as tx:
        made = two_versions(tx, replicas=2, max_replicas=4, idle_s=60.0)[2]
        for stop in (
            lambda: rollouts.stop(tx, PROJECT, NAME),
            lambda: deployments.update(tx, PROJECT, NAME, replicas=0),
        ):
            stopped = stop()
            assert (stopped.replicas, stopped.wish) == (0, DeploymentWish.STOP)
            assert not deployments.wake(tx, made.id)
            assert not deployments.set_replicas(tx, stopped, 3)
            started = rollouts.start(tx, PROJECT, NAME)
            assert started == replace(made, updated_at=started.updated_at)


def test_starting_wakes_and_leaves_alone_what_runs(store: Store) -> None:
    with store.write() as tx:
        made = two_versions(tx, replicas=1, max_replicas=4, idle_s=60.0)[2]
        deployments.set_replicas(tx, made, 3)
        assert rollouts.start(tx, PROJECT, NAME).replicas == 3
        deployments.set_replicas(tx, get(tx), 0)
        assert rollouts.start(tx, PROJECT, NAME).replicas == 1


def test_another_version_wakes_who_sleeps_but_not_who_was_stopped(store: Store) -> None:
    with store.write() as tx:
        one, two, made = two_versions(tx, idle_s=60.0)
        deployments.set_replicas(tx, made, 0)
        assert deployments.update(tx, PROJECT, NAME, max_batch=8).replicas == 0
        assert deployments.update(tx, PROJECT, NAME, model_version_id=two).replicas == 1
        rollouts.stop(tx, PROJECT, NAME)
        assert deployments.update(tx, PROJECT, NAME, model_version_id=one).replicas == 0


def test_what_is_to_go_is_neither_tried_nor_stopped_nor_started(store: Store) -> None:
    with store.write() as tx:
        _, two, made = two_versions(tx)
        deployments.wish_delete(tx, PROJECT, NAME)
        acts: list[Callable[[], object]] = [
            lambda: rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=1.0),
            lambda: rollouts.promote(tx, PROJECT, NAME),
            lambda: rollouts.rollback(tx, PROJECT, NAME),
            lambda: rollouts.stop(tx, PROJECT, NAME),
            lambda: rollouts.start(tx, PROJECT, NAME),
        ]
        for act in acts:
            with pytest.raises(IllegalMove):
                act()
        assert not deployments.wake(tx, made.id)


# What the controller looks at.


def test_the_controller_looks_at_all_but_the_sleeping_and_the_stopped(store: Store) -> None:
    def looked_at() -> bool:
        with store.read() as tx:
            return bool(deployments.list_unsettled(tx))

    def write(act: Callable[[Transaction], object]) -> None:
        with store.write() as tx:
            act(tx)

    with store.write() as tx:
        one, _, made = two_versions(tx, idle_s=60.0)
    assert looked_at()
    write(lambda tx: deployments.set_replicas(tx, made, 0))
    assert looked_at(), "its state does not say so yet"
    write(lambda tx: settle(tx, made, DeploymentState.IDLE))
    assert not looked_at()
    write(lambda tx: deployments.wake(tx, made.id))
    assert looked_at()
    write(lambda tx: rollouts.stop(tx, PROJECT, NAME))
    write(lambda tx: settle(tx, made, DeploymentState.STOPPED))
    assert not looked_at()
    with store.write() as tx:
        replica = deployments.create_replica(tx, made.id, one)
    assert looked_at(), "one of its replicas lives"
    write(lambda tx: deployments.set_replica_state(tx, replica.id, ReplicaState.STOPPED))
    assert not looked_at()
    write(lambda tx: deployments.wish_delete(tx, PROJECT, NAME))
    assert looked_at()


# What the gateways hear.


def read(store: Store, reader: routes.Reader) -> Snapshot:
    with store.read() as tx:
        return reader.read(tx)


def test_a_reader_that_follows_knows_what_one_that_begins_reads(store: Store) -> None:
    reader = routes.Reader()
    with store.write() as tx:
        one, two, made = two_versions(tx, idle_s=60.0)
        replica = deployments.create_replica(tx, made.id, one)
    changes: list[Callable[[Transaction], object]] = [
        lambda tx: deployments.set_replica_state(tx, replica.id, ReplicaState.READY, address="u"),
        lambda tx: settle(tx, made, DeploymentState.READY),
        lambda tx: rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=10.0),
        lambda tx: models.set_alias(tx, PROJECT, "digits", "production", 1),
        lambda tx: rollouts.promote(tx, PROJECT, NAME),
        lambda tx: models.delete_alias(tx, PROJECT, "digits", "production"),
        lambda tx: deployments.update(tx, PROJECT, NAME, deadline_s=1.5, max_queue=3),
        lambda tx: deployment(tx, models.get_version(tx, PROJECT, "digits", 1), "other"),
        lambda tx: deployments.set_replicas(tx, get(tx), 0),
        lambda tx: deployments.set_replica_state(tx, replica.id, ReplicaState.STOPPED),
        lambda tx: deployments.wake(tx, made.id),
        lambda tx: rollouts.stop(tx, PROJECT, NAME),
        lambda tx: rollouts.start(tx, PROJECT, NAME),
        lambda tx: deployments.wish_delete(tx, PROJECT, NAME),
        lambda tx: deployments.remove(tx, made.id),
        lambda tx: deployment(tx, models.get_version(tx, PROJECT, "digits", 2), NAME),
    ]
    seen = [read(store, reader)]
    for change in changes:
        with store.write() as tx:
            change(tx)
        seen.append(read(store, reader))
        assert seen[-1] == read(store, routes.Reader())
        assert seen[-1] != seen[-2]


def test_a_reader_that_slept_through_a_deletion_knows_of_it(store: Store) -> None:
    reader = routes.Reader()
    with store.write() as tx:
        _, _, made = two_versions(tx)
        deployment(tx, models.get_version(tx, PROJECT, "digits"), "other")
    assert set(read(store, reader).routes) == {(PROJECT, NAME), (PROJECT, "other")}
    with store.write() as tx:
        deployments.wish_delete(tx, PROJECT, NAME)
    with store.write() as tx:
        deployments.remove(tx, made.id)
    assert set(read(store, reader).routes) == {(PROJECT, "other")}


def test_what_did_not_change_is_not_read_again(store: Store) -> None:
    reader = routes.Reader()
    with store.write() as tx:
        _, _, made = two_versions(tx)
        deployment(tx, models.get_version(tx, PROJECT, "digits"), "other")
    before = read(store, reader).routes
    with store.write() as tx:
        settle(tx, made, DeploymentState.READY)
    after = read(store, reader).routes
    assert after[PROJECT, "other"] is before[PROJECT, "other"]
    assert after[PROJECT, NAME] is not before[PROJECT, NAME]
    assert after[PROJECT, NAME].manifests[1] is before[PROJECT, NAME].manifests[1]


def test_a_route_tells_who_answers_how_much_and_within_what(store: Store) -> None:
    with store.write() as tx:
        _, two, _ = two_versions(tx, max_in_flight=4, max_queue=5, deadline_s=6.0)
        rollouts.set_canary(tx, PROJECT, NAME, model_version_id=two, percent=12.5)
        models.set_alias(tx, PROJECT, "digits", "trial", 2)
    route = read(store, routes.Reader()).routes[PROJECT, NAME]
    assert route.weights == ((1, 87.5), (2, 12.5))
    assert route.aliases == {"trial": 2}
    assert set(route.manifests) == {1, 2}
    assert (route.max_in_flight, route.max_queue, route.deadline_s) == (4, 5, 6.0)
    assert not route.wakes


def test_a_route_tells_what_is_wished_before_the_controller_has_said_it(store: Store) -> None:
    def route() -> tuple[DeploymentState, bool]:
        found = read(store, routes.Reader()).routes[PROJECT, NAME]
        return found.state, found.wakes

    with store.write() as tx:
        made = two_versions(tx, idle_s=60.0)[2]
        deployments.set_replicas(tx, made, 0)
        settle(tx, made, DeploymentState.IDLE)
    assert route() == (DeploymentState.IDLE, True)
    with store.write() as tx:
        rollouts.stop(tx, PROJECT, NAME)
    assert route() == (DeploymentState.STOPPED, False)
    with store.write() as tx:
        settle(tx, made, DeploymentState.STOPPED)
        rollouts.start(tx, PROJECT, NAME)
    assert route() == (DeploymentState.STARTING, False)
