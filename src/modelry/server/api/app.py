"""The web application: every route of the service behind its guard, and one shape for every error."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from modelry import __version__
from modelry.artifacts import Artifacts
from modelry.core.bell import Bell
from modelry.core.settings import Settings
from modelry.server.api import reference
from modelry.server.api.auth import GuardedRoute
from modelry.server.api.envelope import Envelope
from modelry.server.api.errors import add_error_handlers
from modelry.server.api.hosts import HostGuard
from modelry.server.api.inference import inference_router
from modelry.server.api.manage import (
    datasets,
    deployments,
    jobs,
    keys,
    metrics,
    models,
    projects,
    status,
    uploads,
    usage,
)
from modelry.server.api.protocols import hugging_face, open_inference
from modelry.server.api.protocols import models as foreign_models
from modelry.server.api.service import Service
from modelry.server.control.access import load_pepper
from modelry.server.gateway import Gateway
from modelry.server.gateway.strangers import Strangers
from modelry.server.store import Store

MANAGEMENT = (
    projects,
    keys,
    usage,
    uploads,
    datasets,
    jobs,
    models,
    deployments,
    status,
    metrics,
    reference,
)
#: What foreign protocols have beside inference.
PROTOCOLS = (open_inference, foreign_models, hugging_face)

#: The only paths that answer without a key.
OPEN_PATHS = frozenset({"/health", *(route.path for route in open_inference.OPEN)})


@dataclass(frozen=True, slots=True)
class Health:
    """The process answers; nothing else is promised."""

    status: str
    version: str


def create_app(settings: Settings, store: Store, artifacts: Artifacts, gateway: Gateway) -> FastAPI:
    """The application of one web process; starting and closing the gateway is its owner's business."""
    app = FastAPI(
        title="Modelry",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Envelope), Middleware(HostGuard, settings=settings)],
    )
    app.state.service = Service(
        settings=settings,
        store=store,
        artifacts=artifacts,
        gateway=gateway,
        bell=Bell(settings.places.sockets / "bells", settings.bell),
        pepper=load_pepper(settings),
        strangers=Strangers(settings.wrong_keys_per_s),
    )
    #: Set when the process is to end: every answer then closes its connection.
    app.state.is_ending = False
    add_error_handlers(app)
    app.add_api_route("/health", health, methods=["GET"])
    for noun in MANAGEMENT:
        app.router.routes.extend(noun.router.routes)
    for protocol in PROTOCOLS:
        app.router.routes.extend(protocol.ROUTES)
    app.router.routes.extend(inference_router(gateway).routes)
    return app


async def health() -> Health:
    """Needs no key."""
    return Health("ok", __version__)


def scope_of(route: BaseRoute) -> str | None:
    """The scope a route declares, for the tests and for people; None is open to all."""
    if isinstance(route, GuardedRoute):
        return route.permission.scope
    scope = getattr(route.endpoint if isinstance(route, APIRoute) else route, "scope", None)
    return scope if isinstance(scope, str) else None
