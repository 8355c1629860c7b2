"""The service's own replica, started both ways: it loads a model, says where it answers, and drains."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelry.core.specs import OutcomeStatus, StopReason
from tests.contract.compute.machine import Machine
from tests.serving.house import House


@pytest.fixture
def real(machine: Machine) -> Machine:
    """The machine, with the real replica."""
    machine.kill_agent()
    machine.replica_target = "modelry.worker.replica:main"
    machine.start_agent()
    return machine


def test_many_replicas_become_ready_and_drain(real: Machine, tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    files, blobs = house.linear().files, str(house.home.blobs)
    names = [f"rep_{number}" for number in range(20 if real.method == "fork" else 2)]
    for name in names:
        spec = msgspec.structs.replace(real.replica(name), files=files, artifacts=blobs)
        real.compute.start(1, spec)
    for name in names:
        address = real.ready(name).address
        assert address is not None
        assert address.startswith("unix:/")
    for name in names:
        real.compute.stop(1, name, StopReason.DRAIN, 20)
    for name in names:
        outcome = real.ended(name).outcome
        assert outcome is not None
        assert outcome.status is OutcomeStatus.SUCCEEDED


def test_a_replica_whose_model_is_missing_says_so(real: Machine) -> None:
    real.compute.start(1, real.replica())
    outcome = real.ended("rep_a").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.failure is not None
    assert outcome.failure.message
