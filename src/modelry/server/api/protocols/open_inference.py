"""The Open Inference Protocol beside its infer call: health, metadata, the model repository, statistics."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelry.core.errors import InvalidRequest, NoReadyReplica
from modelry.core.manifests import ModelManifest
from modelry.core.records import Route as Deployed
from modelry.server.api.doors.names import read_version
from modelry.server.api.doors.open_inference import refusal
from modelry.server.api.exchange import read_deadline
from modelry.server.api.protocols import describing, repository
from modelry.server.api.protocols.route import Answer, Asked, ProtocolRoute, json_response
from modelry.server.api.service import Service
from modelry.server.gateway.totals import Counted

_MODEL = "/v2/models/{name:deployment}"
_VERSION = _MODEL + "/versions/{version}"
_REPOSITORY = "/v2/repository/models/{name:deployment}"
_UNAVAILABLE = 503

#: What to do instead of what this service does not have → Triton's calls for that.
_REFUSED: dict[str, tuple[tuple[str, str], ...]] = {
    "Shared memory is not offered: send tensors in the body.": tuple(
        (method, f"/v2/{kind}sharedmemory/{{call:path}}")
        for kind in ("system", "cuda")
        for method in ("GET", "POST")
    ),
    "Each answer says in headers where its time went (x-queue-time, x-inference-time).": tuple(
        (method, path)
        for method in ("GET", "POST")
        for path in ("/v2/trace/setting", f"{_MODEL}/trace/setting")
    ),
    "The setting MODELRY_LOG_LEVEL says what is logged.": (
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
    ),
}


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    #: Only those that answer.
    ready: bool = False


class _UnloadParameters(msgspec.Struct, forbid_unknown_fields=True):
    #: Nothing depends on a deployment, so either wish is kept.
    unload_dependents: bool = False


class _Unload(msgspec.Struct, forbid_unknown_fields=True):
    parameters: _UnloadParameters = msgspec.field(default_factory=_UnloadParameters)


class _Load(msgspec.Struct, forbid_unknown_fields=True):
    parameters: dict[str, Any] = {}


async def _live(request: Request) -> Response:
    return json_response({"live": True, "ready": True})


async def _ready(request: Request) -> Response:
    service: Service = request.app.state.service
    is_ready = service.gateway.number >= 0
    return json_response({"live": True, "ready": is_ready}, 200 if is_ready else _UNAVAILABLE)


async def _server(asked: Asked) -> Any:
    return describing.server_metadata()


async def _metadata(asked: Asked) -> Any:
    return describing.model_metadata(asked.path["name"], *_find(asked))


async def _config(asked: Asked) -> Any:
    return describing.model_config(asked.path["name"], *_find(asked))


async def _model_ready(asked: Asked) -> Any:
    name = asked.path["name"]
    try:
        route, _ = _find(asked)
        is_ready = describing.is_ready(route, _pinned(asked, route))
    except NoReadyReplica:
        is_ready = False
    return json_response({"name": name, "ready": is_ready}, 200 if is_ready else _UNAVAILABLE)


async def _statistics(asked: Asked) -> Any:
    name = asked.path["name"]
    route, _ = _find(asked)
    pinned = _pinned(asked, route)
    versions = describing.served_versions(route) if pinned is None else [pinned]
    return {"model_stats": _count(asked, [(name, route, version) for version in versions])}


async def _all_statistics(asked: Asked) -> Any:
    each = [
        (route.name, route, version)
        for route in asked.service.gateway.routes(asked.caller)
        for version in describing.served_versions(route)
    ]
    return {"model_stats": _count(asked, each)}


async def _index(asked: Asked) -> Any:
    is_ready_only = asked.read(_Index).ready
    told = [
        describing.index_entry(route.name, route, version)
        for route in asked.service.gateway.routes(asked.caller)
        for version in describing.served_versions(route)
    ]
    return [entry for entry in told if entry["state"] == "READY" or not is_ready_only]


async def _load(asked: Asked) -> Any:
    for name in asked.read(_Load).parameters:
        raise InvalidRequest(
            reason=f"the parameter '{name}' is not supported",
            remedy="A deployment serves a published version: import another one instead.",
        )
    limit_s = read_deadline(asked.headers.get("x-request-timeout"))
    limit_s = asked.service.settings.deadline_s if limit_s is None else limit_s
    await repository.load(asked.service, asked.caller, asked.path["name"], limit_s)
    return {}


async def _unload(asked: Asked) -> Any:
    asked.read(_Unload)
    await repository.unload(asked.service, asked.caller, asked.path["name"])
    return {}


def _refusing(remedy: str) -> Answer:
    async def refuse(asked: Asked) -> Any:
        raise InvalidRequest("This service does not offer that call.", remedy=remedy)

    return refuse


def _find(asked: Asked) -> tuple[Deployed, ModelManifest]:
    """The deployment and the manifest of the pinned version; raises `NotFound`."""
    name, version = asked.path["name"], read_version(asked.path.get("version", ""))
    gateway = asked.service.gateway
    return gateway.route(asked.caller, name), gateway.find(asked.caller, name, version)


def _pinned(asked: Asked, route: Deployed) -> int | None:
    version = read_version(asked.path.get("version", ""))
    return route.aliases[version] if isinstance(version, str) else version


def _count(asked: Asked, each: list[tuple[str, Deployed, int]]) -> list[dict[str, Any]]:
    counted: Counted = asked.service.gateway.admission.counters.count()
    return [
        describing.statistics(name, version, counted.totals(route.deployment_id, version))
        for name, route, version in each
    ]


def _route(method: str, path: str, scope: str, answer: Answer) -> ProtocolRoute:
    return ProtocolRoute(method, path, scope, answer, refusal)


#: What answers without a key.
OPEN = [Route("/v2/health/live", _live), Route("/v2/health/ready", _ready)]
#: What is more precise comes first.
ROUTES = [
    *OPEN,
    _route("GET", "/v2", "infer", _server),
    *(
        _route(method, path, "infer", _refusing(remedy))
        for remedy, calls in _REFUSED.items()
        for method, path in calls
    ),
    _route("GET", "/v2/models/stats", "infer", _all_statistics),
    *(
        _route("GET", base + path, "infer", answer)
        for path, answer in (
            ("/ready", _model_ready),
            ("/config", _config),
            ("/stats", _statistics),
            ("", _metadata),
        )
        for base in (_VERSION, _MODEL)
    ),
    _route("POST", "/v2/repository/index", "infer", _index),
    _route("POST", f"{_REPOSITORY}/load", "deploy", _load),
    _route("POST", f"{_REPOSITORY}/unload", "deploy", _unload),
]
