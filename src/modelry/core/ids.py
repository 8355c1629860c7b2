"""Identifiers: a noun's prefix and 16 random characters without look-alikes."""

from __future__ import annotations

import re
import secrets
import unicodedata

from modelry.core.errors import InvalidName

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_NAME = re.compile(r"[^\W_][\w.\-]{0,63}")


def new_id(prefix: str) -> str:
    """A fresh identifier such as `job_k3v9x2m4qz7a8p5w` (79 random bits)."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(16))


def check_name(name: str, noun: str) -> str:
    """The name in Unicode's NFC form; letters of every script are welcome. Raises `InvalidName`."""
    normal = unicodedata.normalize("NFC", name)
    if not _NAME.fullmatch(normal) or ".." in normal:
        raise InvalidName(name=name, noun=noun)
    return normal
