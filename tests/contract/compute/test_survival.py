"""Laws of a compute backend under kill -9: of the agent, between agents, and in the middle of a start."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from modelry.core.durable import take_lock
from modelry.core.errors import ComputeUnavailable
from modelry.core.specs import OutcomeStatus, StopReason
from modelry.worker.folder import WorkerFolder
from tests.contract.compute.machine import Machine, eventually


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_live_on_without_an_agent_and_the_next_one_sees_their_outcome(
    machine: Machine, number: int
) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 150}))
    machine.compute.start(1, machine.replica())
    pid = machine.stepping()
    replica = machine.ready("rep_a")
    machine.kill_agent(number)
    assert psutil.pid_exists(pid)
    with pytest.raises(ComputeUnavailable):
        machine.compute.poll()
    machine.start_agent()
    status = machine.status("job_a-1")
    assert status is not None
    assert (status.pid, status.is_alive) == (pid, True)
    assert machine.status("rep_a") is not None
    assert machine.ready("rep_a").address == replica.address
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.result == {"steps": 150}
    machine.compute.stop(1, "rep_a", StopReason.DRAIN, 10)
    assert machine.ended("rep_a").outcome is not None


def test_an_outcome_reached_while_no_agent_lived_is_kept(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 30}))
    pid = machine.stepping()
    machine.kill_agent()
    eventually(lambda: not _is_alive(pid))
    machine.start_agent()
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.SUCCEEDED
    machine.kill_agent()
    machine.start_agent()
    assert machine.ended("job_a-1").outcome == outcome


def test_a_worker_that_died_while_no_agent_lived_is_lost(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    pid = machine.stepping()
    machine.kill_agent()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not _is_alive(pid))
    machine.start_agent()
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.LOST


def test_an_adopted_worker_is_noticed_when_it_dies(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    pid = machine.stepping()
    machine.kill_agent()
    machine.start_agent()
    machine.compute.poll()
    os.kill(pid, signal.SIGKILL)
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.LOST


def test_a_stop_outlives_the_agent_that_was_to_deliver_it(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    machine.stepping()
    machine.kill_agent()
    WorkerFolder(machine.home.worker("job_a-1")).ask_to_stop(StopReason.PAUSE)
    machine.start_agent()
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.PAUSED


def test_what_was_never_born_is_not_reported_and_can_be_started(machine: Machine) -> None:
    machine.kill_agent()
    spec = machine.sleep_job()
    WorkerFolder(machine.home.worker(spec.worker_id)).create(spec)
    machine.start_agent()
    assert machine.compute.poll() == []
    machine.compute.start(1, spec)
    assert machine.ended("job_a-1").outcome is not None


def test_another_process_with_the_number_of_a_dead_worker_is_not_touched(
    machine: Machine,
) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    pid = machine.stepping()
    machine.kill_agent()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not _is_alive(pid))
    birth = machine.home.worker("job_a-1") / "pid"
    birth.write_text(birth.read_text().replace(f'"pid":{pid}', f'"pid":{os.getpid()}'))
    machine.start_agent()
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.LOST


def test_a_spec_that_cannot_be_read_does_not_hinder_the_others(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job())
    machine.ended("job_a-1")
    machine.kill_agent()
    strange = machine.home.worker("job_strange-1")
    strange.mkdir()
    (strange / "spec.json").write_text('{"type":"from the future"}')
    machine.start_agent()
    assert [status.worker_id for status in machine.compute.poll()] == ["job_a-1"]


def test_jobs_that_see_no_agent_for_long_keep_a_checkpoint_and_end(machine: Machine) -> None:
    machine.kill_agent()
    machine.patience_s = 0.4
    machine.start_agent()
    slow = machine.sleep_job(params={"steps": 10_000, "checkpoint_steps": 5_000})
    machine.compute.start(1, slow)
    eventually(lambda: machine.compute.read_events("job_a-1", 0)[0])
    status = machine.status("job_a-1")
    assert status is not None
    assert status.pid is not None
    machine.kill_agent()
    eventually(lambda: not _is_alive(status.pid or 0))
    machine.start_agent()
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.INTERRUPTED
    assert len(machine.checkpoints("job_a-1")) == 1


def test_a_shutdown_lets_jobs_checkpoint_and_ends_the_agent(machine: Machine) -> None:
    slow = machine.sleep_job(params={"steps": 10_000, "checkpoint_steps": 5_000})
    machine.compute.start(1, slow)
    machine.compute.start(1, machine.replica())
    eventually(lambda: machine.compute.read_events("job_a-1", 0)[0])
    machine.compute.shutdown(10)
    assert machine.agent is not None
    assert machine.agent.wait(15) == 0
    assert not (machine.home.sockets / "agent.sock").exists()
    machine.start_agent()
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.INTERRUPTED
    assert len(machine.checkpoints("job_a-1")) == 1


def test_a_second_agent_waits_for_the_first_to_leave(machine: Machine) -> None:
    assert take_lock(machine.home.run / "agent.lock") is None
    first = machine.agent
    assert first is not None
    machine.start_agent()
    first.kill()
    first.wait()
    machine.compute.close()
    eventually(lambda: _answers(machine))
    assert machine.agent is not None
    assert machine.compute.hello(1).pid == machine.agent.pid


def test_a_connection_is_renewed_when_the_agent_was_replaced(machine: Machine) -> None:
    machine.compute.hello(1)
    machine.kill_agent()
    machine.start_agent()
    assert machine.agent is not None
    assert machine.compute.hello(1).pid == machine.agent.pid


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _answers(machine: Machine) -> bool:
    try:
        machine.compute.hello(1)
    except ComputeUnavailable:
        return False
    return True
