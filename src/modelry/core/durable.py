"""Small files that survive kill -9 and power loss, and locks that end with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from pathlib import Path

from modelry.core.errors import StartRefused


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at once: a reader sees the old content or the new one, never a part, and it is on the disk."""
    _replace(path, data, mode, sync=True)
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at once; it outlives processes, not power loss."""
    _replace(path, data, mode, sync=False)


def _replace(path: Path, data: bytes, mode: int, sync: bool) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def make_private(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for this user alone.

    Raises `StartRefused` for a place that belongs to somebody else, such as a folder laid in wait under `/tmp`.
    """
    if not folder.parent.exists():
        make_private(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StartRefused(
            f"'{folder}' is not a folder of this user's.",
            remedy="Remove it, or choose another MODELRY_HOME.",
        )
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def sync_folder(folder: Path) -> None:
    """Make names that were added to the folder, or removed from it, survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int | None:
    """The descriptor of the file, locked for this process alone; None where somebody else holds it.

    The lock ends when the last process that has the descriptor (inherited ones too) closes it or dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; asking does not hinder anybody for more than microseconds."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return False
