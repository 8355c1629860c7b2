"""A web process's gRPC port in front of a house, in a thread, and a client for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import h2.config
import h2.connection
import numpy as np
import uvloop

from modelry.artifacts import Artifacts
from modelry.core.settings import Settings
from modelry.core.tensors import Array
from modelry.server.api.app import create_app
from modelry.server.api.doors.datatypes import DATATYPE_OF
from modelry.server.api.grpc.server import GrpcServer
from modelry.server.api.grpc.wire.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from modelry.server.gateway import Gateway
from modelry.server.store import Store
from modelry.server.supervisor.door import grpc_target, listen
from tests.serving.house import PEPPER, House

SERVICE = "/inference.GRPCInferenceService"


class Calls:
    """Give it to `with`; then `infer` or `call` as a client would. `ending` tells the process to end."""

    def __init__(self, house: House, **settings: Any) -> None:
        self.house = house
        self.settings = Settings(home=Path(house.root), **settings)
        self.store = Store(self.settings.database_address)
        self.store.migrate(None)
        self.settings.places.secret.write_bytes(PEPPER)
        self.gateway = Gateway(house.snapshot, PEPPER, self.settings)
        artifacts = Artifacts(self.settings.artifacts_address)
        self.app = create_app(self.settings, self.store, artifacts, self.gateway)
        self.listening = listen("127.0.0.1", 0)
        self.target = grpc_target("127.0.0.1", self.listening.getsockname()[1])
        self.metadata = (("authorization", f"Bearer {house.key.text}"),)
        self.failures: list[dict[str, Any]] = []
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="calls")

    def __enter__(self) -> Calls:
        self._thread.start()
        assert self._is_up.wait(20)
        self.channel = grpc.insecure_channel(self.target, [("grpc.max_send_message_length", -1)])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._thread.join(40)
        assert not self._thread.is_alive()
        self.channel.close()
        self.listening.close()
        self.store.close()
        if error is None:
            assert self.failures == []

    def end(self) -> None:
        """What SIGTERM does."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._ending.set)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self.loop = runner.get_loop()
            self.loop.set_exception_handler(lambda _, told: self.failures.append(told))
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        await self.gateway.start()
        server = GrpcServer(self.app.state.service, self.listening)
        await server.start()
        self._is_up.set()
        await self._ending.wait()
        await server.stop(20)
        await self.gateway.close()

    def call(self, method: str, request: Any = b"", **options: Any) -> Any:
        """One message in, one out, as bytes; the call itself is the second value."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        unary = self.channel.unary_unary(method if "/" in method else f"{SERVICE}/{method}")
        return unary.with_call(data, **{"metadata": self.metadata, "timeout": 30, **options})

    def infer(self, x: Array, **options: Any) -> ModelInferResponse:
        """The answer to a request with one raw input."""
        answer, _ = self.call("ModelInfer", asked(x), **options)
        return ModelInferResponse.FromString(answer)

    def refused(self, method: str, request: Any = b"", **options: Any) -> grpc.RpcError:
        """The error of a call that must be refused."""
        try:
            self.call(method, request, **options)
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"{method} was answered")


def asked(x: Array, **fields: Any) -> ModelInferRequest:
    """A request with one raw input."""
    message = ModelInferRequest(**{"model_name": "digits", **fields})
    message.inputs.add(name="x", datatype=DATATYPE_OF[x.dtype.name], shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    return message


def told(answer: ModelInferResponse) -> Array:
    """The first output's numbers."""
    output = answer.outputs[0]
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(output.shape)


def code_in(error: grpc.RpcError) -> str | None:
    """The stable code in the trailing metadata."""
    return dict(error.trailing_metadata()).get("x-modelry-error")


class Raw:
    """A client that speaks HTTP/2 by hand, well or badly."""

    def __init__(self, calls: Calls) -> None:
        host, _, port = calls.target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        #: What came and was not looked at.
        self.events: list[Any] = []
        self.headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", calls.target),
            (":path", f"{SERVICE}/ModelInfer"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *calls.metadata,
        ]

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self, body: bytes, *, end: bool = False, headers: Any = None) -> int:
        """Opens a call and sends the beginning of its body."""
        stream_id: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, headers or self.headers)
        self.client.send_data(stream_id, body, end_stream=end)
        self.flush()
        return stream_id

    def flush(self) -> None:
        self.socket.sendall(self.client.data_to_send())

    def heard(self, kind: type[Any]) -> Any:
        """Reads on until an event of this kind comes; None where the server hangs up first."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            data = self.socket.recv(65536)
            if not data:
                return None
            self.events += self.client.receive_data(data)
            self.flush()


def framed(message: bytes, flag: int = 0) -> bytes:
    """A gRPC message as it lies in a body."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message
