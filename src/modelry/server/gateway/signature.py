"""Manifests as they lie in a snapshot (plain values) → typed ones, made once and not with every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelry.core.manifests import ModelManifest

#: More than this and the memory is begun anew.
_LIMIT = 8192


class Signatures:
    """Remembers the typed manifest for as long as the plain one is in use."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Mapping[str, Any], ModelManifest]] = {}

    def of(self, manifest: Mapping[str, Any]) -> ModelManifest:
        """The typed manifest."""
        known = self._known.get(id(manifest))
        if known is not None and known[0] is manifest:
            return known[1]
        if len(self._known) >= _LIMIT:
            self._known.clear()
        typed = msgspec.convert(manifest, ModelManifest)
        # The plain one is kept too, so that its id cannot be given to another.
        self._known[id(manifest)] = (manifest, typed)
        return typed
