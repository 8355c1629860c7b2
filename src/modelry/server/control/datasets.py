"""Data sets: what may be imported, and the versions that imports made."""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelry.core.errors import InvalidRequest, NotFound, PathRefused
from modelry.core.files import FileRef
from modelry.core.ids import check_name
from modelry.core.importing import check_import, table_options, target_of
from modelry.core.jobs import ImportParams
from modelry.core.records import Dataset, DatasetVersion, Job
from modelry.core.settings import Settings
from modelry.server.control.references import find_file
from modelry.server.control.uploads import check_filled
from modelry.server.store import Store, datasets, jobs

KIND = "import-data"
#: Data sets that every installation can make without files.
BUILTINS = ("digits",)


def import_dataset(
    store: Store, settings: Settings, project: str, params: ImportParams, upload_id: str | None
) -> Job:
    """The job that makes the data set's next version; everything that can be refused now is refused now."""
    params = msgspec.structs.replace(params, dataset=check_name(params.dataset, "data set"))
    check_import(params)
    params = _check_source(params, settings, upload_id)
    with store.write() as tx:
        if upload_id is not None:
            check_filled(tx, project, upload_id)
        datasets.ensure(tx, project, params.dataset)
        return jobs.create(
            tx,
            project=project,
            kind=KIND,
            makes=params.dataset,
            params=msgspec.to_builtins(params),
            inputs={} if upload_id is None else {"upload": upload_id},
            threads=1,
            memory_limit_bytes=None,
            time_limit_s=None,
        )


def list_datasets(store: Store, project: str) -> list[Dataset]:
    """The project's data sets by name."""
    with store.read() as tx:
        return datasets.list(tx, project)


def get_dataset(store: Store, project: str, name: str) -> Dataset:
    """One data set."""
    with store.read() as tx:
        return datasets.get(tx, project, name)


def list_versions(store: Store, project: str, name: str) -> list[DatasetVersion]:
    """A data set's versions."""
    with store.read() as tx:
        return datasets.list_versions(tx, project, name)


def get_version(store: Store, project: str, name: str, version: int | None) -> DatasetVersion:
    """One version; None is the newest."""
    with store.read() as tx:
        return datasets.get_version(tx, project, name, version)


def get_file(store: Store, project: str, name: str, version: int | None, path: str) -> FileRef:
    """One file of a version."""
    return find_file(get_version(store, project, name, version).files, path)


def delete_dataset(store: Store, project: str, name: str) -> None:
    """Removes a data set and its versions; raises `InUse` while a job stands on it."""
    with store.write() as tx:
        datasets.delete(tx, project, name)


def delete_version(store: Store, project: str, name: str, version: int) -> None:
    """Removes one version; raises `InUse` while a job stands on it."""
    with store.write() as tx:
        datasets.delete_version(tx, project, name, version)


def _check_source(params: ImportParams, settings: Settings, upload_id: str | None) -> ImportParams:
    if (upload_id is not None) != (params.source == "upload"):
        raise InvalidRequest(
            reason="the field 'upload' belongs to the source 'upload', and it needs one"
        )
    if bool(params.location) != (params.source != "upload"):
        raise InvalidRequest(
            reason="the field 'location' belongs to the sources 'path' and 'builtin', which need one"
        )
    if params.source == "builtin":
        _check_builtin(params)
    if params.source == "path":
        place = readable_place(settings, params.location)
        return msgspec.structs.replace(params, location=str(place))
    return params


def _check_builtin(params: ImportParams) -> None:
    if params.location not in BUILTINS:
        known = f"Built-in data sets: {', '.join(BUILTINS)}."
        raise NotFound(noun="built-in data set", name=params.location, remedy=known)
    given = [
        *(["target"] if target_of(params) is not None else []),
        *(["labels_from"] if params.labels_from != "auto" else []),
        *(["task"] if params.task is not None else []),
        *table_options(params),
    ]
    if given:
        reason = f"a built-in data set has its labels and columns; '{given[0]}' does not apply"
        raise InvalidRequest(reason=reason)


def readable_place(settings: Settings, location: str) -> Path:
    """The real path of a file or folder below an import root; raises `PathRefused` for every other."""
    try:
        place = Path(location).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        # Whether a path outside the roots exists is nobody's business: the answer is the same.
        raise PathRefused(path=location) from None
    if not any(place.is_relative_to(root.resolve()) for root in settings.import_roots):
        raise PathRefused(path=location)
    return place
