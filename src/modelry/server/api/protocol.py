"""HTTP as it comes off the socket: uvicorn's protocol with bounds on what a client may send, and how slowly.

    HttpToolsProtocol (uvicorn)     parsing, pipelining, keep-alive, the way to ASGI
    └── BoundedHttp                 heads of a size, an end to waiting, half-closed connections get their answers
        └── FastHttp (fast.py)      takes inference calls before ASGI

Leans on uvicorn's internals; `constraints.txt` pins the version, and the tests walk both ways.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelry.core.errors import InvalidRequest, ModelryError, TooSlow
from modelry.core.settings import Settings
from modelry.server.api.envelope import new_request_id
from modelry.server.api.errors import error_response

#: Bytes of a request's line and headers (or trailers) at most, give or take one read from the socket.
MAX_HEAD_BYTES = 64 << 10
#: Less than this in a whole `stall_timeout_s` is no progress.
LEAST_PROGRESS_BYTES = 1024
#: How often the connections are looked at.
LOOK_S = 1.0
#: After a client has sent its last byte: when to look whether it is still there to read.
PROBES_S = (0.02, 0.2, 1.0)


class Phase(Enum):
    """What a connection waits for."""

    REQUEST = auto()
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    READER = auto()
    END = auto()


@dataclass(slots=True)
class Patience:
    """How long each kind of waiting may last, and the clock of all connections of a process.

    No connection has a timer of its own: once a second all are looked at, and nothing is paid for with each request.
    """

    settings: Settings
    #: Seconds since the first connection, as far as connections care.
    now: float = 0.0
    _timer: asyncio.TimerHandle | None = field(default=None)

    def watch(self, connections: Iterable[Any]) -> None:
        """Begins to look at them, until there are none."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look, connections)

    def limit_s(self, phase: Phase) -> float | None:
        """None: for ever; the deadline of the answer is not the connection's business."""
        match phase:
            case Phase.REQUEST:
                return self.settings.keep_alive_s
            case Phase.HEAD:
                return self.settings.head_timeout_s
            case Phase.ANSWER:
                return None
        return self.settings.stall_timeout_s

    def _look(self, connections: Iterable[Any]) -> None:
        self._timer = None
        self.now += LOOK_S
        for connection in list(connections):
            connection.look()
        if any(True for _ in connections):
            self.watch(connections)


class BoundedHttp(HttpToolsProtocol):
    """Nobody fills the memory with headers that never end, and nobody holds a connection by being slow."""

    #: Shared by all connections of a process; set by the subclass that serves it.
    patience: ClassVar[Patience]

    #: Bytes that came since the last that belonged to a body or ended something.
    _head_bytes = 0
    #: Bytes of bodies that came, and one for each request.
    _progress = 0
    #: Between the end of a head and the end of its body.
    _is_in_body = False
    #: The client has sent all that it will.
    _is_half_closed = False
    #: What to say when all that is owed was answered.
    _last_word: ModelryError | None = None
    #: What it waits for, since when, and how much had come or was unread then.
    _phase = Phase.REQUEST
    _since = 0.0
    _mark = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._since = self.patience.now
        self.patience.watch(self.connections)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(InvalidRequest(reason=f"its head is larger than {MAX_HEAD_BYTES} bytes"))

    def on_headers_complete(self) -> None:
        """The head was whole."""
        self._head_bytes = 0
        self._is_in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._head_bytes = 0
        self._progress += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; another may follow."""
        self._head_bytes = 0
        self._progress += 1
        self._is_in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer was written: the next request's turn. Does what uvicorn does, without a timer."""
        self.server_state.total_requests += 1
        self._progress += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            # Not at once: answers that need no waiting would go deeper and deeper. And nothing more is read yet.
            self.loop.call_soon(self._begin_next)
        elif self._last_word is not None:
            self._refuse(self._last_word)
        elif self._is_half_closed:
            self.transport.close()
        else:
            self.flow.resume_reading()

    @property
    def _is_owed(self) -> bool:
        """Whether a request that came has no answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _begin_next(self) -> None:
        if self.pipeline and not self.transport.is_closing():
            self._start_asgi_task(*self.pipeline.pop())

    # A client that has sent its last byte but still reads.

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. It may have gone, or wait for its answer: the socket does not say which."""
        self._is_half_closed = True
        if self._is_owed and not self._is_in_body and self.scheme == "http":
            self._probe(0)
            return True
        return False

    def _probe(self, turn: int) -> None:
        """Writes an interim answer, which every client passes over; a client that has gone answers with a reset."""
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        if _is_reset(self.transport):
            self.transport.abort()
            return
        if turn == 0 and not getattr(self.cycle, "response_started", False):
            if self.parser.get_http_version() != "1.1":
                return
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if turn < len(PROBES_S):
            self.loop.call_later(PROBES_S[turn], self._probe, turn + 1)

    # Being slow.

    def look(self) -> None:
        """Once a second: has it waited too long for its client?"""
        phase, now = self._waits_for(), self.patience.now
        mark = self.transport.get_write_buffer_size() if phase is Phase.READER else self._progress
        if phase is not self._phase or (mark != self._mark and phase is not Phase.BODY):
            self._phase, self._since, self._mark = phase, now, mark
            return
        limit_s = self.patience.limit_s(phase)
        if limit_s is None or now - self._since < limit_s:
            return
        if phase is Phase.BODY and mark - self._mark >= LEAST_PROGRESS_BYTES:
            self._since, self._mark = now, mark
            return
        self._give_up(phase, limit_s)

    def _waits_for(self) -> Phase:
        if self.transport.is_closing():
            return Phase.END
        if self.flow.write_paused:
            return Phase.READER
        if self._is_in_body:
            # An endpoint that takes its time to read is not the client's fault.
            return Phase.ANSWER if self.flow.read_paused else Phase.BODY
        if self._is_owed:
            return Phase.ANSWER
        return Phase.HEAD if self._head_bytes else Phase.REQUEST

    def _give_up(self, phase: Phase, limit_s: float) -> None:
        match phase:
            case Phase.HEAD:
                self._refuse(TooSlow(part="head", limit_s=limit_s))
            case Phase.BODY if self._is_owed and not self.pipeline:
                self._write_refusal(TooSlow(part="body", limit_s=limit_s))
            case Phase.REQUEST if not self.transport.get_write_buffer_size():
                self.transport.close()
            case _:
                self.transport.abort()

    # What is no request.

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are no HTTP."""
        self._refuse(InvalidRequest(reason="it is not HTTP/1.1"))

    def _refuse(self, error: ModelryError) -> None:
        """Ends the connection with an error, after the answers to what came before."""
        if self._is_owed:
            self._last_word = error
            self.flow.pause_reading()
        else:
            self._write_refusal(error)

    def _write_refusal(self, error: ModelryError) -> None:
        answer = error_response(error)
        answer.headers["x-request-id"] = new_request_id()
        answer.headers["connection"] = "close"
        lines = [b"%b: %b\r\n" % header for header in answer.raw_headers]
        self.transport.write(
            b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", answer.body])
        )
        self.transport.close()


def _is_reset(transport: asyncio.Transport) -> bool:
    """Whether the peer has said that nobody reads there any more."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None or peer.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(peer.fileno(), 0)
    return bool(poll.poll(0))
