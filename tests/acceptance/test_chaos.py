"""Misfortune drawn by dice: whatever dies or stands still, every job ends right and no answer is wrong."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from modelry.core.home import Home
from tests.api import FINAL, Api
from tests.service import Service, kill_hard, wait_until

MISFORTUNE_S = 20.0
STEPS = 60
PARAMS = {"epochs": 2, "batch_size": 32, "channels": [4], "hidden": [8], "seed": 5}
QUESTION = {"instances": [np.round(np.random.default_rng(0).random((28, 28, 1)), 3).tolist()]}
KINDS = (
    "modelry.worker.agent",
    "modelry.server.control.controller",
    "modelry.server.api.serve",
    "modelry.worker.runner",
    "replica",
)


class Fate:
    """What happens to the service: each turn of the dice is one misfortune, or one change of mind."""

    def __init__(self, service: Service, api: Api, jobs: list[str], seed: int) -> None:
        self._service = service
        self._api = api
        self._jobs = jobs
        self._dice = random.Random(seed)
        self._standing: list[tuple[float, int]] = []

    def rage(self, duration_s: float) -> None:
        """One thing after another; in the end whoever stands still may go on, and what was paused is resumed."""
        turns: list[Callable[[], None]] = [self._kill] * 4 + [self._halt] * 2
        turns += [self._change_mind] * 3 + [self._roll] * 2 + [self._make_and_delete]
        ends_at = time.monotonic() + duration_s
        cut_at = time.monotonic() + duration_s / 2
        while time.monotonic() < ends_at:
            self._dice.choice(turns)()
            time.sleep(self._dice.random() * 0.6)
            self._wake(time.monotonic())
            if time.monotonic() > cut_at:
                cut_at = ends_at
                self._service.kill_everything()
                self._service.start()
        self._wake(float("inf"))
        for job_id in self._jobs:
            self._wish(job_id, "resume")

    def _victim(self) -> int | None:
        kind = self._dice.choice(KINDS)
        if kind == "replica":
            run = self._service.home / "run"
            pids = [self._service.worker_pid(p.parent.name) for p in run.glob("rep_*/pid")]
            pids = [pid for pid in pids if psutil.pid_exists(pid)]
        else:
            pids = [process.pid for process in self._service.find(kind)]
        return self._dice.choice(pids) if pids else None

    def _kill(self) -> None:
        with suppress(FileNotFoundError):
            if (pid := self._victim()) is not None:
                kill_hard(pid)

    def _halt(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            if (pid := self._victim()) is not None:
                os.kill(pid, signal.SIGSTOP)
                self._standing.append((time.monotonic() + 0.3, pid))
                # Not longer: this very hand may be needed to answer the next call.
                time.sleep(0.3)
                self._wake(time.monotonic())

    def _wake(self, until: float) -> None:
        for due in [due for due in self._standing if due[0] <= until]:
            self._standing.remove(due)
            with suppress(ProcessLookupError):
                os.kill(due[1], signal.SIGCONT)

    def _change_mind(self) -> None:
        job_id = self._dice.choice(self._jobs)
        for verb in self._dice.choice([["pause"], ["resume"], ["pause", "resume"]]):
            self._wish(job_id, verb)

    def _wish(self, job_id: str, verb: str) -> None:
        answer = self._api.ask("POST", f"/api/v1/jobs/{job_id}/{verb}", json={})
        assert answer.is_success or answer.status_code == 409, answer.text

    def _roll(self) -> None:
        change = {
            "model": f"net:{self._dice.choice([1, 2])}",
            "replicas": self._dice.choice([1, 2]),
        }
        self._api.call("PATCH", "/api/v1/deployments/net", json=change)

    def _make_and_delete(self) -> None:
        self._api.ask("POST", "/api/v1/deployments", json={"name": "brief", "model": "net:1"})
        time.sleep(self._dice.random() * 0.3)
        self._api.ask("DELETE", "/api/v1/deployments/brief")


def digest(api: Api, model: str) -> str:
    files = api.get(f"/models/{model}/versions/latest")["files"]
    return str(next(f["digest"] for f in files if f["path"] == "weights.safetensors"))


def settled(api: Api, home: Path) -> bool:
    """Whether nothing is left in `run/` but what serves now."""
    serving = {
        replica["worker_id"]
        for deployment in api.get("/deployments")
        for replica in api.get(f"/deployments/{deployment['name']}")["replicas_list"]
        if replica["state"] == "ready"
    }
    workers = {path.name for path in (home / "run").iterdir() if path.name[:4] in ("rep_", "job_")}
    doors = {path.stem for path in Home(home).sockets.glob("*.sock")} - {"agent"}
    return workers == doors == serving


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1])
def test_every_promise_holds_though_everything_dies(service: Service, api: Api, seed: int) -> None:
    api.add_digits()
    for number in (1, 2):
        api.wait_job(api.train("net", params={**PARAMS, "seed": number}, threads=1))
    api.wait_job(api.train("calm", params=PARAMS, threads=1))
    truth = {}
    for version in (1, 2):
        api.deploy(f"net:{version}", f"v{version}")
        truth[version] = api.call("POST", f"/v1/models/v{version}:predict", json=QUESTION)
        api.delete(f"/deployments/v{version}")
    api.deploy("net:1", "net", replicas=2)

    counting = [
        api.submit(kind="sleep", steps=STEPS, step_s=0.05, checkpoint_steps=1) for _ in range(3)
    ]
    training = api.train("tossed", params=PARAMS, threads=1, checkpoint_steps=5)
    Fate(service, api, [*counting, training], seed).rage(MISFORTUNE_S)

    for job_id in counting:
        assert api.wait_job(job_id, *FINAL)["notes"]["result"] == {"steps": STEPS}
    api.wait_job(training)
    assert digest(api, "tossed") == digest(api, "calm")
    api.wait_deployment("net", "ready")
    answer = api.ask("POST", "/v1/models/net:predict", json=QUESTION)
    expected = truth[int(answer.headers["x-model-version"])]["predictions"]
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-5)

    wait_until(lambda: settled(api, service.home), 30, "run/ holds only what serves")
    assert service.stop() == 0
    assert service.processes() == []
    assert not list(Home(service.home).sockets.glob("**/*.sock"))
    for log in (service.home / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(), log
