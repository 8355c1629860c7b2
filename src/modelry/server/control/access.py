"""Who may do what: keys and their rules, and the first key of a new service.

Knows the store and the home's secret files; which scope a call needs is declared at its route.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelry.core.durable import write_durably
from modelry.core.errors import InvalidParameter, InvalidRequest, NotFound, StartRefused
from modelry.core.keys import KeyText, key_hmac, new_key, parse_key
from modelry.core.records import SCOPES, Key, KeyLimits
from modelry.core.settings import Settings
from modelry.server.store import Store, Transaction, keys, projects

log = logging.getLogger(__name__)

SECRET_BYTES = 32
ADMIN_LABEL = "admin"
LONGEST_LABEL = 100
#: The longest life of a key, and the longest overlap of a rotation.
LONGEST_S = 10 * 365 * 86400.0
#: Bounds of what a key may be limited to: a rate, a burst, and a month's quota.
SMALLEST_RATE, LARGEST_RATE = 1e-3, 1e9
SHORTEST_BURST_S, LONGEST_BURST_S = 1e-3, 3600.0
LARGEST_QUOTA = 2**53


def load_pepper(settings: Settings) -> bytes:
    """The key of all HMACs; raises `StartRefused` where it is not there."""
    path = settings.places.secret
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StartRefused(
            f"The file {path} is gone; without it no key can be checked.",
            remedy="Start the service with `modelry up`, which makes one, or restore it from a backup.",
        ) from None


def ensure_admin_key(store: Store, settings: Settings) -> Path:
    """Where the first admin key lies (`home/admin.key`, 0600); makes it when no instance admin key lives.

    The file is written before its row: a crash in between leaves a key that the next start registers, never a row
    whose text nobody knows. A file that was removed on purpose is not made anew while any instance admin key lives.
    A lost secret ends all keys, so that a new admin key comes with a new secret.
    """
    path = settings.places.admin_key
    is_new_secret = _ensure_secret(settings.places.secret)
    pepper = load_pepper(settings)
    with store.read() as tx:
        has_admin = _has_living_admin(tx) and not is_new_secret
        key = _unregistered(tx, path)
        lost = len(keys.list_living(tx)) if is_new_secret else 0
    if lost:
        log.warning("the secret was gone: %d keys do not work any more", lost)
    if has_admin:
        if not path.exists():
            log.warning("%s is gone; the admin keys that live go on to work", path)
        return path
    if key is None:
        key = new_key()
        write_durably(path, f"{key.text}\n".encode())
    with store.write() as tx:
        _insert(tx, pepper, key, label=ADMIN_LABEL, project=None, scopes=("admin",))
    return path


def list_keys(store: Store, project: str | None = None) -> list[Key]:
    """Every key, or those of one project."""
    with store.read() as tx:
        return keys.list(tx, project)


def create_key(
    store: Store,
    pepper: bytes,
    *,
    label: str,
    scopes: tuple[str, ...],
    project: str | None,
    expires_in_s: float | None = None,
    limits: KeyLimits = keys.NO_LIMITS,
) -> tuple[Key, str]:
    """A new key and its text, which is shown this once. `project` None makes an instance key (admin only)."""
    wanted = _check_scopes(scopes, project)
    _check_span(expires_in_s, "expires_in_s")
    key = new_key()
    with store.write() as tx:
        made = _insert(
            tx,
            pepper,
            key,
            label=_check_label(label),
            project=None if project is None else projects.get(tx, project).name,
            scopes=wanted,
            expires_at=None if expires_in_s is None else tx.now() + expires_in_s,
            limits=check_limits(limits),
        )
    return made, key.text


def limit_key(store: Store, key_id: str, changes: Mapping[str, float | None]) -> Key:
    """Changes these fields of a key's `KeyLimits`; None takes a limit away. The others stay as they are."""
    with store.write() as tx:
        old = _living(tx, key_id)
        values: dict[str, Any] = {
            name: getattr(keys.NO_LIMITS, name) if value is None else value
            for name, value in changes.items()
        }
        keys.limit(tx, key_id, check_limits(replace(old.limits, **values)))
        return keys.get(tx, key_id)


def check_limits(limits: KeyLimits) -> KeyLimits:
    """The limits, if each is in its bounds; raises `InvalidParameter`."""
    for name in ("requests_per_s", "rows_per_s"):
        rate = getattr(limits, name)
        if rate is not None and not SMALLEST_RATE <= rate <= LARGEST_RATE:
            expected = f"{SMALLEST_RATE:g} to {LARGEST_RATE:g} a second"
            raise InvalidParameter(name=name, value=rate, expected=expected)
    if not SHORTEST_BURST_S <= limits.burst_s <= LONGEST_BURST_S:
        expected = f"{SHORTEST_BURST_S:g} to {LONGEST_BURST_S:g} seconds"
        raise InvalidParameter(name="burst_s", value=limits.burst_s, expected=expected)
    for name in ("requests_per_month", "rows_per_month"):
        quota = getattr(limits, name)
        if quota is not None and not 0 <= quota <= LARGEST_QUOTA:
            raise InvalidParameter(name=name, value=quota, expected="a count, not below 0")
    return limits


def rotate_key(store: Store, pepper: bytes, key_id: str, overlap_s: float) -> tuple[Key, str]:
    """A key with the same rights; the old one ends now, or after `overlap_s` seconds."""
    _check_span(overlap_s or None, "overlap_s")
    key = new_key()
    with store.write() as tx:
        old = _living(tx, key_id)
        made = _insert(
            tx,
            pepper,
            key,
            label=old.label,
            project=old.project,
            scopes=old.scopes,
            expires_at=old.expires_at,
            limits=old.limits,
        )
        end = tx.now() + overlap_s
        if not overlap_s:
            keys.revoke(tx, key_id)
        elif old.expires_at is None or end < old.expires_at:
            keys.expire(tx, key_id, end)
    return made, key.text


def revoke_key(store: Store, key_id: str) -> None:
    """Ends a key at once; the row stays, so that the list tells of it."""
    with store.write() as tx:
        keys.get(tx, key_id)
        keys.revoke(tx, key_id)


def _ensure_secret(path: Path) -> bool:
    """Makes the secret where there is none; True if it did."""
    if path.exists():
        return False
    write_durably(path, secrets.token_bytes(SECRET_BYTES))
    return True


def _check_label(label: str) -> str:
    label = label.strip()
    if not 1 <= len(label) <= LONGEST_LABEL or not label.isprintable():
        raise InvalidParameter(
            name="label", value=label, expected=f"1 to {LONGEST_LABEL} printable characters"
        )
    return label


def _living(tx: Transaction, key_id: str) -> Key:
    key = keys.get(tx, key_id)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= tx.now()):
        raise NotFound(
            noun="living key", name=key_id, remedy="It has ended; create a new key instead."
        )
    return key


def _check_scopes(scopes: tuple[str, ...], project: str | None) -> tuple[str, ...]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        value = ", ".join(unknown) or "empty"
        raise InvalidParameter(name="scopes", value=value, expected=f"some of {', '.join(SCOPES)}")
    if project is None and "admin" not in scopes:
        reason = "a key without a project reaches every project and must have the scope 'admin'"
        raise InvalidRequest(reason=reason, remedy="Name the project the key is for.")
    if project is not None and "admin" in scopes:
        reason = "the scope 'admin' rules the whole service and cannot belong to one project"
        raise InvalidRequest(reason=reason, remedy="Leave out the project, or the scope 'admin'.")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _insert(
    tx: Transaction,
    pepper: bytes,
    key: KeyText,
    *,
    label: str,
    project: str | None,
    scopes: tuple[str, ...],
    expires_at: float | None = None,
    limits: KeyLimits = keys.NO_LIMITS,
) -> Key:
    return keys.create(
        tx,
        id=key.id,
        label=label,
        project=project,
        scopes=scopes,
        secret_hmac=key_hmac(pepper, key),
        expires_at=expires_at,
        limits=limits,
    )


def _has_living_admin(tx: Transaction) -> bool:
    return any(
        row.key.project is None and "admin" in row.key.scopes for row in keys.list_living(tx)
    )


def _unregistered(tx: Transaction, path: Path) -> KeyText | None:
    """The key that a crashed first start left in the file, if the store does not know it."""
    if not path.exists():
        return None
    key = parse_key(path.read_text())
    known = {row.id for row in keys.list(tx)}
    return key if key is not None and key.id not in known else None


def _check_span(span_s: float | None, name: str) -> None:
    if span_s is not None and not 0 < span_s <= LONGEST_S:
        raise InvalidParameter(name=name, value=span_s, expected="seconds, up to ten years")
