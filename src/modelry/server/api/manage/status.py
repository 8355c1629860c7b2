"""`/api/v1/status` and `/api/v1/gc`: the service itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelry.artifacts import Swept
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import Body
from modelry.server.control import garbage, overview

router = guarded_router()


class Collection(Body):
    """How a collection goes about it."""

    grace_s: float | None = Field(
        default=None,
        ge=0,
        description="Content younger than this is kept; MODELRY_GC_GRACE_S if not given.",
    )


@router.get("/api/v1/status")
def get_status(call: Annotated[Call, needs("read")]) -> overview.Status:
    """How the service and this project stand."""
    service = call.service
    return overview.look(service.store, service.artifacts, call.project)


@router.post("/api/v1/gc")
def collect(call: Annotated[Call, needs("admin")], body: Collection | None = None) -> Swept:
    """Removes content that nothing refers to any more."""
    service = call.service
    grace_s = body.grace_s if body is not None else None
    if grace_s is None:
        grace_s = service.settings.gc_grace_s
    return garbage.collect(service.store, service.artifacts, grace_s)
