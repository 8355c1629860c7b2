"""How versions are named: `digits`, `digits:3`, `digits@production`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from modelry.core.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Ref:
    """A name, and which of its versions."""

    name: str
    #: A number, an alias, or `latest`.
    version: str = "latest"

    @property
    def names_a_version(self) -> bool:
        return self.version != "latest"


def parse_ref(text: str) -> Ref:
    """`name`, `name:number` or `name@alias`; raises `InvalidParameter`."""
    if "@" in text:
        name, _, version = text.partition("@")
        is_good = bool(version)
    elif ":" in text:
        name, _, version = text.partition(":")
        is_good = version.isascii() and version.isdigit()
    else:
        name, version, is_good = text, "latest", True
    if not name or not is_good:
        raise InvalidParameter(
            name="version", value=text, expected="a name, name:number or name@alias"
        )
    return Ref(name, version)


def segment(text: str | int) -> str:
    """One part of a URL's path."""
    return quote(str(text), safe="")


def file_segments(path: str) -> str:
    """A file's relative path inside a URL."""
    return quote(path, safe="/")
