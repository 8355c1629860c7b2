# Generated from ../_async/projects.py by scripts/unasync.py; edit that file.
"""Projects: the tenants of one service."""

from __future__ import annotations

from modelry.client import wire
from modelry.client._sync.http import Http
from modelry.client.refs import segment
from modelry.core.records import Project


class Projects:
    """`client.projects`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(self, name: str) -> Project:
        """A new, empty project."""
        return wire.to_record(Project, self._http.post("/api/v1/projects", {"name": name}))

    def list(self) -> list[Project]:
        """All projects."""
        return wire.to_records(Project, self._http.get("/api/v1/projects"))

    def delete(self, name: str) -> None:
        """Removes an empty project; `InUse` tells what a full one holds."""
        self._http.delete(f"/api/v1/projects/{segment(name)}")
