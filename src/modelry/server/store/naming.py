"""Names in queries, lists of many in parts, and the sentence that lists what stands on something."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from modelry.core.errors import InUse

#: Users named in a sentence; more are counted.
_NAMED = 10
#: Values that one statement carries at most; databases have a limit for it.
_IN_ONE_STATEMENT = 500


def normal(name: str) -> str:
    """The form in which names are stored, so that both ways to write an 'é' find the same row."""
    return unicodedata.normalize("NFC", name)


def in_parts(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in lists that one statement can hold."""
    ordered = sorted(names)
    for begin in range(0, len(ordered), _IN_ONE_STATEMENT):
        yield ordered[begin : begin + _IN_ONE_STATEMENT]


def refuse_if_used(noun: str, name: str, users: Sequence[str]) -> None:
    """Raises `InUse` with the list, unless it is empty."""
    if not users:
        return
    listed = ", ".join(users[:_NAMED])
    if len(users) > _NAMED:
        listed += f" and {len(users) - _NAMED} more"
    raise InUse(noun=noun, name=name, users=listed)
