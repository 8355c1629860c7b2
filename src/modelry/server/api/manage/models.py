"""`/api/v1/models`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi.responses import FileResponse, Response
from pydantic import Field

from modelry.core.catalogue import CatalogueEntry
from modelry.core.jobs import ImportModelParams
from modelry.core.records import Job, Model, ModelVersion
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import LARGEST, Body
from modelry.server.api.downloads import FILE_RESPONSES, file_answer
from modelry.server.control import catalogue, models
from modelry.server.control.references import read_number, read_version

router = guarded_router()


class AliasTarget(Body):
    """Where an alias points."""

    version: int = Field(ge=1, le=LARGEST, description="The version's number.")


class NewModelImport(Body):
    """Where a model's next version comes from, and what its files do not say."""

    name: str = Field(description="The model; made if it is not there yet.")
    source: Literal["upload", "path", "hub"] = Field(
        description="Uploaded files, a place on the server below an import root, or a model hub."
    )
    upload: str | None = Field(default=None, description="For 'upload': its id.")
    location: str | None = Field(
        default=None,
        description="For 'path': the file or folder; for 'hub': `org/name@revision`.",
    )
    format: Literal["auto", "onnx", "keras", "huggingface", "modelry", "bundle"] = Field(
        default="auto", description="What the files are; `auto` looks."
    )
    task: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        pattern="^[a-z0-9-]+$",
        description="Hugging Face's name of the task, such as `image-classification`.",
    )
    labels: list[str] | None = Field(
        default=None, description="The names of the classes, in the order of the output."
    )
    preprocess: dict[str, Any] | str | None = Field(
        default=None,
        description="How a picture becomes the input: a preset's name (`imagenet`, `unit`, `symmetric`, `raw`, "
        "`caffe-bgr`), or values, with the preset's name as `preset`.",
    )
    licence: str | None = Field(
        default=None, max_length=200, description="The licence, where the source does not say it."
    )
    time_limit_s: float | None = Field(
        default=None, gt=0, le=LARGEST, description="Seconds the job may run."
    )


@router.post("/api/v1/models", status_code=202)
def import_model(call: Annotated[Call, needs("train")], body: NewModelImport) -> Job:
    """The job that checks, converts and measures a foreign model, and makes a version of it."""
    params = ImportModelParams(
        model=body.name,
        source=body.source,
        location=body.location or "",
        format=body.format,
        task=body.task,
        labels=body.labels,
        preprocess=body.preprocess,
        licence=body.licence,
    )
    service = call.service
    return models.import_model(
        service.store, service.settings, call.project, params, body.upload, body.time_limit_s
    )


@router.get("/api/v1/catalogue")
def get_catalogue(call: Annotated[Call, needs("read")]) -> list[CatalogueEntry]:
    """Well-known models that can be imported, with what was recorded where one was, and what can be made here."""
    return catalogue.list_catalogue(call.service.store, call.project)


@router.get("/api/v1/models")
def list_models(call: Annotated[Call, needs("read")]) -> list[Model]:
    """The project's models with their aliases."""
    return models.list_models(call.service.store, call.project)


@router.get("/api/v1/models/{name}")
def get_model(call: Annotated[Call, needs("read")], name: str) -> Model:
    """One model."""
    return models.get_model(call.service.store, call.project, name)


@router.delete("/api/v1/models/{name}", status_code=204)
def delete_model(call: Annotated[Call, needs("train")], name: str) -> None:
    """Removes a model and its versions; refused while something stands on it."""
    models.delete_model(call.service.store, call.project, name)


@router.get("/api/v1/models/{name}/versions")
def list_versions(call: Annotated[Call, needs("read")], name: str) -> list[ModelVersion]:
    """A model's versions with their manifests."""
    return models.list_versions(call.service.store, call.project, name)


@router.get("/api/v1/models/{name}/versions/{version}")
def get_version(call: Annotated[Call, needs("read")], name: str, version: str) -> ModelVersion:
    """One version by number, alias, or `latest`."""
    found = read_version(version)
    return models.get_version(call.service.store, call.project, name, found)


@router.delete("/api/v1/models/{name}/versions/{version}", status_code=204)
def delete_version(call: Annotated[Call, needs("train")], name: str, version: str) -> None:
    """Removes one version; refused while a deployment stands on it."""
    number = read_number(version, version)
    models.delete_version(call.service.store, call.project, name, number)


@router.get(
    "/api/v1/models/{name}/versions/{version}/files/{path:path}",
    response_class=FileResponse,
    responses=FILE_RESPONSES,
)
def get_file(call: Annotated[Call, needs("read")], name: str, version: str, path: str) -> Response:
    """One file of the model's package, as it is."""
    service = call.service
    file = models.get_file(service.store, call.project, name, read_version(version), path)
    return file_answer(service, file)


@router.put("/api/v1/models/{name}/aliases/{alias}")
def set_alias(
    call: Annotated[Call, needs("deploy")], name: str, alias: str, body: AliasTarget
) -> Model:
    """Points an alias at a version."""
    return models.set_alias(call.service.store, call.project, name, alias, body.version)


@router.delete("/api/v1/models/{name}/aliases/{alias}", status_code=204)
def delete_alias(call: Annotated[Call, needs("deploy")], name: str, alias: str) -> None:
    """Removes an alias; its version stays."""
    models.delete_alias(call.service.store, call.project, name, alias)
