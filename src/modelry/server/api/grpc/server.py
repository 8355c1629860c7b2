"""The gRPC port of one web process: HTTP/2 of our own on the event loop that serves HTTP.

`docs/decisions` tells why it is not grpcio's server.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from modelry.core.settings import Settings
from modelry.server.api.grpc.connection import Connection
from modelry.server.api.grpc.health import Health
from modelry.server.api.grpc.infer import Inference
from modelry.server.api.grpc.open_inference import OpenInference
from modelry.server.api.grpc.service import Calls
from modelry.server.api.service import Service

#: Between two looks at connections and calls that make no progress.
_LOOK_S = 1.0
#: A client with calls under way that is silent for so long is asked for a sign of life, and given up without one.
_SILENT_S = 60.0
_DEAD_S = 80.0
#: Between asking clients to leave and taking no more calls: those on their way arrive.
_FAREWELL_S = 0.2
_BACKLOG = 2048


class GrpcServer:
    """Listens on a socket that is bound already, from `start` to `stop`."""

    def __init__(self, service: Service, listening: socket.socket) -> None:
        self._settings = service.settings
        self._listening = listening
        self._health = Health()
        self._inference = Inference(service.gateway)
        methods = OpenInference(service, self._inference, self._health).methods()
        self._calls = Calls(service, {**self._health.methods(), **methods})
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._looking: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Takes calls from now on."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._calls.accept, self._connections),
            sock=self._listening,
            backlog=_BACKLOG,
            ssl=_tls(self._settings),
        )
        self._look()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, answers those under way for so long, and ends."""
        self._health.leave()
        self._inference.leave()
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.say_farewell()
        await asyncio.sleep(_FAREWELL_S)
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        while self._connections and loop.time() < end:
            for connection in list(self._connections):
                connection.leave()
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            self._look_at(connection, now)
        self._looking = loop.call_later(_LOOK_S, self._look)

    def _look_at(self, connection: Connection, now: float) -> None:
        settings = self._settings
        silent_s, unread_s = now - connection.heard_at, now - connection.moved_at
        is_slow = connection.is_halfway and silent_s > settings.head_timeout_s
        if is_slow or (connection.is_stuck and unread_s > settings.stall_timeout_s):
            connection.abort()
        elif not connection.streams:
            if silent_s > settings.keep_alive_s:
                connection.leave()
        elif silent_s > _DEAD_S:
            connection.abort()
        else:
            if silent_s > _SILENT_S:
                connection.ping()
            connection.look(now, settings.stall_timeout_s)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    context.set_alpn_protocols(["h2"])
    return context
