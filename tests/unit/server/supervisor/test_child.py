"""A process of the service comes back when it ends: at once at first, then with growing pauses."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from modelry.server.supervisor import child as child_module
from modelry.server.supervisor.child import Child, rotate


def make(tmp_path: Path, code: str) -> Child:
    return Child("part", [sys.executable, "-c", code], dict(os.environ), tmp_path / "part.log")


def end(child: Child) -> None:
    deadline = time.monotonic() + 10
    while child.is_alive and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not child.is_alive


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_steady_life(
    tmp_path: Path,
) -> None:
    child = make(tmp_path, "raise SystemExit(3)")
    now, pauses = 100.0, []
    for _ in range(9):
        assert child.tend(now) is None
        end(child)
        news = child.tend(now)
        assert news is not None
        assert "exit status 3" in news
        assert child.start_at is not None
        pauses.append(round(child.start_at - now, 3))
        assert child.tend(now) is None
        assert not child.is_alive
        now = child.start_at
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    child.tend(now)
    end(child)
    child.tend(now + child_module.STEADY_S)
    assert child.start_at == now + child_module.STEADY_S + 0.1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN + 6])
def test_a_signal_that_ended_it_is_named(tmp_path: Path, number: int) -> None:
    child = make(tmp_path, "import time; time.sleep(60)")
    child.tend(1.0)
    child.signal(number)  # type: ignore[arg-type]
    end(child)
    news = child.tend(2.0)
    assert news is not None
    assert ("SIGKILL" if number == signal.SIGKILL else f"signal {number}") in news


def test_what_it_writes_goes_to_its_log(tmp_path: Path) -> None:
    child = make(tmp_path, "import sys; print('hello'); print('trouble', file=sys.stderr)")
    child.tend(1.0)
    end(child)
    assert sorted((tmp_path / "part.log").read_text().split()) == ["hello", "trouble"]


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from modelry.server.supervisor.child import Child\n"
        "place = Path(sys.argv[1])\n"
        "code = 'import os, sys, time; open(sys.argv[1], \"w\").write(str(os.getpid()));' \\\n"
        "    'time.sleep(60)'\n"
        "draft = str(place / 'pid')\n"
        "child = Child('part', [sys.executable, '-c', code, draft], dict(os.environ),\n"
        "    place / 'log')\n"
        "child.tend(1.0)\n"
        "while not (place / 'pid').exists() or not (place / 'pid').read_text():\n"
        "    time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    status = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script, str(tmp_path)])
    assert status == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(pid)


@pytest.mark.parametrize(("size", "is_rotated"), [(100, False), (11 << 20, True)])
def test_a_log_that_has_grown_large_is_put_aside(
    tmp_path: Path, size: int, is_rotated: bool
) -> None:
    log = tmp_path / "web.log"
    rotate(log)
    with log.open("wb") as file:
        file.truncate(size)
    rotate(log)
    assert log.exists() is not is_rotated
    assert (tmp_path / "web.log.1").exists() is is_rotated


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
