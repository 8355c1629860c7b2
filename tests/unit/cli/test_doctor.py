"""`modelry doctor` sees what is wrong and tells the remedy."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from modelry.cli.doctor import check_permissions, check_port, check_python
from modelry.core.settings import load_settings
from tests.unit.cli.conftest import Run


def test_an_old_python_is_told() -> None:
    assert check_python((3, 10, 9)).verdict == "bad"
    assert check_python((3, 11, 0)).verdict == "ok"


def test_a_taken_port_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert check_port("127.0.0.1", port).verdict == "bad"
    assert check_port("127.0.0.1", port).verdict == "ok"


def test_a_secret_that_others_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("mk_a_b")
    (tmp_path / "admin.key").chmod(0o644)
    (finding,) = check_permissions(load_settings(home=tmp_path))
    assert finding.verdict == "bad"
    assert finding.remedy.startswith("chmod 600")
    (tmp_path / "admin.key").chmod(0o600)
    assert [item.verdict for item in check_permissions(load_settings(home=tmp_path))] == ["ok"]


def test_a_healthy_machine_without_a_service_passes(
    modelry: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("MODELRY_PORT", port)
    ended = modelry("doctor", "--json", url=f"http://127.0.0.1:{port}")
    findings = {item["subject"]: item for item in json.loads(ended.out)}
    assert ended.status == 0
    assert findings["service"]["verdict"] == "note"
    assert findings["port"]["verdict"] == "ok"
    assert findings["torch"]["verdict"] == "ok"


def test_a_malformed_setting_fails_with_its_name(
    modelry: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELRY_PORT", "many")
    ended = modelry("doctor")
    assert ended.status == 1
    assert "MODELRY_PORT" in ended.out
