"""Which files an upload has, and their bytes in pieces. Never holds a whole file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelry.core.errors import InvalidData, NotFound

#: Bytes read and sent at once.
CHUNK = 1 << 20

#: Called while files go out: (path inside the upload, bytes sent so far, bytes of all files).
OnSent = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file to send."""

    source: Path
    #: Inside the upload, with '/' between parts.
    path: str
    size_bytes: int


def list_files(source: Path) -> list[LocalFile]:
    """The file, or every file below the folder, sorted; hidden ones (`.DS_Store`, `.git`) stay at home."""
    source = source.expanduser()
    if source.is_file():
        return [_local(source, source.name)]
    if not source.is_dir():
        raise NotFound(
            noun="file or folder", name=str(source), remedy="Check the path; nothing was sent."
        )
    found: list[LocalFile] = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                found.append(_local(file, file.relative_to(source).as_posix()))
    if not found:
        raise InvalidData(file=str(source), reason="the folder holds no files")
    return found


def _local(source: Path, path: str) -> LocalFile:
    return LocalFile(source, unicodedata.normalize("NFC", path), source.stat().st_size)
