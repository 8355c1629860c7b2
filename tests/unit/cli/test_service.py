"""`up`, `down` and `quickstart` against real services."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelry.client.address import find_home
from tests.service import Service
from tests.unit.cli.conftest import Run


@pytest.fixture
def home(modelry: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of the commands; nothing lives on in it."""
    monkeypatch.setenv("MODELRY_PORT", "0")
    monkeypatch.delenv("MODELRY_KEY")
    root = find_home().root
    yield root
    Service(root).kill_everything()


def test_a_detached_service_answers_until_it_is_taken_down(modelry: Run, home: Path) -> None:
    assert "No service runs" in modelry("down").err
    started = modelry("up", "--detach")
    assert started.status == 0, started.err
    assert str(home / "admin.key") in started.out
    assert modelry("status").status == 0
    again = modelry("up", "--detach")
    assert again.status == 1
    assert "already" in again.err
    assert modelry("doctor").status == 0
    assert modelry("recipes", "cnn").out.count("\n") > 10
    assert modelry("down").err == "The service has ended.\n"
    assert modelry("status").status == 1


def test_a_malformed_setting_refuses_the_start_with_its_name(
    modelry: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELRY_WEB", "none")
    ended = modelry("up", "--detach")
    assert ended.status == 1
    assert "MODELRY_WEB" in ended.err


@pytest.mark.slow
def test_the_quickstart_can_be_kept_and_run_again(modelry: Run, home: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "图片 1"
    first = modelry("quickstart", "--keep", "--epochs", "1", "--out", str(pictures))
    second = modelry("quickstart", "--keep", "--epochs", "1", "--out", str(pictures))
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert "Test accuracy" in second.out
    assert sorted(path.name for path in pictures.iterdir()) == [
        "held-out-digits.png",
        "seven.png",
        "training-curves.png",
    ]
    shell, python = printed_lines(second.out)
    for command in (["bash", "-euo", "pipefail", "-c", shell], [sys.executable, "-c", python]):
        done = subprocess.run(
            command,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "7" in done.stdout
    assert modelry("down").status == 0


def printed_lines(out: str) -> tuple[str, str]:
    """The shell's and Python's lines to go on with."""
    shell, _, python = out.partition("Go on with curl:\n")[2].partition("… or with Python:\n")
    code = [line.strip() for line in python.splitlines() if line.startswith("  ")]
    return "\n".join(line for line in shell.splitlines() if line.startswith("  ")), "\n".join(code)
