"""What Hugging Face's client asks of a model's URL beside inference: `/health` and `/info`."""

from __future__ import annotations

from typing import Any

from modelry import __version__
from modelry.core.errors import NoReadyReplica
from modelry.core.manifests import TextInput
from modelry.server.api.doors.hugging_face import PREFIX, refusal
from modelry.server.api.doors.names import read_reference
from modelry.server.api.protocols import describing
from modelry.server.api.protocols.route import Asked, ProtocolRoute

_MODEL = PREFIX + "{name:deployment}"


async def _health(asked: Asked) -> Any:
    target = read_reference(asked.path["name"])
    gateway = asked.service.gateway
    route = gateway.route(asked.caller, target.name)
    gateway.find(asked.caller, target.name, target.version)
    pinned = target.version
    number = route.aliases[pinned] if isinstance(pinned, str) else pinned
    if not describing.is_ready(route, number):
        raise NoReadyReplica(name=target.name, reason=f"it is {route.state.value}")
    return {}


async def _info(asked: Asked) -> Any:
    target = read_reference(asked.path["name"])
    route = asked.service.gateway.route(asked.caller, target.name)
    manifest = asked.service.gateway.find(asked.caller, target.name, target.version)
    media = manifest.media
    return {
        "model_id": route.model,
        "model_pipeline_tag": manifest.task,
        "max_batch_size": route.max_batch,
        "max_input_length": media.max_length if isinstance(media, TextInput) else None,
        "version": __version__,
    }


ROUTES = [
    ProtocolRoute("GET", f"{_MODEL}/health", "infer", _health, refusal),
    ProtocolRoute("GET", f"{_MODEL}/info", "infer", _info, refusal),
]
