"""What keys have used, by the hour, and how far the journals it comes from have been read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from modelry.core.records import Usage
from modelry.server.store import projects as project_rows
from modelry.server.store.tables import projects, usage, usage_journals
from modelry.server.store.transaction import Transaction, Values

HOUR_S = 3600
_DAY_HOURS = 24
#: The columns that grow.
AMOUNTS = ("requests", "errors", "rows", "bytes_in", "bytes_out", "compute_us")

#: Spelled out: PostgreSQL sees two parameters of one value as two expressions.
_day: sa.Label[int] = sa.literal_column(f"usage.hour / {_DAY_HOURS}", sa.Integer).label("day")
#: What usage is told apart by → the columns that make the difference.
_COLUMNS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "project": (projects.c.name.label("project"),),
    "key": (usage.c.key_id.label("key"),),
    "deployment": (usage.c.deployment,),
    "version": (usage.c.deployment, usage.c.model, usage.c.version),
    "day": (_day,),
}


def add(tx: Transaction, rows: Sequence[Values]) -> None:
    """Adds to the hours. Each row has every column but `project_id`, and the project's name as `project`."""
    known = {project.name: project.id for project in project_rows.list(tx)}
    found = [{"project_id": known.get(row["project"], ""), **row} for row in rows]
    for one in found:
        del one["project"]
    tx.add_all(usage, found, AMOUNTS)


def offsets(tx: Transaction) -> dict[str, int]:
    """Journal's file → how far it has been read."""
    return {row.name: row.offset for row in tx.execute(sa.select(usage_journals))}


def set_offset(tx: Transaction, name: str, offset: int) -> None:
    """In the transaction that adds what was read."""
    tx.upsert_all(usage_journals, [{"name": name, "offset": offset}])


def forget_journals(tx: Transaction, names: Iterable[str]) -> None:
    """Of files that are gone."""
    tx.change(sa.delete(usage_journals).where(usage_journals.c.name.in_(sorted(names))))


def since(tx: Transaction, key_ids: Iterable[str], hour: int) -> dict[str, tuple[int, int]]:
    """Key → requests and rows from an hour on."""
    c = usage.c
    statement = (
        sa.select(c.key_id, sa.func.sum(c.requests), sa.func.sum(c.rows))
        .where(c.key_id.in_(sorted(key_ids)), c.hour >= hour)
        .group_by(c.key_id)
    )
    return {key: (int(requests), int(rows)) for key, requests, rows in tx.execute(statement)}


def total(
    tx: Transaction,
    by: Sequence[str],
    *,
    project: str | None,
    since: float | None = None,
    until: float | None = None,
) -> list[Usage]:
    """Sums, told apart by some of `USAGE_BY` and `project`; `project` None: of all. Moments count in whole hours."""
    columns = list(dict.fromkeys(column for one in by for column in _COLUMNS[one]))
    sums = [sa.func.sum(usage.c[name]).label(name) for name in AMOUNTS]
    joined = usage.outerjoin(projects, projects.c.id == usage.c.project_id)
    statement = sa.select(*columns, *sums).select_from(joined)
    if project is not None:
        statement = statement.where(usage.c.project_id == project_rows.id_of(tx, project))
    if since is not None:
        statement = statement.where(usage.c.hour >= int(since // HOUR_S))
    if until is not None:
        statement = statement.where(usage.c.hour < int(-(-until // HOUR_S)))
    statement = statement.group_by(*columns).order_by(*columns)
    # Sums over nothing are one row of nulls.
    return [_record(row) for row in tx.execute(statement) if row.requests is not None]


def _record(row: sa.Row[*tuple[Any, ...]]) -> Usage:
    found: dict[str, Any] = dict(row._mapping)
    amounts = {name: int(found.pop(name)) for name in AMOUNTS}
    found["compute_s"] = amounts.pop("compute_us") / 1e6
    if "day" in found:
        began = int(found["day"]) * _DAY_HOURS * HOUR_S
        found["day"] = datetime.fromtimestamp(began, UTC).date().isoformat()
    return Usage(**{**found, **amounts})
