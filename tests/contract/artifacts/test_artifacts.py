"""What every place for content must keep: the same tests on a local folder and on an fsspec address."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path

import pytest

from modelry.artifacts import Artifacts
from modelry.core.errors import InvalidData, NotFound
from modelry.core.files import FileRef

_LATER = 3600.0


@pytest.fixture(params=["folder", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "folder":
        return Artifacts(str(tmp_path / "blobs"))
    return Artifacts(f"memory://{secrets.token_hex(8)}/blobs", cache=tmp_path / "cache")


def test_content_comes_back_under_its_sha256(artifacts: Artifacts) -> None:
    file = artifacts.put_bytes(b"seven", "digits/七.txt")
    assert file == FileRef("digits/七.txt", hashlib.sha256(b"seven").hexdigest(), 5)
    assert artifacts.read_bytes(file.digest) == b"seven"
    assert artifacts.exists(file.digest)
    with artifacts.open(file.digest) as opened:
        assert opened.read(3) == b"sev"


def test_a_file_is_copied_in_and_left_alone(artifacts: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    file = artifacts.put_file(source, "weights")
    source.write_bytes(b"changed")
    assert hashlib.sha256(artifacts.read_bytes(file.digest)).hexdigest() == file.digest


def test_equal_content_is_kept_once(artifacts: Artifacts) -> None:
    first = artifacts.put_bytes(b"same", "a")
    second = artifacts.put_bytes(b"same", "b")
    assert first.digest == second.digest
    assert artifacts.usage() == (1, 4)


def test_empty_content_is_content(artifacts: Artifacts) -> None:
    assert artifacts.read_bytes(artifacts.put_bytes(b"", "empty").digest) == b""


def test_nothing_is_visible_before_the_commit(artifacts: Artifacts) -> None:
    with artifacts.writer("a") as writer:
        writer.write(b"half ")
        assert artifacts.usage() == (0, 0)
        writer.write(b"whole")
        file = writer.commit()
    assert file.size_bytes == writer.size_bytes == 10
    assert artifacts.read_bytes(file.digest) == b"half whole"


def test_what_is_not_committed_is_forgotten(artifacts: Artifacts) -> None:
    with pytest.raises(TypeError), artifacts.writer("a") as writer:
        writer.write(b"half" + None)  # type: ignore[operator]
    with artifacts.writer("a") as writer:
        writer.write(b"half")
    assert not artifacts.exists(hashlib.sha256(b"half").hexdigest())
    assert artifacts.usage() == (0, 0)
    with pytest.raises(ValueError):
        writer.write(b"more")


def test_missing_content_is_not_found(artifacts: Artifacts, tmp_path: Path) -> None:
    for digest in (hashlib.sha256(b"missing").hexdigest(), "../../etc/passwd", ""):
        assert not artifacts.exists(digest)
        with pytest.raises(NotFound):
            artifacts.open(digest)
        with pytest.raises(NotFound):
            artifacts.fetch([FileRef("a", digest, 1)], tmp_path / "out")


def test_a_folder_is_laid_out_with_its_paths(artifacts: Artifacts, tmp_path: Path) -> None:
    files = [artifacts.put_bytes(path.encode(), path) for path in ("a", "b/c", "b/手写/七.png")]
    artifacts.fetch(files, tmp_path / "out")
    artifacts.fetch(files, tmp_path / "out")  # again over itself
    for file in files:
        assert (tmp_path / "out" / file.path).read_bytes() == file.path.encode()


@pytest.mark.parametrize(
    "path", ["../a", "/etc/a", "a/../../b", "", "a//b", "a/./b", "a\0b", "..\\a", "a\nb", "x" * 300]
)
def test_a_path_that_leaves_its_folder_is_refused(
    artifacts: Artifacts, tmp_path: Path, path: str
) -> None:
    file = artifacts.put_bytes(b"a", "a")
    with pytest.raises(InvalidData):
        artifacts.put_bytes(b"a", path)
    with pytest.raises(InvalidData):
        artifacts.fetch([file, FileRef(path, file.digest, 1)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_sweep_spares_what_is_referenced_or_young(artifacts: Artifacts) -> None:
    kept, gone = artifacts.put_bytes(b"kept", "a"), artifacts.put_bytes(b"gone", "b")
    assert artifacts.sweep([kept.digest], time.time() - _LATER).removed == 0
    swept = artifacts.sweep([kept.digest], time.time() + _LATER)
    assert (swept.removed, swept.freed_bytes, swept.kept) == (1, 4, 1)
    assert artifacts.exists(kept.digest)
    assert not artifacts.exists(gone.digest)
    with pytest.raises(NotFound):
        artifacts.read_bytes(gone.digest)


def test_content_put_again_is_young_again(artifacts: Artifacts) -> None:
    file = artifacts.put_bytes(b"again", "a")
    time.sleep(0.02)
    between = time.time()
    time.sleep(0.02)
    artifacts.put_bytes(b"again", "a")
    assert artifacts.sweep([], between).removed == 0
    assert artifacts.exists(file.digest)
