"""Imports are refused before a worker is bothered, and data sets go when nothing stands on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.server.api.nouns import add_dataset
from tests.unit.server.api.web import Web

DIGITS = {"name": "digits", "source": "builtin", "location": "digits"}


def test_an_import_is_a_job_with_every_parameter(web: Web, project: str) -> None:
    headers = {"x-modelry-project": project}
    job = web.post("/datasets", {**DIGITS, "test_share": 0.25}, headers=headers)
    assert (job["kind"], job["makes"], job["state"]) == ("import-data", "digits", "queued")
    assert job["params"] == {
        "dataset": "digits",
        "source": "builtin",
        "location": "digits",
        "target": None,
        "label": None,
        "features": None,
        "text": None,
        "time": None,
        "task": None,
        "kinds": {},
        "columns": None,
        "labels_from": "auto",
        "test_share": 0.25,
    }
    assert web.get("/datasets/digits", headers=headers)["latest_version"] == 0
    error = web.refused("GET", "/datasets/digits/versions/latest", headers=headers)
    assert error.code == "not_found"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"location": "faces"}, "not_found"),
        ({"location": None}, "invalid_request"),
        ({"target": "label"}, "invalid_request"),
        ({"labels_from": "folder"}, "invalid_request"),
        ({"task": "image-classification"}, "invalid_request"),
        ({"columns": ["a", "b"]}, "invalid_request"),
        ({"task": "guessing"}, "invalid_parameter"),
        ({"kinds": {"a": "colour"}}, "invalid_parameter"),
        ({"kinds": {"a": "label"}}, "invalid_parameter"),
        ({"target": "a", "label": "a"}, "invalid_parameter"),
        ({"features": ["a", "a"]}, "invalid_parameter"),
        ({"columns": []}, "invalid_parameter"),
        ({"target": "a", "features": ["a", "b"]}, "invalid_parameter"),
        ({"target": "a", "time": "a"}, "invalid_parameter"),
        ({"time": "a", "kinds": {"a": "number"}}, "invalid_parameter"),
        ({"features": ["a"], "kinds": {"b": "text"}}, "invalid_parameter"),
        ({"text": "a", "kinds": {"a": "number"}}, "invalid_parameter"),
        ({"label": "a", "task": "tabular-regression"}, "invalid_parameter"),
        ({"target": "a", "kinds": {"a": "category"}}, "invalid_parameter"),
        ({"upload": "upl_1"}, "invalid_request"),
        ({"name": "../digits"}, "invalid_name"),
        ({"name": "digits:3"}, "invalid_name"),
        ({"test_share": 1.0}, "invalid_request"),
        ({"test_share": 0}, "invalid_request"),
        ({"test_share": "0.2"}, "invalid_request"),
        ({"source": "internet"}, "invalid_request"),
        ({"source": "upload"}, "invalid_request"),
        ({"source": "upload", "location": None}, "invalid_request"),
        ({"source": "upload", "location": None, "upload": "upl_1"}, "not_found"),
        ({"rows": 3}, "invalid_request"),
    ],
)
def test_what_cannot_be_imported_says_why(web: Web, changes: dict[str, Any], code: str) -> None:
    assert web.refused("POST", "/datasets", json={**DIGITS, **changes}).code == code


def test_an_empty_upload_is_no_data(web: Web) -> None:
    upload = web.post("/uploads")["id"]
    body = {"name": "none", "source": "upload", "upload": upload}
    assert web.refused("POST", "/datasets", json=body).code == "invalid_parameter"


@pytest.mark.parametrize("location", ["/etc/passwd", "/nowhere", ".", "..", "a\x00b", "~"])
def test_without_import_roots_no_place_on_the_server_is_read(web: Web, location: str) -> None:
    body = {"name": "x", "source": "path", "location": location}
    assert web.refused("POST", "/datasets", json=body).code == "path_refused"


def test_only_what_really_lies_below_a_root_is_read(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-of-others"
    for folder in (root / "mnist", outside):
        folder.mkdir(parents=True)
    (root / "way-out").symlink_to(outside)
    (tmp_path / "way-in").symlink_to(root / "mnist")
    with Web(tmp_path / "home", import_roots=(root,)) as web:

        def code(location: Path) -> str:
            body = {"name": "x", "source": "path", "location": str(location)}
            return web.refused("POST", "/datasets", json=body).code

        assert code(outside) == "path_refused"
        assert code(root / "way-out") == "path_refused"
        assert code(root / ".." / outside.name) == "path_refused"
        assert code(root / "missing") == "path_refused"
        for good in (root, root / "mnist", tmp_path / "way-in"):
            job = web.post("/datasets", {"name": "x", "source": "path", "location": str(good)})
            assert Path(job["params"]["location"]) == good.resolve()


def test_versions_and_their_files_can_be_read(web: Web, project: str) -> None:
    headers = {"x-modelry-project": project}
    made = add_dataset(web.store, web.artifacts, project, "digits")
    for version in ("1", "latest"):
        found = web.get(f"/datasets/digits/versions/{version}", headers=headers)
        assert (found["id"], found["version"]) == (made.id, 1)
    assert [one["id"] for one in web.get("/datasets/digits/versions", headers=headers)] == [made.id]
    url = "/api/v1/datasets/digits/versions/1/files/train-0.parquet"
    assert web.ask("GET", url, headers=headers).content == f"rows of {project}/digits".encode()
    for wrong in ("0", "-1", "one", "2x", "9" * 30):
        error = web.refused("GET", f"/datasets/digits/versions/{wrong}", headers=headers)
        assert error.code == "invalid_request"
    error = web.refused("GET", "/datasets/digits/versions/2", headers=headers)
    assert error.code == "not_found"


def test_data_that_a_job_reads_stays_and_says_who_reads_it(web: Web, project: str) -> None:
    headers = {"x-modelry-project": project}
    add_dataset(web.store, web.artifacts, project, "digits")
    training = {"kind": "train", "recipe": "cnn", "data": "digits", "model": "m"}
    job = web.post("/jobs", training, headers=headers)
    for path in ("/datasets/digits", "/datasets/digits/versions/1"):
        error = web.refused("DELETE", path, headers=headers)
        assert error.code == "in_use"
        assert job["id"] in error.message
