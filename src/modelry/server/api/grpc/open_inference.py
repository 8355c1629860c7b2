"""The Open Inference Protocol's methods, by their paths: each reads its message, asks the room that knows, answers.

Names are deployments' (`project/name` for a key that belongs to no project); loading means starting a deployment that
was stopped, unloading means stopping it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from modelry.core.errors import InvalidRequest, NoReadyReplica
from modelry.core.manifests import ModelManifest
from modelry.core.records import Route
from modelry.server.api.doors.names import read_version
from modelry.server.api.grpc.exchange import Exchange, Method
from modelry.server.api.grpc.health import Health
from modelry.server.api.grpc.infer import Inference
from modelry.server.api.grpc.wire import open_inference_pb2 as wire
from modelry.server.api.protocols import describing, repository
from modelry.server.api.service import Service

SERVICE = "inference.GRPCInferenceService"

Request = TypeVar("Request", bound=Message)


class OpenInference:
    """All methods of the service."""

    def __init__(self, service: Service, inference: Inference, health: Health) -> None:
        self._service = service
        self._inference = inference
        self._health = health

    def methods(self) -> dict[str, Method]:
        """By path, each with the scope that it needs."""
        asked = self._asked
        named = {
            "ServerLive": Method(None, asked(wire.ServerLiveRequest, self._live)),
            "ServerReady": Method(None, asked(wire.ServerReadyRequest, self._ready)),
            "ServerMetadata": Method("infer", asked(wire.ServerMetadataRequest, self._server)),
            "ModelReady": Method("infer", asked(wire.ModelReadyRequest, self._model_ready)),
            "ModelMetadata": Method("infer", asked(wire.ModelMetadataRequest, self._metadata)),
            "ModelConfig": Method("infer", asked(wire.ModelConfigRequest, self._config)),
            "ModelStatistics": Method("infer", asked(wire.ModelStatisticsRequest, self._count)),
            "RepositoryIndex": Method("infer", asked(wire.RepositoryIndexRequest, self._index)),
            "RepositoryModelLoad": Method(
                "deploy", asked(wire.RepositoryModelLoadRequest, self._load)
            ),
            "RepositoryModelUnload": Method(
                "deploy", asked(wire.RepositoryModelUnloadRequest, self._unload)
            ),
            "ModelInfer": Method("infer", answer=self._inference.infer),
            "ModelStreamInfer": Method("infer", converse=self._inference.converse),
        }
        return {f"/{SERVICE}/{name}": method for name, method in named.items()}

    @staticmethod
    def _asked(
        kind: type[Request], answer: Callable[[Exchange, Request], Awaitable[Message]]
    ) -> Callable[[Exchange, bytes], None]:
        def asked(exchange: Exchange, data: bytes) -> None:
            exchange.run(_answer(exchange, answer(exchange, _read(kind, data))))

        return asked

    async def _live(self, exchange: Exchange, request: wire.ServerLiveRequest) -> Message:
        return wire.ServerLiveResponse(live=True)

    async def _ready(self, exchange: Exchange, request: wire.ServerReadyRequest) -> Message:
        return wire.ServerReadyResponse(ready=self._health.is_serving)

    async def _server(self, exchange: Exchange, request: wire.ServerMetadataRequest) -> Message:
        return ParseDict(describing.server_metadata(), wire.ServerMetadataResponse())

    async def _model_ready(self, exchange: Exchange, request: wire.ModelReadyRequest) -> Message:
        try:
            route, _ = self._find(exchange, request.name, request.version)
        except NoReadyReplica:
            return wire.ModelReadyResponse(ready=False)
        is_ready = describing.is_ready(route, _pinned(route, request.version))
        return wire.ModelReadyResponse(ready=is_ready)

    async def _metadata(self, exchange: Exchange, request: wire.ModelMetadataRequest) -> Message:
        found = self._find(exchange, request.name, request.version)
        told = describing.model_metadata(request.name, *found)
        return ParseDict(told, wire.ModelMetadataResponse())

    async def _config(self, exchange: Exchange, request: wire.ModelConfigRequest) -> Message:
        found = self._find(exchange, request.name, request.version)
        told = describing.model_config(request.name, *found)
        return ParseDict({"config": told}, wire.ModelConfigResponse())

    async def _count(self, exchange: Exchange, request: wire.ModelStatisticsRequest) -> Message:
        gateway = self._service.gateway
        if request.name:
            route, _ = self._find(exchange, request.name, request.version)
            pinned = _pinned(route, request.version)
            versions = describing.served_versions(route) if pinned is None else [pinned]
            asked = [(request.name, route, version) for version in versions]
        else:
            asked = [
                (route.name, route, version)
                for route in gateway.routes(exchange.caller)
                for version in describing.served_versions(route)
            ]
        counted = gateway.admission.counters.count()
        told = [
            describing.statistics(name, version, counted.totals(route.deployment_id, version))
            for name, route, version in asked
        ]
        return ParseDict({"model_stats": told}, wire.ModelStatisticsResponse())

    async def _index(self, exchange: Exchange, request: wire.RepositoryIndexRequest) -> Message:
        _refuse_repository(request.repository_name)
        told = [
            describing.index_entry(route.name, route, version)
            for route in self._service.gateway.routes(exchange.caller)
            for version in describing.served_versions(route)
        ]
        if request.ready:
            told = [entry for entry in told if entry["state"] == "READY"]
        return ParseDict({"models": told}, wire.RepositoryIndexResponse())

    async def _load(self, exchange: Exchange, request: wire.RepositoryModelLoadRequest) -> Message:
        """Answers when a replica is ready, or the deployment has failed, or the deadline is over."""
        _refuse_repository(request.repository_name)
        for name in request.parameters:
            raise InvalidRequest(
                reason=f"the parameter '{name}' is not supported",
                remedy="A deployment serves a published version: import another one instead.",
            )
        limit_s = exchange.left_s() or self._service.settings.deadline_s
        await repository.load(self._service, exchange.caller, request.model_name, limit_s)
        return wire.RepositoryModelLoadResponse()

    async def _unload(
        self, exchange: Exchange, request: wire.RepositoryModelUnloadRequest
    ) -> Message:
        _refuse_repository(request.repository_name)
        # Nothing depends on a deployment, so `unload_dependents` is kept whatever it says.
        for name in set(request.parameters) - {"unload_dependents"}:
            raise InvalidRequest(reason=f"the parameter '{name}' is not supported")
        await repository.unload(self._service, exchange.caller, request.model_name)
        return wire.RepositoryModelUnloadResponse()

    def _find(self, exchange: Exchange, name: str, version: str) -> tuple[Route, ModelManifest]:
        gateway = self._service.gateway
        manifest = gateway.find(exchange.caller, name, read_version(version))
        return gateway.route(exchange.caller, name), manifest


async def _answer(exchange: Exchange, answer: Awaitable[Message]) -> None:
    exchange.finish((await answer).SerializeToString())


def _pinned(route: Route, version: str) -> int | None:
    number = read_version(version)
    return route.aliases[number] if isinstance(number, str) else number


def _read(kind: type[Request], data: bytes) -> Request:
    """The message; raises `InvalidRequest` for bytes that are none, or hold more than is known here."""
    try:
        message = kind.FromString(data)
    except DecodeError:
        raise InvalidRequest(reason=f"it is not a {kind.DESCRIPTOR.name}") from None
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise InvalidRequest(
            reason=f"{kind.DESCRIPTOR.name} has the unknown field {unknown[0].field_number}"
        )
    return message


def _refuse_repository(name: str) -> None:
    if name:
        raise InvalidRequest(
            reason=f"there is no model repository '{name}'", remedy="Leave its name out."
        )
