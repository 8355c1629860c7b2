"""Deployments: what is wished is checked and kept; replicas are the controller's."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.unit.server.api.nouns import add_model
from tests.unit.server.api.web import Web


@pytest.fixture
def headers(web: Web, project: str) -> dict[str, str]:
    """A project with two versions of `digits`, the first one in production, and a model `letters`."""
    for number in (1, 2):
        add_model(web.store, web.artifacts, project, "digits", job_id=f"job_{number}")
    add_model(web.store, web.artifacts, project, "letters")
    headers = {"x-modelry-project": project}
    alias = "/api/v1/models/digits/aliases/production"
    web.value(web.ask("PUT", alias, json={"version": 1}, headers=headers))
    return headers


@pytest.mark.parametrize(
    ("model", "version"), [("digits", 2), ("digits:1", 1), ("digits@production", 1)]
)
def test_a_model_is_named_by_itself_a_number_or_an_alias(
    web: Web, headers: dict[str, str], model: str, version: int
) -> None:
    made = web.post("/deployments", {"name": "七", "model": model}, headers=headers)
    assert (made["model"], made["version"], made["state"]) == ("digits", version, "starting")
    assert (made["replicas"], made["max_batch"], made["threads"]) == (1, 32, 1)
    found = web.get("/deployments/七", headers=headers)
    assert found.pop("replicas_list") == []
    [version_alone] = found.pop("versions")
    assert (version_alone["version"], version_alone["role"]) == (version, "serving")
    assert found == made
    assert web.get("/deployments", headers=headers) == [made]


def test_the_gateway_of_this_process_knows_a_deployment_at_once(
    web: Web, project: str, headers: dict[str, str]
) -> None:
    web.post("/deployments", {"name": "seven", "model": "digits"}, headers=headers)
    routes = web.gateway._snapshot.routes
    assert (project, "seven") in routes


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "faces"}, "not_found"),
        ({"model": "digits:3"}, "not_found"),
        ({"model": "digits@staging"}, "not_found"),
        ({"model": "digits:x"}, "invalid_request"),
        ({"model": "digits@a b"}, "invalid_name"),
        ({"model": ""}, "invalid_name"),
        ({"name": "a:b"}, "invalid_name"),
        ({"replicas": -1}, "invalid_request"),
        ({"replicas": 65}, "invalid_request"),
        ({"replicas": 1.5}, "invalid_request"),
        ({"max_batch": 0}, "invalid_request"),
        ({"max_batch": 1025}, "invalid_request"),
        ({"threads": 0}, "invalid_parameter"),
        ({"threads": (os.cpu_count() or 1) + 1}, "invalid_parameter"),
        ({"gpu": True}, "invalid_request"),
    ],
)
def test_what_cannot_be_deployed_is_refused(
    web: Web, headers: dict[str, str], changes: dict[str, Any], code: str
) -> None:
    body = {"name": "seven", "model": "digits", **changes}
    assert web.refused("POST", "/deployments", json=body, headers=headers).code == code
    assert web.get("/deployments", headers=headers) == []


def test_a_change_leaves_the_rest_as_it_was(web: Web, headers: dict[str, str]) -> None:
    web.post("/deployments", {"name": "seven", "model": "digits:1"}, headers=headers)
    url = "/api/v1/deployments/seven"
    for change, seen in (
        ({"replicas": 0}, {"replicas": 0, "version": 1, "max_batch": 32}),
        ({"model": "digits:2"}, {"replicas": 0, "version": 2, "max_batch": 32}),
        ({"max_batch": 4, "replicas": 2}, {"replicas": 2, "version": 2, "max_batch": 4}),
    ):
        changed = web.value(web.ask("PATCH", url, json=change, headers=headers))
        assert {name: changed[name] for name in seen} == seen
    error = web.refused("PATCH", "/deployments/seven", json={"name": "eight"}, headers=headers)
    assert error.code == "invalid_request"
    error = web.refused("PATCH", "/deployments/none", json={"replicas": 1}, headers=headers)
    assert error.code == "not_found"


def test_a_deleted_deployment_is_wished_away_and_routed_no_more(
    web: Web, project: str, headers: dict[str, str]
) -> None:
    web.post("/deployments", {"name": "seven", "model": "digits"}, headers=headers)
    assert web.refused(
        "POST", "/deployments", json={"name": "seven", "model": "digits"}, headers=headers
    ).code == ("already_exists")
    assert web.ask("DELETE", "/api/v1/deployments/seven", headers=headers).status_code == 202
    assert web.get("/deployments/seven", headers=headers)["wish"] == "delete"
    assert (project, "seven") not in web.gateway._snapshot.routes


def change(web: Web, headers: dict[str, str], **wished: Any) -> Any:
    return web.value(web.ask("PATCH", "/api/v1/deployments/seven", json=wished, headers=headers))


def test_a_canary_is_tried_promoted_and_rolled_back(web: Web, headers: dict[str, str]) -> None:
    web.post("/deployments", {"name": "seven", "model": "digits:1"}, headers=headers)
    tried = change(web, headers, canary={"model": "digits:2", "percent": 10})
    assert (tried["version"], tried["canary"]["version"], tried["canary"]["percent"]) == (1, 2, 10)
    assert change(web, headers, canary={"percent": 25})["canary"]["percent"] == 25
    shown = web.get("/deployments/seven", headers=headers)["versions"]
    assert [(one["version"], one["role"], one["percent"]) for one in shown] == [
        (1, "serving", 75),
        (2, "canary", 25),
    ]
    promoted = web.post("/deployments/seven/promote", headers=headers)
    assert (promoted["version"], promoted["canary"], promoted["previous_version"]) == (2, None, 1)
    assert web.post("/deployments/seven/rollback", headers=headers)["version"] == 1
    error = web.refused("POST", "/deployments/seven/promote", headers=headers)
    assert error.code == "not_found"


def test_what_is_stopped_starts_as_it_was(web: Web, headers: dict[str, str]) -> None:
    shape = {"min_replicas": 2, "max_replicas": 3, "idle_s": 60, "deadline_s": 2}
    made = web.post("/deployments", {"name": "seven", "model": "digits", **shape}, headers=headers)
    assert (made["replicas"], made["wish"]) == (2, "run")
    stopped = web.post("/deployments/seven/stop", headers=headers)
    assert (stopped["replicas"], stopped["wish"]) == (0, "stop")
    started = web.post("/deployments/seven/start", headers=headers)
    assert {**started, "updated_at": 0} == {**made, "updated_at": 0}


@pytest.mark.parametrize(
    ("wished", "code"),
    [
        ({"canary": {"model": "letters", "percent": 10}}, "invalid_parameter"),
        ({"canary": {"model": "digits:2", "percent": 101}}, "invalid_request"),
        ({"canary": {"model": "digits:2", "share": 10}}, "invalid_request"),
        ({"canary": {"percent": 10}}, "invalid_parameter"),
        ({"canary": {"model": "digits:1", "percent": 10}}, "invalid_parameter"),
        ({"min_replicas": 0}, "invalid_request"),
        ({"min_replicas": 3}, "invalid_parameter"),
        ({"min_replicas": 3, "max_replicas": 2}, "invalid_parameter"),
        ({"replicas": 2, "max_replicas": 2}, "invalid_parameter"),
        ({"idle_s": -1}, "invalid_request"),
        ({"idle_s": 5e-324}, "invalid_parameter"),
        ({"idle_s": 0.099}, "invalid_parameter"),
        ({"deadline_s": 3601}, "invalid_request"),
        ({"max_queue": -1}, "invalid_request"),
    ],
)
def test_what_cannot_be_wished_is_refused_and_changes_nothing(
    web: Web, headers: dict[str, str], wished: dict[str, Any], code: str
) -> None:
    before = web.post("/deployments", {"name": "seven", "model": "digits:1"}, headers=headers)
    error = web.refused("PATCH", "/deployments/seven", json=wished, headers=headers)
    assert error.code == code
    assert web.get("/deployments", headers=headers) == [before]


def test_a_deployment_may_sleep_no_sooner_than_it_wakes(web: Web, headers: dict[str, str]) -> None:
    wished = {"name": "seven", "model": "digits", "idle_s": 5e-324}
    error = web.refused("POST", "/deployments", json=wished, headers=headers)
    assert error.code == "invalid_parameter"
    assert "0.1 seconds or more, or 0" in error.remedy
    assert web.get("/deployments", headers=headers) == []
    made = web.post("/deployments", {**wished, "idle_s": 0.1}, headers=headers)
    assert made["idle_s"] == 0.1
    assert change(web, headers, idle_s=0)["idle_s"] is None
