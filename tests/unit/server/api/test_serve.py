"""The web process as its parent runs it: on an inherited socket, in step with the others, and leaving politely."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from modelry.core.bell import Bell
from modelry.core.settings import Settings
from modelry.server.control import access
from modelry.server.store import Store

START_S = 30


class Process:
    """One web process on a socket that the test, like the supervisor, keeps."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self.settings = settings
        self.listening = listening
        clean = {name: text for name, text in os.environ.items() if not name.startswith("MODELRY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelry.server.api.serve"]
            + ["--fd", str(listening.fileno()), "--index", "3"],
            env={**clean, **settings.environment()},
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
        )

    def end(self) -> tuple[int, str]:
        """SIGTERM; the exit status and what was logged."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=START_S)
        return self.process.returncode, said.decode()


class House:
    """A home with a store, an admin key and a listening socket."""

    def __init__(self, home: Path, **settings: object) -> None:
        home.mkdir()
        self.settings = Settings(home=home, **settings)  # type: ignore[arg-type]
        self.store = Store(self.settings.database_address)
        self.store.migrate(None)
        self.admin = access.ensure_admin_key(self.store, self.settings).read_text().strip()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.url = f"{self.settings.scheme}://127.0.0.1:{self.port}"

    def headers(self, key: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.admin}"}

    def status(self, key: str) -> int:
        url = f"{self.url}/api/v1/whoami"
        return httpx.get(url, headers=self.headers(key), timeout=START_S).status_code


@contextlib.contextmanager
def serving(house: House) -> Iterator[Process]:
    process = Process(house.settings, house.listening)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home", poll_s=0.1)
    yield made
    made.listening.close()
    made.store.close()


def wait_until(claim: Callable[[], bool], timeout_s: float = START_S) -> float:
    """How long it took."""
    began = time.monotonic()
    while not claim():
        assert time.monotonic() < began + timeout_s
        time.sleep(0.005)
    return time.monotonic() - began


def test_it_answers_on_the_socket_it_was_given_and_ends_well(house: House) -> None:
    with serving(house) as web:
        assert httpx.get(house.url + "/health", timeout=START_S).json()["status"] == "ok"
        status, said = web.end()
    assert status == 0, said
    assert "Traceback" not in said


def test_an_upload_in_flight_is_finished_before_the_end(house: House) -> None:
    is_begun, is_ending = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"x" * 1000
        is_begun.set()
        is_ending.wait(START_S)
        yield b"y" * 1000

    with serving(house) as web, httpx.Client(base_url=house.url, timeout=START_S) as client:
        upload = client.post("/api/v1/uploads", headers=house.headers()).json()["id"]
        answers: list[httpx.Response] = []
        url = f"/api/v1/uploads/{upload}/files/a"
        sender = threading.Thread(
            target=lambda: answers.append(client.put(url, content=body(), headers=house.headers()))
        )
        sender.start()
        is_begun.wait(START_S)
        web.process.send_signal(signal.SIGTERM)
        # Nobody takes a new connection any more: it waits in the backlog for the next process.
        time.sleep(0.2)
        with serving(house):
            assert httpx.get(house.url + "/health", timeout=START_S).is_success
            is_ending.set()
            sender.join(START_S)
        assert web.process.wait(START_S) == 0
    assert answers[0].json()["size_bytes"] == 2000
    assert answers[0].headers["connection"] == "close"


def test_clients_that_keep_their_connections_see_no_failure_when_processes_take_turns(
    house: House,
) -> None:
    stopped, failures, answered = threading.Event(), [], [0]

    def ask_again_and_again() -> None:
        with httpx.Client(base_url=house.url, timeout=START_S) as client:
            while not stopped.is_set():
                try:
                    assert client.get("/health").is_success
                    answered[0] += 1
                except httpx.HTTPError as error:
                    failures.append(repr(error))

    with serving(house) as old:
        clients = [threading.Thread(target=ask_again_and_again) for _ in range(4)]
        for client in clients:
            client.start()
        wait_until(lambda: answered[0] > 100)
        old.process.send_signal(signal.SIGTERM)
        with serving(house):
            assert old.process.wait(START_S) == 0
            before = answered[0]
            wait_until(lambda: answered[0] > before + 100)
            stopped.set()
            for client in clients:
                client.join(START_S)
    assert failures == []


@pytest.mark.parametrize(("bell", "poll_s"), [(True, 30.0), (False, 0.1)])
def test_a_key_revoked_by_another_process_stops_within_two_seconds(
    tmp_path: Path, bell: bool, poll_s: float
) -> None:
    house = House(tmp_path / "home", bell=bell, poll_s=poll_s)
    pepper = access.load_pepper(house.settings)
    with serving(house):
        key, text = access.create_key(
            house.store, pepper, label="x", scopes=("read",), project="default"
        )
        assert house.status(text) == 200
        access.revoke_key(house.store, key.id)
        Bell(house.settings.places.sockets / "bells", bell).ring()
        took_s = wait_until(lambda: house.status(text) == 401)
    assert took_s < 2
    house.listening.close()


def test_it_starts_again_where_the_database_was_away_for_a_while(house: House) -> None:
    database = house.settings.places.database
    with serving(house):
        assert house.status(house.admin) == 200
        database.rename(database.with_name("aside"))
        time.sleep(0.3)
        assert house.status(house.admin) == 200
        database.with_name("aside").rename(database)
        answer = httpx.get(f"{house.url}/api/v1/projects", headers=house.headers())
        assert answer.is_success


def test_with_a_certificate_it_speaks_tls(tmp_path: Path) -> None:
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", str(private)]
        + ["-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no openssl here to make a certificate")
    house = House(tmp_path / "home", tls_cert=certificate, tls_key=private)
    context = ssl.create_default_context(cafile=str(certificate))
    with serving(house):
        assert httpx.get(house.url + "/health", verify=context, timeout=START_S).is_success
    house.listening.close()
