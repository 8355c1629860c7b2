"""Imports of models are refused before a worker is bothered; the catalogue knows what was imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelry.core.catalogue import PRETRAINED
from modelry.core.files import FileRef
from modelry.server.store import models
from tests.unit.server.api.nouns import add_model
from tests.unit.server.api.web import Web

HUB = {"name": "small", "source": "hub", "location": "hf://org/small@main"}


def test_an_import_is_a_job_with_every_parameter(web: Web, project: str) -> None:
    headers = {"x-modelry-project": project}
    body = {
        **HUB,
        "labels": ["猫", "dog"],
        "preprocess": {"preset": "imagenet", "height": 224},
        "task": "image-classification",
        "licence": "mit",
    }
    job = web.post("/models", body, headers=headers)
    assert (job["kind"], job["makes"], job["state"]) == ("import-model", "small", "queued")
    assert job["params"] == {
        "model": "small",
        "source": "hub",
        "location": "org/small@main",
        "format": "auto",
        "task": "image-classification",
        "labels": ["猫", "dog"],
        "preprocess": {"preset": "imagenet", "height": 224},
        "licence": "mit",
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"location": None}, "invalid_request"),
        ({"location": "hf://org/../etc"}, "invalid_parameter"),
        ({"location": "http://evil.example/model"}, "invalid_parameter"),
        ({"location": "org/small/deeper"}, "invalid_parameter"),
        ({"upload": "upl_1"}, "invalid_request"),
        ({"name": "../small"}, "invalid_name"),
        ({"source": "internet"}, "invalid_request"),
        ({"source": "upload", "location": None}, "invalid_request"),
        ({"source": "upload", "location": None, "upload": "upl_1"}, "not_found"),
        ({"source": "path", "location": "/etc/passwd"}, "path_refused"),
        ({"format": "pickle"}, "invalid_request"),
        ({"task": "Make Coffee"}, "invalid_request"),
        ({"labels": []}, "invalid_data"),
        ({"labels": ["a", ""]}, "invalid_data"),
        ({"preprocess": "nobodys"}, "invalid_parameter"),
        ({"preprocess": {"zoom": 2}}, "unknown_parameter"),
        ({"preprocess": {"std": [0, 0, 0]}}, "invalid_parameter"),
        ({"trust_remote_code": True}, "invalid_request"),
    ],
)
def test_what_cannot_be_imported_says_why(web: Web, changes: dict[str, Any], code: str) -> None:
    assert web.refused("POST", "/models", json={**HUB, **changes}).code == code


def test_an_empty_upload_is_no_model(web: Web) -> None:
    upload = web.post("/uploads")["id"]
    body = {"name": "none", "source": "upload", "upload": upload}
    assert web.refused("POST", "/models", json=body).code == "invalid_parameter"


def test_an_upload_is_read_by_one_import_at_a_time(web: Web) -> None:
    upload = web.post("/uploads")["id"]
    web.ask("PUT", f"/api/v1/uploads/{upload}/files/m.onnx", content=b"\x08\x08")
    body = {"name": "once", "source": "upload", "upload": upload}
    web.post("/models", body)
    assert web.refused("POST", "/models", json=body).code == "in_use"


def test_the_catalogue_tells_what_was_recorded_and_invents_nothing(web: Web, project: str) -> None:
    headers = {"x-modelry-project": project}
    repository = PRETRAINED[0].repository
    before = web.get("/catalogue", headers=headers)
    assert len([entry for entry in before if entry["kind"] == "pretrained"]) >= 20
    assert all(entry["state"] in ("untried", "can be made") for entry in before)
    assert all(entry["revision"] is None and entry["size_bytes"] is None for entry in before)
    source = {
        "kind": "hub",
        "repository": repository,
        "revision": "c0ffee",
        "licence": "apache-2.0",
        "size_bytes": 4321,
    }
    manifest = {**add_model(web.store, web.artifacts, project, "own").manifest, "source": source}
    with web.store.write() as tx:
        models.ensure(tx, project, "resnet")
        models.add_version(tx, project, "resnet", manifest, [FileRef("a", "0" * 64, 1)], None, None)
    entry = web.get("/catalogue", headers=headers)[0]
    assert (entry["state"], entry["model"]) == ("imported", "resnet:1")
    assert (entry["revision"], entry["size_bytes"]) == ("c0ffee", 4321)
    assert entry["recorded_licence"] == "apache-2.0"


def test_a_server_path_is_read_only_below_an_import_root(web: Web, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    body = {"name": "m", "source": "path", "location": str(tmp_path / "m.onnx")}
    assert web.refused("POST", "/models", json=body).code == "path_refused"
