"""What the loops do to a real database while the machine below them answers in every awkward way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelry.core.errors import InvalidRequest, ModelryError, NotFound, StorageFull
from modelry.core.events import Event
from modelry.core.records import Load
from modelry.core.specs import (
    AgentInfo,
    Failure,
    Outcome,
    OutcomeStatus,
    StopReason,
    WorkerSpec,
    WorkerStatus,
)
from modelry.core.states import DeploymentState, JobState, JobWish
from modelry.server.control.job_loop import JobLoop
from modelry.server.control.replica_loop import ReplicaLoop
from modelry.server.store import Store, deployments, jobs
from tests.contract.store.rows import deployment, model_version, new_job
from tests.service import wait_until

DONE = Outcome(status=OutcomeStatus.SUCCEEDED, result={"steps": 3})


@dataclass
class Machine:
    """A `Backend` in memory; tests say how its workers are and which orders it refuses."""

    workers: dict[str, WorkerStatus] = field(default_factory=dict)
    #: Worker ids, or a part of them, and what is raised for them at each order to start.
    refused: dict[str, ModelryError] = field(default_factory=dict)
    #: The same for reading events.
    unreadable: dict[str, Exception] = field(default_factory=dict)
    specs: dict[str, WorkerSpec] = field(default_factory=dict)

    def hello(self, epoch: int) -> AgentInfo:
        return AgentInfo(pid=1, epoch=epoch, cores=2, memory_bytes=1, start_method="exec")

    def start(self, epoch: int, spec: WorkerSpec) -> None:
        for name, error in self.refused.items():
            if name in (spec.worker_id, getattr(spec, "deployment", None)):
                raise error
        kind = "replica" if hasattr(spec, "deployment") else "job"
        self.specs[spec.worker_id] = spec
        status = WorkerStatus(worker_id=spec.worker_id, kind=kind, is_alive=True)
        self.workers.setdefault(spec.worker_id, status)

    def poll(self) -> list[WorkerStatus]:
        return list(self.workers.values())

    def stop(self, epoch: int, worker_id: str, reason: StopReason, grace_s: float) -> None:
        if worker_id in self.workers:
            self.end(worker_id, Outcome(status=OutcomeStatus.CANCELLED))

    def read_events(self, worker_id: str, offset: int) -> tuple[list[Event], int]:
        if worker_id in self.unreadable:
            raise self.unreadable[worker_id]
        return [], offset

    def forget(self, epoch: int, worker_id: str) -> None:
        self.workers.pop(worker_id, None)

    def close(self) -> None:
        """Nothing to close."""

    def end(self, worker_id: str, outcome: Outcome) -> None:
        kind = self.workers[worker_id].kind
        self.workers[worker_id] = WorkerStatus(
            worker_id=worker_id, kind=kind, is_alive=False, outcome=outcome
        )


class House:
    """Both loops over one database and one machine."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.machine = Machine()
        #: Deployment → its load, as the web processes count it.
        self.loads: dict[str, Load] = {}
        self.jobs = JobLoop(store, self.machine, artifacts="blobs", slots=8)
        self.replicas = ReplicaLoop(
            store, self.machine, artifacts="blobs", read_loads=lambda: self.loads
        )
        epoch = store.acquire_lease("controller", "test", 600)
        assert epoch is not None
        self.epoch = epoch

    def step(self) -> None:
        """One round of both, as the controller makes it."""
        statuses = {status.worker_id: status for status in self.machine.poll()}
        self.jobs.step(self.epoch, statuses)
        self.replicas.step(self.epoch, statuses)

    def submit(self, **given: Any) -> str:
        with self.store.write() as tx:
            return new_job(tx, **given).id

    def state(self, job_id: str) -> JobState:
        with self.store.read() as tx:
            return jobs.get_by_id(tx, job_id).state

    def failure(self, job_id: str) -> str:
        with self.store.read() as tx:
            return str((jobs.get_by_id(tx, job_id).failure or {}).get("code"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    store = Store(f"sqlite:///{tmp_path / 'modelry.db'}")
    store.migrate()
    yield House(store)
    store.close()


def test_a_job_that_was_quicker_than_the_next_look_succeeds(house: House) -> None:
    job_id = house.submit()
    house.step()
    assert house.state(job_id) is JobState.STARTING
    house.machine.end(f"{job_id}-1", DONE)
    house.step()
    assert house.state(job_id) is JobState.SUCCEEDED


def test_a_job_that_succeeds_in_the_end_has_no_failure(house: House) -> None:
    job_id = house.submit()
    house.step()
    lost = Failure(code="worker_lost", message="The worker ended without a word.")
    house.machine.end(f"{job_id}-1", Outcome(status=OutcomeStatus.LOST, failure=lost))
    house.step()
    assert house.failure(job_id) == "worker_lost"
    wait_until(lambda: house.step() or f"{job_id}-2" in house.machine.workers, 5, "the next try")
    house.machine.end(f"{job_id}-2", DONE)
    house.step()
    assert house.state(job_id) is JobState.SUCCEEDED
    assert house.failure(job_id) == "None"


def test_a_result_that_cannot_be_published_fails_its_job_alone(house: House) -> None:
    bad, good = house.submit(kind="train", makes="digits"), house.submit()
    house.step()
    broken = Outcome(status=OutcomeStatus.SUCCEEDED, result={"model": {"files": "none"}})
    house.machine.end(f"{bad}-1", broken)
    house.machine.end(f"{good}-1", DONE)
    house.step()
    assert house.state(bad) is JobState.FAILED
    assert house.failure(bad) == "internal_error"
    assert house.state(good) is JobState.SUCCEEDED


@pytest.mark.parametrize("trouble", [NotFound(noun="worker", name="w"), ValueError("torn")])
def test_events_that_cannot_be_read_hold_back_no_other_job(
    house: House, trouble: Exception
) -> None:
    bad, good = house.submit(), house.submit()
    house.step()
    house.machine.unreadable[f"{bad}-1"] = trouble
    house.machine.end(f"{good}-1", DONE)
    house.step()
    assert house.state(good) is JobState.SUCCEEDED
    house.machine.end(f"{bad}-1", DONE)
    house.step()
    assert house.state(bad) is JobState.SUCCEEDED


def test_a_refused_start_fails_its_job_alone(house: House) -> None:
    bad, good = house.submit(), house.submit()
    house.machine.refused[f"{bad}-1"] = InvalidRequest(reason="no such kind")
    house.step()
    assert house.state(bad) is JobState.FAILED
    house.machine.end(f"{good}-1", DONE)
    house.step()
    assert house.state(good) is JobState.SUCCEEDED


def test_a_start_that_is_to_be_tried_again_holds_back_no_other_job(house: House) -> None:
    late, good = house.submit(), house.submit()
    house.machine.refused[f"{late}-1"] = StorageFull(place="the run folder")
    house.step()
    house.machine.end(f"{good}-1", DONE)
    house.step()
    assert house.state(good) is JobState.SUCCEEDED
    house.machine.refused.clear()
    house.step()
    assert f"{late}-1" in house.machine.workers


def test_a_cancelled_job_whose_worker_never_came_to_be_is_not_started_first(house: House) -> None:
    job_id = house.submit()
    house.machine.refused[f"{job_id}-1"] = StorageFull(place="the run folder")
    house.step()
    with house.store.write() as tx:
        jobs.set_wish(tx, "default", job_id, JobWish.CANCEL)
    house.step()
    assert house.state(job_id) is JobState.CANCELLED


@pytest.mark.parametrize("trouble", [InvalidRequest(reason="no"), ValueError("no")])
def test_a_deployment_that_cannot_be_started_holds_back_no_other(
    house: House, trouble: ModelryError
) -> None:
    with house.store.write() as tx:
        version = model_version(tx)
        deployment(tx, version, "bad")
        good = deployment(tx, version, "good")
    house.machine.refused["bad"] = trouble
    for _ in range(4):
        house.step()
        for worker_id, spec in house.machine.specs.items():
            house.machine.workers[worker_id] = WorkerStatus(
                worker_id=worker_id, kind="replica", is_alive=True, address="unix:/x"
            )
            assert spec.deployment == "good"  # type: ignore[union-attr]
    with house.store.read() as tx:
        [bad] = [one for one in deployments.list_all(tx) if one.name == "bad"]
        [good] = [one for one in deployments.list_all(tx) if one.name == "good"]
    assert good.state is DeploymentState.READY
    assert bad.state is not DeploymentState.READY


def come_alive(house: House) -> None:
    """Every replica that was started answers."""
    for worker_id, status in house.machine.workers.items():
        if status.is_alive:
            house.machine.workers[worker_id] = WorkerStatus(
                worker_id=worker_id, kind="replica", is_alive=True, address="unix:/x"
            )


def alive(house: House) -> int:
    return sum(status.is_alive for status in house.machine.workers.values())


def state_of(house: House, name: str) -> DeploymentState:
    with house.store.read() as tx:
        return deployments.get(tx, "default", name).state


def settle(house: House) -> None:
    for _ in range(8):
        house.step()
        come_alive(house)


def test_who_is_not_asked_ends_and_who_is_woken_starts(house: House) -> None:
    with house.store.write() as tx:
        made = deployment(tx, model_version(tx), "sleeper", idle_s=0.0001)
    house.loads[made.id] = Load(in_flight=1)
    settle(house)
    assert (alive(house), state_of(house, "sleeper")) == (1, DeploymentState.READY)
    del house.loads[made.id]
    wait_until(lambda: settle(house) or alive(house) == 0, 5, "it sleeps")
    settle(house)
    assert state_of(house, "sleeper") is DeploymentState.IDLE
    house.loads[made.id] = Load(waiting=1)
    with house.store.write() as tx:
        assert deployments.wake(tx, made.id)
    settle(house)
    assert (alive(house), state_of(house, "sleeper")) == (1, DeploymentState.READY)


def test_sleeping_deployments_are_not_even_looked_at(house: House) -> None:
    with house.store.write() as tx:
        version = model_version(tx)
        for number in range(20):
            made = deployment(tx, version, f"sleeper-{number}", idle_s=60.0)
            deployments.set_replicas(tx, made, 0)
            deployments.set_state(tx, made.id, DeploymentState.IDLE)
    house.step()
    assert house.replicas._watched.views == {}


def test_a_death_among_those_at_rest_is_noticed_and_mended(house: House) -> None:
    with house.store.write() as tx:
        version = model_version(tx)
        for number in range(5):
            deployment(tx, version, f"calm-{number}")
    settle(house)
    settle(house)
    assert len(house.replicas._resting) == 5
    victim = next(iter(house.machine.workers))
    house.machine.end(victim, Outcome(status=OutcomeStatus.LOST))
    wait_until(lambda: settle(house) or alive(house) == 5, 5, "another takes its place")
    settle(house)
    assert {state_of(house, f"calm-{number}") for number in range(5)} == {DeploymentState.READY}
