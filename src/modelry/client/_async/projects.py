"""Projects: the tenants of one service."""

from __future__ import annotations

from modelry.client import wire
from modelry.client._async.http import AsyncHttp
from modelry.client.refs import segment
from modelry.core.records import Project


class AsyncProjects:
    """`client.projects`."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

    async def create(self, name: str) -> Project:
        """A new, empty project."""
        return wire.to_record(Project, await self._http.post("/api/v1/projects", {"name": name}))

    async def list(self) -> list[Project]:
        """All projects."""
        return wire.to_records(Project, await self._http.get("/api/v1/projects"))

    async def delete(self, name: str) -> None:
        """Removes an empty project; `InUse` tells what a full one holds."""
        await self._http.delete(f"/api/v1/projects/{segment(name)}")
