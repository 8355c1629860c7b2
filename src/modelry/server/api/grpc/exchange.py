"""One gRPC call on a stream of HTTP/2: its caller, its messages, its status at the end.

Before its key was found good, nothing beyond the first window of a call is read.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from modelry.core.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ModelryError,
    TooSlow,
)
from modelry.server.api.auth import key_in, project_in
from modelry.server.api.envelope import request_id_of
from modelry.server.api.exchange import undo
from modelry.server.api.grpc.hpack import name_of, value_of
from modelry.server.api.grpc.http2 import CANCEL, STREAM_WINDOW
from modelry.server.api.grpc.inbox import Inbox, Packed
from modelry.server.api.grpc.status import Metadata, code_of, metadata_of, text_of
from modelry.server.api.grpc.stream import Stream
from modelry.server.gateway import Caller, Gateway

log = logging.getLogger(__name__)

#: From this size on a compressed message is unpacked beside the event loop.
LARGE_PACKED_BYTES = 16 << 10
#: The longest deadline that is kept; gRPC's own may be endless.
LONGEST_S = 3600.0
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
#: What may stand in a status text as it is.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def fields(*pairs: tuple[str, str]) -> bytes:
    """A header block."""
    return b"".join([name_of(name) + value_of(value) for name, value in pairs])


#: `:status: 200` has a number of its own.
_HEAD = b"\x88" + fields(
    ("content-type", "application/grpc"), ("grpc-accept-encoding", "identity,deflate,gzip")
)
_FINE = fields(("grpc-status", "0"))


class Method(NamedTuple):
    """One method of a service; either `answer` or `converse` is given."""

    #: What the key must have; None: open to all.
    scope: str | None
    #: Takes the one message of a call; sees to it that the call ends.
    answer: Callable[[Exchange, bytes], None] | None = None
    #: Reads and writes messages until it returns, which ends the call.
    converse: Callable[[Exchange], Awaitable[None]] | None = None


class Exchange:
    """Takes a request off its stream and puts the answer onto it; the method that runs uses it as its caller."""

    __slots__ = (
        "_caller",
        "_gateway",
        "_has_begun",
        "_heard_at",
        "_inbox",
        "_is_let_in",
        "_is_whole",
        "_metadata",
        "_method",
        "_stream",
        "_woken",
        "deadline_at",
        "on_gone",
        "request_id",
    )

    def __init__(
        self, gateway: Gateway, stream: Stream, metadata: Mapping[str, str], method: Method
    ) -> None:
        self._gateway = gateway
        self._stream = stream
        self._metadata = metadata
        self._method = method
        self._caller: Caller | None = None
        self._inbox = Inbox(gateway.settings.max_body_bytes)
        #: Its key is good: more than the first window may come.
        self._is_let_in = False
        #: The client has said all.
        self._is_whole = False
        self._has_begun = False
        self._heard_at = stream.now()
        self._woken: asyncio.Future[None] | None = None
        self.request_id = request_id_of(metadata.get("x-request-id"))
        #: By the loop's clock; None where the client waits for ever.
        self.deadline_at = _read_deadline(metadata.get("grpc-timeout"), self._heard_at)
        #: Called if the client goes before the answer.
        self.on_gone: Callable[[], object] | None = None

    # For the method that runs.

    @property
    def caller(self) -> Caller:
        """Who asks; nobody does in a call that is open to all."""
        assert self._caller is not None
        return self._caller

    @property
    def address(self) -> str:
        """Where the client is."""
        return self._stream.peer

    def authorize(self) -> None:
        """Looks at the key, the first time or again; raises what the gateway's `authorize` does."""
        if self._method.scope is not None:
            key, project = key_in(self._metadata), project_in(self._metadata)
            self._caller = self._gateway.authorize(key, project, self._method.scope)

    def left_s(self) -> float | None:
        """Seconds that the client still waits; None where it does not say. Raises `DeadlineExceeded`."""
        if self.deadline_at is None:
            return None
        left_s = self.deadline_at - self._stream.now()
        if left_s <= 0.0:
            raise DeadlineExceeded(deadline_s=0.0)
        return min(left_s, LONGEST_S)

    async def read(self) -> bytes | None:
        """The next message; None after the last. Raises what is wrong with it."""
        while not self._inbox:
            if self._is_whole:
                return None
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
        message = self._inbox.take()
        self._widen()
        if message.is_packed and len(message.data) >= LARGE_PACKED_BYTES:
            return await asyncio.to_thread(self._unpack, message)
        return self._unpack(message)

    def write(self, message: bytes) -> None:
        """One message of several."""
        if not self._has_begun:
            self._has_begun = True
            self._stream.begin(_HEAD)
        self._stream.send(_framed(message))

    def finish(self, message: bytes, metadata: Metadata = ()) -> None:
        """The only message, and the end."""
        self.on_gone = None
        trailers = _FINE + fields(("x-request-id", self.request_id), *metadata)
        self._stream.answer(_HEAD, _framed(message), trailers)

    def refuse(self, error: Exception) -> None:
        """The end, with what went wrong; an error that is not ours becomes one."""
        self.on_gone = None
        if not isinstance(error, ModelryError):
            log.error("a gRPC call broke request_id=%s", self.request_id, exc_info=error)
            error = InternalError(reason=type(error).__name__, request_id=self.request_id)
        number: int = code_of(error).value
        trailers = fields(
            ("grpc-status", str(number)),
            ("grpc-message", quote(text_of(error), safe=_PLAIN)),
            ("x-request-id", self.request_id),
            *metadata_of(error),
        )
        self._stream.end(trailers if self._has_begun else _HEAD + trailers)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a part of the method beside all else; it ends with the client, and its errors end the call."""
        task = asyncio.get_running_loop().create_task(self._run(work))
        self.on_gone = task.cancel

    # For the service.

    def begin(self) -> None:
        """The key is good: the method may run."""
        self._is_let_in = True
        if self._method.converse is not None:
            self.run(self._converse(self._method.converse))
        elif self._is_whole:
            self._answer()
        self._widen()

    def look(self, now: float, limit_s: float) -> None:
        """Gives up where the client neither sends what it began nor reads what it asked for."""
        blocked_at = self._stream.blocked_at
        if self._inbox.is_halfway and now - self._heard_at > limit_s:
            self._give_up(TooSlow(part="message", limit_s=limit_s))
        elif blocked_at is not None and now - blocked_at > limit_s:
            self._stream.reset(CANCEL)
            self.gone()

    # For the stream.

    def take(self, piece: bytes) -> None:
        self._heard_at = self._stream.now()
        try:
            self._inbox.feed(piece)
        except ModelryError as error:
            self._give_up(error)
            return
        self._wake()
        self._widen()

    def end(self) -> None:
        self._is_whole = True
        if self._inbox.is_halfway:
            self._give_up(InvalidRequest(reason="its last message is cut off"))
            return
        self._wake()
        if self._is_let_in and self._method.answer is not None:
            self._answer()

    def gone(self) -> None:
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    def _answer(self) -> None:
        """Gives the one message that there must be to the method."""
        answer, count = self._method.answer, len(self._inbox)
        assert answer is not None
        if count != 1:
            self.refuse(InvalidRequest(reason=f"it has {count} messages instead of one"))
            return
        if self._inbox.waiting_bytes >= LARGE_PACKED_BYTES and self._metadata.get("grpc-encoding"):
            self.run(self._answer_beside(answer))
            return
        try:
            answer(self, self._unpack(self._inbox.take()))
        except Exception as error:
            self.refuse(error)

    async def _answer_beside(self, answer: Callable[[Exchange, bytes], None]) -> None:
        data = await self.read()
        assert data is not None
        answer(self, data)

    async def _converse(self, converse: Callable[[Exchange], Awaitable[None]]) -> None:
        await converse(self)
        self.on_gone = None
        if not self._has_begun:
            self._stream.begin(_HEAD)
        self._stream.end(_FINE + fields(("x-request-id", self.request_id)))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.refuse(error)

    def _unpack(self, message: Packed) -> bytes:
        if not message.is_packed:
            return message.data
        encoding = self._metadata.get("grpc-encoding", "")
        if encoding in ("", "identity"):
            raise InvalidRequest(reason="a message is compressed, and grpc-encoding is not said")
        return undo(message.data, encoding, self._gateway.settings.max_body_bytes)

    def _give_up(self, error: ModelryError) -> None:
        """The call ends before its request does."""
        self.gone()
        self.refuse(error)

    def _widen(self) -> None:
        """Lets as much come as the message under way needs, or as there is room for."""
        if not self._is_let_in or self._is_whole:
            return
        inbox = self._inbox
        room = STREAM_WINDOW - inbox.waiting_bytes
        if not inbox:
            room = max(room, inbox.missing_bytes)
        more = room - self._stream.receive_window
        if more > STREAM_WINDOW // 2:
            self._stream.allow(more)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def _read_deadline(text: str | None, now: float) -> float | None:
    """When the client stops waiting; a time-out that is none is passed over, as others do."""
    found = _TIMEOUT.fullmatch(text) if text else None
    return None if found is None else now + int(found[1]) * _SECONDS[found[2]]
