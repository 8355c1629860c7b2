"""Where an import's files came from, for the manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One source."""

    #: `upload`, `path` or `hub`.
    kind: str
    #: `org/name` for a hub, the path for a server path, the uploaded file's or folder's name.
    location: str
    #: The hub's commit; None where the source has none.
    revision: str | None = None
    licence: str | None = None
    #: What else the source says of itself.
    more: dict[str, Any] = field(default_factory=dict)
