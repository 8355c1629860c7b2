"""Who may ask: a key's text against the snapshot. Knows no database and no HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass

from modelry.core.errors import InvalidKey, NoKey, NotFound, ScopeTooSmall
from modelry.core.keys import is_same_hmac, key_hmac, parse_key
from modelry.core.records import Key, Snapshot

#: Where an instance key works that names no project.
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that was checked, and the project it works in now."""

    project: str
    key: Key


def authorize(
    snapshot: Snapshot, pepper: bytes, key_text: str | None, project: str | None, scope: str
) -> Caller:
    """The caller; raises `NoKey`, `InvalidKey`, `ScopeTooSmall`, or `NotFound` for another's project."""
    if not key_text:
        raise NoKey
    parsed = parse_key(key_text)
    row = snapshot.keys.get(parsed.id) if parsed else None
    if parsed is None or row is None or not is_same_hmac(row.secret_hmac, key_hmac(pepper, parsed)):
        raise InvalidKey
    key = row.key
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= time.time()):
        raise InvalidKey
    if scope not in key.scopes and "admin" not in key.scopes:
        raise ScopeTooSmall(scope=scope)
    if key.project is None:
        return Caller(project or DEFAULT_PROJECT, key)
    if project and project != key.project:
        raise NotFound(noun="project", name=project)
    return Caller(key.project, key)
