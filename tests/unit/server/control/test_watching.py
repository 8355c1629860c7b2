"""What the controller remembers between two rounds is what it would read anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelry.core.errors import ModelryError
from modelry.core.records import Deployment
from modelry.core.states import DeploymentState, ReplicaState
from modelry.server.control.watching import Watched
from modelry.server.store import Store, Transaction, deployments, models, rollouts
from tests.contract.store.rows import PROJECT, deployment, model_version

NAMES = ("one", "two", "three")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'modelry.db'}")
    store.migrate()
    with store.write() as tx:
        for _ in range(2):
            model_version(tx)
    yield store
    store.close()


class Chance:
    """One change after another, as web processes and a controller make them; illegal ones change nothing."""

    def __init__(self, seed: int, watched: Watched) -> None:
        self.dice = random.Random(seed)
        self.watched = watched

    def change(self, tx: Transaction) -> None:
        name, version = self.dice.choice(NAMES), self.dice.choice((1, 2))
        found = models.get_version(tx, PROJECT, "digits", version)
        acts: list[Callable[[], object]] = [
            lambda: deployment(tx, found, name, idle_s=60.0),
            lambda: deployments.update(tx, PROJECT, name, model_version_id=found.id),
            lambda: deployments.update(tx, PROJECT, name, replicas=self.dice.choice((0, 1, 2))),
            lambda: rollouts.set_canary(tx, PROJECT, name, model_version_id=found.id, percent=10.0),
            lambda: rollouts.rollback(tx, PROJECT, name),
            lambda: rollouts.stop(tx, PROJECT, name),
            lambda: rollouts.start(tx, PROJECT, name),
            lambda: deployments.set_replicas(tx, self.of(tx, name), self.dice.choice((0, 1))),
            lambda: deployments.wake(tx, self.of(tx, name).id),
            lambda: self.summarize(tx, name),
            lambda: self.create(tx, name, found.id),
            lambda: self.move(tx, name),
            lambda: deployments.wish_delete(tx, PROJECT, name),
            lambda: self.remove(tx, name),
        ]
        self.dice.choice(acts)()

    def of(self, tx: Transaction, name: str) -> Deployment:
        return deployments.get(tx, PROJECT, name)

    def summarize(self, tx: Transaction, name: str) -> None:
        state = self.dice.choice([*DeploymentState])
        deployments.set_state(tx, self.of(tx, name).id, state)

    def create(self, tx: Transaction, name: str, version_id: str) -> None:
        """No gateway has to hear of it, so the leader notes it himself, as he does before every act."""
        mine = self.of(tx, name)
        self.watched.touch(mine.id)
        deployments.create_replica(tx, mine.id, version_id)

    def move(self, tx: Transaction, name: str) -> None:
        for replica in deployments.list_replicas(tx, self.of(tx, name).id):
            target = self.dice.choice([*ReplicaState])
            deployments.set_replica_state(tx, replica.id, target, address="unix:/x")

    def remove(self, tx: Transaction, name: str) -> None:
        mine = self.of(tx, name)
        self.watched.touch(mine.id)
        deployments.remove(tx, mine.id)


@pytest.mark.parametrize("seed", range(4))
def test_following_is_the_same_as_reading_all_again(store: Store, seed: int) -> None:
    followed = Watched()
    chance = Chance(seed, followed)
    for _ in range(100):
        try:
            with store.write() as tx:
                chance.change(tx)
        except ModelryError:
            continue
        fresh = Watched()
        with store.read() as tx:
            followed.catch_up(tx, epoch=1)
            fresh.catch_up(tx, epoch=1)
        assert followed.views == fresh.views


def test_another_epoch_reads_everything(store: Store) -> None:
    watched = Watched()
    with store.write() as tx:
        deployment(tx, models.get_version(tx, PROJECT, "digits"), "one")
    with store.read() as tx:
        watched.catch_up(tx, epoch=1)
    watched.views.clear()
    with store.read() as tx:
        watched.catch_up(tx, epoch=1)
        assert watched.views == {}
        watched.catch_up(tx, epoch=2)
        assert len(watched.views) == 1


def test_what_is_neither_changed_nor_touched_is_the_same_object(store: Store) -> None:
    watched = Watched()
    with store.write() as tx:
        found = models.get_version(tx, PROJECT, "digits")
        one, two = deployment(tx, found, "one"), deployment(tx, found, "two")
    with store.read() as tx:
        watched.catch_up(tx, epoch=1)
    before = dict(watched.views)
    with store.write() as tx:
        deployments.set_state(tx, one.id, DeploymentState.READY)
    with store.read() as tx:
        watched.catch_up(tx, epoch=1)
    assert watched.views[two.id] is before[two.id]
    assert watched.views[one.id] is not before[one.id]
