"""Projects: every other noun belongs to one."""

from __future__ import annotations

import builtins
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import AlreadyExists, InUse, NotFound
from modelry.core.ids import check_name, new_id
from modelry.core.records import Project
from modelry.server.store import tables
from modelry.server.store.naming import normal, refuse_if_used
from modelry.server.store.tables import projects
from modelry.server.store.transaction import Transaction

#: Made by the first migration; what an instance key's call means when it names none.
DEFAULT = "default"


def create(tx: Transaction, name: str) -> Project:
    """Raises `AlreadyExists`."""
    name = check_name(name, "project")
    if not tx.insert_new(projects, {"id": new_id("prj"), "name": name, "created_at": tx.now()}):
        raise AlreadyExists(noun="project", name=name)
    return get(tx, name)


def find(tx: Transaction, name: str) -> Project | None:
    """The project of this name, if there is one."""
    row = tx.execute(sa.select(projects).where(projects.c.name == normal(name))).one_or_none()
    return _record(row) if row else None


def get(tx: Transaction, name: str) -> Project:
    """Raises `NotFound`."""
    project = find(tx, name)
    if project is None:
        raise NotFound(noun="project", name=name)
    return project


def id_of(tx: Transaction, name: str) -> str:
    """The id that rows of a project carry; a writer's project stays until it ends. Raises `NotFound`."""
    statement = sa.select(projects.c.id).where(projects.c.name == normal(name))
    found = tx.held(statement, projects).scalar_one_or_none()
    if found is None:
        raise NotFound(noun="project", name=name)
    return found


def list(tx: Transaction) -> builtins.list[Project]:
    """All, by name."""
    rows = tx.execute(sa.select(projects)).all()
    return sorted((_record(row) for row in rows), key=lambda project: project.name)


def delete(tx: Transaction, name: str) -> None:
    """With its ended keys; raises `InUse` with the list of what else it holds."""
    if normal(name) == DEFAULT:
        raise InUse(noun="project", name=name, users="every call that names no project")
    # From here on nothing can be added to it: who adds a row holds this one first.
    mine = sa.select(projects.c.id).where(projects.c.name == normal(name)).with_for_update()
    project_id = tx.execute(mine).scalar_one_or_none()
    if project_id is None:
        raise NotFound(noun="project", name=name)
    refuse_if_used("project", name, _contents(tx, project_id))
    tx.change(sa.delete(projects).where(projects.c.id == project_id))


def _contents(tx: Transaction, project_id: str) -> builtins.list[str]:
    named: tuple[tuple[str, sa.Table, sa.ColumnElement[str]], ...] = (
        ("deployment", tables.deployments, tables.deployments.c.name),
        ("model", tables.models, tables.models.c.name),
        ("dataset", tables.datasets, tables.datasets.c.name),
        ("job", tables.jobs, tables.jobs.c.id),
        ("upload", tables.uploads, tables.uploads.c.id),
    )
    found = []
    for noun, table, name in named:
        rows = tx.execute(sa.select(name).where(table.c.project_id == project_id)).scalars()
        found += [f"{noun} '{row}'" for row in sorted(rows)]
    keys = tables.keys.c
    living = sa.select(keys.label).where(
        keys.project_id == project_id,
        keys.revoked_at.is_(None),
        sa.or_(keys.expires_at.is_(None), keys.expires_at > tx.now()),
    )
    return found + [f"key '{label}'" for label in sorted(tx.execute(living).scalars())]


def _record(row: sa.Row[*tuple[Any, ...]]) -> Project:
    return Project(id=row.id, name=row.name, created_at=row.created_at)
