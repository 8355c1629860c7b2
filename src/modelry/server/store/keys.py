"""API keys: their rights, and the HMAC that is kept instead of the secret. Every change reaches the gateways."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import AlreadyExists, NotFound
from modelry.core.records import Key, KeyLimits, KeyRow
from modelry.server.store import projects as project_rows
from modelry.server.store.tables import keys, projects
from modelry.server.store.transaction import Transaction

NO_LIMITS = KeyLimits()

_SELECT = sa.select(keys, projects.c.name.label("project")).outerjoin(
    projects, projects.c.id == keys.c.project_id
)


def create(
    tx: Transaction,
    *,
    id: str,
    label: str,
    project: str | None,
    scopes: Sequence[str],
    secret_hmac: bytes,
    expires_at: float | None = None,
    limits: KeyLimits = NO_LIMITS,
) -> Key:
    """A key of one project, or an instance key (project None). `expires_at` by the database's clock."""
    values = {
        "id": id,
        "label": label,
        "project_id": None if project is None else project_rows.id_of(tx, project),
        "scopes": builtins.list(scopes),
        "secret_hmac": secret_hmac,
        "created_at": tx.now(),
        "expires_at": expires_at,
        "limits": _to_row(limits),
    }
    if not tx.insert_new(keys, values):
        raise AlreadyExists(noun="key", name=id)
    tx.change_routes()
    return get(tx, id)


def get(tx: Transaction, key_id: str) -> Key:
    """Raises `NotFound`."""
    row = tx.execute(_SELECT.where(keys.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(noun="key", name=key_id)
    return _record(row)


def list(tx: Transaction, project: str | None = None) -> builtins.list[Key]:
    """Those of one project, or all; ended ones too, the oldest first."""
    statement = _SELECT.order_by(keys.c.created_at, keys.c.id)
    if project is not None:
        statement = statement.where(keys.c.project_id == project_rows.id_of(tx, project))
    return [_record(row) for row in tx.execute(statement)]


def list_living(tx: Transaction) -> builtins.list[KeyRow]:
    """Those that open something now, with their HMACs."""
    living = _SELECT.where(
        keys.c.revoked_at.is_(None),
        sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > tx.now()),
    )
    return [
        KeyRow(key=_record(row), secret_hmac=bytes(row.secret_hmac)) for row in tx.execute(living)
    ]


def revoke(tx: Transaction, key_id: str) -> None:
    """Ends a key now; a second time changes nothing. Raises `NotFound`."""
    get(tx, key_id)
    tx.change(
        sa.update(keys)
        .where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        .values(revoked_at=tx.now())
    )
    tx.change_routes()


def expire(tx: Transaction, key_id: str, expires_at: float) -> None:
    """Ends a key at a moment by the database's clock. Raises `NotFound`."""
    changed = tx.change(sa.update(keys).where(keys.c.id == key_id).values(expires_at=expires_at))
    if changed != 1:
        raise NotFound(noun="key", name=key_id)
    tx.change_routes()


def limit(tx: Transaction, key_id: str, limits: KeyLimits) -> None:
    """Sets what a key may use. Raises `NotFound`."""
    values = {"limits": _to_row(limits)}
    if tx.change(sa.update(keys).where(keys.c.id == key_id).values(**values)) != 1:
        raise NotFound(noun="key", name=key_id)
    tx.change_routes()


def delete(tx: Transaction, key_id: str) -> None:
    """Forgets a key. Raises `NotFound`."""
    if tx.change(sa.delete(keys).where(keys.c.id == key_id)) != 1:
        raise NotFound(noun="key", name=key_id)
    tx.change_routes()


def _record(row: sa.Row[*tuple[Any, ...]]) -> Key:
    return Key(
        id=row.id,
        label=row.label,
        project=row.project,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        limits=KeyLimits(**row.limits) if row.limits else NO_LIMITS,
    )


def _to_row(limits: KeyLimits) -> dict[str, Any] | None:
    """What differs from no limits."""
    none = asdict(NO_LIMITS)
    return {name: value for name, value in asdict(limits).items() if value != none[name]} or None
