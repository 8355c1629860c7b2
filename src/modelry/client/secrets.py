"""A key just made: the only moment at which its text exists outside its owner's hands."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelry.core.records import Key


@dataclass(frozen=True, slots=True)
class NewKey:
    """The record, and the text to keep safe."""

    key: Key
    #: `mk_<id>_<secret>`; shown once.
    text: str = field(repr=False)
