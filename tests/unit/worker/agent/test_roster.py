"""What the roster promises before and while a worker is made, tried without a loop around it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from modelry.core.bell import Bell
from modelry.core.errors import InvalidName, ShuttingDown, StaleEpoch
from modelry.core.home import Home
from modelry.core.orders import Hello, Poll, Shutdown, Start
from modelry.core.specs import JobSpec
from modelry.worker.agent.epoch import EpochGuard
from modelry.worker.agent.roster import Roster
from modelry.worker.agent.starting import Starter, resolve_start_method
from modelry.worker.folder import WorkerFolder


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
