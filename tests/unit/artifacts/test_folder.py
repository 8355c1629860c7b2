"""The local folder under attack: full disks, killed writers, sweeps beside puts."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from modelry.artifacts import Artifacts
from modelry.core.errors import InternalError, NotFound

_LATER = 3600.0

_FILL_A_SMALL_DISK = """
import sys
from pathlib import Path
from modelry.artifacts import Artifacts
from modelry.core.errors import StorageFull
artifacts = Artifacts(sys.argv[1] + "/blobs")
kept = artifacts.put_bytes(b"k" * 100_000, "kept")
try:
    with artifacts.writer("large") as writer:
        for _ in range(100):
            writer.write(bytes(100_000))
        writer.commit()
except StorageFull as error:
    assert error.retryable and sys.argv[1] in error.message, error
else:
    raise SystemExit("it fitted")
assert not list((Path(sys.argv[1]) / "blobs" / "tmp").iterdir()), "a temporary file was left"
assert artifacts.usage() == (1, 100_000)
assert artifacts.read_bytes(kept.digest) == b"k" * 100_000
artifacts.put_bytes(b"n" * 500_000, "new")
"""

_WRITE_AND_WAIT = """
import sys, time
from modelry.artifacts import Artifacts
writer = Artifacts(sys.argv[1]).writer("half")
writer.write(b"half a blob" * 100_000)
print("written", flush=True)
time.sleep(60)
"""


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=1m tmpfs '{tmp_path}'"
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "sh", "-c", mount]).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    script = tmp_path.parent / "fill.py"
    script.write_text(_FILL_A_SMALL_DISK)
    command = f"{mount} && exec '{sys.executable}' '{script}' '{tmp_path}'"
    subprocess.run([*unshare, "sh", "-c", command], check=True)


def test_a_killed_writer_leaves_no_half_blob_and_the_sweep_clears_its_file(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    with writer.stdout:
        writer.stdout.readline()
    artifacts = Artifacts(str(tmp_path))
    artifacts.sweep([], time.time() + _LATER)
    assert len(list((tmp_path / "tmp").iterdir())) == 1  # alive: spared, however old
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert artifacts.usage() == (0, 0)
    assert artifacts.sweep([], time.time() + _LATER).freed_bytes == 1_100_000
    assert not list((tmp_path / "tmp").iterdir())


def test_a_put_beside_sweeps_never_loses_what_it_returned(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    done = threading.Event()
    removed = 0

    def sweep() -> None:
        nonlocal removed
        while not done.is_set():
            removed += artifacts.sweep([], time.time() - 60).removed

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    for _ in range(300):
        path = artifacts.local_path(artifacts.put_bytes(b"the same", "a").digest)
        # Whoever has just put content must find it, however near it was to being swept.
        assert path.read_bytes() == b"the same"
        os.utime(path, (0, 0))  # old: every sweep may take it until it is put again
    done.set()
    sweeper.join()
    assert removed > 0


def test_content_is_as_young_as_its_commit(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    with artifacts.writer("a") as writer:
        writer.write(b"slow")
        (temporary,) = (tmp_path / "tmp").iterdir()
        os.utime(temporary, (0, 0))  # the sender was silent for long
        digest = writer.commit().digest
    artifacts.sweep([], time.time() - 60)
    assert artifacts.exists(digest)


def test_another_disk_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    artifacts = Artifacts(str(tmp_path / "blobs"))
    file = artifacts.put_bytes(b"content", "a")
    monkeypatch.setattr(os, "link", refuse)
    artifacts.fetch([file], tmp_path / "out")
    laid = tmp_path / "out" / "a"
    assert laid.read_bytes() == b"content"
    assert stat.S_IMODE(laid.stat().st_mode) == 0o444


def test_a_folder_is_laid_out_by_links_that_cannot_be_written(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "blobs"))
    file = artifacts.put_bytes(b"content", "a")
    artifacts.fetch([file], tmp_path / "out")
    blob, laid = artifacts.local_path(file.digest), tmp_path / "out" / "a"
    assert blob.stat().st_ino == laid.stat().st_ino
    assert stat.S_IMODE(laid.stat().st_mode) == 0o444
    assert blob == tmp_path / "blobs" / file.digest[:2] / file.digest


def test_a_streamed_file_is_never_held_in_memory(tmp_path: Path) -> None:
    chunk = bytes(1 << 20)
    tracemalloc.start()
    try:
        with Artifacts(str(tmp_path)).writer("large") as writer:
            for _ in range(64):
                writer.write(chunk)
            writer.commit()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_content_altered_at_a_remote_address_is_not_believed(tmp_path: Path) -> None:
    import fsspec

    address = f"memory://altered-{os.getpid()}"
    digest = Artifacts(address, cache=tmp_path / "one").put_bytes(b"true", "a").digest
    elsewhere = Artifacts(address, cache=tmp_path / "two")
    assert elsewhere.read_bytes(digest) == b"true"
    system, root = fsspec.core.url_to_fs(address)
    system.pipe_file(f"{root}/{digest[:2]}/{digest}", b"false")
    assert elsewhere.read_bytes(digest) == b"true"  # its own verified copy
    with pytest.raises(InternalError):
        Artifacts(address, cache=tmp_path / "three").read_bytes(digest)
    assert Artifacts(str(tmp_path / "three")).usage() == (0, 0)


def test_a_blob_that_vanished_is_not_found(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    digest = hashlib.sha256(b"never").hexdigest()
    with pytest.raises(NotFound) as caught:
        artifacts.local_path(digest)
    assert digest in caught.value.message
