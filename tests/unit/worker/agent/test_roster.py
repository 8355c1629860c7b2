"""What the roster promises before and while a worker is made, tried without a loop around it."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from modelry.core.bell import Bell
from modelry.core.errors import InvalidName, ShuttingDown, StaleEpoch
from modelry.core.home import Home
from modelry.core.orders import Forget, Hello, Poll, Shutdown, Start
from modelry.core.processes import boot_id, start_ticks
from modelry.core.specs import JobSpec, Outcome, OutcomeStatus
from modelry.worker.agent.epoch import EpochGuard
from modelry.worker.agent.roster import Roster
from modelry.worker.agent.starting import Starter, resolve_start_method
from modelry.worker.folder import Birth, WorkerFolder


class PowerCut(BaseException):
    """Ends everything, as a power cut does."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.run.mkdir()
    return home


def make_roster(home: Home) -> Roster:
    return Roster(home, Starter(home.root, "exec"), Bell(home.sockets / "bells", enabled=False))


def make_spec(worker_id: str = "job_a-1") -> JobSpec:
    return JobSpec(
        worker_id=worker_id, job_id="job_a", attempt=1, kind="sleep", params={}, artifacts="blobs"
    )


def test_the_spec_is_on_the_disk_before_the_worker_exists(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def remember(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def power_cut() -> int:
        raise PowerCut

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(os, "fork", power_cut)
    with pytest.raises(PowerCut):
        make_roster(home).obey(Start(epoch=1, spec=make_spec()))
    folder = home.worker("job_a-1")
    assert WorkerFolder(folder).read_spec() == make_spec()
    assert str(folder) in synced
    assert str(home.run) in synced
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    # Nobody was born, so that the next agent may start it.
    assert not WorkerFolder(folder).is_locked()
    monkeypatch.undo()
    again = make_roster(home)
    again.adopt()
    assert again.obey(Poll()) == []


@pytest.mark.parametrize("worker_id", ["../up", "a/b", "", ".hidden", "x" * 200])
def test_a_worker_id_never_leaves_the_run_folder(home: Home, worker_id: str) -> None:
    with pytest.raises(InvalidName):
        make_roster(home).obey(Start(epoch=1, spec=make_spec(worker_id)))
    assert [path.name for path in home.run.iterdir()] == ["epoch"]


def test_nothing_starts_after_the_order_to_shut_down(home: Home) -> None:
    roster = make_roster(home)
    assert not roster.is_done
    roster.obey(Shutdown(grace_s=1))
    assert roster.is_done
    with pytest.raises(ShuttingDown):
        roster.obey(Start(epoch=1, spec=make_spec()))


def test_half_deleted_folders_are_cleared_away_at_the_start(home: Home) -> None:
    (home.run / ".trash-ab" / "work").mkdir(parents=True)
    make_roster(home).adopt()
    assert list(home.run.glob(".trash*")) == []


def test_garbage_in_the_run_folder_stops_no_agent(home: Home) -> None:
    (home.run / "epoch").write_text("")
    (home.run / ".epoch.0a.tmp").touch()
    (home.run / "notes.txt").write_text("mine")
    for name, files in {
        "job_torn-1": {"spec.json": b"{"},
        "job_empty-1": {"spec.json": b""},
        "job_moved-1": {"spec.json": msgspec.json.encode(make_spec("job_other-1"))},
    }.items():
        (home.run / name).mkdir()
        for file, data in files.items():
            (home.run / name / file).write_bytes(data)
    (home.run / "job_folder-1" / "spec.json").mkdir(parents=True)
    roster = make_roster(home)
    roster.adopt()
    assert roster.obey(Hello(epoch=1)).epoch == 1
    assert roster.obey(Poll()) == []
    assert not (home.run / ".epoch.0a.tmp").exists()
    assert (home.run / "notes.txt").exists()


@pytest.mark.parametrize("torn", ["pid", "outcome.json", "stop"])
def test_a_worker_with_a_file_torn_by_a_power_cut_is_lost_and_can_be_forgotten(
    home: Home, torn: str
) -> None:
    folder = WorkerFolder.under(home.run, "job_a-1")
    folder.create(make_spec())
    folder.write_birth(Birth(pid=1 << 22, start_ticks=1, boot_id="", started_at=0.0))
    (folder.path / torn).write_bytes(b"")
    roster = make_roster(home)
    roster.adopt()
    [status] = roster.obey(Poll())
    assert not status.is_alive
    assert status.outcome.status is OutcomeStatus.LOST
    roster.obey(Forget(epoch=1, worker_id="job_a-1"))
    assert not folder.path.exists()


def test_a_killed_replica_leaves_no_socket(home: Home) -> None:
    folder = WorkerFolder.under(home.run, "rep_a")
    folder.create(make_spec("rep_a"))
    folder.write_birth(Birth(pid=1 << 22, start_ticks=1, boot_id="", started_at=0.0))
    home.sockets.mkdir()
    (home.sockets / "rep_a.sock").touch()
    roster = make_roster(home)
    roster.adopt()
    roster.obey(Forget(epoch=1, worker_id="rep_a"))
    assert list(home.sockets.iterdir()) == []


def test_a_last_word_that_cannot_be_written_holds_back_no_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("job_a-1", "job_b-1"):
        folder = WorkerFolder.under(home.run, name)
        folder.create(make_spec(name))
        folder.write_birth(Birth(pid=1 << 22, start_ticks=1, boot_id="", started_at=0.0))
    write = WorkerFolder.write_outcome

    def refuse(self: WorkerFolder, outcome: Outcome) -> None:
        if self.path.name == "job_a-1":
            raise OSError(errno.ENOSPC, "no space left on device")
        write(self, outcome)

    monkeypatch.setattr(WorkerFolder, "write_outcome", refuse)
    roster = make_roster(home)
    roster.adopt()
    assert {s.worker_id: s.is_alive for s in roster.obey(Poll())} == {
        "job_a-1": True,
        "job_b-1": False,
    }
    with pytest.raises(OSError, match="no space"):
        roster.settle_ended()
    monkeypatch.undo()
    assert not any(status.is_alive for status in roster.obey(Poll()))


def test_silence_counts_only_while_the_agent_is_awake(home: Home) -> None:
    now = 0.0
    roster = Roster(
        home, Starter(home.root, "exec"), Bell(home.sockets, enabled=False), clock=lambda: now
    )
    folder = WorkerFolder.under(home.run, "rep_a")
    folder.create(make_spec("rep_a"))
    # This very process plays the worker: it lives, and holds the lock.
    folder.write_birth(
        Birth(
            pid=os.getpid(),
            start_ticks=start_ticks(os.getpid()),
            boot_id=boot_id(),
            started_at=time.time(),
        )
    )
    lock = folder.take_lock()
    assert lock is not None
    roster.adopt()

    def silent_s() -> float:
        roster.enforce(look=True)
        [status] = roster.obey(Poll())
        return float(status.silent_s)

    assert silent_s() == 0.0
    now += 1.0
    assert silent_s() == 1.0
    # The whole machine slept; nobody could show a sign of life.
    now += 3600.0
    assert silent_s() <= 3.0
    os.utime(lock, (1, 1))
    assert silent_s() == 0.0
    os.close(lock)


def test_the_largest_epoch_is_remembered(home: Home) -> None:
    guard = EpochGuard(home.run / "epoch")
    guard.check(3)
    guard.check(3)
    with pytest.raises(StaleEpoch):
        guard.check(2)
    assert EpochGuard(home.run / "epoch").current == 3
    with pytest.raises(StaleEpoch):
        make_roster(home).obey(Hello(epoch=2))


def test_auto_forks_on_linux() -> None:
    assert resolve_start_method("auto") == "fork"
    assert resolve_start_method("exec") == "exec"
