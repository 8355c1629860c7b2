"""The file words both sides share: a named piece of content, and a folder made of them."""

from __future__ import annotations

from dataclasses import dataclass


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
