"""Each law is tried with both ways to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.compute.machine import HERE, Machine


@pytest.fixture(params=["fork", "exec"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("MODELRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELRY_DATABASE_URL", "postgresql://user:secret@nowhere/db")
    machine = Machine(tmp_path / "home", method)
    machine.start_agent()
    yield machine
    machine.clean_up()
