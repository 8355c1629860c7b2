"""How a repository of a model hub is named: `hf://org/name`, or `hf://org/name@revision`."""

from __future__ import annotations

import re
from typing import NamedTuple

from modelry.core.errors import InvalidParameter

SCHEME = "hf://"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(
    rf"(?P<repository>{_PART}(/{_PART})?)(@(?P<revision>[A-Za-z0-9][\w./-]{{0,254}}))?"
)


class HubRef(NamedTuple):
    """One repository at one revision."""

    repository: str
    #: A branch, tag or commit; None means the newest.
    revision: str | None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def parse_hub_ref(location: str, revision: str | None = None) -> HubRef:
    """Reads `org/name@revision`, with or without `hf://`; raises `InvalidParameter`."""
    named = _NAME.fullmatch(location.removeprefix(SCHEME))
    is_sound = named is not None and ".." not in location and "--" not in location
    if not is_sound or named is None or (revision is not None and named["revision"] is not None):
        raise InvalidParameter(
            name="location", value=location, expected="'hf://org/name' or 'hf://org/name@revision'"
        )
    if revision is not None:
        return parse_hub_ref(f"{named['repository']}@{revision}")
    return HubRef(named["repository"], named["revision"])
