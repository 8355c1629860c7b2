"""Ten times too many requests: what can be answered in time is answered, the rest is refused at once and never run."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance import pausing
from tests.acceptance.pausing import NAME, PATH, Asked, Crowd, body_of, deploy, run_at
from tests.api import Api
from tests.service import Service, wait_until

#: One replica answers 1 / PAUSE_S requests a second.
PAUSE_S = 0.04
DEADLINE_S = 0.6
TIMES_TOO_MANY = 10
DURATION_S = 4.0

House = tuple[Service, Path, Api]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two web processes before a model that needs its time."""
    home = tmp_path_factory.mktemp("overload") / "home"
    house = pausing.service_with_pausing(home, PAUSE_S, web="2", lease_s="0.6")
    with house as (service, record), Api(service) as api:
        deploy(api)
        yield service, record, api


def crowd(service: Service, rate: float, duration_s: float, timeout_s: float) -> list[Asked]:
    return asyncio.run(Crowd(service.url, service.key, timeout_s=timeout_s).come(rate, duration_s))


def test_under_ten_times_its_capacity_a_model_works_for_answers_that_come_in_time(
    house: House,
) -> None:
    service, record, _ = house
    record.write_text("")
    asked = crowd(service, TIMES_TOO_MANY / PAUSE_S, DURATION_S, DEADLINE_S)
    statuses = Counter(one.status for one in asked)
    runs = run_at(record)
    assert set(statuses) <= {200, 429, 504}, statuses
    # Refused early: hardly anybody waits for nothing.
    assert statuses[504] <= 0.1 * statuses[200] + 5
    # Nothing that was refused was run, and nothing was run twice.
    refused = {one.number for one in asked if one.status == 429}
    assert not refused & runs.keys()
    assert all(len(moments) == 1 for moments in runs.values())
    # Nothing was begun after its deadline. The service's clock for a request starts after its client's.
    late = [
        one.number
        for one in asked
        for moment in runs.get(one.number, ())
        if moment > one.answered_at and one.status != 200
    ]
    assert not late
    # The model's time went into answers.
    assert len(runs) - statuses[200] <= 0.1 * statuses[200] + 5
    # And it was never idle for want of requests that were let in.
    moments = sorted(moment for found in runs.values() for moment in found)
    idle_s = sum(
        max(0.0, later - earlier - 3 * PAUSE_S)
        for earlier, later in zip(moments, moments[1:], strict=False)
    )
    assert idle_s < 0.3 * DURATION_S


def test_a_refusal_for_overload_says_when_there_is_room(house: House) -> None:
    service, _, _ = house
    asked = crowd(service, TIMES_TOO_MANY / PAUSE_S, 1.5, DEADLINE_S)
    waits = [one.retry_after_ms for one in asked if one.status == 429]
    assert waits
    assert all(wait is not None and 1 <= wait <= 60_000 for wait in waits)


def test_a_queue_bound_holds_over_two_web_processes(house: House) -> None:
    service, record, api = house
    bound = {"max_in_flight": 2, "max_queue": 3}
    api.call("PATCH", f"/api/v1/deployments/{NAME}", json=bound)
    time.sleep(0.2)
    asked = crowd(service, 200, 1.0, 30.0)
    statuses = Counter(one.status for one in asked)
    assert set(statuses) == {200, 429}
    # At no moment were more let in than the bound, but for one more from the other process.
    changes = sorted(
        [(one.answered_at, -1) for one in asked if one.status == 200]
        + [(one.sent_at, 1) for one in asked if one.status == 200]
    )
    under_way = most = 0
    for _, change in changes:
        under_way += change
        most = max(most, under_way)
    # What the clients see lasts longer than what the service counts, by the ways there and back.
    assert most <= sum(bound.values()) + 1 + 3
    everything = {"max_in_flight": 0, "max_queue": 0}
    api.call("PATCH", f"/api/v1/deployments/{NAME}", json=everything)


def test_a_deadline_passes_wherever_the_request_is_and_the_work_is_dropped(house: House) -> None:
    service, record, _ = house
    record.write_text("")
    asked = crowd(service, 400, 0.1, 0.3)
    # The estimate knows nothing of so sudden a crowd, or it refuses: never is one run after its deadline.
    runs = run_at(record)
    for one in asked:
        if one.status == 504:
            assert all(moment <= one.answered_at for moment in runs.get(one.number, ()))
            assert one.took_s < 0.3 + 1.0
    assert {one.status for one in asked} <= {200, 429, 504}


def test_a_deployment_has_a_deadline_of_its_own(house: House) -> None:
    service, _, api = house
    api.call("PATCH", f"/api/v1/deployments/{NAME}", json={"deadline_s": 0.01})
    headers = {"authorization": f"Bearer {service.key}"}

    def status() -> int:
        return httpx.post(service.url + PATH, content=body_of(1), headers=headers).status_code

    try:
        wait_until(lambda: status() == 504, 10, "the deadline is that of the deployment")
        named = {**headers, "x-request-timeout": "20"}
        answer = httpx.post(service.url + PATH, content=body_of(1), headers=named)
        assert answer.status_code == 200
    finally:
        api.call("PATCH", f"/api/v1/deployments/{NAME}", json={"deadline_s": 0})


def test_what_a_client_that_went_away_had_asked_is_not_run(house: House) -> None:
    service, record, api = house
    wait_until(lambda: _load(service) == 0, 10, "nothing is under way")
    record.write_text("")
    address = urlsplit(service.url)
    lines = []
    for number in range(40):
        line = socket.create_connection((str(address.hostname), address.port or 80))
        body = body_of(1000 + number)
        line.sendall(
            f"POST {PATH} HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: Bearer {service.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        lines.append(line)
    wait_until(lambda: len(run_at(record)) >= 2, 10, "the first ones run")
    for line in lines:
        line.close()
    wait_until(lambda: _load(service) == 0, 10, "nothing is under way any more")
    time.sleep(3 * PAUSE_S)
    assert len(run_at(record)) < 30
    errors = httpx.get(
        service.url + "/metrics", headers={"authorization": f"Bearer {service.key}"}
    ).text
    assert 'code="client_gone"' in errors


def _load(service: Service) -> int:
    page = httpx.get(service.url + "/metrics", headers={"authorization": f"Bearer {service.key}"})
    found = [line for line in page.text.splitlines() if line.startswith("modelry_requests_")]
    gauges = ("modelry_requests_waiting{", "modelry_requests_in_flight{")
    return sum(int(line.rpartition(" ")[2]) for line in found if line.startswith(gauges))
