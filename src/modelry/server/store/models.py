"""Models: named lines of immutable versions, with aliases that move."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import InvalidName, NotFound
from modelry.core.files import FileRef, total_size_bytes
from modelry.core.ids import check_name, new_id
from modelry.core.records import Model, ModelVersion
from modelry.core.states import ReplicaState
from modelry.server.store import jobs, lines
from modelry.server.store import projects as project_rows
from modelry.server.store.file_rows import from_row, to_row
from modelry.server.store.naming import normal, refuse_if_used
from modelry.server.store.tables import (
    deployments,
    model_aliases,
    model_versions,
    models,
    projects,
    replicas,
)
from modelry.server.store.transaction import Transaction

_NOUN = "model"
_versions = model_versions.c
_aliases = model_aliases.c

_newest = (
    sa.select(sa.func.coalesce(sa.func.max(_versions.version), 0))
    .where(_versions.model_id == models.c.id)
    .scalar_subquery()
)
_LINES = sa.select(models, projects.c.name.label("project"), _newest.label("latest_version")).join(
    projects, projects.c.id == models.c.project_id
)
_VERSIONS = sa.select(model_versions, models.c.name.label("model")).join(
    models, models.c.id == _versions.model_id
)


def create(tx: Transaction, project: str, name: str) -> Model:
    """Raises `AlreadyExists`."""
    lines.create(tx, models, _NOUN, project, name)
    return get(tx, project, name)


def ensure(tx: Transaction, project: str, name: str) -> Model:
    """The model, made where it was missing."""
    lines.ensure(tx, models, _NOUN, project, name)
    return get(tx, project, name)


def get(tx: Transaction, project: str, name: str) -> Model:
    """Raises `NotFound`."""
    line_id = lines.id_of(tx, models, _NOUN, project, name)
    return _lines(tx, models.c.id == line_id)[0]


def list(tx: Transaction, project: str) -> builtins.list[Model]:
    """By name."""
    mine = models.c.project_id == project_rows.id_of(tx, project)
    return sorted(_lines(tx, mine), key=lambda model: model.name)


def delete(tx: Transaction, project: str, name: str) -> None:
    """With all versions and aliases; raises `InUse` while deployments or unfinished jobs stand on it."""
    line_id = lines.lock(tx, models, _NOUN, project, name)
    held = sa.select(_versions.id).where(_versions.model_id == line_id).with_for_update()
    version_ids = tx.execute(held).scalars().all()
    users = _deployed(tx, version_ids) + jobs.readers(tx, version_ids)
    users += jobs.makers(tx, _NOUN, project, name)
    refuse_if_used(_NOUN, name, users)
    tx.change(sa.delete(models).where(models.c.id == line_id))


def add_version(
    tx: Transaction,
    project: str,
    name: str,
    manifest: dict[str, Any],
    files: Sequence[FileRef],
    job_id: str | None,
    dataset_version_id: str | None,
) -> ModelVersion:
    """The next version; a job that publishes a second time gets the version it made."""
    line_id = lines.lock(tx, models, _NOUN, project, name)
    made = _VERSIONS.where(_versions.model_id == line_id, _versions.job_id == job_id)
    row = None if job_id is None else tx.execute(made).one_or_none()
    if row is not None:
        return get_version_by_id(tx, row.id)
    version_id = new_id("mdv")
    tx.insert(
        model_versions,
        {
            "id": version_id,
            "model_id": line_id,
            "version": lines.next_number(tx, models, line_id),
            "manifest": manifest,
            "files": to_row(files),
            "size_bytes": total_size_bytes(builtins.list(files)),
            "job_id": job_id,
            "dataset_version_id": dataset_version_id,
            "created_at": tx.now(),
        },
    )
    return get_version_by_id(tx, version_id)


def get_version(
    tx: Transaction, project: str, name: str, version: int | str | None = None
) -> ModelVersion:
    """By number or alias, or the newest. Raises `NotFound`."""
    line_id = lines.id_of(tx, models, _NOUN, project, name)
    statement = _VERSIONS.where(_versions.model_id == line_id)
    if isinstance(version, int):
        statement = statement.where(_versions.version == version)
    if isinstance(version, str):
        named = sa.and_(_aliases.model_id == line_id, _aliases.alias == normal(version))
        target = sa.select(_aliases.version_id).where(named)
        statement = statement.where(_versions.id.in_(target))
    found = _version_records(tx, statement.order_by(_versions.version.desc()).limit(1))
    if not found:
        raise _no_version(name, version)
    return found[0]


def _no_version(name: str, version: int | str | None) -> NotFound:
    if version is None:
        return NotFound(
            f"The model '{name}' has no version.",
            remedy="Train it; `modelry jobs list` tells whether a job still does.",
        )
    mark = ":" if isinstance(version, int) else "@"
    return NotFound(noun="model version", name=f"{name}{mark}{version}")


def get_version_by_id(tx: Transaction, version_id: str) -> ModelVersion:
    """Raises `NotFound`."""
    found = _version_records(tx, _VERSIONS.where(_versions.id == version_id))
    if not found:
        raise NotFound(noun="model version", name=version_id)
    return found[0]


def list_versions(tx: Transaction, project: str, name: str) -> builtins.list[ModelVersion]:
    """The newest first."""
    line_id = lines.id_of(tx, models, _NOUN, project, name)
    statement = _VERSIONS.where(_versions.model_id == line_id)
    return _version_records(tx, statement.order_by(_versions.version.desc()))


def list_sources(tx: Transaction, project: str) -> builtins.list[tuple[str, int, dict[str, Any]]]:
    """Name, version and the manifest's source of every version that came from a hub, oldest first."""
    statement = (
        sa.select(models.c.name, _versions.version, _versions.manifest)
        .join(models, models.c.id == _versions.model_id)
        .where(
            models.c.project_id == project_rows.id_of(tx, project),
            sa.type_coerce(_versions.manifest, sa.Text).contains('"repository":'),
        )
        .order_by(_versions.created_at, _versions.version)
    )
    found = [(row.name, row.version, row.manifest.get("source")) for row in tx.execute(statement)]
    return [(name, version, source) for name, version, source in found if source]


def delete_version(tx: Transaction, project: str, name: str, version: int) -> None:
    """Raises `InUse` while deployments or aliases point at it, or an unfinished job reads it."""
    lines.lock(tx, models, _NOUN, project, name)
    found = get_version(tx, project, name, version)
    mine = _versions.id == found.id
    tx.execute(sa.select(_versions.id).where(mine).with_for_update())
    aliases = sa.select(_aliases.alias).where(_aliases.version_id == found.id)
    users = _deployed(tx, [found.id]) + jobs.readers(tx, [found.id])
    users += [f"alias '{alias}'" for alias in sorted(tx.execute(aliases).scalars())]
    refuse_if_used("model version", f"{name}:{version}", users)
    tx.change(sa.delete(model_versions).where(mine))


def set_alias(tx: Transaction, project: str, name: str, alias: str, version: int) -> None:
    """Makes the alias point at a version, wherever it pointed before."""
    alias = check_name(alias, "alias")
    if alias == "latest" or alias.isdecimal():
        raise InvalidName(
            name=alias,
            noun="alias",
            remedy="Numbers name versions, and 'latest' is always the newest; choose another word.",
        )
    line_id = lines.lock(tx, models, _NOUN, project, name)
    target = get_version(tx, project, name, version)
    row = {"model_id": line_id, "alias": alias, "version_id": target.id}
    tx.upsert_all(model_aliases, [row])
    _tell_routes(tx, line_id)


def delete_alias(tx: Transaction, project: str, name: str, alias: str) -> None:
    """Raises `NotFound`."""
    line_id = lines.id_of(tx, models, _NOUN, project, name)
    named = sa.and_(_aliases.model_id == line_id, _aliases.alias == normal(alias))
    if tx.change(sa.delete(model_aliases).where(named)) != 1:
        raise NotFound(noun="alias", name=f"{name}@{alias}")
    _tell_routes(tx, line_id)


def _tell_routes(tx: Transaction, line_id: str) -> None:
    """Requests may name a version by alias, so the routes of the model's deployments change with them."""
    mine = sa.select(_versions.id).where(_versions.model_id == line_id)
    deployed = sa.select(deployments.c.id).where(deployments.c.model_version_id.in_(mine))
    if found := tx.execute(deployed).scalars().all():
        tx.change_routes(*found)


def _deployed(tx: Transaction, version_ids: Sequence[str]) -> builtins.list[str]:
    """The deployments that wish one of these versions or still have copies of one, in words."""
    living = [state.value for state in ReplicaState if not state.is_final]
    serving = sa.select(replicas.c.deployment_id).where(
        replicas.c.model_version_id.in_(version_ids), replicas.c.state.in_(living)
    )
    statement = sa.select(deployments.c.name).where(
        sa.or_(
            deployments.c.model_version_id.in_(version_ids),
            deployments.c.canary_version_id.in_(version_ids),
            deployments.c.id.in_(serving),
        )
    )
    return [f"deployment '{name}'" for name in sorted(tx.execute(statement).scalars())]


def _lines(tx: Transaction, where: sa.ColumnElement[bool]) -> builtins.list[Model]:
    rows = tx.execute(_LINES.where(where)).all()
    aliases: dict[str, dict[str, int]] = {}
    pointed = (
        sa.select(_aliases.model_id, _aliases.alias, _versions.version)
        .join(model_versions, _versions.id == _aliases.version_id)
        .join(models, models.c.id == _aliases.model_id)
        .where(where)
        .order_by(_aliases.alias)
    )
    for model_id, alias, version in tx.execute(pointed):
        aliases.setdefault(model_id, {})[alias] = version
    return [
        Model(
            id=row.id,
            project=row.project,
            name=row.name,
            created_at=row.created_at,
            latest_version=row.latest_version,
            aliases=aliases.get(row.id, {}),
        )
        for row in rows
    ]


def _version_records(
    tx: Transaction, statement: sa.Select[*tuple[Any, ...]]
) -> builtins.list[ModelVersion]:
    rows = tx.execute(statement).all()
    aliases: dict[str, builtins.list[str]] = {}
    pointing = sa.select(_aliases.version_id, _aliases.alias)
    pointing = pointing.where(_aliases.version_id.in_([row.id for row in rows]))
    for version_id, alias in tx.execute(pointing):
        aliases.setdefault(version_id, []).append(alias)
    return [_version(row, aliases.get(row.id, [])) for row in rows]


def _version(row: sa.Row[*tuple[Any, ...]], aliases: Sequence[str]) -> ModelVersion:
    return ModelVersion(
        id=row.id,
        model=row.model,
        version=row.version,
        manifest=row.manifest,
        files=from_row(row.files),
        size_bytes=row.size_bytes,
        job_id=row.job_id,
        dataset_version_id=row.dataset_version_id,
        created_at=row.created_at,
        aliases=tuple(sorted(aliases)),
    )
