# Generated from ../_async/keys.py by scripts/unasync.py; edit that file.
"""Keys: make, rotate and revoke them. A key's text is answered once and never again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from modelry.client import wire
from modelry.client._sync.http import Http
from modelry.client.refs import segment
from modelry.client.secrets import NewKey
from modelry.core.records import Key, KeyLimits


class Keys:
    """`client.keys`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        label: str,
        *,
        scopes: Sequence[str],
        project: str | None = None,
        expires_in_s: float | None = None,
        limits: KeyLimits | None = None,
    ) -> NewKey:
        """A new key for a project; without one, an instance key that names it with each call."""
        body: dict[str, Any] = {"label": label, "scopes": list(scopes)}
        if project is not None:
            body["project"] = project
        if expires_in_s is not None:
            body["expires_in_s"] = expires_in_s
        if limits not in (None, KeyLimits()):
            body["limits"] = asdict(limits)
        return wire.to_record(NewKey, self._http.post("/api/v1/keys", body))

    def list(self) -> list[Key]:
        """The keys this key may see, without their secrets."""
        return wire.to_records(Key, self._http.get("/api/v1/keys"))

    def limit(self, key_id: str, **changes: float | None) -> Key:
        """Changes these fields of a key's `KeyLimits`; None takes a limit away. Holds everywhere within two seconds."""
        value = self._http.patch(f"/api/v1/keys/{segment(key_id)}/limits", changes)
        return wire.to_record(Key, value)

    def rotate(self, key_id: str, *, overlap_s: float | None = None) -> NewKey:
        """A new key with the same rights; the old one ends after `overlap_s` seconds."""
        body = {} if overlap_s is None else {"overlap_s": overlap_s}
        value = self._http.post(f"/api/v1/keys/{segment(key_id)}/rotate", body)
        return wire.to_record(NewKey, value)

    def revoke(self, key_id: str) -> None:
        """Ends a key; it stops working everywhere within two seconds."""
        self._http.delete(f"/api/v1/keys/{segment(key_id)}")

    def whoami(self) -> Key:
        """The key this client shows."""
        return wire.to_record(Key, self._http.get("/api/v1/whoami"))
