"""Projects: tenants that keep each other's nouns apart."""

from __future__ import annotations

from modelry.core.ids import check_name
from modelry.core.records import Project
from modelry.server.store import Store, projects


def list_projects(store: Store) -> list[Project]:
    """Every project of the service."""
    with store.read() as tx:
        return projects.list(tx)


def create_project(store: Store, name: str) -> Project:
    """A new, empty project."""
    name = check_name(name, "project")
    with store.write() as tx:
        return projects.create(tx, name)


def delete_project(store: Store, name: str) -> None:
    """Removes a project that holds nothing any more; raises `InUse` with what it holds."""
    with store.write() as tx:
        projects.delete(tx, name)
