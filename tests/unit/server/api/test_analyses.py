"""An analysis names what it looks at, and what cannot be looked at is refused when it is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.server.api.nouns import add_dataset, add_model
from tests.unit.server.api.web import Web


@pytest.fixture
def headers(web: Web, project: str) -> dict[str, str]:
    """A project with the data set `digits` and the models `mnist` and `cnn`, the latter called like a recipe."""
    add_dataset(web.store, web.artifacts, project, "digits")
    add_model(web.store, web.artifacts, project, "mnist")
    add_model(web.store, web.artifacts, project, "cnn")
    return {"x-modelry-project": project}


def test_a_recipe_is_analysed_for_the_rows_of_its_data(web: Web, headers: dict[str, str]) -> None:
    body = {"kind": "analyze", "target": "cnn", "data": "digits", "params": {"kernel": "5"}}
    job = web.post("/jobs", body, headers=headers)
    data = web.get("/datasets/digits/versions/1", headers=headers)
    assert (job["kind"], job["makes"], job["inputs"]) == ("analyze", "", {"data": data["id"]})
    assert (job["params"]["name"], job["params"]["recipe"]) == ("cnn on digits:1", "cnn")
    assert (job["params"]["params"]["kernel"], job["params"]["params"]["channels"]) == (5, [32, 64])


def test_descent_has_a_rate_of_its_own_unless_one_is_given(
    web: Web, headers: dict[str, str]
) -> None:
    body = {"kind": "analyze", "target": "cnn", "data": "digits", "behaviour": True}
    assert web.post("/jobs", body, headers=headers)["params"]["learning_rate"] == 0.05
    told = web.post("/jobs", {**body, "params": {"learning_rate": 0.3}}, headers=headers)
    assert (told["params"]["learning_rate"], told["params"]["behaviour"]) == (0.3, True)


@pytest.mark.parametrize("target", ["mnist", "mnist:1", "cnn:1"])
def test_a_model_is_analysed_as_it_is(web: Web, headers: dict[str, str], target: str) -> None:
    job = web.post("/jobs", {"kind": "analyze", "target": target}, headers=headers)
    name = target.partition(":")[0]
    model = web.get(f"/models/{name}/versions/1", headers=headers)
    assert job["inputs"] == {"model": model["id"]}
    assert (job["params"]["name"], job["params"]["recipe"]) == (f"{name}:1", None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"target": "cnn"}, "invalid_request"),
        ({"target": "mnist", "data": "digits"}, "invalid_request"),
        ({"target": "mnist", "params": {"kernel": 3}}, "invalid_request"),
        ({"target": "mnist", "preset": "fast"}, "invalid_request"),
        ({"target": "mnist", "behaviour": True}, "invalid_request"),
        ({"target": "letters"}, "not_found"),
        ({"target": "mnist@best"}, "not_found"),
        ({"target": "cnn", "data": "letters"}, "not_found"),
        ({"target": "cnn", "data": "digits", "params": {"colour": 3}}, "unknown_parameter"),
        ({"target": "cnn", "data": "digits", "preset": "slow"}, "invalid_parameter"),
        ({"target": "mnist", "threads": 0}, "invalid_parameter"),
        ({"target": "mnist", "model": "m"}, "invalid_request"),
    ],
)
def test_what_cannot_be_analysed_is_refused_at_once(
    web: Web, headers: dict[str, str], body: dict[str, Any], code: str
) -> None:
    error = web.refused("POST", "/jobs", json={"kind": "analyze", **body}, headers=headers)
    assert error.code == code
    assert error.remedy
    assert web.get("/jobs", headers=headers) == []
