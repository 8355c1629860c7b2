"""Which pairs of texts must not be torn apart: those whose sources differ only in case, punctuation and blanks."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from typing import Any


class _Letters(dict[int, int | None]):
    """For `str.translate`: removes punctuation and white space; what a letter is, is looked up once."""

    def __missing__(self, point: int) -> int | None:
        letter = chr(point)
        is_dropped = letter.isspace() or unicodedata.category(letter).startswith("P")
        self[point] = None if is_dropped else point
        return self[point]


_LETTERS = _Letters()


def source_keys(column: Any) -> Callable[[int, int], list[bytes]]:
    """SHA-256 of each source text as it is compared: all translations of one source have the same."""

    def keys(start: int, stop: int) -> list[bytes]:
        texts: list[str] = column[start:stop].to_pylist()
        return [hashlib.sha256(compared(text).encode()).digest() for text in texts]

    return keys


def compared(text: str) -> str:
    """The text in lower case and NFKC, without punctuation and white space."""
    return unicodedata.normalize("NFKC", text.lower()).translate(_LETTERS)
