"""`/api/v1/projects`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelry.core.records import Project
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import Body
from modelry.server.control import projects

router = guarded_router()


class NewProject(Body):
    """A project to make."""

    name: str = Field(description="1 to 64 letters, digits, '-', '_' or '.'.")


@router.get("/api/v1/projects")
def list_projects(call: Annotated[Call, needs("admin")]) -> list[Project]:
    """Every project of the service."""
    return projects.list_projects(call.service.store)


@router.post("/api/v1/projects", status_code=201)
def create_project(call: Annotated[Call, needs("admin")], body: NewProject) -> Project:
    """A new, empty project."""
    return projects.create_project(call.service.store, body.name)


@router.delete("/api/v1/projects/{name}", status_code=204)
def delete_project(call: Annotated[Call, needs("admin")], name: str) -> None:
    """Removes an empty project; refused with the list of what it holds."""
    projects.delete_project(call.service.store, name)
