"""Laws of a compute backend: starting, reporting, stopping, limits, and forgetting."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from modelry.core.errors import InUse, NotFound, StaleEpoch
from modelry.core.events import Metric, Progress
from modelry.core.specs import Limits, OutcomeStatus, StopReason
from tests.contract.compute.machine import Machine, eventually


def test_a_job_runs_and_its_outcome_and_events_are_kept(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job())
    status = machine.ended("job_a-1")
    assert status.outcome is not None
    assert status.outcome.status is OutcomeStatus.SUCCEEDED
    assert status.outcome.result == {"steps": 3}
    assert status.kind == "job"
    assert not status.is_alive
    events, offset = machine.compute.read_events("job_a-1", 0)
    assert {type(event) for event in events} >= {Progress, Metric}
    assert [c.step for c in machine.checkpoints("job_a-1")] == [1, 2, 3]
    assert machine.compute.read_events("job_a-1", offset) == ([], offset)


def test_starting_twice_makes_one_worker(machine: Machine) -> None:
    for _ in range(3):
        machine.compute.start(1, machine.sleep_job())
    machine.ended("job_a-1")
    machine.compute.start(1, machine.sleep_job())
    assert len(machine.compute.poll()) == 1
    assert [c.step for c in machine.checkpoints("job_a-1")] == [1, 2, 3]


def test_a_job_goes_on_from_the_checkpoint_in_its_spec(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job())
    machine.ended("job_a-1")
    second = machine.checkpoints("job_a-1")[1]
    machine.compute.start(1, machine.sleep_job("job_a-2", checkpoint=second.files))
    machine.ended("job_a-2")
    assert [c.step for c in machine.checkpoints("job_a-2")] == [3]


def test_a_replica_tells_where_it_answers_and_ends_when_drained(machine: Machine) -> None:
    machine.compute.start(1, machine.replica())
    status = machine.ready("rep_a")
    assert status.address == f"unix:{machine.home.root}/nowhere"
    assert status.kind == "replica"
    machine.compute.stop(1, "rep_a", StopReason.DRAIN, 10)
    outcome = machine.ended("rep_a").outcome
    assert outcome is not None
    assert outcome.result == {"drained": True}


def test_a_replica_inherits_no_descriptor_but_its_log_and_its_lock(machine: Machine) -> None:
    machine.compute.start(1, machine.replica())
    machine.ready("rep_a")
    folder = machine.home.worker("rep_a")
    lines = (folder / "descriptors").read_text().splitlines()
    found = dict(line.split(" ", 1) for line in lines)
    assert found == {
        "0": "/dev/null",
        "1": str(folder / "output.log"),
        "2": str(folder / "output.log"),
        "3": str(folder / "lock"),
    }


def test_a_worker_that_is_killed_is_lost_and_says_how(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    os.kill(machine.stepping(), signal.SIGKILL)
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.LOST
    assert outcome.failure is not None
    assert "SIGKILL" in outcome.failure.message


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (StopReason.CANCEL, OutcomeStatus.CANCELLED),
        (StopReason.PAUSE, OutcomeStatus.PAUSED),
        (StopReason.SHUTDOWN, OutcomeStatus.INTERRUPTED),
    ],
)
def test_a_job_that_is_asked_to_stop_ends_soon_with_the_outcome_of_the_reason(
    machine: Machine, reason: StopReason, status: OutcomeStatus
) -> None:
    slow = machine.sleep_job(params={"steps": 1000, "step_s": 0.3, "checkpoint_steps": 1})
    machine.compute.start(1, slow)
    machine.stepping()
    asked = time.monotonic()
    machine.compute.stop(1, "job_a-1", reason, 10)
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is status
    assert time.monotonic() - asked < 1.0


def test_a_job_stopped_before_it_could_listen_has_the_outcome_of_the_reason(
    machine: Machine,
) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    machine.compute.stop(1, "job_a-1", StopReason.CANCEL, 10)
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.CANCELLED


def test_cancel_wins_over_a_shutdown_that_comes_later(machine: Machine) -> None:
    machine.compute.start(1, machine.replica(model="deaf"))
    machine.ready("rep_a")
    machine.compute.stop(1, "rep_a", StopReason.CANCEL, 0.2)
    machine.compute.stop(1, "rep_a", StopReason.SHUTDOWN, 60)
    outcome = machine.ended("rep_a").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.CANCELLED


def test_who_does_not_end_within_the_grace_is_killed(machine: Machine) -> None:
    machine.compute.start(1, machine.replica(model="deaf"))
    pid = machine.ready("rep_a").pid
    assert pid is not None
    machine.compute.stop(1, "rep_a", StopReason.SHUTDOWN, 0.3)
    assert psutil.pid_exists(pid)
    outcome = machine.ended("rep_a").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.INTERRUPTED
    assert not psutil.pid_exists(pid)


def test_stopping_what_is_unknown_or_over_changes_nothing(machine: Machine) -> None:
    machine.compute.stop(1, "job_none-1", StopReason.CANCEL, 1)
    machine.compute.start(1, machine.sleep_job())
    before = machine.ended("job_a-1")
    machine.compute.stop(1, "job_a-1", StopReason.CANCEL, 1)
    assert machine.status("job_a-1") == before


@pytest.mark.parametrize("model", ["grandchild", "double-fork"])
def test_the_memory_limit_counts_everybody_the_worker_started(machine: Machine, model: str) -> None:
    spec = machine.replica(model=model, limits=Limits(memory_bytes=80 << 20))
    machine.compute.start(1, spec)
    outcome = machine.ended("rep_a").outcome
    assert outcome is not None
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.failure is not None
    assert outcome.failure.code == "out_of_memory"
    assert _hogs() == []


@pytest.mark.parametrize("model", ["grandchild", "double-fork"])
def test_whoever_a_worker_leaves_behind_is_ended(machine: Machine, model: str) -> None:
    machine.compute.start(1, machine.replica(model=model))
    pid = machine.ready("rep_a").pid
    assert pid is not None
    eventually(_hogs)
    os.kill(pid, signal.SIGKILL)
    machine.ended("rep_a")
    eventually(lambda: not _hogs())


def test_a_worker_within_its_memory_limit_is_left_alone(machine: Machine) -> None:
    spec = machine.replica(limits=Limits(memory_bytes=1 << 30))
    machine.compute.start(1, spec)
    machine.ready("rep_a")
    status = eventually(lambda: (s := machine.status("rep_a")) and s.rss_bytes and s)
    assert status.is_alive
    assert status.rss_bytes < 1 << 30


def test_the_time_limit_ends_a_worker(machine: Machine) -> None:
    spec = machine.sleep_job(params={"steps": 10_000}, limits=Limits(time_s=0.5))
    machine.compute.start(1, spec)
    outcome = machine.ended("job_a-1").outcome
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.code == "out_of_time"


def test_a_torn_last_line_is_no_event_yet(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job())
    machine.ended("job_a-1")
    before, offset = machine.compute.read_events("job_a-1", 0)
    with (machine.home.worker("job_a-1") / "events.jsonl").open("ab") as file:
        file.write(b'{"type":"log","at":1.0,"te')
        file.flush()
        assert machine.compute.read_events("job_a-1", offset) == ([], offset)
        file.write(b'xt":"whole"}\n')
    events, end = machine.compute.read_events("job_a-1", offset)
    assert [getattr(event, "text", None) for event in events] == ["whole"]
    assert end > offset
    assert len(before) + 1 == len(machine.compute.read_events("job_a-1", 0)[0])


def test_a_line_longer_than_a_chunk_arrives_whole(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job())
    machine.ended("job_a-1")
    _, offset = machine.compute.read_events("job_a-1", 0)
    text = "x" * (3 << 20)
    with (machine.home.worker("job_a-1") / "events.jsonl").open("a") as file:
        file.write(f'{{"type":"log","at":1.0,"text":"{text}"}}\n')
    events, _ = machine.compute.read_events("job_a-1", offset)
    assert [getattr(event, "text", None) for event in events] == [text]


def test_forgetting_removes_the_folder_of_an_ended_worker_only(machine: Machine) -> None:
    machine.compute.start(1, machine.replica())
    machine.ready("rep_a")
    with pytest.raises(InUse):
        machine.compute.forget(1, "rep_a")
    machine.compute.stop(1, "rep_a", StopReason.DRAIN, 10)
    machine.ended("rep_a")
    for _ in range(2):
        machine.compute.forget(1, "rep_a")
    assert machine.compute.poll() == []
    assert not machine.home.worker("rep_a").exists()
    assert list(machine.home.run.glob(".trash-*")) == []
    with pytest.raises(NotFound):
        machine.compute.read_events("rep_a", 0)


def test_orders_of_an_earlier_leader_are_refused_even_by_the_next_agent(
    machine: Machine,
) -> None:
    assert machine.compute.hello(7).epoch == 7
    machine.kill_agent()
    machine.start_agent()
    for order in (
        lambda: machine.compute.hello(6),
        lambda: machine.compute.start(6, machine.sleep_job()),
        lambda: machine.compute.stop(6, "job_a-1", StopReason.CANCEL, 1),
        lambda: machine.compute.forget(6, "job_a-1"),
    ):
        with pytest.raises(StaleEpoch):
            order()
    assert machine.compute.poll() == []
    machine.compute.start(7, machine.sleep_job())
    machine.ended("job_a-1")


def test_a_worker_knows_none_of_the_services_settings(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job(params={"steps": 10_000}))
    pid = machine.stepping()
    names = [name for name in psutil.Process(pid).environ() if name.startswith("MODELRY_")]
    assert names == ["MODELRY_HOME"]


def test_the_bell_rings_when_a_worker_ends(machine: Machine) -> None:
    from modelry.core.bell import Bell

    with Bell(machine.home.sockets / "bells").listen("test") as ear:
        machine.compute.start(1, machine.sleep_job())
        assert ear.wait(15)
        status = machine.status("job_a-1")
        assert status is not None
        assert not status.is_alive


def _hogs() -> list[int]:
    """Processes of the stand-in that hold memory (`held` is in their command line)."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if "held = bytearray" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def test_the_home_of_workers_is_private(machine: Machine) -> None:
    machine.compute.start(1, machine.sleep_job())
    machine.ended("job_a-1")
    assert _mode(machine.home.sockets) == 0o700
    assert _mode(machine.home.sockets / "agent.sock") == 0o600
    assert _mode(machine.home.worker("job_a-1")) == 0o700


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
