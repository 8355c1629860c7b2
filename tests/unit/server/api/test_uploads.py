"""Uploads: whole or not there, within the limits, in the memory of a few pieces."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.server.api.web import Web, error_of

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home = tmp_path_factory.mktemp("web") / "home"
    with Web(home, max_upload_bytes=LIMIT, max_body_bytes=1024) as running:
        yield running


@pytest.fixture
def upload(web: Web) -> str:
    return str(web.post("/uploads")["id"])


def blobs(web: Web) -> list[str]:
    """Everything in the artifacts, half-written files included."""
    root = web.settings.places.blobs
    return [file.name for file in root.rglob("*") if file.is_file() and file.name != "lock"]


def put(web: Web, upload: str, path: str, content: bytes | Iterator[bytes]) -> dict[str, object]:
    answer = web.ask("PUT", f"/api/v1/uploads/{upload}/files/{path}", content=content)
    return dict(web.value(answer))


def in_chunks(size: int) -> Iterator[bytes]:
    """A body whose size nobody announces."""
    for _ in range(size >> 10):
        yield b"x" * 1024


@pytest.mark.parametrize("path", ["train.npz", "a/b/c.png", "手写/七 (1)%.png"])
def test_a_file_arrives_as_it_was_sent(web: Web, upload: str, path: str) -> None:
    content = os.urandom(200_000)
    file = put(web, upload, path.replace("%", "%25"), content)
    assert file == {
        "path": path,
        "digest": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    assert web.get(f"/uploads/{upload}")["files"] == [file]
    assert web.artifacts.read_bytes(str(file["digest"])) == content


def test_an_empty_file_is_a_file(web: Web, upload: str) -> None:
    assert put(web, upload, "empty", b"")["size_bytes"] == 0


def test_the_same_path_again_replaces_the_file(web: Web, upload: str) -> None:
    put(web, upload, "a.csv", b"old")
    new = put(web, upload, "a.csv", b"new")
    assert web.get(f"/uploads/{upload}")["files"] == [new]


def test_a_file_of_exactly_the_limit_is_taken(web: Web, upload: str) -> None:
    assert put(web, upload, "most", b"x" * LIMIT)["size_bytes"] == LIMIT


@pytest.mark.parametrize("is_announced", [True, False])
def test_one_byte_more_is_refused_and_leaves_nothing(
    web: Web, upload: str, is_announced: bool
) -> None:
    before = blobs(web)
    content = b"x" * (LIMIT + 1024) if is_announced else in_chunks(LIMIT + 1024)
    answer = web.ask("PUT", f"/api/v1/uploads/{upload}/files/big", content=content)
    error = error_of(answer)
    assert error.code == "body_too_large"
    assert "MODELRY_MAX_UPLOAD_BYTES" in error.remedy
    assert blobs(web) == before
    assert web.get(f"/uploads/{upload}")["files"] == []


@pytest.mark.parametrize(
    "path",
    ["%2e%2e/passwd", "a/%2e%2e/%2e%2e/b", "%2Fetc/passwd", "a//b", "a%00b", "a%5Cb", "a%09b"],
)
def test_a_path_that_leaves_its_folder_is_refused(web: Web, upload: str, path: str) -> None:
    answer = web.ask("PUT", f"/api/v1/uploads/{upload}/files/{path}", content=b"x")
    assert error_of(answer).code == "invalid_data"


def test_an_upload_that_is_not_there_takes_nothing(web: Web) -> None:
    before = blobs(web)
    answer = web.ask("PUT", "/api/v1/uploads/upl_none/files/a", content=b"x")
    assert error_of(answer).code == "not_found"
    assert blobs(web) == before


def test_a_client_that_leaves_in_the_middle_leaves_nothing(web: Web, upload: str) -> None:
    before = blobs(web)
    head = (
        f"PUT /api/v1/uploads/{upload}/files/half HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
        f"Authorization: Bearer {web.admin}\r\nContent-Length: {LIMIT}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", web.port)) as client:
        client.sendall(head.encode() + b"x" * (LIMIT // 2))
        wait_until(lambda: len(blobs(web)) > len(before))
    wait_until(lambda: blobs(web) == before)
    assert web.get(f"/uploads/{upload}")["files"] == []


def wait_until(claim: object) -> None:
    deadline = time.monotonic() + 10
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_upload_that_an_import_reads_stays_as_it_is(web: Web, upload: str) -> None:
    put(web, upload, "a.npz", b"a")
    job = web.post("/datasets", {"name": "held", "source": "upload", "upload": upload})
    answer = web.ask("PUT", f"/api/v1/uploads/{upload}/files/b.npz", content=b"b")
    assert job["id"] in error_of(answer).message
    assert web.refused("DELETE", f"/uploads/{upload}").code == "in_use"
    assert (
        web.refused(
            "POST", "/datasets", json={"name": "other", "source": "upload", "upload": upload}
        ).code
        == "in_use"
    )


def test_a_deleted_upload_is_gone(web: Web, upload: str) -> None:
    assert web.ask("DELETE", f"/api/v1/uploads/{upload}").status_code == 204
    assert web.refused("GET", f"/uploads/{upload}").code == "not_found"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size; only root can make one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "4m") as disk,
        Web(tmp_path / "home", artifacts=str(disk / "blobs")) as web,
    ):
        upload = web.post("/uploads")["id"]
        url = f"/api/v1/uploads/{upload}/files"
        answer = web.ask("PUT", f"{url}/big", content=in_chunks(8 << 20))
        error = error_of(answer)
        assert answer.status_code == 507
        assert error.code == "storage_full"
        assert [file for file in disk.rglob("*") if file.is_file() and file.name != "lock"] == []
        assert web.get(f"/uploads/{upload}")["files"] == []
        assert web.ask("PUT", f"{url}/small", content=in_chunks(1 << 20)).is_success


MEMORY_SCRIPT = """
import sys, threading, psutil
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.unit.server.api.web import Web

SIZE = 1 << 30
piece = bytes(1 << 20)

with Web(Path({home!r})) as web:
    upload = web.post("/uploads")["id"]
    url = "/api/v1/uploads/" + upload + "/files/big"
    web.value(web.ask("PUT", url, content=piece))
    process, peak, done = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch():
        global peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    sent = web.value(web.ask("PUT", url, content=(piece for _ in range(SIZE >> 20)), timeout=600))
    done.set()
    watcher.join()
    assert sent["size_bytes"] == SIZE
    print(peak - before)
"""


@pytest.mark.slow
def test_a_gigabyte_goes_through_in_little_memory(tmp_path: Path) -> None:
    """Client and server are one process here, so the true figure of the server is smaller still."""
    repository = str(Path(__file__).parents[4])
    script = MEMORY_SCRIPT.format(repository=repository, home=str(tmp_path / "home"))
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=280
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 200 << 20


def test_a_body_that_nobody_reads_is_refused(web: Web) -> None:
    answer = web.ask("POST", "/api/v1/uploads", content=b'{"ttl_s": 5}')
    assert error_of(answer).message == "The request is malformed: this call takes no body."
    assert web.ask("POST", "/api/v1/uploads", content=b"{}").is_success
