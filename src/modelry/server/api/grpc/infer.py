"""ModelInfer and ModelStreamInfer: a door's translation around the gateway's one call. No task for a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from modelry.core.errors import ModelryError, ShuttingDown
from modelry.core.manifests import ModelManifest
from modelry.server.api.doors.door import Call
from modelry.server.api.doors.names import read_version
from modelry.server.api.grpc import codec
from modelry.server.api.grpc.exchange import Exchange
from modelry.server.api.grpc.status import Metadata, text_of
from modelry.server.api.grpc.wire.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from modelry.server.gateway import Gateway, Reply
from modelry.server.gateway.ticket import Ticket

#: From this size on a message is decoded beside the event loop.
LARGE_MESSAGE_BYTES = 1 << 20
#: Requests of one stream that are under way at once.
STREAM_WINDOW = 16


class _Begun(NamedTuple):
    """A stream's request under way."""

    #: The message that answers it, an error's among them.
    answer: asyncio.Future[bytes]
    ticket: Ticket | None


class Inference:
    """The two calls. `leave` ends the streams, which else end when their clients wish."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._readers: set[asyncio.Task[None]] = set()
        self._is_leaving = False

    def leave(self) -> None:
        """Reads no more from streams; what they have asked is answered."""
        self._is_leaving = True
        for reader in self._readers:
            reader.cancel()

    def infer(self, exchange: Exchange, data: bytes) -> None:
        """One request, one answer; the work ends with its client."""
        message = codec.read(data)
        if len(data) >= LARGE_MESSAGE_BYTES:
            exchange.run(self._infer_large(exchange, message, len(data)))
        else:
            call = codec.decode(message, lambda *asked: self._gateway.find(exchange.caller, *asked))
            self._ask(exchange, call, len(data))

    async def _infer_large(self, exchange: Exchange, message: ModelInferRequest, size: int) -> None:
        self._ask(exchange, await self._decode_beside(exchange, message), size)

    def _ask(self, exchange: Exchange, call: Call, size: int) -> None:
        def settle(outcome: Reply | ModelryError) -> None:
            try:
                if isinstance(outcome, ModelryError):
                    raise outcome
                body = call.encode(outcome).body
            except Exception as error:
                exchange.refuse(error)
            else:
                exchange.finish(body, _timing(outcome))

        ticket = self._submit(exchange, call, size, settle)
        if ticket is not None and not ticket.is_settled:
            exchange.on_gone = ticket.cancel

    def _submit(
        self,
        exchange: Exchange,
        call: Call,
        size: int,
        settle: Callable[[Reply | ModelryError], None],
    ) -> Ticket | None:
        return self._gateway.submit(
            exchange.caller,
            call.name,
            call.payload,
            settle,
            version=call.version,
            op=call.op,
            rows=call.rows,
            bytes_in=size,
            deadline_s=exchange.left_s(),
        )

    async def converse(self, exchange: Exchange) -> None:
        """Requests and answers in the same order; an error is the answer of its request and ends nothing else."""
        begun: asyncio.Queue[_Begun | None] = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_WINDOW)
        reader = asyncio.create_task(self._read(exchange, begun, room))
        self._readers.add(reader)
        one: _Begun | None = None
        try:
            while (one := await begun.get()) is not None:
                exchange.write(await one.answer)
                room.release()
            if self._is_leaving:
                raise ShuttingDown
            await reader
        finally:
            self._readers.discard(reader)
            reader.cancel()
            _forget(one, begun)

    async def _read(
        self, exchange: Exchange, begun: asyncio.Queue[_Begun | None], room: asyncio.Semaphore
    ) -> None:
        try:
            while (data := await exchange.read()) is not None:
                await room.acquire()
                begun.put_nowait(await self._begin(exchange, data))
        finally:
            begun.put_nowait(None)

    async def _begin(self, exchange: Exchange, data: bytes) -> _Begun:
        """Sends one request of a stream on its way."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        request_id = ""

        def settle(outcome: Reply | ModelryError) -> None:
            if not answer.done():
                answer.set_result(_tell(outcome, call, request_id))

        try:
            message = codec.read(data)
            request_id = message.id
            # The key may have been revoked since the stream began.
            exchange.authorize()
            call = await self._decode(exchange, message, len(data))
            return _Begun(answer, self._submit(exchange, call, len(data), settle))
        except ModelryError as error:
            answer.set_result(_trouble(error, request_id))
            return _Begun(answer, None)

    async def _decode(self, exchange: Exchange, message: ModelInferRequest, size: int) -> Call:
        if size >= LARGE_MESSAGE_BYTES:
            return await self._decode_beside(exchange, message)
        return codec.decode(message, lambda *asked: self._gateway.find(exchange.caller, *asked))

    async def _decode_beside(self, exchange: Exchange, message: ModelInferRequest) -> Call:
        """The gateway belongs to the event loop and is asked here; the rest is done in a thread."""
        version = read_version(message.model_version)
        found = self._gateway.find(exchange.caller, message.model_name, version)

        def find(name: str, version: int | str | None) -> ModelManifest:
            return found

        return await asyncio.to_thread(codec.decode, message, find)


def _forget(one: _Begun | None, begun: asyncio.Queue[_Begun | None]) -> None:
    """The stream is over: what nobody will read is not worked on."""
    while True:
        if one is not None:
            one.answer.cancel()
            if one.ticket is not None:
                one.ticket.cancel()
        if begun.empty():
            return
        one = begun.get_nowait()


def _timing(reply: Reply) -> Metadata:
    stats = reply.stats
    return (
        ("x-model-version", str(reply.version)),
        ("x-queue-time", f"{stats.queue_us / 1e6:.6f}"),
        ("x-inference-time", f"{stats.inference_us / 1e6:.6f}"),
        ("x-batch-rows", str(stats.batch_rows)),
    )


def _tell(outcome: Reply | ModelryError, call: Call, request_id: str) -> bytes:
    if isinstance(outcome, ModelryError):
        return _trouble(outcome, request_id)
    try:
        response = ModelInferResponse.FromString(call.encode(outcome).body)
    except ModelryError as error:
        return _trouble(error, request_id)
    return ModelStreamInferResponse(infer_response=response).SerializeToString()


def _trouble(error: ModelryError, request_id: str) -> bytes:
    return ModelStreamInferResponse(
        error_message=text_of(error), infer_response=ModelInferResponse(id=request_id)
    ).SerializeToString()
