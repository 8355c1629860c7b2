"""What data sets and models have in common: a name in a project, with numbered versions."""

from __future__ import annotations

import sqlalchemy as sa

from modelry.core.errors import AlreadyExists, NotFound
from modelry.core.ids import check_name, new_id
from modelry.server.store import projects as project_rows
from modelry.server.store.naming import normal
from modelry.server.store.transaction import Transaction


def create(tx: Transaction, table: sa.Table, noun: str, project: str, name: str) -> None:
    """Raises `AlreadyExists`."""
    if not _insert(tx, table, noun, project, name):
        raise AlreadyExists(noun=noun, name=name)


def ensure(tx: Transaction, table: sa.Table, noun: str, project: str, name: str) -> None:
    """Makes the line unless it is there, and keeps it there until the transaction ends."""
    wanted = sa.select(table.c.id).where(_named(tx, table, project, name))
    # Not a share: two that ensure the line and then number a version would wait for each other.
    while tx.execute(wanted.with_for_update(key_share=True)).one_or_none() is None:
        _insert(tx, table, noun, project, name)


def id_of(tx: Transaction, table: sa.Table, noun: str, project: str, name: str) -> str:
    """Raises `NotFound`."""
    statement = sa.select(table.c.id).where(_named(tx, table, project, name))
    found: str | None = tx.execute(statement).scalar_one_or_none()
    if found is None:
        raise NotFound(noun=noun, name=name)
    return found


def lock(tx: Transaction, table: sa.Table, noun: str, project: str, name: str) -> str:
    """The line's id; until the transaction ends nobody else adds or removes versions. Raises `NotFound`."""
    statement = sa.select(table.c.id).where(_named(tx, table, project, name))
    statement = statement.with_for_update(key_share=True)
    found: str | None = tx.execute(statement).scalar_one_or_none()
    if found is None:
        raise NotFound(noun=noun, name=name)
    return found


def next_number(tx: Transaction, table: sa.Table, line_id: str) -> int:
    """The number of a new version; never one that was given before, even to a version since deleted."""
    return int(
        tx.execute(
            sa.update(table)
            .where(table.c.id == line_id)
            .values(numbered=table.c.numbered + 1)
            .returning(table.c.numbered)
        ).scalar_one()
    )


def _named(tx: Transaction, table: sa.Table, project: str, name: str) -> sa.ColumnElement[bool]:
    project_id = project_rows.id_of(tx, project)
    return sa.and_(table.c.project_id == project_id, table.c.name == normal(name))


def _insert(tx: Transaction, table: sa.Table, noun: str, project: str, name: str) -> bool:
    values = {
        "id": new_id({"dataset": "dst", "model": "mdl"}[noun]),
        "project_id": project_rows.id_of(tx, project),
        "name": check_name(name, noun),
        "created_at": tx.now(),
        "numbered": 0,
    }
    return tx.insert_new(table, values)
