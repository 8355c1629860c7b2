"""Jobs are checked against recipe, data and machine when they are submitted, and can be steered afterwards."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from modelry.core.jobs import TrainParams
from modelry.core.manifests import Feature, Split
from modelry.core.recipes import list_recipes
from modelry.core.states import JobState
from modelry.server.store import jobs
from tests.unit.server.api.nouns import IMAGE, LABEL, add_dataset
from tests.unit.server.api.web import Web

TRAINING = {"kind": "train", "recipe": "cnn", "data": "digits", "model": "digits"}
SLEEP = {"kind": "sleep", "steps": 3, "step_s": 0.01}


@pytest.fixture
def headers(web: Web, project: str) -> dict[str, str]:
    """A project that has the data set `digits`."""
    add_dataset(web.store, web.artifacts, project, "digits")
    return {"x-modelry-project": project}


def test_a_training_is_accepted_with_every_parameter_settled(
    web: Web, headers: dict[str, str]
) -> None:
    body = {**TRAINING, "params": {"epochs": 3, "channels": [8]}, "checkpoint_steps": 5}
    job = web.post("/jobs", {**body, "threads": 1, "memory_limit_bytes": 1 << 30}, headers=headers)
    params = msgspec.convert(job["params"], TrainParams)
    assert params.params["epochs"] == 3
    assert params.params["channels"] == [8]
    assert params.params["kernel"] == 3
    assert params.checkpoint_s == web.settings.checkpoint_s
    assert params.checkpoint_steps == 5
    assert (job["makes"], job["threads"], job["memory_limit_bytes"]) == ("digits", 1, 1 << 30)
    version = web.get("/datasets/digits/versions/1", headers=headers)
    assert job["inputs"] == {"data": version["id"]}


def test_a_preset_is_a_beginning_that_parameters_change(web: Web, headers: dict[str, str]) -> None:
    job = web.post(
        "/jobs", {**TRAINING, "preset": "fast", "params": {"epochs": 7}}, headers=headers
    )
    assert job["params"]["params"]["epochs"] == 7
    assert job["params"]["params"]["batch_size"] == 128


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recipe": "transformer"}, "not_found"),
        ({"preset": "enormous"}, "invalid_parameter"),
        ({"params": {"epoch": 3}}, "unknown_parameter"),
        ({"params": {"epochs": 0}}, "invalid_parameter"),
        ({"params": {"epochs": "many"}}, "invalid_parameter"),
        ({"params": [1]}, "invalid_request"),
        ({"data": "letters"}, "not_found"),
        ({"data": "digits:2"}, "not_found"),
        ({"data": "digits:0"}, "invalid_request"),
        ({"data": "digits:new"}, "invalid_request"),
        ({"data": "digits@production"}, "invalid_name"),
        ({"model": "a/b"}, "invalid_name"),
        ({"model": ""}, "invalid_name"),
        ({"threads": 0}, "invalid_parameter"),
        ({"threads": (os.cpu_count() or 1) + 1}, "invalid_parameter"),
        ({"memory_limit_bytes": 12}, "invalid_request"),
        ({"time_limit_s": 0}, "invalid_request"),
        ({"checkpoint_s": 0}, "invalid_request"),
        ({"kind": "fly"}, "invalid_request"),
        ({"kind": "import-data"}, "invalid_request"),
        ({"steps": 3}, "invalid_request"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(
    web: Web, headers: dict[str, str], changes: dict[str, Any], code: str
) -> None:
    error = web.refused("POST", "/jobs", json={**TRAINING, **changes}, headers=headers)
    assert error.code == code
    assert error.remedy
    assert web.get("/jobs", headers=headers) == []


NUMBER = Feature(kind="number", dtype="float64")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"splits": {"test": Split(rows=3, files=[])}}, "no rows in the split 'train'"),
        ({"splits": {"train": Split(rows=3, files=[])}}, "no rows in the split 'test'"),
        ({"target": None}, "no feature to predict"),
        ({"features": {"image": IMAGE, "label": NUMBER}}, "is a number"),
        (
            {"features": {"image": IMAGE, "label": msgspec.structs.replace(LABEL, labels=["a"])}},
            "fewer than two labels",
        ),
        ({"features": {"age": NUMBER, "label": LABEL}}, "it holds number"),
        ({"features": {"a": IMAGE, "b": IMAGE, "label": LABEL}}, "2 columns of that kind"),
        ({"features": {"label": LABEL}}, "it holds nothing"),
    ],
)
def test_data_of_the_wrong_kind_is_refused_with_the_reason(
    web: Web, project: str, changes: dict[str, Any], reason: str
) -> None:
    add_dataset(web.store, web.artifacts, project, "digits", **changes)
    error = web.refused("POST", "/jobs", json=TRAINING, headers={"x-modelry-project": project})
    assert error.code == "wrong_data_kind"
    assert reason in error.message


def test_wishes_are_kept_and_the_state_is_the_controllers(
    web: Web, headers: dict[str, str]
) -> None:
    job = web.post("/jobs", SLEEP, headers=headers)
    for verb, wish in (("pause", "pause"), ("resume", "run"), ("cancel", "cancel")):
        wished = web.post(f"/jobs/{job['id']}/{verb}", headers=headers)
        assert (wished["wish"], wished["state"]) == (wish, "queued")
    assert web.refused("DELETE", f"/jobs/{job['id']}", headers=headers).code == "in_use"
    with web.store.write() as tx:
        jobs.set_state(tx, job["id"], JobState.CANCELLED)
    assert web.refused("POST", f"/jobs/{job['id']}/pause", headers=headers).code == "illegal_move"
    url = f"/api/v1/jobs/{job['id']}"
    assert web.ask("DELETE", url, headers=headers).status_code == 204
    assert web.refused("GET", f"/jobs/{job['id']}", headers=headers).code == "not_found"


def test_jobs_are_listed_newest_first_in_pages(web: Web, headers: dict[str, str]) -> None:
    made = [web.post("/jobs", SLEEP, headers=headers)["id"] for _ in range(5)]
    first = web.get("/jobs", headers=headers, params={"limit": 3})
    second = web.get("/jobs", headers=headers, params={"limit": 3, "before": first[-1]["id"]})
    assert [job["id"] for job in first + second] == made[::-1]
    assert web.get("/jobs", headers=headers, params={"kind": "train"}) == []
    assert len(web.get("/jobs", headers=headers, params={"state": "queued"})) == 5
    for wrong in ({"limit": 0}, {"limit": 9999}, {"state": "asleep"}):
        assert web.refused("GET", "/jobs", headers=headers, params=wrong).code == "invalid_request"


def test_a_job_that_has_not_begun_has_no_curves_and_no_log(
    web: Web, headers: dict[str, str]
) -> None:
    job = web.post("/jobs", SLEEP, headers=headers)
    assert web.get(f"/jobs/{job['id']}/metrics", headers=headers) == []
    assert web.get(f"/jobs/{job['id']}/logs", headers=headers) == []


def test_every_recipe_is_listed_with_its_bounds(web: Web) -> None:
    listed = {recipe["name"]: recipe for recipe in web.get("/recipes")}
    assert sorted(listed) == [card.name for card in list_recipes()]
    kernel = next(param for param in listed["cnn"]["params"] if param["name"] == "kernel")
    assert (kernel["minimum"], kernel["maximum"], kernel["default"]) == (1, 15, 3)
    assert kernel["expected"]
    assert kernel["help"]


def test_a_training_is_run_again_over_the_same_version_with_one_parameter_changed(
    web: Web, project: str, headers: dict[str, str]
) -> None:
    body = {**TRAINING, "params": {"epochs": 3, "channels": [8]}, "checkpoint_steps": 5}
    first = web.post("/jobs", {**body, "threads": 1}, headers=headers)
    # A newer version of the data is not what the first one learned from.
    add_dataset(web.store, web.artifacts, project, "digits", fingerprint="another")
    again = web.post(f"/jobs/{first['id']}/again", {"params": {"kernel": "5"}}, headers=headers)
    assert again["id"] != first["id"]
    assert again["params"]["params"] == {**first["params"]["params"], "kernel": 5}
    assert {**again["params"], "params": {}} == {**first["params"], "params": {}}
    for key in ("kind", "makes", "inputs", "threads", "memory_limit_bytes", "time_limit_s"):
        assert again[key] == first[key]
    assert again["state"] == "queued"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"epoch": 3}, "unknown_parameter"),
        ({"epochs": 0}, "invalid_parameter"),
        ({"momentum": 0.9}, "invalid_parameter"),
    ],
)
def test_what_could_not_be_trained_cannot_be_run_again(
    web: Web, headers: dict[str, str], params: dict[str, Any], code: str
) -> None:
    first = web.post("/jobs", TRAINING, headers=headers)
    error = web.refused(
        "POST", f"/jobs/{first['id']}/again", json={"params": params}, headers=headers
    )
    assert error.code == code
    assert len(web.get("/jobs", headers=headers)) == 1


def test_other_kinds_are_run_again_as_they_are_or_refused(
    web: Web, project: str, headers: dict[str, str]
) -> None:
    sleep = web.post("/jobs", SLEEP, headers=headers)
    again = web.post(f"/jobs/{sleep['id']}/again", {}, headers=headers)
    assert again["params"] == sleep["params"]
    path = f"/jobs/{sleep['id']}/again"
    error = web.refused("POST", path, json={"params": {"steps": 4}}, headers=headers)
    assert error.code == "invalid_request"
    with web.store.write() as tx:
        brought = jobs.create(
            tx,
            project=project,
            kind="import-data",
            makes="digits",
            params={},
            inputs={},
            threads=1,
            memory_limit_bytes=None,
            time_limit_s=None,
        )
    error = web.refused("POST", f"/jobs/{brought.id}/again", json={}, headers=headers)
    assert "import-data" in error.message


def test_a_parameter_for_other_data_is_refused(web: Web, headers: dict[str, str]) -> None:
    body = {**TRAINING, "recipe": "rnn", "params": {"vocabulary": 900}}
    error = web.refused("POST", "/jobs", json=body, headers=headers)
    assert error.code == "invalid_parameter"
    assert "for text" in error.message
