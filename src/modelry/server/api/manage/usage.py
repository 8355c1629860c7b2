"""`/api/v1/usage`: what was used."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from modelry.core.errors import ScopeTooSmall
from modelry.core.records import Usage
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.control import usage

router = guarded_router()

Moment = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False)]


@router.get("/api/v1/usage")
def get_usage(
    call: Annotated[Call, needs("read")],
    by: Annotated[str, Query(description="Some of these, with commas.")] = "deployment",
    since: Moment = None,
    until: Moment = None,
    all_projects: bool = False,
) -> list[Usage]:
    """Requests, rows, bytes and compute time of this project, told apart by key, deployment, version or day.

    `since` and `until` are seconds since the epoch and count in whole hours. `all_projects` is for instance keys.
    A request is in here about two seconds after its end.
    """
    if all_projects and call.key.project is not None:
        raise ScopeTooSmall(scope="admin")
    project = None if all_projects else call.project
    told = [one.strip() for one in by.split(",") if one.strip()]
    return usage.total(call.service.store, told, project=project, since=since, until=until)
