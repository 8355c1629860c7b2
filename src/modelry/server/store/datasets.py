"""Data sets: named lines of immutable versions."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import NotFound
from modelry.core.files import FileRef, total_size_bytes
from modelry.core.ids import new_id
from modelry.core.records import Dataset, DatasetVersion
from modelry.server.store import jobs, lines
from modelry.server.store import projects as project_rows
from modelry.server.store.file_rows import from_row, to_row
from modelry.server.store.naming import refuse_if_used
from modelry.server.store.tables import dataset_versions, datasets, projects
from modelry.server.store.transaction import Transaction

_NOUN = "dataset"
_versions = dataset_versions.c

_newest = (
    sa.select(sa.func.coalesce(sa.func.max(_versions.version), 0))
    .where(_versions.dataset_id == datasets.c.id)
    .scalar_subquery()
)
_LINES = sa.select(
    datasets, projects.c.name.label("project"), _newest.label("latest_version")
).join(projects, projects.c.id == datasets.c.project_id)
_VERSIONS = sa.select(dataset_versions, datasets.c.name.label("dataset")).join(
    datasets, datasets.c.id == _versions.dataset_id
)


def create(tx: Transaction, project: str, name: str) -> Dataset:
    """Raises `AlreadyExists`."""
    lines.create(tx, datasets, _NOUN, project, name)
    return get(tx, project, name)


def ensure(tx: Transaction, project: str, name: str) -> Dataset:
    """The data set, made where it was missing."""
    lines.ensure(tx, datasets, _NOUN, project, name)
    return get(tx, project, name)


def get(tx: Transaction, project: str, name: str) -> Dataset:
    """Raises `NotFound`."""
    line_id = lines.id_of(tx, datasets, _NOUN, project, name)
    return _line(tx.execute(_LINES.where(datasets.c.id == line_id)).one())


def list(tx: Transaction, project: str) -> builtins.list[Dataset]:
    """By name."""
    mine = _LINES.where(datasets.c.project_id == project_rows.id_of(tx, project))
    return sorted((_line(row) for row in tx.execute(mine)), key=lambda dataset: dataset.name)


def delete(tx: Transaction, project: str, name: str) -> None:
    """With all versions; raises `InUse` while unfinished jobs read or make it."""
    line_id = lines.lock(tx, datasets, _NOUN, project, name)
    held = tx.execute(
        sa.select(_versions.id).where(_versions.dataset_id == line_id).with_for_update()
    )
    users = jobs.readers(tx, held.scalars().all()) + jobs.makers(tx, _NOUN, project, name)
    refuse_if_used(_NOUN, name, users)
    tx.change(sa.delete(datasets).where(datasets.c.id == line_id))


def delete_empty(tx: Transaction, project: str, name: str) -> bool:
    """Deletes a data set that has no version and that no other unfinished job makes; False where it stays."""
    found = _LINES.where(
        datasets.c.project_id == project_rows.id_of(tx, project), datasets.c.name == name
    )
    row = tx.execute(found).one_or_none()
    if (
        row is None
        or tx.execute(sa.select(_versions.id).where(_versions.dataset_id == row.id)).first()
    ):
        return False
    if jobs.makers(tx, _NOUN, project, name):
        return False
    delete(tx, project, name)
    return True


def add_version(
    tx: Transaction,
    project: str,
    name: str,
    manifest: dict[str, Any],
    files: Sequence[FileRef],
    job_id: str | None,
) -> DatasetVersion:
    """The next version; content that is there already (the same fingerprint) stays the version it is."""
    line_id = lines.lock(tx, datasets, _NOUN, project, name)
    fingerprint = str(manifest["fingerprint"])
    same = _VERSIONS.where(_versions.dataset_id == line_id, _versions.fingerprint == fingerprint)
    row = tx.execute(same).one_or_none()
    if row is not None:
        return _version(row)
    version_id = new_id("dsv")
    tx.insert(
        dataset_versions,
        {
            "id": version_id,
            "dataset_id": line_id,
            "version": lines.next_number(tx, datasets, line_id),
            "fingerprint": fingerprint,
            "manifest": manifest,
            "files": to_row(files),
            "size_bytes": total_size_bytes(builtins.list(files)),
            "job_id": job_id,
            "created_at": tx.now(),
        },
    )
    return get_version_by_id(tx, version_id)


def get_version(
    tx: Transaction, project: str, name: str, version: int | None = None
) -> DatasetVersion:
    """One version, or the newest. Raises `NotFound`."""
    line_id = lines.id_of(tx, datasets, _NOUN, project, name)
    statement = _VERSIONS.where(_versions.dataset_id == line_id)
    if version is not None:
        statement = statement.where(_versions.version == version)
    row = tx.execute(statement.order_by(_versions.version.desc()).limit(1)).one_or_none()
    if row is not None:
        return _version(row)
    if version is not None:
        raise NotFound(noun="dataset version", name=f"{name}:{version}")
    raise NotFound(
        f"The dataset '{name}' has no version.",
        remedy="`modelry jobs list` tells whether its import still runs or has failed.",
    )


def get_version_by_id(tx: Transaction, version_id: str) -> DatasetVersion:
    """Raises `NotFound`."""
    row = tx.execute(_VERSIONS.where(_versions.id == version_id)).one_or_none()
    if row is None:
        raise NotFound(noun="dataset version", name=version_id)
    return _version(row)


def list_versions(tx: Transaction, project: str, name: str) -> builtins.list[DatasetVersion]:
    """The newest first."""
    line_id = lines.id_of(tx, datasets, _NOUN, project, name)
    statement = _VERSIONS.where(_versions.dataset_id == line_id)
    return [_version(row) for row in tx.execute(statement.order_by(_versions.version.desc()))]


def delete_version(tx: Transaction, project: str, name: str, version: int) -> None:
    """Raises `InUse` while unfinished jobs read it."""
    found = get_version(tx, project, name, version)
    mine = _versions.id == found.id
    tx.execute(sa.select(_versions.id).where(mine).with_for_update())
    refuse_if_used("dataset version", f"{name}:{version}", jobs.readers(tx, [found.id]))
    tx.change(sa.delete(dataset_versions).where(mine))


def _line(row: sa.Row[*tuple[Any, ...]]) -> Dataset:
    return Dataset(
        id=row.id,
        project=row.project,
        name=row.name,
        created_at=row.created_at,
        latest_version=row.latest_version,
    )


def _version(row: sa.Row[*tuple[Any, ...]]) -> DatasetVersion:
    return DatasetVersion(
        id=row.id,
        dataset=row.dataset,
        version=row.version,
        fingerprint=row.fingerprint,
        manifest=row.manifest,
        files=from_row(row.files),
        size_bytes=row.size_bytes,
        job_id=row.job_id,
        created_at=row.created_at,
    )
