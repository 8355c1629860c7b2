"""`FileRef`s as they are kept in a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from modelry.core.files import FileRef


def to_row(files: Iterable[FileRef]) -> list[dict[str, Any]]:
    """Plain values for a JSON column."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(list(files))
    return plain


def from_row(value: list[dict[str, Any]]) -> tuple[FileRef, ...]:
    """What `to_row` made."""
    return tuple(FileRef(**plain) for plain in value)
