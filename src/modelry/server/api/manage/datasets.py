"""`/api/v1/datasets`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi.responses import FileResponse, Response
from pydantic import Field

from modelry.core.importing import COLUMN_KINDS, TASKS
from modelry.core.jobs import ImportParams
from modelry.core.records import Dataset, DatasetVersion, Job
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import Body
from modelry.server.api.downloads import FILE_RESPONSES, file_answer
from modelry.server.control import datasets
from modelry.server.control.references import read_number

router = guarded_router()


class NewImport(Body):
    """Where a data set's next version comes from."""

    name: str = Field(description="The data set; made if it is not there yet.")
    source: Literal["upload", "path", "builtin"] = Field(
        description="Uploaded files, a place on the server below an import root, or a built-in."
    )
    upload: str | None = Field(default=None, description="For 'upload': its id.")
    location: str | None = Field(
        default=None, description="For 'path': the file or folder; for 'builtin': the name."
    )
    target: str | None = Field(
        default=None, min_length=1, description="The column or array to predict."
    )
    label: str | None = Field(
        default=None, min_length=1, description="The same, said to be a label; instead of 'target'."
    )
    features: list[str] | None = Field(
        default=None, max_length=100_000, description="Tables: the input columns that are kept."
    )
    text: str | None = Field(
        default=None, min_length=1, description="Tables: an input column that is a text."
    )
    time: str | None = Field(
        default=None,
        min_length=1,
        description="Tables: the column that orders the rows; the last ones become the test split.",
    )
    task: str | None = Field(default=None, description=f"One of {', '.join(TASKS)}.")
    kinds: dict[str, str] = Field(
        default={},
        max_length=100_000,
        description=f"Tables: what a column is ({', '.join(COLUMN_KINDS)}), where that is not seen.",
    )
    columns: list[str] | None = Field(
        default=None,
        max_length=100_000,
        description="The columns' names, for a table without a first line that tells them.",
    )
    labels_from: Literal["auto", "folder", "file"] = Field(
        default="auto",
        description="Labels of files: the folder's name, or the file name's beginning.",
    )
    test_share: float = Field(
        default=0.2,
        gt=0,
        le=0.9,
        description="Share of the rows that become the test split where the source has none.",
    )


@router.post("/api/v1/datasets", status_code=202)
def import_dataset(call: Annotated[Call, needs("train")], body: NewImport) -> Job:
    """The job that imports; it makes a version that never changes."""
    params = ImportParams(
        dataset=body.name,
        source=body.source,
        location=body.location or "",
        target=body.target,
        label=body.label,
        features=body.features,
        text=body.text,
        time=body.time,
        task=body.task,
        kinds=body.kinds,
        columns=body.columns,
        labels_from=body.labels_from,
        test_share=body.test_share,
    )
    service = call.service
    return datasets.import_dataset(
        service.store, service.settings, call.project, params, body.upload
    )


@router.get("/api/v1/datasets")
def list_datasets(call: Annotated[Call, needs("read")]) -> list[Dataset]:
    """The project's data sets."""
    return datasets.list_datasets(call.service.store, call.project)


@router.get("/api/v1/datasets/{name}")
def get_dataset(call: Annotated[Call, needs("read")], name: str) -> Dataset:
    """One data set."""
    return datasets.get_dataset(call.service.store, call.project, name)


@router.delete("/api/v1/datasets/{name}", status_code=204)
def delete_dataset(call: Annotated[Call, needs("train")], name: str) -> None:
    """Removes a data set and its versions; refused while a job stands on it."""
    datasets.delete_dataset(call.service.store, call.project, name)


@router.get("/api/v1/datasets/{name}/versions")
def list_versions(call: Annotated[Call, needs("read")], name: str) -> list[DatasetVersion]:
    """A data set's versions with their manifests."""
    return datasets.list_versions(call.service.store, call.project, name)


@router.get("/api/v1/datasets/{name}/versions/{version}")
def get_version(call: Annotated[Call, needs("read")], name: str, version: str) -> DatasetVersion:
    """One version by number, or `latest`."""
    number = None if version == "latest" else read_number(version, version)
    return datasets.get_version(call.service.store, call.project, name, number)


@router.delete("/api/v1/datasets/{name}/versions/{version}", status_code=204)
def delete_version(call: Annotated[Call, needs("train")], name: str, version: str) -> None:
    """Removes one version; refused while a job stands on it."""
    number = read_number(version, version)
    datasets.delete_version(call.service.store, call.project, name, number)


@router.get(
    "/api/v1/datasets/{name}/versions/{version}/files/{path:path}",
    response_class=FileResponse,
    responses=FILE_RESPONSES,
)
def get_file(call: Annotated[Call, needs("read")], name: str, version: str, path: str) -> Response:
    """One file of a version, such as a Parquet shard that its manifest names."""
    number = None if version == "latest" else read_number(version, version)
    file = datasets.get_file(call.service.store, call.project, name, number, path)
    return file_answer(call.service, file)
