"""64 clients predict while versions roll, replicas die and the web process restarts: no wrong answer, none missing."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.acceptance import pausing
from tests.acceptance.pausing_runtime import CRASH
from tests.api import Api
from tests.service import Service, kill_hard, wait_until

CLIENTS = 64
REPLICA_PARAMS = {"epochs": 1, "channels": [4], "hidden": [8]}


@dataclass
class Crowd:
    """Closed-loop clients that ask the same questions again and again and keep every answer."""

    service: Service
    questions: list[list[object]]
    name: str = "digits"
    answers: list[tuple[int, int, list[float]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Crowd:
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > CLIENTS, 30, "the crowd gets answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        url = self.service.url + f"/v1/models/{self.name}:predict"
        headers = {"authorization": f"Bearer {self.service.key}"}
        # No keep-alive: a connection that idles while its web process is killed is no failed request of ours.
        with httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as http:
            turn = number
            while not self._stop.is_set():
                turn = (turn + 1) % len(self.questions)
                body = json.dumps({"instances": [self.questions[turn]]})
                try:
                    answer = http.post(url, content=body, headers=headers)
                except httpx.HTTPError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                if not answer.is_success:
                    self.failures.append(f"{answer.status_code}: {answer.text}")
                    continue
                version = int(answer.headers["x-model-version"])
                self.answers.append((turn, version, answer.json()["predictions"][0]))

    def asked_more(self, count: int = 300) -> None:
        """Waits until so many more answers have come."""
        target = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= target, 60, f"{count} more answers")


def expected(api: Api, name: str, questions: list[list[object]], version: int) -> list[list[float]]:
    """What each version answers when asked alone."""
    path = f"/v1/models/{name}/versions/{version}:predict"
    return [
        api.call("POST", path, json={"instances": [question]})["predictions"][0]
        for question in questions
    ]


@pytest.fixture
def deployed(api: Api) -> list[list[object]]:
    """Two versions of a small network, the first deployed twice; random pictures to ask about."""
    api.add_digits()
    for seed in (1, 2):
        api.wait_job(api.train(params={**REPLICA_PARAMS, "seed": seed}))
    api.deploy("digits:1", "digits", replicas=2)
    dice = np.random.default_rng(0)
    return [np.round(dice.random((28, 28, 1)), 3).tolist() for _ in range(16)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_request_fails_and_no_answer_is_wrong(
    service: Service, api: Api, deployed: list[list[object]]
) -> None:
    truth = {1: expected(api, "digits", deployed, 1)}
    with Crowd(service, deployed) as crowd:
        crowd.asked_more()
        api.call("PATCH", "/api/v1/deployments/digits", json={"model": "digits:2"})
        wait_until(
            lambda: any(version == 2 for _, version, _ in crowd.answers[-50:]), 60, "version 2"
        )
        crowd.asked_more()
        deployment = api.wait_deployment("digits", "ready")
        ready = [r for r in deployment["replicas_list"] if r["state"] == "ready"]
        assert len(ready) == 2
        kill_hard(service.worker_pid(ready[0]["worker_id"]))
        crowd.asked_more()
        api.wait_deployment("digits", "ready")
        assert crowd.failures == []

        service.find("modelry.server.api.serve")[0].terminate()
        time.sleep(0.2)
        crowd.asked_more()
        assert crowd.failures == [], "a drained web process fails nobody"

        service.kill("modelry.server.api.serve")
        crowd.asked_more()
    truth[2] = expected(api, "digits", deployed, 2)
    assert len(crowd.failures) <= CLIENTS, crowd.failures[:5]
    assert all("RemoteProtocol" in text or "ReadError" in text for text in crowd.failures)
    for turn, version, answer in crowd.answers:
        np.testing.assert_allclose(answer, truth[version][turn], atol=1e-5)


def test_an_input_that_crashes_the_model_among_64_good_clients(tmp_path: Path) -> None:
    """It is told so, kills at most two replicas, and every good request is answered rightly."""
    poison_seen: list[httpx.Response] = []
    answers: list[tuple[float, httpx.Response]] = []
    enough = threading.Event()
    house = pausing.service_with_pausing(tmp_path / "home", 0.002, lease_s="0.6")
    with house as (service, record), Api(service) as api:
        pausing.deploy(api, max_batch=32, replicas=2)
        url, headers = service.url + pausing.PATH, {"authorization": f"Bearer {service.key}"}

        def ask(client: int) -> None:
            with httpx.Client(headers=headers, timeout=60) as http:
                number = client
                while not enough.is_set():
                    number += CLIENTS
                    answers.append((number, http.post(url, content=pausing.body_of(number))))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(answers) > 10 * CLIENTS, 60, "the good clients get answers")
            poison_seen.append(
                httpx.post(url, content=pausing.body_of(CRASH), headers=headers, timeout=60)
            )
            target = len(answers) + 10 * CLIENTS
            wait_until(lambda: len(answers) > target, 60, "the good clients go on")
        finally:
            enough.set()
            for thread in threads:
                thread.join()
        assert poison_seen[0].status_code == 500
        assert poison_seen[0].headers["x-modelry-error"] == "model_crashed"
        assert "ended the model's process" in poison_seen[0].json()["error"]
        assert 1 <= len(pausing.run_at(record)[CRASH]) <= 2
        wrong = [
            (number, answer.status_code, answer.text)
            for number, answer in answers
            if answer.status_code != 200 or answer.json()["predictions"] != [[number, 1 - number]]
        ]
        assert not wrong, wrong[:5]
        api.wait_deployment(pausing.NAME, "ready")
