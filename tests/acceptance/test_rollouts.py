"""Canaries, promotion, rollback, sleep and scaling on a whole service, while clients ask and processes are killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance import pausing
from tests.acceptance.pausing import service_with_pausing
from tests.acceptance.shelf import ROW, publish
from tests.acceptance.test_serving_under_fire import CLIENTS, Crowd
from tests.api import Api
from tests.service import Service, kill_hard, running_service, wait_until

NAME = "answers"
PREDICT = f"/v1/models/{NAME}:predict"
CONTROLLER = "modelry.server.control.controller"


def deploy(api: Api, model: str, **serving: Any) -> None:
    api.post("/deployments", {"model": model, "name": NAME, **serving})
    api.wait_deployment(NAME, "ready")


def change(api: Api, **wished: Any) -> None:
    api.call("PATCH", f"/api/v1/deployments/{NAME}", json=wished)


def ask(api: Api, patience_s: float = 0.0) -> httpx.Response:
    return api.ask("POST", PREDICT, json={"instances": [ROW]}, patience_s=patience_s)


def ready_versions(api: Api) -> Counter[int]:
    replicas = api.get(f"/deployments/{NAME}")["replicas_list"]
    return Counter(one["version"] for one in replicas if one["state"] == "ready")


def live_versions(api: Api) -> Counter[int]:
    """With those that still answer what they have accepted."""
    replicas = api.get(f"/deployments/{NAME}")["replicas_list"]
    return Counter(one["version"] for one in replicas if one["ended_at"] is None)


def assert_only_answers(crowd: Crowd, version: int) -> None:
    """Of another version each client may still hold the one answer that came before."""
    since = len(crowd.answers)
    crowd.asked_more()
    others = [one for _, one, _ in crowd.answers[since:] if one != version]
    assert len(others) <= CLIENTS


def find_a_replica(service: Service, api: Api, version: int) -> int:
    """The process of one that is ready."""
    for one in api.get(f"/deployments/{NAME}")["replicas_list"]:
        if one["state"] == "ready" and one["version"] == version:
            return service.worker_pid(one["worker_id"])
    raise AssertionError(f"no replica of version {version} is ready")


def kill_a_replica(service: Service, api: Api, version: int) -> None:
    kill_hard(find_a_replica(service, api, version))


def versions_asked(service: Service, requests: int, connections: int = 16) -> Counter[int]:
    """Which version answered how many of so many requests, over connections that stay open."""
    address = urlsplit(service.url)
    headers = {"authorization": f"Bearer {service.key}", "content-type": "application/json"}
    body = json.dumps({"instances": [ROW]})

    def ask_often(_: int) -> Counter[int]:
        found: Counter[int] = Counter()
        line = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        for _ in range(requests // connections):
            line.request("POST", PREDICT, body, headers)
            answer = line.getresponse()
            answer.read()
            assert answer.status == 200
            found[int(str(answer.headers["x-model-version"]))] += 1
        line.close()
        return found

    with ThreadPoolExecutor(connections) as pool:
        return sum(pool.map(ask_often, range(connections)), Counter())


@pytest.mark.slow
def test_over_two_web_processes_a_canary_gets_its_share_within_one_percent(tmp_path: Path) -> None:
    with running_service(tmp_path / "home", web="2") as service, Api(service) as api:
        publish(service, "model")
        publish(service, "model")
        deploy(api, "model:1")
        change(api, canary={"model": "model:2", "percent": 10})
        wait_until(lambda: ready_versions(api)[2] == 1, 90, "the canary is ready")
        time.sleep(2 * 1.0)  # both web processes have looked since
        asked = versions_asked(service, 10_000)
        assert sum(asked.values()) == 10_000
        assert abs(asked[2] / 10_000 - 0.10) <= 0.01
        assert len(service.find("modelry.server.api.serve")) == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_promotion_rollback_and_deaths_in_between_fail_no_request(
    service: Service, api: Api
) -> None:
    publish(service, "model")
    publish(service, "model")
    deploy(api, "model:1", replicas=2)
    with Crowd(service, [[*ROW]], name=NAME) as crowd:
        change(api, canary={"model": "model:2", "percent": 50})
        wait_until(lambda: ready_versions(api)[2] == 1, 90, "the canary is ready")
        crowd.asked_more()
        kill_a_replica(service, api, 2)
        service.kill(CONTROLLER)
        crowd.asked_more()
        wait_until(lambda: ready_versions(api)[2] == 1, 90, "the canary is ready again")

        api.post(f"/deployments/{NAME}/promote")
        service.kill(CONTROLLER)
        wait_until(lambda: live_versions(api) == {2: 2}, 90, "only version 2 is there")
        assert_only_answers(crowd, 2)

        # Found before: the roll may be over sooner than a busy test finds out who served.
        victim = find_a_replica(service, api, 2)
        api.post(f"/deployments/{NAME}/rollback")
        kill_hard(victim)
        wait_until(lambda: live_versions(api) == {1: 2}, 90, "only version 1 is there")
        assert_only_answers(crowd, 1)
    assert crowd.failures == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_broken_version_takes_nobody_s_place_even_when_what_serves_is_killed(
    service: Service, api: Api
) -> None:
    publish(service, "model")
    publish(service, "model", content=b"no graph at all")
    deploy(api, "model:1", replicas=2)
    with Crowd(service, [[*ROW]], name=NAME) as crowd:
        change(api, model="model:2")
        api.wait_deployment(NAME, "degraded")
        for _ in range(2):
            kill_a_replica(service, api, 1)
            wait_until(lambda: ready_versions(api)[1] == 2, 90, "the dead one was replaced")
            crowd.asked_more()
        shown = api.get(f"/deployments/{NAME}")
        assert shown["failure"]["code"] == "model_unloadable"
        assert_refused_at_once(api, 2)
        api.post(f"/deployments/{NAME}/rollback")
        api.wait_deployment(NAME, "ready")
        crowd.asked_more()
    assert crowd.failures == []
    assert {version for _, version, _ in crowd.answers} == {1}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_is_not_asked_sleeps_and_every_first_request_waits_for_the_start(
    service: Service, api: Api
) -> None:
    publish(service, "model")
    deploy(api, "model", idle_s=0.3)
    for turn in range(3):
        api.wait_deployment(NAME, "idle")
        wait_until(lambda: ready_versions(api).total() == 0, 90, "nothing runs")
        if turn == 1:
            service.kill(CONTROLLER)
        if turn == 2:
            service.kill("modelry.worker.agent")
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: ask(api), range(16)))
        assert {answer.status_code for answer in answers} == {200}

    change(api, idle_s=0)
    api.post(f"/deployments/{NAME}/stop")
    api.wait_deployment(NAME, "stopped")
    refused = ask(api)
    assert refused.status_code == 503
    assert "stopped" in refused.text
    api.post(f"/deployments/{NAME}/start")
    assert ask(api).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_frozen_replica_has_is_answered_by_another(service: Service, api: Api) -> None:
    publish(service, "model")
    deploy(api, "model", replicas=2)
    frozen = api.get(f"/deployments/{NAME}")["replicas_list"][0]["worker_id"]
    with Crowd(service, [[*ROW]], name=NAME) as crowd:
        os.kill(service.worker_pid(frozen), signal.SIGSTOP)
        time.sleep(15.0)
        os.kill(service.worker_pid(frozen), signal.SIGCONT)
        crowd.asked_more()
    assert crowd.failures == []


def assert_refused_at_once(api: Api, version: int) -> None:
    """Nobody who pins a version that cannot be loaded waits for his deadline (30 s)."""
    path, began = f"/v1/models/{NAME}/versions/{version}:predict", time.monotonic()
    refused = api.ask("POST", path, json={"instances": [ROW]}, patience_s=0.0)
    assert (refused.status_code, time.monotonic() - began < 15.0) == (503, True)
    assert "cannot be loaded" in refused.text


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_pins_a_canary_that_cannot_be_loaded_is_told_so(service: Service, api: Api) -> None:
    publish(service, "model")
    publish(service, "model", content=b"no graph at all")
    deploy(api, "model:1")
    change(api, canary={"model": "model:2", "percent": 50})
    path = f"/v1/models/{NAME}/versions/2:predict"
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(api.ask, "POST", path, json={"instances": [ROW]}, patience_s=0.0)
        api.wait_deployment(NAME, "degraded")
        assert early.result().status_code == 503
    assert_refused_at_once(api, 2)
    assert {ask(api).status_code for _ in range(8)} == {200}


@contextmanager
def load(service: Service, clients: int) -> Iterator[Counter[int]]:
    """Closed-loop clients of the pausing model; yields how often each status was seen."""
    ended, seen = threading.Event(), Counter[int]()
    headers = {"authorization": f"Bearer {service.key}", "content-type": "application/json"}

    def ask_on() -> None:
        with httpx.Client(timeout=60, headers=headers) as http:
            while not ended.is_set():
                answer = http.post(service.url + pausing.PATH, content=pausing.body_of(1))
                seen[answer.status_code] += 1

    threads = [threading.Thread(target=ask_on) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def ready_replicas(api: Api) -> int:
    shown = api.get(f"/deployments/{pausing.NAME}")
    return sum(one["state"] == "ready" for one in shown["replicas_list"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_long_waits_bring_more_replicas_up_to_the_bound(tmp_path: Path) -> None:
    # The model sleeps, so that two dozen clients are too many for it on any machine.
    with service_with_pausing(tmp_path / "home", 0.05) as (service, _), Api(service) as api:
        pausing.deploy(api, min_replicas=1, max_replicas=3)
        with load(service, 24) as seen:
            wait_until(lambda: ready_replicas(api) == 3, 90, "three replicas answer")
            time.sleep(2.0)
            assert ready_replicas(api) == 3
    assert set(seen) == {200}


def make_anew(api: Api, model: str) -> None:
    """As soon as the name is free."""
    body = {"model": model, "name": NAME}
    path = "/api/v1/deployments"
    wait_until(lambda: api.ask("POST", path, json=body).is_success, 90, "it is made anew")


def wait_for_more(seen: Counter[int], count: int) -> None:
    target = seen[200] + count
    wait_until(lambda: seen[200] >= target, 90, f"{count} more answers")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_name_made_anew_under_load_gives_answers_or_404_and_never_the_old_model_s(
    service: Service, api: Api
) -> None:
    for _ in range(2):
        publish(service, "model")
    deploy(api, "model:1")
    #: The version that was asked for last; None while nothing is asked for.
    wanted: int | None = 1
    wrong: list[tuple[int, int]] = []
    seen: Counter[int] = Counter()
    ended = threading.Event()

    def ask_on() -> None:
        headers = {"authorization": f"Bearer {service.key}"}
        with httpx.Client(timeout=20, headers=headers) as http:
            while not ended.is_set():
                version = wanted
                answer = http.post(service.url + PREDICT, json={"instances": [ROW]})
                seen[answer.status_code] += 1
                if answer.status_code == 200 and version is not None and wanted == version:
                    told = int(answer.headers["x-model-version"])
                    if told != version:
                        wrong.append((version, told))

    threads = [threading.Thread(target=ask_on) for _ in range(16)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        wanted = None
        api.delete(f"/deployments/{NAME}")
        make_anew(api, f"model:{turn % 2 + 1}")
        wanted = turn % 2 + 1
        wait_for_more(seen, 50)
    ended.set()
    for thread in threads:
        thread.join()
    assert set(seen) <= {200, 404}
    assert wrong == []
