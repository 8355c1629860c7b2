"""Blobs in a local folder: `ab/abcdef…` named by SHA-256, `tmp/` for what is being written, `lock`.

A blob appears by rename, after its bytes are on the disk, so that no crash leaves half a blob. Publishing holds the
lock shared, sweeping holds it exclusively: content that a put found present cannot vanish under it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelry.core.errors import StorageFull

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = 0o444
#: Blobs removed per exclusive lock, so that puts never wait long behind a sweep.
_SWEEP_BATCH = 256


def is_digest(text: str) -> bool:
    """Whether a text can name a blob."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    removed: int
    freed_bytes: int
    kept: int


class BlobWriter:
    """One blob being written; its temporary file is locked, so that a sweep knows it is alive."""

    def __init__(self, folder: BlobFolder) -> None:
        self.size_bytes = 0
        self._folder = folder
        self._hash = hashlib.sha256()
        self._temporary = folder.temporary / secrets.token_hex(16)
        self._descriptor: int | None = None
        with folder.storing():
            folder.temporary.mkdir(parents=True, exist_ok=True)
            with folder.locked(fcntl.LOCK_SH):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._descriptor = os.open(self._temporary, flags, 0o600)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Appends all of `data`."""
        view = memoryview(data).cast("B")
        descriptor = self._open_descriptor()
        self._hash.update(view)
        done = 0
        with self._aborting():
            while done < len(view):
                done += os.write(descriptor, view[done:])
        self.size_bytes += done
        return done

    def commit(self) -> str:
        """Publishes the blob and returns its digest."""
        descriptor = self._open_descriptor()
        digest = self._hash.hexdigest()
        with self._aborting():
            os.fchmod(descriptor, _READ_ONLY)
            os.fsync(descriptor)
            with self._folder.locked(fcntl.LOCK_SH):
                self._folder.publish(self._temporary, digest)
        self._close()
        return digest

    def abort(self) -> None:
        """Removes what was written, unless it was committed."""
        if self._descriptor is not None:
            self._close()

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise ValueError("the writer is closed")
        return self._descriptor

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[None]:
        try:
            with self._folder.storing():
                yield
        except BaseException:
            self.abort()
            raise

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._temporary.unlink(missing_ok=True)
            os.close(descriptor)


class BlobFolder:
    """The blobs below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.temporary = self.root / "tmp"

    def path(self, digest: str) -> Path:
        """Where a blob lies or would lie; a malformed digest names a file that never exists."""
        if not is_digest(digest):
            return self.root / "malformed" / "digest"
        return self.root / digest[:2] / digest

    def exists(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.path(digest).is_file()

    def writer(self) -> BlobWriter:
        """A new blob."""
        return BlobWriter(self)

    def publish(self, temporary: Path, digest: str) -> None:
        """Gives a finished temporary file its name; the caller holds the lock. A present blob becomes young again."""
        path = self.path(digest)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            _sync(self.root)
        if path.is_file():
            os.utime(path)
        else:
            os.utime(temporary)  # the last byte may have been written long ago
            temporary.rename(path)
        # Also for a present blob: the process that renamed it may not have come this far yet.
        _sync(path.parent)

    def link(self, digest: str, target: Path) -> None:
        """Makes `target` the blob: a hard link, or a copy where the disk is another."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with self.storing():
            try:
                os.link(self.path(digest), target)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
                shutil.copyfile(self.path(digest), target)
                target.chmod(_READ_ONLY)

    def sweep(self, referenced: frozenset[str], older_than: float) -> Swept:
        """Removes unreferenced blobs last put before `older_than`, and files of dead writers."""
        kept, candidates = 0, []
        for entry in self._blobs():
            if entry.name in referenced or entry.stat().st_mtime >= older_than:
                kept += 1
            else:
                candidates.append(Path(entry.path))
        removed = freed = 0
        for start in range(0, len(candidates), _SWEEP_BATCH):
            with self.locked(fcntl.LOCK_EX):
                for path in candidates[start : start + _SWEEP_BATCH]:
                    size = _remove_if_older(path, older_than)
                    removed += size is not None
                    kept += size is None and path.exists()
                    freed += size or 0
        return Swept(removed, freed + self._sweep_temporary(), kept)

    def usage(self) -> tuple[int, int]:
        """Blobs and their bytes."""
        sizes = [entry.stat().st_size for entry in self._blobs()]
        return len(sizes), sum(sizes)

    @contextlib.contextmanager
    def locked(self, kind: int) -> Iterator[None]:
        """Holds the folder's lock: `LOCK_SH` to publish, `LOCK_EX` to sweep."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def storing(self) -> Iterator[None]:
        """Turns a full disk into `StorageFull`."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(place=str(self.root)) from error
            raise

    def _blobs(self) -> Iterator[os.DirEntry[str]]:
        if not self.root.is_dir():
            return
        with os.scandir(self.root) as folders:
            names = [entry.path for entry in folders if len(entry.name) == 2 and entry.is_dir()]
        for name in names:
            with os.scandir(name) as entries:
                yield from (entry for entry in entries if _DIGEST.fullmatch(entry.name))

    def _sweep_temporary(self) -> int:
        if not self.temporary.is_dir():
            return 0
        with self.locked(fcntl.LOCK_EX):
            return sum(_remove_if_abandoned(path) for path in self.temporary.iterdir())


def _remove_if_older(path: Path, older_than: float) -> int | None:
    try:
        found = path.stat()
        if found.st_mtime >= older_than:
            return None
        path.unlink()
    except FileNotFoundError:
        return None
    return found.st_size


def _remove_if_abandoned(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(descriptor).st_size
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)
    return size


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
