"""The service's own replica, started both ways: it loads a model, says where it answers, and drains."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psutil
import pytest

from modelry.artifacts import Artifacts
from modelry.core.manifests import RuntimeForm
from modelry.core.specs import OutcomeStatus, StopReason
from modelry.worker.models import package
from tests.contract.compute.machine import Machine
from tests.contract.runtimes.making import make_recipe_package
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


def test_a_runtime_that_must_not_be_forked_gets_a_fresh_process(
    real: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    manifest, _ = make_recipe_package(folder, "cnn")
    weights = RuntimeForm(file=package.WEIGHTS)
    package.write_manifest(msgspec.structs.replace(manifest, runtimes={"torch": weights}), folder)
    artifacts = Artifacts(str(real.home.blobs))
    files = [artifacts.put_file(path, path.name) for path in folder.iterdir()]
    spec = msgspec.structs.replace(real.replica(), files=files, runtime="torch")
    real.compute.start(1, spec)
    status = real.ready("rep_a", timeout_s=60)
    assert status.pid is not None
    command = psutil.Process(status.pid).cmdline()
    assert "modelry.worker.replica" in command
    assert real.agent is not None
    loaded = Path(f"/proc/{real.agent.pid}/maps").read_text()
    assert "libtorch" not in loaded
    assert "libtorch" in Path(f"/proc/{status.pid}/maps").read_text()
