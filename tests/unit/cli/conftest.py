"""Runs commands as a user does, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelry.cli.main import main


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def modelry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """`modelry("jobs", "list", url=…)`; the home is empty and the environment clean."""
    monkeypatch.setenv("MODELRY_HOME", str(tmp_path / "home"))
    for name in ("MODELRY_URL", "MODELRY_PROJECT", "MODELRY_PORT"):
        # Set first: options write to the environment, and only what was set here is put back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODELRY_KEY", "mk_a_b")

    def run(*arguments: str, url: str | None = None) -> Ended:
        if url is not None:
            monkeypatch.setenv("MODELRY_URL", url)
        monkeypatch.setattr(sys, "argv", ["modelry", *arguments])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run
