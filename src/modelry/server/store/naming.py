"""Names in queries, and the sentence that lists what stands on something."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from modelry.core.errors import InUse

#: Users named in a sentence; more are counted.
_NAMED = 10


def normal(name: str) -> str:
    """The form in which names are stored, so that both ways to write an 'é' find the same row."""
    return unicodedata.normalize("NFC", name)


def refuse_if_used(noun: str, name: str, users: Sequence[str]) -> None:
    """Raises `InUse` with the list, unless it is empty."""
    if not users:
        return
    listed = ", ".join(users[:_NAMED])
    if len(users) > _NAMED:
        listed += f" and {len(users) - _NAMED} more"
    raise InUse(noun=noun, name=name, users=listed)
