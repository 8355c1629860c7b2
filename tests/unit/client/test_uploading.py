"""Which files an upload has, and that bytes arrive as they are, in pieces."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import modelry
from modelry.client.uploading import CHUNK, list_files
from modelry.core.errors import InvalidData, InvalidParameter, NotFound, to_wire
from tests.unit.client.answering import answering, talking

UPLOAD = {"id": "upl_1", "project": "default", "files": [], "created_at": 1.0, "expires_at": 2.0}
JOB = {
    "id": "job_1", "project": "default", "kind": "import-data", "makes": "x", "params": {},
    "state": "queued", "wish": "run", "attempt": 0, "threads": 1, "memory_limit_bytes": None,
    "time_limit_s": None, "created_at": 1.0,
}  # fmt: skip


def test_a_folder_is_sent_with_its_relative_paths(tmp_path: Path) -> None:
    for name in ("七/a.png", "七/b.png", "一/c.png", ".git/config", "七/.DS_Store"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert [file.path for file in list_files(tmp_path)] == ["一/c.png", "七/a.png", "七/b.png"]


def test_a_single_file_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"abc")
    (file,) = list_files(tmp_path / "data.npz")
    assert (file.path, file.size_bytes) == ("data.npz", 3)


def test_nothing_to_send_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no files"):
        list_files(tmp_path)
    with pytest.raises(NotFound, match="nowhere"):
        list_files(tmp_path / "nowhere")


def test_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK // 128)
    (tmp_path / "七 1.bin").write_bytes(content)
    with talking((201, UPLOAD), (200, {}), (202, JOB)) as (server, client):
        job = client.data.add("x", tmp_path, target="y", wait=False)
        start, sent, made = server.asked
    assert job.id == "job_1"
    assert (start.method, start.path) == ("POST", "/api/v1/uploads")
    assert sent.path == "/api/v1/uploads/upl_1/files/%E4%B8%83%201.bin"
    assert sent.headers["content-length"] == str(len(content))
    assert sent.body == content
    assert b'"upload":"upl_1"' in made.body
    assert b'"target":"y"' in made.body


def test_a_refused_import_leaves_no_upload_behind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n")
    refusal = (400, {"error": to_wire(InvalidData(file="a.csv", reason="it is empty"))})
    with talking((201, UPLOAD), (200, {}), refusal, (204, b"")) as (server, client):
        with pytest.raises(InvalidData):
            client.data.add("x", tmp_path / "a.csv")
        last = server.asked[-1]
    assert (last.method, last.path) == ("DELETE", "/api/v1/uploads/upl_1")


def test_exactly_one_source_must_be_given() -> None:
    with talking((200, {})) as (server, client):
        with pytest.raises(InvalidParameter, match="path"):
            client.data.add("x")
        with pytest.raises(InvalidParameter):
            client.data.add("x", "a.csv", builtin="digits")
        assert server.asked == []


def test_the_async_client_sends_the_same_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK // 100)
    (tmp_path / "a.bin").write_bytes(content)

    async def story(url: str) -> str:
        async with modelry.AsyncClient(url, "mk_a_b") as client:
            return (await client.data.add("x", tmp_path / "a.bin", wait=False)).id

    with answering((201, UPLOAD), (200, {}), (202, JOB)) as server:
        assert asyncio.run(story(server.url)) == "job_1"
        assert server.asked[1].body == content
