"""Which method a call is for, and whether its key may ask that: decided when its first frame has come."""

from __future__ import annotations

from collections.abc import Mapping

from modelry.core.errors import InvalidKey, MethodNotAllowed, ModelryError
from modelry.server.api.grpc.exchange import Exchange, Method, fields
from modelry.server.api.grpc.stream import Fields, Receiver, Stream
from modelry.server.api.service import Service

#: Parts of method names that Triton's clients know and this service does not offer → what to do instead.
_INSTEAD = {
    "SharedMemory": "Send tensors in the message; this service reads no memory of its clients.",
    "TraceSetting": "Traces are not set by clients; the answer's metadata tells where time went.",
    "LogSettings": "What is logged is set where the service starts: MODELRY_LOG_LEVEL.",
}
_UNKNOWN = Method(None)
#: For what is HTTP/2 and no gRPC.
_NO_GRPC = fields((":status", "415"), ("content-type", "text/plain"))


class Calls:
    """Answers every stream of every connection; `methods` by their full paths (`/package.Service/Method`)."""

    def __init__(self, service: Service, methods: Mapping[str, Method]) -> None:
        self._service = service
        self._methods = methods

    def accept(self, stream: Stream, headers: Fields) -> Receiver:
        """What takes the request; it may have been refused already."""
        metadata = dict(headers)
        path = metadata.get(":path", "")
        method = self._methods.get(path, _UNKNOWN)
        exchange = Exchange(self._service.gateway, stream, metadata, method)
        if not metadata.get("content-type", "").startswith("application/grpc"):
            stream.end(_NO_GRPC)
        elif method is _UNKNOWN:
            exchange.refuse(_not_offered(path))
        else:
            self._begin(exchange)
        return exchange

    def _begin(self, exchange: Exchange) -> None:
        try:
            exchange.authorize()
        except InvalidKey:
            exchange.run(self._begin_late(exchange))
        except ModelryError as error:
            exchange.refuse(error)
        else:
            exchange.begin()

    async def _begin_late(self, exchange: Exchange) -> None:
        """The key is not known here: it may have been made elsewhere a moment ago."""
        await self._service.look_up(exchange.address)
        exchange.authorize()
        exchange.on_gone = None
        exchange.begin()


def _not_offered(path: str) -> ModelryError:
    name = path.rpartition("/")[2]
    remedies = [remedy for part, remedy in _INSTEAD.items() if part in name]
    return MethodNotAllowed(
        f"The gRPC method '{path}' is not offered here.",
        remedy=remedies[0] if remedies else "The reference of this service lists its methods.",
    )
