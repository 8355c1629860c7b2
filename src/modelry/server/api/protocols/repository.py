"""Loading and unloading as foreign protocols know them: a deployment is started and awaited, or stopped."""

from __future__ import annotations

import asyncio
import time

from modelry.core.errors import DeadlineExceeded, NoReadyReplica
from modelry.server.api.protocols.describing import state_of
from modelry.server.api.service import Service
from modelry.server.control import deployments
from modelry.server.gateway import Caller

#: Between two looks at a deployment that is being loaded.
_LOOK_S = 0.02


async def load(service: Service, caller: Caller, name: str, limit_s: float) -> None:
    """Starts a deployment; returns when it answers. Raises `NoReadyReplica` where it fails, or `DeadlineExceeded`."""
    route = service.gateway.route(caller, name)
    await asyncio.to_thread(deployments.start_deployment, service.store, route.project, route.name)
    await service.announce()
    end = time.monotonic() + limit_s
    while True:
        route = service.gateway.route(caller, name)
        state, reason = state_of(route, route.version)
        if state == "READY":
            return
        if state == "UNAVAILABLE":
            raise NoReadyReplica(name=name, reason=reason.rstrip("."))
        if time.monotonic() > end:
            raise DeadlineExceeded(deadline_s=limit_s)
        await asyncio.sleep(_LOOK_S)


async def unload(service: Service, caller: Caller, name: str) -> None:
    """Stops a deployment; it keeps its settings and is there to be loaded again.

    When this returns, this process gives its replicas no new request.
    """
    route = service.gateway.route(caller, name)
    await asyncio.to_thread(deployments.stop_deployment, service.store, route.project, route.name)
    await service.announce()
