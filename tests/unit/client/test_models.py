"""References to versions, and packages that leave the service."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from pathlib import Path

import pytest

import modelry
from modelry.client.refs import Ref, parse_ref
from modelry.core.errors import AlreadyExists, InternalError, InvalidParameter
from tests.unit.client.answering import answering, talking


def version(*files: tuple[str, bytes]) -> tuple[int, object]:
    listed = [
        {"path": path, "digest": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for path, content in files
    ]
    return 200, {
        "id": "mv_1", "model": "手写数字", "version": 2, "manifest": {}, "files": listed,
        "size_bytes": 1, "job_id": None, "dataset_version_id": None, "created_at": 1.0,
    }  # fmt: skip


FILES = (("model.json", b"{}"), ("forms/model.onnx", b"\0" * 3000))


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("digits", Ref("digits", "latest")),
        ("digits:3", Ref("digits", "3")),
        ("手写数字@production", Ref("手写数字", "production")),
    ],
)
def test_references_are_read(text: str, ref: Ref) -> None:
    assert parse_ref(text) == ref


@pytest.mark.parametrize("text", ["", ":3", "digits:", "digits:x", "digits@", "@a", "digits:３"])
def test_half_a_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_ref(text)


def test_a_package_becomes_a_folder(tmp_path: Path) -> None:
    answers = [version(*FILES), *((200, content) for _, content in FILES)]
    with talking(*answers) as (_, client):
        target = client.models.export("手写数字", tmp_path / "数字")
    assert (target / "model.json").read_bytes() == b"{}"
    assert (target / "forms" / "model.onnx").read_bytes() == b"\0" * 3000
    assert [path.name for path in tmp_path.iterdir()] == ["数字"]


def test_a_package_becomes_a_zip(tmp_path: Path) -> None:
    answers = [version(*FILES), *((200, content) for _, content in FILES)]
    with talking(*answers) as (_, client):
        target = client.models.export("手写数字", tmp_path / "model.zip")
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == ["forms/model.onnx", "model.json"]


def test_a_damaged_download_leaves_nothing_behind(tmp_path: Path) -> None:
    damaged = [version(*FILES), (200, b"{}"), (200, b"wrong")]
    with talking(*damaged) as (_, client), pytest.raises(InternalError, match="onnx"):
        client.models.export("digits", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_a_file_outside_the_package_is_refused(tmp_path: Path, path: str) -> None:
    with (
        talking(version((path, b"x")), (200, b"x")) as (_, client),
        pytest.raises(InternalError),
    ):
        client.models.export("digits", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with talking((200, {})) as (server, client):
        for target in (tmp_path, tmp_path / "mine.txt"):
            with pytest.raises(AlreadyExists):
                client.models.export("digits", target)
        assert server.asked == []


def test_the_async_client_exports_the_same(tmp_path: Path) -> None:
    async def story(url: str) -> Path:
        async with modelry.AsyncClient(url, "mk_a_b") as client:
            return await client.models.export("手写数字", tmp_path / "out")

    answers = [version(*FILES), *((200, content) for _, content in FILES)]
    with answering(*answers) as server:
        target = asyncio.run(story(server.url))
    assert (target / "forms" / "model.onnx").read_bytes() == b"\0" * 3000
