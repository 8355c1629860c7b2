"""Deployments and replicas, and the routes that the gateways read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelry.core.errors import AlreadyExists, IllegalMove, InUse, InvalidParameter, NotFound
from modelry.core.records import Snapshot
from modelry.core.states import (
    DeploymentState,
    DeploymentWish,
    ReplicaState,
    may_move,
)
from modelry.server.store import Store, Transaction, deployments, models, projects, routes
from modelry.server.store.replicas import ENDED_KEPT
from tests.contract.store.rows import PROJECT, deployment, model_version

REPLICA_PATHS = {
    ReplicaState.STARTING: [],
    ReplicaState.READY: [ReplicaState.READY],
    ReplicaState.DRAINING: [ReplicaState.DRAINING],
    ReplicaState.STOPPED: [ReplicaState.STOPPED],
    ReplicaState.FAILED: [ReplicaState.FAILED],
}


def snapshot(store: Store) -> Snapshot:
    with store.read() as tx:
        return routes.snapshot(tx)


def ready_replica(tx: Transaction, deployment_id: str, version_id: str, address: str) -> str:
    replica = deployments.create_replica(tx, deployment_id, version_id)
    deployments.set_replica_state(tx, replica.id, ReplicaState.READY, address=address)
    return replica.id


def test_a_deployment_comes_back_as_it_was_wished(store: Store) -> None:
    with store.write() as tx:
        version = model_version(tx)
        made = deployment(tx, version, "七", replicas=2, max_batch=8, threads=3)
    with store.read() as tx:
        assert deployments.get(tx, PROJECT, "七") == made
        assert deployments.list(tx, PROJECT) == [made]
        assert deployments.list_all(tx) == [made]
    assert (made.model, made.version, made.model_version_id) == ("digits", 1, version.id)
    assert (made.replicas, made.max_batch, made.threads) == (2, 8, 3)
    assert (made.state, made.wish) == (DeploymentState.STARTING, DeploymentWish.RUN)
    assert made.ready_replicas == 0


def test_a_name_is_used_once_in_a_project(store: Store) -> None:
    with store.write() as tx:
        version = model_version(tx)
        deployment(tx, version)
        with pytest.raises(AlreadyExists, match="deployment 'answers'"):
            deployment(tx, version)


def test_a_model_of_another_project_cannot_be_deployed(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "other")
        foreign, own = model_version(tx, project="other"), model_version(tx)
        with pytest.raises(NotFound, match=foreign.id):
            deployment(tx, foreign)
        deployment(tx, own)
        with pytest.raises(NotFound, match=foreign.id):
            deployments.update(tx, PROJECT, "answers", model_version_id=foreign.id)


def test_what_is_not_named_in_an_update_stays(store: Store) -> None:
    with store.write() as tx:
        one, two = model_version(tx), model_version(tx)
        before = deployment(tx, one, max_batch=8)
        after = deployments.update(tx, PROJECT, "answers", model_version_id=two.id, replicas=3)
        assert (after.version, after.replicas, after.max_batch) == (2, 3, 8)
        assert after.threads == before.threads


def test_a_deployment_stays_with_its_model(store: Store) -> None:
    with store.write() as tx:
        deployment(tx, model_version(tx, "digits"))
        other = model_version(tx, "letters")
        with pytest.raises(InvalidParameter, match="digits"):
            deployments.update(tx, PROJECT, "answers", model_version_id=other.id)


def test_a_deployment_that_is_to_go_takes_no_more_wishes(store: Store) -> None:
    with store.write() as tx:
        made = deployment(tx, model_version(tx))
        deployments.wish_delete(tx, PROJECT, "answers")
        with pytest.raises(IllegalMove):
            deployments.update(tx, PROJECT, "answers", replicas=3)
        assert deployments.get(tx, PROJECT, "answers").replicas == made.replicas
        deployments.set_state(tx, made.id, DeploymentState.DELETING)
        with pytest.raises(IllegalMove):
            deployments.set_state(tx, made.id, DeploymentState.READY)


def test_a_deployment_is_removed_when_no_replica_lives(store: Store) -> None:
    with store.write() as tx:
        version = model_version(tx)
        made = deployment(tx, version)
        replica = deployments.create_replica(tx, made.id, version.id)
    with pytest.raises(InUse, match=replica.id), store.write() as tx:
        deployments.remove(tx, made.id)
    with store.write() as tx:
        deployments.set_replica_state(tx, replica.id, ReplicaState.FAILED)
        deployments.remove(tx, made.id)
        assert deployments.list(tx, PROJECT) == []
        models.delete(tx, PROJECT, "digits")


def test_unknown_names_are_not_found(store: Store) -> None:
    with store.write() as tx:
        acts: list[Callable[[], object]] = [
            lambda: deployments.get(tx, PROJECT, "nothing"),
            lambda: deployments.update(tx, PROJECT, "nothing", replicas=1),
            lambda: deployments.wish_delete(tx, PROJECT, "nothing"),
            lambda: deployments.set_state(tx, "nothing", DeploymentState.READY),
            lambda: deployments.create_replica(tx, "nothing", "nothing"),
            lambda: deployments.set_replica_state(tx, "nothing", ReplicaState.READY),
        ]
        for act in acts:
            with pytest.raises(NotFound, match="nothing"):
                act()


@pytest.mark.parametrize("target", list(ReplicaState))
@pytest.mark.parametrize("state", list(ReplicaState))
def test_a_replica_moves_by_the_table_and_an_illegal_move_changes_nothing(
    store: Store, state: ReplicaState, target: ReplicaState
) -> None:
    with store.write() as tx:
        version = model_version(tx)
        made = deployment(tx, version)
        replica = deployments.create_replica(tx, made.id, version.id)
        for step in REPLICA_PATHS[state]:
            deployments.set_replica_state(tx, replica.id, step)
        before = deployments.list_replicas(tx, made.id)
        if may_move(state, target):
            deployments.set_replica_state(tx, replica.id, target)
            (after,) = deployments.list_replicas(tx, made.id)
            assert after.state is target
            assert (after.ended_at is not None) == target.is_final
        else:
            with pytest.raises(IllegalMove):
                deployments.set_replica_state(tx, replica.id, target, address="unix:/x")
            assert deployments.list_replicas(tx, made.id) == before


def test_ready_replicas_of_the_wished_version_are_counted(store: Store) -> None:
    with store.write() as tx:
        one, two = model_version(tx), model_version(tx)
        made = deployment(tx, two)
        ready_replica(tx, made.id, one.id, "unix:/one")
        ready_replica(tx, made.id, two.id, "unix:/two")
        deployments.create_replica(tx, made.id, two.id)
        assert deployments.get(tx, PROJECT, "answers").ready_replicas == 1


def test_live_replicas_and_the_last_few_ended_ones_are_kept(store: Store) -> None:
    with store.write() as tx:
        version = model_version(tx)
        made, other = deployment(tx, version, "one"), deployment(tx, version, "two")
        kept = deployments.create_replica(tx, other.id, version.id)
        deployments.set_replica_state(tx, kept.id, ReplicaState.FAILED)
        live = deployments.create_replica(tx, made.id, version.id)
        ended = []
        for _ in range(ENDED_KEPT + 5):
            replica = deployments.create_replica(tx, made.id, version.id)
            deployments.set_replica_state(
                tx, replica.id, ReplicaState.FAILED, failure={"code": "model_unloadable"}
            )
            ended.append(replica.id)
        last = deployments.create_replica(tx, made.id, version.id)
        found = deployments.list_replicas(tx, made.id)
        expected = [last.id, *reversed(ended[-ENDED_KEPT:]), live.id]
        assert [replica.id for replica in found] == expected
        assert found[1].failure == {"code": "model_unloadable"}
        assert [replica.id for replica in deployments.list_live(tx)] == [live.id, last.id]
        assert [replica.id for replica in deployments.list_replicas(tx, other.id)] == [kept.id]


def test_the_routes_show_ready_replicas_of_every_version_while_one_rolls_out(store: Store) -> None:
    with store.write() as tx:
        one, two = model_version(tx), model_version(tx)
        made = deployment(tx, one)
        first = ready_replica(tx, made.id, one.id, "unix:/one")
        deployments.create_replica(tx, made.id, one.id)
        deployments.update(tx, PROJECT, "answers", model_version_id=two.id)
        second = ready_replica(tx, made.id, two.id, "unix:/two")
        deployments.set_state(tx, made.id, DeploymentState.UPDATING)
    route = snapshot(store).routes[PROJECT, "answers"]
    assert route.replicas == ((first, 1, "unix:/one"), (second, 2, "unix:/two"))
    assert (route.model, route.version, route.state) == ("digits", 2, DeploymentState.UPDATING)
    assert set(route.manifests) == {1, 2}
    assert route.manifests[2] == {"task": "image-classification"}
    with store.write() as tx:
        deployments.set_replica_state(tx, first, ReplicaState.DRAINING)
    route = snapshot(store).routes[PROJECT, "answers"]
    assert route.replicas == ((second, 2, "unix:/two"),)
    assert set(route.manifests) == {2}


def test_a_deployment_without_replicas_is_known_with_its_reason(store: Store) -> None:
    with store.write() as tx:
        made = deployment(tx, model_version(tx))
        deployments.set_state(tx, made.id, DeploymentState.FAILED, failure={"code": "x"})
        deployments.set_state(tx, made.id, DeploymentState.FAILED, failure={"code": "y"})
    route = snapshot(store).routes[PROJECT, "answers"]
    assert route.replicas == ()
    assert route.failure == {"code": "y"}
    assert set(route.manifests) == {1}


def test_nothing_answers_under_a_name_that_is_to_go(store: Store) -> None:
    with store.write() as tx:
        version = model_version(tx)
        made = deployment(tx, version)
        ready_replica(tx, made.id, version.id, "unix:/one")
        deployments.wish_delete(tx, PROJECT, "answers")
    assert snapshot(store).routes == {}


def test_routes_of_equal_names_in_two_projects_are_two(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "other")
        deployment(tx, model_version(tx))
        version = model_version(tx, project="other")
        deployments.create(
            tx,
            project="other",
            name="answers",
            model_version_id=version.id,
            replicas=1,
            max_batch=1,
            threads=1,
        )
    assert set(snapshot(store).routes) == {(PROJECT, "answers"), ("other", "answers")}


def test_every_change_that_matters_to_routing_gives_one_new_number(store: Store) -> None:
    def number() -> int:
        with store.read() as tx:
            return routes.number(tx)

    with store.write() as tx:
        one, two = model_version(tx), model_version(tx)
    assert number() == 0
    with store.write() as tx:
        made = deployment(tx, one)
    assert number() == 1
    with store.write() as tx:
        replica = deployments.create_replica(tx, made.id, one.id)
    assert number() == 1, "nobody can be sent to a replica that only begins"
    changes: list[Callable[[Transaction], object]] = [
        lambda tx: deployments.set_replica_state(tx, replica.id, ReplicaState.READY, address="u"),
        lambda tx: deployments.set_state(tx, made.id, DeploymentState.READY),
        lambda tx: deployments.update(tx, PROJECT, "answers", model_version_id=two.id),
        lambda tx: deployments.set_replica_state(tx, replica.id, ReplicaState.STOPPED),
        lambda tx: deployments.wish_delete(tx, PROJECT, "answers"),
        lambda tx: deployments.remove(tx, made.id),
        routes.bump,
    ]
    for expected, change in enumerate(changes, start=2):
        with store.write() as tx:
            change(tx)
            routes.bump(tx)
        assert number() == expected


def test_a_change_that_is_rolled_back_gives_no_number(store: Store) -> None:
    def fail() -> None:
        with store.write() as tx:
            routes.bump(tx)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert snapshot(store).number == 0
