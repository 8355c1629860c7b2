"""A real web process's worth of HTTP in front of a house: the whole application on a socket, taken either way."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import uvicorn
import uvloop

from modelry.artifacts import Artifacts
from modelry.core.settings import Settings
from modelry.server.api.app import create_app
from modelry.server.api.serve import Server, configure
from modelry.server.gateway import Gateway
from modelry.server.store import Store
from tests.serving.house import PEPPER, House, wait_until

TF = "/v1/models/digits:predict"
NATIVE = "/predict/digits"


class Front:
    """Give it to `with`. `fast` chooses the way that inference calls take."""

    def __init__(
        self, house: House, *, fast: bool, is_patient: bool = False, **settings: Any
    ) -> None:
        self.house = house
        self.settings = Settings(home=Path(house.root), fast=fast, **settings)
        self.store = Store(self.settings.database_address)
        self.store.migrate(None)
        self.settings.places.secret.write_bytes(PEPPER)
        self.gateway = Gateway(house.snapshot, PEPPER, self.settings)
        artifacts = Artifacts(self.settings.artifacts_address)
        self.app = create_app(self.settings, self.store, artifacts, self.gateway)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.url = f"{self.settings.scheme}://127.0.0.1:{self.port}"
        self.headers = {"authorization": f"Bearer {house.key.text}"}
        config = configure(self.settings, self.app)
        #: The patient one gives clients a moment to leave, as in a service.
        self.server = Server(config, self.app) if is_patient else uvicorn.Server(config)
        self.failures: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, name="front")

    def __enter__(self) -> Front:
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.socket.close()
        self.store.close()
        if error is None:
            assert self.failures == []

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self.loop = runner.get_loop()
            self.loop.set_exception_handler(lambda _, told: self.failures.append(told))
            runner.run(self._serve())

    async def _serve(self) -> None:
        await self.gateway.start()
        await self.server.serve(sockets=[self.socket])
        await self.gateway.close()

    def client(self, **options: Any) -> httpx.Client:
        """With the house's key."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=30, **options)

    def asking(self, **options: Any) -> httpx.AsyncClient:
        """The same beside a running loop."""
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=30, **options)

    def call(
        self, body: bytes, *more: str, path: str = TF, version: str = "1.1", length: bool = True
    ) -> bytes:
        """The bytes of a call, with further header lines."""
        lines = [
            f"POST {path} HTTP/{version}",
            f"host: 127.0.0.1:{self.port}",
            f"authorization: Bearer {self.house.key.text}",
            "content-type: application/json",
            *([f"content-length: {len(body)}"] if length else []),
            *more,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Line:
    """A connection, byte by byte."""

    def __init__(self, front: Front, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", front.port))
        self._rest = b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drip(self, data: bytes, piece: int = 1, pause_s: float = 0.0) -> None:
        """Piece by piece."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), piece):
            self.socket.sendall(data[at : at + piece])
            time.sleep(pause_s)

    def hang_up(self) -> None:
        """Gone, without reading."""
        self.socket.close()

    def half_close(self) -> None:
        """Nothing more to say, but listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self) -> Heard:
        """The next answer, interim ones passed over."""
        while True:
            heard = self._answer()
            if heard.status != 100:
                return heard

    def interim(self) -> Heard:
        """The next answer, whichever it is."""
        return self._answer()

    def ended(self) -> bool:
        """Whether the server hangs up without another word."""
        try:
            return not self._rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _answer(self) -> Heard:
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers.get("content-length", "0"))
        while len(self._rest) < size:
            self._receive()
        body, self._rest = self._rest[:size], self._rest[size:]
        return Heard(status, headers, body)

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server hung up")
        self._rest += data


class Heard:
    """An answer as it came."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:200]!r}>"

    @property
    def json(self) -> Any:
        return json.loads(self.body)
