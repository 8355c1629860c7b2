"""API keys as texts: `mk_<public id>_<secret>`, and the HMAC that is stored instead of the secret."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

_PUBLIC = 12
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class KeyText:
    """A whole key; its text is shown once, when it is made."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyText({self.id}, ***)"

    @property
    def text(self) -> str:
        return f"mk_{self.id}_{self.secret}"


def new_key() -> KeyText:
    """A fresh key with 238 random bits."""
    return KeyText(id=_random(_PUBLIC), secret=_random(40))


def parse_key(text: str) -> KeyText | None:
    """The key in a text, or None if it has not the shape of one."""
    parts = text.strip().split("_")
    if len(parts) != 3 or parts[0] != "mk" or not parts[1] or not parts[2]:
        return None
    return KeyText(id=parts[1], secret=parts[2])


def key_hmac(pepper: bytes, key: KeyText) -> bytes:
    """What the store keeps: HMAC-SHA256 of the key's text under the service's secret."""
    return hmac.new(pepper, key.text.encode(), hashlib.sha256).digest()


def is_same_hmac(left: bytes, right: bytes) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(left, right)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
