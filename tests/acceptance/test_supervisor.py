"""`modelry up` as its owner meets it: one service a home, processes that come back, an end in order, and kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from modelry.core.home import Home
from tests.service import Service, kill_hard, running_service, wait_until

CHILDREN = (
    "modelry.worker.agent",
    "modelry.server.control.controller",
    "modelry.server.api.serve",
)


def start_and_read(home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `modelry up` where it is expected to refuse; what it said."""
    return subprocess.run(
        [sys.executable, "-m", "modelry.server.supervisor"],
        env=Service(home, **settings).environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_whichever_process_is_killed_comes_back_and_the_address_stays(tmp_path: Path) -> None:
    with running_service(tmp_path / "home", web="2") as service:
        for name in CHILDREN:
            before = {process.pid for process in service.find(name)}
            assert len(before) == (2 if name.endswith("serve") else 1)
            assert service.kill(name) == len(before)
            wait_until(
                lambda name=name, before=before: (
                    len(now := {p.pid for p in service.find(name)}) == len(before)
                    and not now & before
                ),
                20,
                f"{name} is back",
            )
            # The connection waits in the supervisor's socket while no web process lives.
            assert httpx.get(service.url + "/health", timeout=20).is_success
        assert "SIGKILL" in service.said


def test_the_end_is_orderly_and_leaves_no_process(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        assert service.stop() == 0
        assert service.processes() == []
        assert not (service.home / "service.json").exists()
        service.start()
        assert service.stop() == 0


def test_kill_of_the_supervisor_ends_its_processes_and_does_not_hinder_the_next(
    tmp_path: Path,
) -> None:
    with running_service(tmp_path / "home") as service:
        port = service.url.rpartition(":")[2]
        assert service.process is not None
        kill_hard(service.process.pid)
        service.process.wait()
        # The same port, at once, though old web processes may still be about to leave it.
        service.settings |= {"port": port, "grpc_port": "0"}
        service.start()
        assert service.url.endswith(port)
        wait_until(lambda: len(service.processes()) == 1 + len(CHILDREN), 20, "one of each is left")


def test_a_power_cut_leaves_files_that_do_not_hinder_the_next_start(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        key = service.key
        service.kill_everything()
        assert (service.home / "service.json").exists()
        service.start()
        assert service.key == key


def test_a_second_service_on_the_same_home_is_refused(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        assert service.process is not None
        second = start_and_read(service.home)
        assert second.returncode == 2
        assert str(service.process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        assert httpx.get(service.url + "/health", timeout=10).is_success


def test_a_port_in_use_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        second = start_and_read(tmp_path / "other", port=service.url.rpartition(":")[2])
        assert second.returncode == 2
        assert "--port" in second.stderr


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"host": "0.0.0.0"}, "MODELRY_TLS_CERT"),
        ({"host": "no.such.host.invalid", "insecure_http": "true"}, "MODELRY_HOST"),
        ({"web": "many"}, "MODELRY_WEB"),
    ],
)
def test_a_start_that_cannot_be_right_is_refused_in_two_lines(
    tmp_path: Path, settings: dict[str, str], word: str
) -> None:
    refused = start_and_read(tmp_path / "home", **settings)
    assert refused.returncode == 2
    assert word in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 2


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = start_and_read(tmp_path / "file" / "home")
    assert refused.returncode == 2
    assert "MODELRY_HOME" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_home_too_deep_for_the_database_is_refused_with_the_reason(tmp_path: Path) -> None:
    refused = start_and_read(tmp_path.joinpath(*["x" * 200] * 3))
    assert refused.returncode == 2
    assert "MODELRY_HOME" in refused.stderr
    assert "bytes" in refused.stderr


@pytest.mark.parametrize("name", ["with spaces", "中文", "what?", "100%41", "#1", "it's"])
def test_a_home_may_be_called_anything(tmp_path: Path, name: str) -> None:
    with running_service(tmp_path / name) as service:
        assert httpx.get(service.url + "/health", timeout=10).is_success
        assert service.stop() == 0


def test_a_home_of_another_user_is_refused_with_the_reason(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("nothing is refused to root")
    lock = tmp_path / "home" / "run" / "agent.lock"
    lock.parent.mkdir(parents=True)
    lock.touch(0o000)
    refused = start_and_read(tmp_path / "home")
    assert refused.returncode == 2
    assert "chown" in refused.stderr


def test_ctrl_c_is_quiet_however_early(tmp_path: Path) -> None:
    service = Service(tmp_path / "home")
    for patience_s in (0.2, 0.5, 0.8):
        process = subprocess.Popen(
            [sys.executable, "-m", "modelry.server.supervisor"],
            env=service.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        time.sleep(patience_s)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert b"Traceback" not in said
        assert service.processes() == []


def test_an_end_in_order_leaves_no_socket(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        assert service.stop() == 0
        assert not Home(service.home).sockets.exists()


def test_plain_http_beyond_this_machine_is_said_at_each_start(tmp_path: Path) -> None:
    with running_service(tmp_path / "home", host="0.0.0.0", insecure_http="true") as service:
        assert service.url.startswith("http://127.0.0.1:")
        assert "Warning: Plain HTTP on 0.0.0.0" in service.said


def test_the_home_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        home = Home(service.home)
        for folder in (home.root, home.run, home.sockets, home.logs, home.blobs):
            assert folder.stat().st_mode & 0o077 == 0
        for name in ("secret", "admin.key", "service.json", "service.lock", "modelry.db"):
            assert (service.home / name).stat().st_mode & 0o077 == 0, name


def test_the_agent_has_no_way_to_the_database(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        (agent,) = service.find("modelry.worker.agent")
        assert "MODELRY_DATABASE_URL" not in agent.environ()
        maps = Path(f"/proc/{agent.pid}/maps").read_text()
        assert "sqlite" not in maps


def test_ctrl_c_twice_ends_soon_though_a_web_process_is_stuck(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        assert service.process is not None
        (web,) = service.find("modelry.server.api.serve")
        os.kill(web.pid, signal.SIGSTOP)
        service.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(25) == 0
        assert not psutil.pid_exists(web.pid)
