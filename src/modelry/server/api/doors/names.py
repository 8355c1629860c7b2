"""How paths and bodies name a deployment and pin its version; one way for all protocols."""

from __future__ import annotations

import re

from modelry.core.errors import InvalidRequest
from modelry.server.api.doors.door import Target
from modelry.server.api.doors.numbers import read_count

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def is_name(text: str) -> bool:
    """A deployment's name, perhaps with its project's before it: `digits`, `team/digits`."""
    parts = text.split("/")
    return len(parts) <= 2 and all(parts)


def read_version(text: str) -> int | str | None:
    """A version as one word says it: a number, an alias, or (empty) none."""
    return int(text) if _NUMBER.fullmatch(text) else text or None


def read_reference(text: str) -> Target:
    """`name`, `name:3` or `name@alias`; raises `InvalidRequest` for anything else."""
    name, at, alias = text.partition("@")
    if at:
        version: int | str | None = read_version(alias)
    else:
        name, colon, number = text.partition(":")
        version = read_count("version", number) if colon else None
    if not is_name(name) or (at and (not alias or "/" in alias)):
        raise InvalidRequest(
            reason=f"'{text}' names no deployment",
            remedy="Write 'name', 'name:3' for version 3, or 'name@alias'.",
        )
    return Target(name, version)
