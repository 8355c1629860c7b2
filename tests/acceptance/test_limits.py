"""Limits hold over all web processes of a service, refusals say when to come back, and late work is never begun."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance import pausing
from tests.acceptance.pausing import NAME, PATH, Crowd, body_of, deploy
from tests.api import Api
from tests.service import Service, wait_until

WEB = 2


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path, Api]]:
    """Two web processes before a model that answers at once."""
    home = tmp_path_factory.mktemp("limits") / "home"
    house = pausing.service_with_pausing(home, 0.0, web=str(WEB), lease_s="0.6")
    with house as (service, record), Api(service) as api:
        deploy(api, max_batch=32)
        yield service, record, api


def new_key(api: Api, **limits: Any) -> tuple[str, str]:
    """The text and the id of a key with these limits, known to all web processes."""
    made = api.post(
        "/keys",
        {"label": "limited", "scopes": ["infer", "read"], "project": "default", "limits": limits},
    )
    time.sleep(0.1)
    return made["text"], made["key"]["id"]


def ask(service: Service, key: str, *, rows: int = 1) -> httpx.Response:
    """One request over a connection of its own: any web process may get it."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(service.url + PATH, content=body_of(0, rows), headers=headers)


def test_a_rate_holds_over_two_web_processes_with_a_slack_of_one_request(
    house: tuple[Service, Path, Api],
) -> None:
    service, _, api = house
    rate, duration_s = 100.0, 3.0
    key, _ = new_key(api, requests_per_s=rate)
    asked = asyncio.run(Crowd(service.url, key).come(250.0, duration_s))
    statuses = Counter(one.status for one in asked)
    assert set(statuses) == {200, 429}, statuses
    # Between the first request's sending and the last one's answer the bucket gave no more than this.
    took_s = max(one.answered_at for one in asked) - min(one.sent_at for one in asked)
    most = rate * 1.0 + rate * took_s + (WEB - 1)
    assert statuses[200] <= most
    # …and it gave what it had: the plan's own length is the least that had passed.
    assert statuses[200] >= rate * 1.0 + rate * (duration_s - 0.5)


def test_a_refusal_says_when_to_come_back_and_then_lets_in(
    house: tuple[Service, Path, Api],
) -> None:
    service, _, api = house
    key, _ = new_key(api, requests_per_s=2.0, burst_s=0.5)
    assert ask(service, key).status_code == 200
    refused = ask(service, key)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    wait_ms = int(refused.headers["retry-after-ms"])
    assert 1 <= wait_ms <= 500
    assert refused.headers["x-modelry-error"] == "rate_limited"
    time.sleep(wait_ms / 1000)
    assert ask(service, key).status_code == 200


def test_rows_are_limited_by_the_row(house: tuple[Service, Path, Api]) -> None:
    service, _, api = house
    key, _ = new_key(api, rows_per_s=10.0)
    assert ask(service, key, rows=10).status_code == 200
    refused = ask(service, key, rows=10)
    assert refused.status_code == 429
    assert "10 rows a second" in refused.text


def test_a_quota_is_used_up_exactly_and_can_be_raised(house: tuple[Service, Path, Api]) -> None:
    service, _, api = house
    key, key_id = new_key(api, requests_per_month=25)
    statuses = Counter(ask(service, key).status_code for _ in range(40))
    assert statuses == {200: 25, 429: 15}
    assert "of this month are used up" in ask(service, key).text
    changed = api.call("PATCH", f"/api/v1/keys/{key_id}/limits", json={"requests_per_month": 30})
    assert changed["limits"]["requests_per_month"] == 30
    time.sleep(0.1)
    assert Counter(ask(service, key).status_code for _ in range(10)) == {200: 5, 429: 5}
    api.call("PATCH", f"/api/v1/keys/{key_id}/limits", json={"requests_per_month": None})
    wait_until(lambda: ask(service, key).status_code == 200, 5, "the quota is gone")


def test_a_quota_that_comes_later_counts_what_the_key_used_before(
    house: tuple[Service, Path, Api],
) -> None:
    service, _, api = house
    key, key_id = new_key(api)
    for _ in range(12):
        assert ask(service, key).status_code == 200

    def used() -> int:
        rows = api.get("/usage", params={"by": "key"})
        return sum(row["requests"] for row in rows if row["key"] == key_id)

    wait_until(lambda: used() == 12, 10, "the usage is stored")
    api.call("PATCH", f"/api/v1/keys/{key_id}/limits", json={"requests_per_month": 12})
    wait_until(lambda: ask(service, key).status_code == 429, 10, "the quota knows of them")


def test_wrong_keys_from_one_address_are_soon_not_looked_up_any_more(
    house: tuple[Service, Path, Api],
) -> None:
    service, _, api = house
    wrong = [ask(service, f"mk_nobody_{number}") for number in range(80)]
    statuses = Counter(answer.status_code for answer in wrong)
    assert set(statuses) == {401, 429}
    refused = next(answer for answer in wrong if answer.status_code == 429)
    assert refused.headers["x-modelry-error"] == "too_many_wrong_keys"
    assert "retry-after" in refused.headers
    # A right key from the same address is not held up.
    assert ask(service, service.key).status_code == 200


def test_the_metrics_are_prometheus_text_and_add_up_over_both_processes(
    house: tuple[Service, Path, Api],
) -> None:
    service, _, api = house
    key, _ = new_key(api)

    def answered() -> float:
        page = httpx.get(
            service.url + "/metrics", headers={"authorization": f"Bearer {service.key}"}
        )
        assert page.status_code == 200
        families = {one.name: one for one in text_string_to_metric_families(page.text)}
        samples = families["modelry_requests"].samples
        buckets = families["modelry_request_seconds"].samples
        assert {"modelry_replicas", "modelry_jobs", "modelry_errors"} <= families.keys()
        counts = [s.value for s in buckets if s.name.endswith("_count")]
        memory = {s.labels["process"]: s.value for s in families["modelry_memory_bytes"].samples}
        assert min(memory["web"], memory["controller"], memory["replica"]) > 1e6
        assert sum(counts) <= sum(s.value for s in samples)
        return sum(s.value for s in samples if s.labels["version"] == "1")

    before = answered()
    for _ in range(20):
        ask(service, key)
    assert answered() == before + 20
    project_page = httpx.get(service.url + "/metrics", headers={"authorization": f"Bearer {key}"})
    assert "modelry_memory_bytes" not in project_page.text
    assert httpx.get(service.url + "/metrics").status_code == 401
    assert NAME in project_page.text
