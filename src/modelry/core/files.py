"""The file words both sides share: a named piece of content, and a folder made of them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from modelry.core.errors import InvalidData


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of an artifact: where it lies inside its folder, and what it holds."""

    #: Relative, with '/' between parts; never absolute, never with '..'.
    path: str
    #: SHA-256 of the content, hexadecimal.
    digest: str
    size_bytes: int


def total_size_bytes(files: tuple[FileRef, ...] | list[FileRef]) -> int:
    """The sum of the files' sizes."""
    return sum(file.size_bytes for file in files)


def safe_path(path: str) -> str:
    """The path in Unicode's NFC form if it stays inside its folder; raises `InvalidData` otherwise."""
    normal = unicodedata.normalize("NFC", path)
    parts = normal.split("/")
    if not normal or any(part in ("", ".", "..") for part in parts):
        raise InvalidData(file=repr(path), reason="the path leaves its folder or is no path")
    if any(unicodedata.category(letter) in ("Cc", "Cs") or letter == "\\" for letter in normal):
        raise InvalidData(file=repr(path), reason="the path has control characters or backslashes")
    if len(parts) > 32 or any(len(part.encode()) > 255 for part in parts):
        raise InvalidData(file=repr(path), reason="the path is too long")
    return normal
