"""Batch predictions are checked against data and model when they are submitted, and hold both until they end."""

from __future__ import annotations

from typing import Any

import pytest

from modelry.core.manifests import Feature
from tests.unit.server.api.nouns import LABEL, add_dataset, add_model
from tests.unit.server.api.web import Web

BATCH = {"kind": "predict-batch", "data": "digits", "model": "mnist"}


@pytest.fixture
def headers(web: Web, project: str) -> dict[str, str]:
    """A project with the data set `digits` and the model `mnist`, which takes such pictures."""
    add_dataset(web.store, web.artifacts, project, "digits")
    add_model(web.store, web.artifacts, project, "mnist")
    return {"x-modelry-project": project}


def test_a_batch_prediction_names_both_versions_and_what_it_makes(
    web: Web, headers: dict[str, str]
) -> None:
    job = web.post("/jobs", {**BATCH, "split": "test", "max_batch": 64}, headers=headers)
    data = web.get("/datasets/digits/versions/1", headers=headers)
    model = web.get("/models/mnist/versions/1", headers=headers)
    assert job["inputs"] == {"data": data["id"], "model": model["id"]}
    assert job["makes"] == "digits-by-mnist"
    assert job["params"]["dataset"] == "digits-by-mnist"
    assert (job["params"]["split"], job["params"]["max_batch"]) == ("test", 64)
    assert web.get("/datasets/digits-by-mnist", headers=headers)["latest_version"] == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": "letters"}, "not_found"),
        ({"model": "letters"}, "not_found"),
        ({"model": "mnist@production"}, "not_found"),
        ({"model": "mnist:7"}, "not_found"),
        ({"split": "validation"}, "not_found"),
        ({"name": "a/b"}, "invalid_name"),
        ({"name": "digits"}, "invalid_parameter"),
        ({"max_batch": 0}, "invalid_request"),
        ({"threads": 0}, "invalid_parameter"),
        ({"recipe": "cnn"}, "invalid_request"),
    ],
)
def test_what_cannot_be_predicted_is_refused_at_once(
    web: Web, headers: dict[str, str], changes: dict[str, Any], code: str
) -> None:
    error = web.refused("POST", "/jobs", json={**BATCH, **changes}, headers=headers)
    assert error.code == code
    assert error.remedy
    assert web.get("/jobs", headers=headers) == []


def test_data_that_the_model_does_not_take_are_refused_with_the_reason(
    web: Web, headers: dict[str, str], project: str
) -> None:
    age = Feature(kind="number", dtype="float64")
    add_dataset(web.store, web.artifacts, project, "people", features={"age": age, "label": LABEL})
    error = web.refused("POST", "/jobs", json={**BATCH, "data": "people"}, headers=headers)
    assert error.code == "wrong_data_kind"
    assert "'people:1'" in error.message


def test_neither_data_nor_model_can_be_deleted_while_they_are_read(
    web: Web, headers: dict[str, str]
) -> None:
    web.post("/jobs", BATCH, headers=headers)
    for path in (
        "/models/mnist",
        "/models/mnist/versions/1",
        "/datasets/digits",
        "/datasets/digits-by-mnist",
    ):
        error = web.refused("DELETE", path, headers=headers)
        assert (error.code, "job '" in error.message) == ("in_use", True)
