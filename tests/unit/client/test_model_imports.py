"""What the SDK sends to import a model, and bundles that leave the service."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from modelry.client.bundling import find_bundle_name
from modelry.core.errors import InvalidName, InvalidParameter, NotFound
from tests.unit.client.answering import talking
from tests.unit.client.test_models import FILES, version
from tests.unit.client.test_uploading import JOB

DONE = {**JOB, "kind": "import-model", "state": "succeeded", "notes": {"model": "m", "version": 2}}
UPLOAD = {
    "id": "upl_1", "project": "default", "created_at": 1.0, "expires_at": 2.0, "files": [],
}  # fmt: skip


def test_a_hub_is_asked_for_by_name_and_nothing_is_uploaded() -> None:
    with talking((202, DONE), (200, DONE), version()) as (server, client):
        client.models.import_("hf://org/name", "m", revision="v1", task="fill-mask", licence="mit")
    assert server.asked[0].path == "/api/v1/models"
    assert json.loads(server.asked[0].body) == {
        "name": "m",
        "source": "hub",
        "location": "org/name@v1",
        "format": "auto",
        "task": "fill-mask",
        "licence": "mit",
    }


def test_files_are_uploaded_and_labels_are_read_here(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "labels.txt").write_text("一\n二\n")
    answers = ((201, UPLOAD), (200, {}), (202, DONE), (200, DONE), version())
    with talking(*answers) as (server, client):
        made = client.models.import_(
            tmp_path / "m.onnx", "m", labels=tmp_path / "labels.txt", preprocess="unit"
        )
    assert made.version == 2
    assert server.asked[1].path == "/api/v1/uploads/upl_1/files/m.onnx"
    sent = json.loads(server.asked[2].body)
    assert sent["upload"] == "upl_1"
    assert sent["labels"] == ["一", "二"]
    assert sent["preprocess"] == "unit"


def test_a_refused_import_leaves_no_upload(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    refused = (
        400,
        {"error": {"code": "invalid_name", "message": "no", "remedy": "", "retryable": False}},
    )
    answers = ((201, UPLOAD), (200, {}), refused, (204, {}))
    with talking(*answers) as (server, client), pytest.raises(InvalidName):
        client.models.import_(tmp_path / "m.onnx", "../m")
    assert (server.asked[3].method, server.asked[3].path) == ("DELETE", "/api/v1/uploads/upl_1")


def test_what_is_said_wrongly_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    with talking((200, {})) as (server, client):
        with pytest.raises(InvalidParameter, match="name"):
            client.models.import_(tmp_path / "m.onnx")
        with pytest.raises(InvalidParameter, match="source"):
            client.models.import_(name="m")
        with pytest.raises(InvalidParameter, match="revision"):
            client.models.import_(tmp_path / "m.onnx", "m", revision="v1")
        with pytest.raises(NotFound, match="labels"):
            client.models.import_(tmp_path / "m.onnx", "m", labels=tmp_path / "labels.txt")
    assert not server.asked


def test_a_bundle_knows_its_name_and_is_the_same_each_time(tmp_path: Path) -> None:
    contents = [(200, content) for _, content in FILES]
    places = [tmp_path / "one.bundle", tmp_path / "two.bundle"]
    for place in places:
        with talking(version(*FILES), *contents) as (_, client):
            client.models.export("手写数字", place, bundle=True)
    assert places[0].read_bytes() == places[1].read_bytes()
    with zipfile.ZipFile(places[0]) as archive:
        assert set(archive.namelist()) == {"bundle.json", *(name for name, _ in FILES)}
    assert find_bundle_name(places[0]) == "手写数字"
    with talking((201, UPLOAD), (200, {}), (202, DONE), (200, DONE), version()) as (server, client):
        client.models.import_(places[0])
    assert json.loads(server.asked[2].body)["name"] == "手写数字"
