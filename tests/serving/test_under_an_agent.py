"""Replicas as they live in a service: started, reported and drained by a real agent, forked or fresh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelry.core.specs import OutcomeStatus, ReplicaSpec, StopReason
from tests.contract.compute.machine import Machine, eventually
from tests.serving.house import Client, House, live, pictures


@pytest.fixture(params=["fork", "exec"])
def machine(house: House, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A real agent in the house's home, in place of the lock that the house holds."""
    assert house.agent_lock is not None
    os.close(house.agent_lock)
    house.agent_lock = None
    machine = Machine(Path(house.root), str(request.param))
    machine.replica_target = "modelry.worker.replica:main"
    machine.start_agent()
    machine.compute.hello(1)
    yield machine
    machine.clean_up()


def test_an_agents_replica_answers_and_drains(house: House, machine: Machine) -> None:
    package = house.linear()
    spec = ReplicaSpec(
        worker_id="rep_1",
        replica_id="rep_1",
        deployment="digits",
        model="mnist",
        version=1,
        files=package.files,
        artifacts=str(house.home.blobs),
    )
    machine.compute.start(1, spec)

    def address() -> str | None:
        status = machine.status("rep_1")
        assert status is not None
        assert status.is_alive, status
        return status.address

    assert eventually(address) == f"unix:{house.home.sockets}/rep_1.sock"

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        await client.check(pictures(5))
        machine.compute.stop(1, "rep_1", StopReason.DRAIN, 20.0)
        await gateway.close()

    house.elsewhere["rep_1"] = 1
    live(story())
    status = machine.ended("rep_1")
    assert status.outcome is not None
    assert status.outcome.status is OutcomeStatus.SUCCEEDED
