"""Models: what may be imported, versions that jobs made, aliases that people move."""

from __future__ import annotations

import msgspec

from modelry.core.errors import InvalidName, InvalidRequest
from modelry.core.files import FileRef
from modelry.core.hub import parse_hub_ref
from modelry.core.ids import check_name
from modelry.core.jobs import ImportModelParams
from modelry.core.labels import check_labels
from modelry.core.preprocessing import check_preprocess
from modelry.core.records import Job, Model, ModelVersion
from modelry.core.settings import Settings
from modelry.server.control.datasets import readable_place
from modelry.server.control.references import find_file
from modelry.server.control.uploads import check_filled
from modelry.server.store import Store, jobs, models

IMPORT_KIND = "import-model"

#: Words that mean a version already.
RESERVED_ALIASES = frozenset({"latest"})


def import_model(
    store: Store,
    settings: Settings,
    project: str,
    params: ImportModelParams,
    upload_id: str | None,
    time_limit_s: float | None = None,
) -> Job:
    """The job that makes the model's next version; everything that can be refused now is refused now."""
    params = msgspec.structs.replace(params, model=check_name(params.model, "model"))
    params = _check_source(params, settings, upload_id)
    if params.labels is not None:
        check_labels("labels", params.labels)
    if params.preprocess is not None:
        check_preprocess(params.preprocess)
    with store.write() as tx:
        if upload_id is not None:
            check_filled(tx, project, upload_id)
        return jobs.create(
            tx,
            project=project,
            kind=IMPORT_KIND,
            makes=params.model,
            params=msgspec.to_builtins(params),
            inputs={} if upload_id is None else {"upload": upload_id},
            threads=settings.job_threads,
            memory_limit_bytes=None,
            time_limit_s=time_limit_s,
        )


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


def _check_source(
    params: ImportModelParams, settings: Settings, upload_id: str | None
) -> ImportModelParams:
    if (upload_id is not None) != (params.source == "upload"):
        raise InvalidRequest(
            reason="the field 'upload' belongs to the source 'upload', and it needs one"
        )
    if bool(params.location) != (params.source != "upload"):
        raise InvalidRequest(
            reason="the field 'location' belongs to the sources 'path' and 'hub', which need one"
        )
    if params.source == "path":
        place = readable_place(settings, params.location)
        return msgspec.structs.replace(params, location=str(place))
    if params.source == "hub":
        return msgspec.structs.replace(params, location=str(parse_hub_ref(params.location)))
    return params
