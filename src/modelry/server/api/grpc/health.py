"""gRPC's own health check, for load balancers: open to all, as `/health` is."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError

from modelry.core.errors import InvalidRequest, NotFound
from modelry.server.api.grpc.exchange import Exchange, Method
from modelry.server.api.grpc.wire.health_pb2 import HealthCheckRequest, HealthCheckResponse

#: What can be asked about: the whole, or the one service beside this.
SERVICES = frozenset({"", "inference.GRPCInferenceService"})


class Health:
    """Serving until the process is about to end."""

    def __init__(self) -> None:
        self._ending = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        """False once the process takes no new calls."""
        return not self._ending.is_set()

    def methods(self) -> dict[str, Method]:
        """By path."""
        return {
            "/grpc.health.v1.Health/Check": Method(None, answer=self.check),
            "/grpc.health.v1.Health/Watch": Method(None, converse=self.watch),
        }

    def leave(self) -> None:
        """Tells all who watch, and whoever asks from now on."""
        self._ending.set()

    def check(self, exchange: Exchange, data: bytes) -> None:
        """The state now; a service that is not here is not found."""
        service = _read(data)
        if service not in SERVICES:
            raise NotFound(noun="service", name=service)
        exchange.finish(self._state(service))

    async def watch(self, exchange: Exchange) -> None:
        """The state now, and again when it changes."""
        data = await exchange.read()
        if data is None:
            raise InvalidRequest(reason="it has no message")
        service = _read(data)
        exchange.write(self._state(service))
        await self._ending.wait()
        exchange.write(self._state(service))

    def _state(self, service: str) -> bytes:
        status = HealthCheckResponse.SERVING if self.is_serving else HealthCheckResponse.NOT_SERVING
        if service not in SERVICES:
            status = HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse(status=status).SerializeToString()


def _read(data: bytes) -> str:
    try:
        return HealthCheckRequest.FromString(data).service
    except DecodeError:
        raise InvalidRequest(reason="it is not a HealthCheckRequest") from None
