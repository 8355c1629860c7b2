"""One request on an HTTP/2 connection, and its answer as flow control lets it out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from modelry.server.api.grpc.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    NUMBER,
    RST_STREAM,
    STREAM_WINDOW,
    WINDOW_UPDATE,
    frame,
    head,
)


class Receiver(Protocol):
    """What takes a stream's request."""

    def take(self, piece: bytes) -> None:
        """A piece of the body. The stream's window shrank by it."""

    def end(self) -> None:
        """The request is whole."""

    def gone(self) -> None:
        """The client has given it up, or is gone; nothing can be sent any more."""

    def look(self, now: float, limit_s: float) -> None:
        """Asked from time to time, with the loop's clock: ends what has made no progress for so long."""


Fields = list[tuple[str, str]]
Accept = Callable[["Stream", Fields], Receiver]


class Line(Protocol):
    """The connection, as its streams see it."""

    peer: str
    #: What may still be sent, by the client's word.
    send_window: int
    #: The largest frame that the client takes.
    frame_limit: int

    @property
    def room(self) -> int:
        """Bytes of data that may be handed to the socket now."""

    def now(self) -> float:
        """The loop's clock."""

    def can_send(self, size: int) -> bool:
        """Whether so much goes out in one frame now."""

    def put(self, *pieces: bytes | memoryview) -> None:
        """Writes at the end of this turn of the loop, with all else that is to be written."""

    def drop(self, stream: Stream) -> None:
        """Both sides have said all there is to say."""


class Stream:
    """One request and its answer, as long as both sides know of it."""

    __slots__ = (
        "_connection",
        "_last",
        "_pending",
        "blocked_at",
        "id",
        "is_over",
        "is_whole",
        "receive_window",
        "receiver",
        "send_window",
    )

    def __init__(self, connection: Line, id: int, send_window: int) -> None:
        self._connection = connection
        self.id = id
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW
        #: The client has said all.
        self.is_whole = False
        #: Nothing can be sent any more.
        self.is_over = False
        self.receiver: Receiver | None = None
        #: Data that the windows do not allow yet.
        self._pending: deque[memoryview] = deque()
        #: The trailers, once nothing more comes.
        self._last: bytes | None = None
        #: By the loop's clock: since when nothing could be sent; None while all goes well.
        self.blocked_at: float | None = None

    def now(self) -> float:
        """The loop's clock."""
        return self._connection.now()

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._connection.peer

    def allow(self, size: int) -> None:
        """Lets the client send so many bytes more."""
        if size > 0 and not self.is_whole and not self.is_over:
            self.receive_window += size
            self._connection.put(frame(WINDOW_UPDATE, 0, self.id, NUMBER.pack(size)))

    def begin(self, block: bytes) -> None:
        """Sends the answer's header block."""
        if not self.is_over:
            self._connection.put(frame(HEADERS, END_HEADERS, self.id, block))

    def send(self, data: bytes) -> None:
        """Sends a part of the answer, as soon as the windows allow it."""
        if not self.is_over:
            self._pending.append(memoryview(data))
            self._pump()

    def end(self, trailers: bytes) -> None:
        """Ends the answer with a header block; alone, it is all of the answer."""
        if not self.is_over:
            self._last = trailers
            self._pump()

    def answer(self, block: bytes, data: bytes, trailers: bytes) -> None:
        """All of an answer at once."""
        size, connection = len(data), self._connection
        if self.is_over:
            return
        if self.is_whole and size <= self.send_window and connection.can_send(size):
            self.send_window -= size
            connection.send_window -= size
            connection.put(
                frame(HEADERS, END_HEADERS, self.id, block)
                + frame(DATA, 0, self.id, data)
                + frame(HEADERS, END_HEADERS | END_STREAM, self.id, trailers)
            )
            connection.drop(self)
            return
        self.begin(block)
        self.send(data)
        self.end(trailers)

    def reset(self, code: int) -> None:
        """Gives the stream up, in both directions."""
        if not self.is_over:
            self._connection.put(frame(RST_STREAM, 0, self.id, NUMBER.pack(code)))
            self._connection.drop(self)

    def resume(self) -> None:
        """A window has grown, or the socket has room again."""
        if self._pending:
            self._pump()

    def _pump(self) -> None:
        connection, pending = self._connection, self._pending
        while pending:
            room = min(self.send_window, connection.room, connection.frame_limit)
            data = pending[0]
            if room <= 0 and data:
                self.blocked_at = self.blocked_at or connection.now()
                return
            self.blocked_at = None
            if len(data) > room:
                pending[0], data = data[room:], data[:room]
            else:
                pending.popleft()
            self.send_window -= len(data)
            connection.send_window -= len(data)
            connection.put(head(DATA, 0, self.id, len(data)), data)
        if self._last is not None:
            flags = END_HEADERS | END_STREAM
            connection.put(frame(HEADERS, flags, self.id, self._last))
            if not self.is_whole:
                # What it still wants to say is of no interest.
                connection.put(frame(RST_STREAM, 0, self.id, NUMBER.pack(NO_ERROR)))
            connection.drop(self)
