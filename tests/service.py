"""A whole service in a home of its own, started and killed like a user's: real processes on a free port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

import modelry
from modelry.core.home import Home

START_S = 60.0


class Service:
    """`modelry up` on a temporary home; `stop` is Ctrl-C, `kill_everything` is the power cut."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        #: Whom to trust where the service speaks TLS.
        self.authority: ssl.SSLContext | bool = True

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the service's processes; the caller's own settings do not leak in."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("MODELRY_")}
        given = {f"MODELRY_{name.upper()}": text for name, text in self.settings.items()}
        return {**clean, "MODELRY_HOME": str(self.home), "MODELRY_PORT": "0", **given}

    def start(self) -> Service:
        """Starts and waits until the service answers."""
        with open(self.home.parent / f"{self.home.name}.up.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelry.server.supervisor"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_ready, START_S, "the service answers")
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"modelry up ended: {self.said}")
        try:
            described = json.loads((self.home / "service.json").read_text())
            return (
                described["pid"] == self.process.pid
                and httpx.get(
                    described["url"] + "/health", timeout=2, verify=self.authority
                ).is_success
            )
        except (OSError, ValueError, KeyError, httpx.HTTPError):
            return False

    @property
    def said(self) -> str:
        """What `modelry up` printed."""
        return (self.home.parent / f"{self.home.name}.up.log").read_text(errors="replace")

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "service.json").read_text())["url"])

    @property
    def key(self) -> str:
        return (self.home / "admin.key").read_text().strip()

    def client(self, key: str | None = None, project: str | None = None) -> modelry.Client:
        """A client with the admin key, or another."""
        return modelry.Client(self.url, key or self.key, project=project)

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ctrl-C; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)

    def processes(self) -> list[psutil.Process]:
        """Every process of this service, workers included, by the home in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("MODELRY_HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def find(self, *words: str) -> list[psutil.Process]:
        """The service's processes whose command line holds all the words."""
        found = []
        for process in self.processes():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def kill(self, *words: str) -> int:
        """kill -9 of those processes; returns how many."""
        victims = self.find(*words)
        for process in victims:
            kill_hard(process.pid)
        return len(victims)

    def worker_pid(self, worker_id: str) -> int:
        """The process of a job's attempt or a replica, as the agent has it on record."""
        return int(json.loads((self.home / "run" / worker_id / "pid").read_text())["pid"])

    def kill_everything(self) -> None:
        """kill -9 of every process, in any order, until none is left."""
        deadline = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                kill_hard(process.pid)
            time.sleep(0.02)
        if self.process is not None:
            self.process.wait(10)


def kill_hard(pid: int) -> None:
    """kill -9; a process that is gone already is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(claim: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Waits until the claim holds; the time-out only ends a hang."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"not after {timeout_s:g} s: {what}")
        time.sleep(0.02)


@contextmanager
def running_service(home: Path, **settings: str) -> Iterator[Service]:
    """A service for a `with` block; nothing of it is left behind."""
    service = Service(home, **settings)
    try:
        yield service.start()
    finally:
        service.kill_everything()
        # Sockets of a home with a long path lie elsewhere, and nobody was left to clear them.
        shutil.rmtree(Home(home).sockets, ignore_errors=True)
