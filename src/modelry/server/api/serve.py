"""One web process: `python -m modelry.server.api.serve --fd N --index I`, on a socket its parent listens on.

The parent keeps the socket, so connections wait in its backlog while a web process is replaced. On SIGTERM this
process takes no new connection, answers what it has accepted, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from fastapi import FastAPI

from modelry.artifacts import Artifacts
from modelry.core.bell import Bell, Listener
from modelry.core.errors import ModelryError
from modelry.core.records import Snapshot
from modelry.core.settings import Settings, load_settings
from modelry.server.api.app import create_app
from modelry.server.api.counting import counting
from modelry.server.api.fast import http_protocol
from modelry.server.api.service import Service
from modelry.server.control.access import load_pepper
from modelry.server.gateway import Gateway
from modelry.server.gateway.admission import Admission
from modelry.server.logs import start_logging
from modelry.server.store import Store, deployments, routes

if TYPE_CHECKING:
    from modelry.server.api.grpc.server import GrpcServer

log = logging.getLogger(__name__)

#: The longest that requests in flight may take after SIGTERM.
DRAIN_S = 30
#: For so long an ending process still answers on its open connections, and asks each client to leave.
LEAVING_S = 0.5


class Server(uvicorn.Server):
    """uvicorn, but with a moment for requests that are on their way when the end is asked for.

    On its own it closes every idle connection at once, and a client that is just writing to one sees it cut.
    """

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, grpc_server: GrpcServer | None = None
    ) -> None:
        super().__init__(config)
        self._app = app
        self._grpc_server = grpc_server

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens no more, lets every answer say `connection: close`, then ends as uvicorn does."""
        self._app.state.is_ending = True
        for server in self.servers:
            server.close()
        await asyncio.gather(self._end_grpc(), self._end_http(sockets))

    async def _end_http(self, sockets: list[socket.socket] | None) -> None:
        await asyncio.sleep(LEAVING_S)
        await super().shutdown(sockets)

    async def _end_grpc(self) -> None:
        if self._grpc_server is not None:
            await self._grpc_server.stop(DRAIN_S)


async def serve(
    settings: Settings,
    listening: socket.socket,
    index: int = 0,
    grpc_listening: socket.socket | None = None,
) -> None:
    """Answers on the socket, and on another for gRPC, until SIGTERM."""
    async with counting(settings.places, index) as counters:
        await _serve(settings, listening, index, grpc_listening, Admission(counters))


async def _serve(
    settings: Settings,
    listening: socket.socket,
    index: int,
    grpc_listening: socket.socket | None,
    admission: Admission,
) -> None:
    store = Store(settings.database_address)
    reader = routes.Reader()

    def read_snapshot() -> Snapshot:
        with store.read() as tx:
            return reader.read(tx)

    on_wake = waker(store, Bell(settings.places.sockets / "bells", settings.bell))
    gateway = Gateway(
        read_snapshot, load_pepper(settings), settings, admission=admission, on_wake=on_wake
    )
    await gateway.start()
    app = create_app(settings, store, Artifacts(settings.artifacts_address), gateway)
    service: Service = app.state.service
    with service.bell.listen(f"web{index}") as listener:
        step = asyncio.create_task(keep_in_step(service, listener))
        try:
            grpc_server = await open_grpc(service, grpc_listening)
            settle_memory()
            await Server(configure(settings, app), app, grpc_server).serve(sockets=[listening])
        finally:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
            await gateway.close()
            store.close()


def settle_memory() -> None:
    """What is here now stays: the garbage collector need not walk over it again and again."""
    gc.collect()
    gc.freeze()


async def open_grpc(service: Service, listening: socket.socket | None) -> GrpcServer | None:
    """The gRPC port, answering; None where it is turned off, and then nothing of gRPC is loaded."""
    if listening is None:
        return None
    from modelry.server.api.grpc.server import GrpcServer

    server = GrpcServer(service, listening)
    await server.start()
    return server


def waker(store: Store, bell: Bell) -> Callable[[str], None]:
    """What the gateway calls for a deployment that sleeps: it returns at once, and a thread writes the wish."""

    def wake(deployment_id: str) -> None:
        try:
            with store.write() as tx:
                is_woken = deployments.wake(tx, deployment_id)
        except ModelryError as error:
            log.warning("not woken, tried again deployment=%s: %s", deployment_id, error)
            return
        if is_woken:
            bell.ring()
            store.notify()

    def on_wake(deployment_id: str) -> None:
        asyncio.get_running_loop().run_in_executor(None, wake, deployment_id)

    return on_wake


def configure(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """uvicorn's settings, each on purpose."""
    return uvicorn.Config(
        app,
        http=http_protocol(app, app.state.service.gateway, settings),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # A header of the caller's never decides who the caller is.
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=str(settings.tls_cert) if settings.tls_cert else None,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
    )


async def keep_in_step(service: Service, listener: Listener) -> None:
    """Follows the store's routes and keys for ever: at each bell, and every `poll_s` without one."""
    loop = asyncio.get_running_loop()
    rang = asyncio.Event()

    def hear() -> None:
        listener.clear()
        rang.set()

    def hear_from_afar() -> None:
        loop.call_soon_threadsafe(rang.set)

    loop.add_reader(listener.fileno(), hear)
    notices = service.store.listen(hear_from_afar)
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(rang.wait(), service.settings.poll_s)
            rang.clear()
            await _follow(service)
    finally:
        loop.remove_reader(listener.fileno())
        await asyncio.to_thread(notices.stop)


async def _follow(service: Service) -> None:
    """A database that is away leaves the last snapshot in use: inference goes on."""
    try:
        await service.catch_up()
    except ModelryError as error:
        log.warning("routes not read; the last ones stay in use: %s", error)
    except Exception:
        log.exception("routes not read; the last ones stay in use")


def main() -> None:
    """Settings come from the environment, the socket from the parent."""
    parser = argparse.ArgumentParser(prog="python -m modelry.server.api.serve", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a listening socket")
    parser.add_argument("--index", type=int, default=0, help="which of the web processes this is")
    parser.add_argument("--grpc-fd", type=int, help="descriptor of another, for gRPC")
    given = parser.parse_args()
    settings = load_settings()
    start_logging(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    listening = socket.socket(fileno=given.fd)
    grpc_listening = None if given.grpc_fd is None else socket.socket(fileno=given.grpc_fd)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, listening, given.index, grpc_listening))


def _leave(*_: object) -> None:
    """uvicorn hands the signal on once it has drained: then, or before it took over, the end is a good one."""
    raise SystemExit(0)


if __name__ == "__main__":
    main()
