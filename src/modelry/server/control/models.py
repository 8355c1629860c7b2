"""Models: versions that jobs made, aliases that people move."""

from __future__ import annotations

from modelry.core.errors import InvalidName
from modelry.core.files import FileRef
from modelry.core.ids import check_name
from modelry.core.records import Model, ModelVersion
from modelry.server.control.references import find_file
from modelry.server.store import Store, models

#: Words that mean a version already.
RESERVED_ALIASES = frozenset({"latest"})


def list_models(store: Store, project: str) -> list[Model]:
    """The project's models by name."""
    with store.read() as tx:
        return models.list(tx, project)


def get_model(store: Store, project: str, name: str) -> Model:
    """One model with its aliases."""
    with store.read() as tx:
        return models.get(tx, project, name)


def list_versions(store: Store, project: str, name: str) -> list[ModelVersion]:
    """A model's versions."""
    with store.read() as tx:
        return models.list_versions(tx, project, name)


def get_version(store: Store, project: str, name: str, version: int | str | None) -> ModelVersion:
    """One version by number or alias; None is the newest."""
    with store.read() as tx:
        return models.get_version(tx, project, name, version)


def get_file(
    store: Store, project: str, name: str, version: int | str | None, path: str
) -> FileRef:
    """One file of the model's package."""
    return find_file(get_version(store, project, name, version).files, path)


def set_alias(store: Store, project: str, name: str, alias: str, version: int) -> Model:
    """Points an alias at a version; it may point elsewhere already."""
    alias = check_name(alias, "alias")
    if alias in RESERVED_ALIASES or alias.isdecimal():
        raise InvalidName(name=alias, noun="alias", remedy="This word means a version already.")
    with store.write() as tx:
        models.set_alias(tx, project, name, alias, version)
        return models.get(tx, project, name)


def delete_alias(store: Store, project: str, name: str, alias: str) -> None:
    """Removes an alias; its version stays."""
    with store.write() as tx:
        models.delete_alias(tx, project, name, alias)


def delete_model(store: Store, project: str, name: str) -> None:
    """Removes a model and its versions; raises `InUse` while a deployment or a job stands on it."""
    with store.write() as tx:
        models.delete(tx, project, name)


def delete_version(store: Store, project: str, name: str, version: int) -> None:
    """Removes one version; raises `InUse` while a deployment stands on it."""
    with store.write() as tx:
        models.delete_version(tx, project, name, version)
