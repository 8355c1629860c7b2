"""Identifiers: a noun's prefix and 16 random characters without look-alikes."""

from __future__ import annotations

import os
import re
import unicodedata

from modelry.core.errors import InvalidName

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_LENGTH = 16
_NAME = re.compile(r"[^\W_][\w.\-]{0,63}")

#: Two letters at once, for half the divisions.
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def new_id(prefix: str) -> str:
    """A fresh identifier such as `job_k3v9x2m4qz7a8p5w` (79 random bits)."""
    # One draw of 128 bits for all letters; the bias is below 2^-40.
    number = int.from_bytes(os.urandom(16))
    text = prefix + "_"
    for _ in range(_LENGTH // 2):
        number, place = divmod(number, len(_PAIRS))
        text += _PAIRS[place]
    return text


def check_name(name: str, noun: str) -> str:
    """The name in Unicode's NFC form; letters of every script are welcome. Raises `InvalidName`."""
    normal = unicodedata.normalize("NFC", name)
    if not _NAME.fullmatch(normal) or ".." in normal:
        raise InvalidName(name=name, noun=noun)
    return normal
