"""`/api/v1/models`."""

from __future__ import annotations

from typing import Annotated

from fastapi.responses import FileResponse, Response
from pydantic import Field

from modelry.core.records import Model, ModelVersion
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import LARGEST, Body
from modelry.server.api.downloads import FILE_RESPONSES, file_answer
from modelry.server.control import models
from modelry.server.control.references import read_number, read_version

router = guarded_router()


class AliasTarget(Body):
    """Where an alias points."""

    version: int = Field(ge=1, le=LARGEST, description="The version's number.")


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
