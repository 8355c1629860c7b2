"""The files an import starts from: an upload, or a folder or file on the server.

A file has a logical name (relative, NFC; for people, labels and splits) and a place on the disk, which need not agree.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelry.core.errors import InvalidData, PathRefused
from modelry.core.files import safe_path

#: More files than this are no data set but a mistake or an attack.
MAX_FILES = 1_000_000

_JUNK = ("thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the source."""

    #: With '/' between parts; `mnist.zip/train/7.png` for a member of an archive.
    name: str
    place: Path

    @property
    def size_bytes(self) -> int:
        return self.place.stat().st_size

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


def list_source(root: Path) -> list[SourceFile]:
    """Every file below a folder (or the one file), sorted by name; what operating systems leave behind is passed over.

    Links that leave the folder, links to folders, devices and pipes are refused with `InvalidData`.
    """
    try:
        real = root.resolve(strict=True)
    except OSError:
        raise PathRefused(f"'{root}' does not exist or cannot be read.", remedy="") from None
    if real.is_file():
        return [SourceFile(safe_path(root.name), real)]
    found: list[SourceFile] = []
    for file in _walk(real, real):
        found.append(file)
        if len(found) > MAX_FILES:
            raise InvalidData(file=root.name, reason=f"more than {MAX_FILES} files")
    if not found:
        raise InvalidData(file=root.name, reason="there are no files in it")
    return sorted(found, key=lambda file: file.name)


def is_junk(name: str) -> bool:
    """Whether a file is an operating system's own and no data."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in name.split("/"))


def _walk(folder: Path, root: Path) -> Iterator[SourceFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            relative = str(Path(entry.path).relative_to(root))
            if is_junk(relative):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), root)
            else:
                yield SourceFile(_printable(relative), _real_file(Path(entry.path), root, relative))


def _real_file(path: Path, root: Path, name: str) -> Path:
    real = path.resolve()
    if not real.is_relative_to(root):
        raise InvalidData(file=name, reason="the link leads out of the folder")
    if real.is_dir():
        raise InvalidData(file=name, reason="it is a link to a folder")
    if not real.is_file():
        raise InvalidData(file=name, reason="it is no ordinary file")
    return real


def _printable(name: str) -> str:
    """The name in NFC; one that is not UTF-8 on the disk is refused."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="backslashreplace").decode()
        raise InvalidData(file=shown, reason="its name is not UTF-8") from None
    return safe_path(unicodedata.normalize("NFC", name))
