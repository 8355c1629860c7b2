"""`/v1/models`: OpenAI's list and objects, TensorFlow Serving's status and metadata; the two share paths.

`GET /v1/models/{name}` is both: OpenAI's object with `model_version_status` added, which its client keeps. Errors there
have OpenAI's shape, as its client reads them; those of TensorFlow Serving's own paths have that one's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from modelry.core.errors import InvalidRequest
from modelry.core.records import Route
from modelry.server.api.doors import openai
from modelry.server.api.doors.door import Target
from modelry.server.api.doors.names import read_reference
from modelry.server.api.doors.numbers import read_count
from modelry.server.api.doors.tf_serving import refusal
from modelry.server.api.protocols import describing
from modelry.server.api.protocols.route import Asked, ProtocolRoute
from modelry.server.control import deployments

_MODEL = "/v1/models/{name:deployment}"
_VERSION = _MODEL + "/versions/{version}"
_LABEL = _MODEL + "/labels/{label}"
#: TensorFlow Serving's calls for examples, which need a signature that names features.
_EXAMPLES = (":classify", ":regress")


async def _list(asked: Asked) -> Any:
    routes = asked.service.gateway.routes(asked.caller)
    told = [describing.openai_model(route.name, route) for route in routes]
    return {"object": "list", "data": told}


async def _get(asked: Asked) -> Any:
    id = asked.path["name"]
    route, pinned = _find(asked, read_reference(id))
    return {**describing.openai_model(id, route), "model_version_status": _status(route, pinned)}


async def _delete(asked: Asked) -> Any:
    id = asked.path["name"]
    target = read_reference(id)
    if target.version is not None:
        raise InvalidRequest(
            reason=f"'{id}' is one version", remedy="Delete the deployment by its name alone."
        )
    service = asked.service
    route = service.gateway.route(asked.caller, target.name)
    await asyncio.to_thread(deployments.delete_deployment, service.store, route.project, route.name)
    await service.announce()
    return {"id": id, "object": "model", "deleted": True}


async def _version_status(asked: Asked) -> Any:
    return {"model_version_status": _status(*_find(asked, _target(asked)))}


async def _metadata(asked: Asked) -> Any:
    target = _target(asked)
    route, pinned = _find(asked, target)
    manifest = asked.service.gateway.find(asked.caller, target.name, target.version)
    return describing.tf_metadata(target.name, pinned or route.version, manifest)


async def _refuse_examples(asked: Asked) -> Any:
    raise InvalidRequest(
        "This service does not take examples (:classify, :regress).",
        remedy="Send the values to :predict.",
    )


def _target(asked: Asked) -> Target:
    path = asked.path
    if "version" in path:
        return Target(path["name"], read_count("version", path["version"]))
    return Target(path["name"], path.get("label"))


def _find(asked: Asked, target: Target) -> tuple[Route, int | None]:
    """The deployment and the number that is pinned; raises `NotFound`, also for a version that is not served."""
    gateway = asked.service.gateway
    route = gateway.route(asked.caller, target.name)
    if target.version is None:
        return route, None
    gateway.find(asked.caller, target.name, target.version)
    pinned = target.version
    return route, route.aliases[pinned] if isinstance(pinned, str) else pinned


def _status(route: Route, pinned: int | None) -> list[dict[str, Any]]:
    versions = describing.served_versions(route) if pinned is None else [pinned]
    return describing.tf_status(route, versions)


#: What is more precise comes first.
ROUTES = [
    ProtocolRoute("GET", "/v1/models", "infer", _list, openai.refusal),
    *(
        ProtocolRoute("GET", base + "/metadata", "infer", _metadata, refusal)
        for base in (_VERSION, _LABEL, _MODEL)
    ),
    *(ProtocolRoute("GET", path, "infer", _version_status, refusal) for path in (_VERSION, _LABEL)),
    ProtocolRoute("GET", _MODEL, "infer", _get, openai.refusal),
    ProtocolRoute("DELETE", _MODEL, "deploy", _delete, openai.refusal),
    *(
        ProtocolRoute("POST", base + call, "infer", _refuse_examples, refusal)
        for base in (_VERSION, _LABEL, _MODEL)
        for call in _EXAMPLES
    ),
]
