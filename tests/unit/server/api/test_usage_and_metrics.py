"""Limits, usage and metrics over HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelry.server.api.manage import metrics
from modelry.server.control import access
from modelry.server.gateway import Caller
from modelry.server.store import usage
from tests.unit.server.api.web import Web
from tests.unit.server.gateway.counting import reply, route


def test_limits_are_set_changed_and_taken_away(web: Web) -> None:
    body = {"label": "ci", "scopes": ["infer"], "project": "default"}
    made = web.post("/keys", {**body, "limits": {"requests_per_s": 5, "rows_per_month": 1000}})
    limits = made["key"]["limits"]
    assert limits == {
        "requests_per_s": 5.0,
        "rows_per_s": None,
        "burst_s": 1.0,
        "requests_per_month": None,
        "rows_per_month": 1000,
    }
    path = f"/api/v1/keys/{made['key']['id']}/limits"
    changed = web.value(
        web.ask("PATCH", path, json={"requests_per_s": None, "burst_s": 2.0, "rows_per_s": 7.5})
    )
    assert changed["limits"] == {
        **limits,
        "requests_per_s": None,
        "burst_s": 2.0,
        "rows_per_s": 7.5,
    }
    assert web.value(web.ask("PATCH", path, json={})) == changed
    again = web.value(web.ask("PATCH", path, json={"burst_s": None}))
    assert again["limits"]["burst_s"] == 1.0
    rotated = web.post(f"/keys/{made['key']['id']}/rotate")
    assert rotated["key"]["limits"] == again["limits"]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"requests_per_s": 0}, "invalid_parameter"),
        ({"rows_per_s": -1}, "invalid_parameter"),
        ({"requests_per_s": 1e12}, "invalid_parameter"),
        ({"burst_s": 0}, "invalid_parameter"),
        ({"requests_per_month": -1}, "invalid_parameter"),
        ({"requests_per_month": 1.5}, "invalid_request"),
        ({"requests_per_month": "many"}, "invalid_request"),
        ({"requests_per_year": 1}, "invalid_request"),
    ],
)
def test_limits_that_mean_nothing_are_refused(web: Web, limits: object, code: str) -> None:
    body = {"label": "ci", "scopes": ["infer"], "project": "default", "limits": limits}
    assert web.refused("POST", "/keys", json=body).code == code
    made = web.post("/keys", {"label": "ci", "scopes": ["infer"], "project": "default"})
    assert web.refused("PATCH", f"/keys/{made['key']['id']}/limits", json=limits).code == code


def test_a_key_that_ended_gets_no_limits(web: Web) -> None:
    made = web.post("/keys", {"label": "ci", "scopes": ["infer"], "project": "default"})
    web.ask("DELETE", f"/api/v1/keys/{made['key']['id']}")
    path = f"/keys/{made['key']['id']}/limits"
    assert web.refused("PATCH", path, json={"requests_per_s": 1}).code == "not_found"


def add_usage(web: Web, project: str, **changes: object) -> None:
    row = {
        "project": project, "key_id": "k1", "deployment_id": "d", "version": 1,
        "hour": int(time.time() // 3600), "deployment": "digits", "model": "mnist",
        "requests": 3, "errors": 0, "rows": 3, "bytes_in": 1, "bytes_out": 1, "compute_us": 5,
    }  # fmt: skip
    with web.store.write() as tx:
        usage.add(tx, [{**row, **changes}])


def test_a_project_sees_its_own_usage_and_an_instance_key_all(web: Web, project: str) -> None:
    add_usage(web, project)
    add_usage(web, "default", requests=100)
    key = web.key("read", project=project)
    own = web.value(web.ask("GET", "/api/v1/usage", key=key, params={"by": "key, version"}))
    assert [(row["key"], row["version"], row["requests"]) for row in own] == [("k1", 1, 3)]
    refused = web.ask("GET", "/api/v1/usage", key=key, params={"all_projects": "true"})
    assert refused.status_code == 403
    everywhere = web.get("/usage", params={"all_projects": "true", "by": ""})
    assert {row["project"]: row["requests"] for row in everywhere}[project] == 3
    assert web.refused("GET", "/usage", params={"by": "colour"}).code == "invalid_parameter"
    assert web.refused("GET", "/usage", params={"since": "-1"}).code == "invalid_request"
    assert web.refused("GET", "/usage", params={"since": "nan"}).code == "invalid_request"
    assert web.refused("GET", "/usage", params={"before": "1"}).code == "invalid_request"


def count_answers(web: Web, number: int, *, deployment: str = "digits", version: int = 1) -> None:
    """As the gateway would."""
    key = access.list_keys(web.store)[0]
    for _ in range(number):
        about = route()
        permit = web.gateway.admission.enter(
            Caller("default", key),
            type(about)(**{
                **{name: getattr(about, name) for name in about.__slots__},
                "deployment_id": f"dep_{deployment}", "name": deployment,
            }),
            rows=2, bytes_in=1, deadline_s=30,
        )  # fmt: skip
        permit.leave(reply(version))


def test_the_metrics_are_read_by_prometheus_own_parser(web: Web) -> None:
    count_answers(web, 5, deployment='od"d\\name\n')
    page = web.ask("GET", "/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(page.text)}
    (requests,) = [
        sample
        for sample in families["modelry_requests"].samples
        if sample.labels["deployment"] == 'od"d\\name\n'
    ]
    assert requests.value == 5
    assert requests.labels == {
        "project": "default",
        "deployment": 'od"d\\name\n',
        "model": "mnist",
        "version": "1",
    }
    for name in ("modelry_request_seconds", "modelry_queue_seconds", "modelry_batch_rows"):
        samples = [s for s in families[name].samples if s.labels["deployment"] == 'od"d\\name\n']
        buckets = [s.value for s in samples if s.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == [s.value for s in samples if s.name.endswith("_count")][0] == 5
    names = [line.split("{")[0].split(" ")[0] for line in page.text.splitlines() if line[0] != "#"]
    assert all(name.startswith("modelry_") for name in names)


def test_no_series_comes_twice_and_their_number_is_bounded(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in range(1, 8):
        count_answers(web, 1, deployment="many", version=version)
    monkeypatch.setattr(metrics, "MOST_VERSIONS", 3)
    page = web.ask("GET", "/metrics").text
    lines = [line.rpartition(" ")[0] for line in page.splitlines() if line[0] != "#"]
    assert len(lines) == len(set(lines))
    kept = {line for line in lines if line.startswith("modelry_requests_total")}
    assert len(kept) == 3
    # The last used ones.
    assert all('version="7"' in line or "many" in line for line in kept)
    left_off = [line for line in page.splitlines() if line.startswith("modelry_versions_left_off")]
    assert int(left_off[0].rpartition(" ")[2]) >= 4


def test_a_projects_key_sees_the_metrics_of_its_project_alone(web: Web, project: str) -> None:
    count_answers(web, 1)
    page = web.ask("GET", "/metrics", key=web.key("read", project=project)).text
    assert "modelry_requests_total{" not in page
    assert "modelry_memory_bytes" not in page
    assert web.ask("GET", "/metrics", key=None).status_code == 401
    assert web.ask("GET", "/metrics", params={"x": "1"}).status_code == 400


def test_an_open_service_shows_its_metrics_without_a_key_and_nothing_else(tmp_path: Path) -> None:
    with Web(tmp_path / "home", metrics_open=True) as web:
        assert web.ask("GET", "/metrics", key=None).status_code == 200
        assert web.ask("GET", "/api/v1/usage", key=None).status_code == 401


def test_wrong_keys_are_soon_not_looked_up_and_right_ones_go_on(tmp_path: Path) -> None:
    with Web(tmp_path / "home", wrong_keys_per_s=0.5) as web:
        looked_up = 0
        reader = web.store.read

        def counting() -> object:
            nonlocal looked_up
            looked_up += 1
            return reader()

        web.store.read = counting  # type: ignore[assignment, method-assign]
        answers = [
            web.ask("GET", "/api/v1/whoami", key=f"mk_nobody_{number}") for number in range(30)
        ]
        web.store.read = reader  # type: ignore[method-assign]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:5] == [401] * 5
        assert set(statuses[8:]) == {429}
        assert looked_up < 10
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert web.ask("GET", "/api/v1/whoami").status_code == 200
