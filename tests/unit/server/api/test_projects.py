"""Projects keep each other's nouns apart, and go only when they are empty."""

from __future__ import annotations

from tests.unit.server.api.nouns import add_dataset, add_deployment, add_model
from tests.unit.server.api.web import Web


def test_two_projects_use_the_same_names_and_see_only_their_own(web: Web) -> None:
    keys = {}
    for name in ("left", "right"):
        web.project(name)
        add_dataset(web.store, web.artifacts, name, "digits")
        add_deployment(
            web.store, name, "digits", add_model(web.store, web.artifacts, name, "digits")
        )
        keys[name] = web.key("read", "train", "deploy", project=name)
    for name, key in keys.items():
        for noun in ("datasets", "models", "deployments"):
            (found,) = web.get(f"/{noun}", key=key)
            assert found["project"] == name
        assert web.get("/status", key=key)["counts"] == {
            "datasets": 1,
            "models": 1,
            "deployments": 1,
        }
    assert web.ask("DELETE", "/api/v1/datasets/digits", key=keys["left"]).status_code == 204
    assert len(web.get("/datasets", key=keys["right"])) == 1


def test_a_project_with_something_in_it_stays_and_says_what(web: Web, project: str) -> None:
    add_dataset(web.store, web.artifacts, project, "digits")
    error = web.refused("DELETE", f"/projects/{project}")
    assert error.code == "in_use"
    assert "digits" in error.message
    web.ask("DELETE", "/api/v1/datasets/digits", headers={"x-modelry-project": project})
    assert web.ask("DELETE", f"/api/v1/projects/{project}").status_code == 204
    assert project not in [one["name"] for one in web.get("/projects")]


def test_a_name_is_taken_once(web: Web, project: str) -> None:
    assert web.refused("POST", "/projects", json={"name": project}).code == "already_exists"
    assert web.refused("POST", "/projects", json={"name": "../up"}).code == "invalid_name"
    assert web.refused("DELETE", "/projects/nowhere").code == "not_found"
