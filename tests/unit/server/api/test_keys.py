"""Keys over HTTP: a new one works at once, an ended one stops at once."""

from __future__ import annotations

import pytest

from modelry.core.keys import parse_key
from tests.unit.server.api.web import Web


def works(web: Web, key: str) -> bool:
    return web.ask("GET", "/api/v1/whoami", key=key).is_success


def test_a_new_key_works_at_once_and_is_shown_once(web: Web) -> None:
    made = web.post("/keys", {"label": "ci", "scopes": ["read"], "project": "default"})
    whoami = web.value(web.ask("GET", "/api/v1/whoami", key=made["text"]))
    assert whoami == made["key"]
    key = parse_key(made["text"])
    assert key is not None
    assert key.secret not in web.ask("GET", "/api/v1/keys").text


def test_a_key_in_x_api_key_is_as_good(web: Web) -> None:
    answer = web.ask("GET", "/api/v1/whoami", key=None, headers={"x-api-key": web.admin})
    assert answer.is_success


def test_a_revoked_key_stops_at_once(web: Web) -> None:
    made = web.post("/keys", {"label": "ci", "scopes": ["read"], "project": "default"})
    assert works(web, made["text"])
    web.ask("DELETE", f"/api/v1/keys/{made['key']['id']}")
    assert not works(web, made["text"])


def test_rotation_ends_the_old_key_now_or_later(web: Web) -> None:
    first = web.post("/keys", {"label": "ci", "scopes": ["read"], "project": "default"})
    second = web.post(f"/keys/{first['key']['id']}/rotate")
    assert not works(web, first["text"])
    third = web.post(f"/keys/{second['key']['id']}/rotate", {"overlap_s": 60})
    assert works(web, second["text"])
    assert works(web, third["text"])


def test_a_key_ends_by_itself(web: Web) -> None:
    body = {"label": "ci", "scopes": ["read"], "project": "default", "expires_in_s": 0.001}
    assert not works(web, web.post("/keys", body)["text"])


def test_the_keys_of_one_project_can_be_listed(web: Web, project: str) -> None:
    made = web.post("/keys", {"label": "ci", "scopes": ["infer"], "project": project})
    assert web.get("/keys", params={"project": project}) == [made["key"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"label": "x", "scopes": ["fly"], "project": "default"}, "invalid_parameter"),
        ({"label": "x", "scopes": ["read"]}, "invalid_request"),
        ({"label": "x", "scopes": ["read"], "project": "nowhere"}, "not_found"),
        ({"label": "x", "scopes": "read", "project": "default"}, "invalid_request"),
        ({"label": "x", "scopes": ["read"], "project": "default", "days": 3}, "invalid_request"),
    ],
)
def test_what_makes_no_key_says_why(web: Web, body: dict[str, object], code: str) -> None:
    assert web.refused("POST", "/keys", json=body).code == code


def test_an_instance_key_names_its_project_with_each_call(web: Web, project: str) -> None:
    headers = {"x-modelry-project": project}
    assert web.get("/status", headers=headers)["project"] == project
    assert web.get("/status")["project"] == "default"
    assert (
        web.refused("GET", "/models", headers={"x-modelry-project": "nowhere"}).code == "not_found"
    )


def test_a_project_may_have_any_script_s_name(web: Web) -> None:
    name = web.project("手写")
    headers = {"x-modelry-project": "%E6%89%8B%E5%86%99"}
    assert web.get("/status", headers=headers)["project"] == name
