"""The server's side of one HTTP/2 connection: frames, streams, flow control. Knows no gRPC and no keys.

    bytes ──frames──► Stream ──headers, pieces, end──► Receiver
    Receiver ──head, data, trailers──► Stream ──as the windows allow──► bytes, one write for each turn of the loop

A stream's window grows only when its receiver says so: what nobody has asked for stays with the client. While the
client does not read, nothing more of it is read either.
"""

from __future__ import annotations

import asyncio
from typing import cast

from modelry.server.api.grpc import http2
from modelry.server.api.grpc.hpack import Decoder, HpackError
from modelry.server.api.grpc.http2 import (
    ACK,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FIELDS_LIMIT,
    FLOW_CONTROL_ERROR,
    FRAME_LIMIT,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD_BYTES,
    HEADERS,
    LARGEST_WINDOW,
    LAST_STREAM,
    NO_ERROR,
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_LIMIT,
    WINDOW_UPDATE,
    Broken,
    frame,
    read_head,
    unpadded,
)
from modelry.server.api.grpc.stream import Accept, Stream

_PRIORITY_BYTES = 5


class Connection(asyncio.Protocol):
    """One client. `accept` is asked about each request; `connections` holds all that are open."""

    def __init__(self, accept: Accept, connections: set[Connection]) -> None:
        self._accept = accept
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.peer = ""
        self.streams: dict[int, Stream] = {}
        #: What may still be sent, by the client's word.
        self.send_window = 65_535
        self.frame_limit = 16_384
        self._stream_window = 65_535
        self._receive_window = CONNECTION_WINDOW
        self._decoder = Decoder(FIELDS_LIMIT)
        self._rest = b""
        self._is_greeted = False
        #: The block whose end has not come: stream, flags of its first frame, pieces.
        self._block: tuple[int, int, list[bytes]] | None = None
        self._last_id = 0
        #: No stream after this one is taken.
        self._final_id = LAST_STREAM
        self._given_up = 0
        self._out: list[bytes | memoryview] = []
        self._is_flush_due = False
        self._is_paused = False
        #: By the loop's clock: the last bytes that came, and that the socket took.
        self.heard_at = self.moved_at = self._loop.time()

    # What streams ask for.

    @property
    def room(self) -> int:
        """Bytes of data that may be handed to the socket now."""
        return 0 if self._is_paused else self.send_window

    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def can_send(self, size: int) -> bool:
        """Whether so much goes out in one frame now."""
        return size <= self.frame_limit and size <= self.room

    def put(self, *pieces: bytes | memoryview) -> None:
        """Writes at the end of this turn of the loop, with all else that is to be written."""
        self._out += pieces
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def drop(self, stream: Stream) -> None:
        """Both sides have said all there is to say."""
        self._forget(stream)
        if self._given_up:
            self._given_up -= 1

    # What the server asks for.

    def say_farewell(self) -> None:
        """Asks the client to open no more streams here; those on their way are still taken."""
        self.put(frame(GOAWAY, 0, 0, NUMBER.pack(LAST_STREAM) + NUMBER.pack(NO_ERROR)))

    def leave(self) -> None:
        """Takes no more streams, and ends with the last one."""
        if self._final_id == LAST_STREAM:
            self._final_id = self._last_id
            self.put(frame(GOAWAY, 0, 0, NUMBER.pack(self._last_id) + NUMBER.pack(NO_ERROR)))
        if not self.streams:
            self.close()

    def look(self, now: float, limit_s: float) -> None:
        """Passes the question on to what takes the streams."""
        for stream in list(self.streams.values()):
            if stream.receiver is not None:
                stream.receiver.look(now, limit_s)

    def ping(self) -> None:
        """Asks for a sign of life."""
        self.put(frame(PING, 0, 0, bytes(8)))

    def close(self) -> None:
        """Ends the connection after what was written."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_stuck(self) -> bool:
        """Whether the client does not read what was sent."""
        return self._is_paused

    @property
    def is_halfway(self) -> bool:
        """Whether the beginning, or a header block, is not whole yet."""
        return not self._is_greeted or self._block is not None

    # What the socket brings.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's without being its subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else ""
        settings = {
            http2.MAX_STREAMS: STREAM_LIMIT,
            http2.MAX_FRAME: FRAME_LIMIT,
            http2.MAX_FIELDS: FIELDS_LIMIT,
        }
        body = b"".join([SETTING.pack(*setting) for setting in settings.items()])
        more = NUMBER.pack(CONNECTION_WINDOW - 65_535)
        self.put(frame(SETTINGS, 0, 0, body) + frame(WINDOW_UPDATE, 0, 0, more))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.is_over = True
            if stream.receiver is not None:
                stream.receiver.gone()

    def pause_writing(self) -> None:
        self._is_paused = True
        self.moved_at = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_paused = False
        self.moved_at = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._resume_streams()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        if self._rest:
            data = self._rest + data
        try:
            self._rest = data[self._read(data) :]
        except (Broken, HpackError) as error:
            code = error.code if isinstance(error, Broken) else http2.COMPRESSION_ERROR
            self._break(code, str(error))

    def _break(self, code: int, reason: str) -> None:
        self._rest = b""
        numbers = NUMBER.pack(self._last_id) + NUMBER.pack(code)
        self.put(frame(GOAWAY, 0, 0, numbers + reason.encode()))
        self.close()

    def _read(self, data: bytes) -> int:
        """Takes all frames that are whole; where the rest begins."""
        at, end = 0, len(data)
        if not self._is_greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise Broken(PROTOCOL_ERROR, "this port speaks HTTP/2, as gRPC does")
            if end < len(PREFACE):
                return 0
            self._is_greeted, at = True, len(PREFACE)
        while end - at >= HEAD_BYTES:
            size, kind, flags, stream_id = read_head(data, at)
            if size > FRAME_LIMIT:
                raise Broken(FRAME_SIZE_ERROR, "a frame that is too large")
            start = at + HEAD_BYTES
            if end - start < size:
                break
            at = start + size
            self._take(kind, flags, stream_id, data[start:at])
            if self._transport is None or self._transport.is_closing():
                return end
        return at

    def _take(self, kind: int, flags: int, stream_id: int, body: bytes) -> None:
        if self._block is not None and (kind != CONTINUATION or stream_id != self._block[0]):
            raise Broken(PROTOCOL_ERROR, "a header block without an end")
        if kind == HEADERS:
            self._take_headers(flags, stream_id, body)
        elif kind == DATA:
            self._take_data(flags, stream_id, body)
        elif kind == WINDOW_UPDATE:
            self._take_window(stream_id, body)
        elif kind == SETTINGS:
            self._take_settings(flags, stream_id, body)
        elif kind == PING:
            if stream_id or len(body) != 8:
                raise Broken(FRAME_SIZE_ERROR, "no ping")
            if not flags & ACK:
                self.put(frame(PING, ACK, 0, body))
        elif kind == RST_STREAM:
            self._take_reset(stream_id, body)
        elif kind == CONTINUATION:
            self._take_continuation(flags, body)
        elif kind == PUSH_PROMISE:
            raise Broken(PROTOCOL_ERROR, "clients promise nothing")
        # Priorities mean nothing here, a client's farewell needs no answer, and other kinds are to be passed over.

    def _take_headers(self, flags: int, stream_id: int, body: bytes) -> None:
        if not stream_id % 2:
            raise Broken(PROTOCOL_ERROR, "no stream of a client's")
        if flags & PADDED:
            body = unpadded(body)
        if flags & PRIORITIZED:
            if len(body) < _PRIORITY_BYTES:
                raise Broken(FRAME_SIZE_ERROR, "a priority that is cut off")
            body = body[_PRIORITY_BYTES:]
        if flags & END_HEADERS:
            self._open(stream_id, flags, body)
        else:
            self._block = (stream_id, flags, [body])

    def _take_continuation(self, flags: int, body: bytes) -> None:
        if self._block is None:
            raise Broken(PROTOCOL_ERROR, "a header block without a beginning")
        stream_id, first_flags, pieces = self._block
        pieces.append(body)
        # Coded fields are seldom longer than plain ones, and never end after many small pieces.
        if sum(map(len, pieces)) > FIELDS_LIMIT or len(pieces) > 32:
            raise Broken(ENHANCE_YOUR_CALM, "too many fields")
        if flags & END_HEADERS:
            self._block = None
            self._open(stream_id, first_flags, b"".join(pieces))

    def _open(self, stream_id: int, flags: int, block: bytes) -> None:
        fields = self._decoder.decode(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            if stream.is_whole or not flags & END_STREAM:
                raise Broken(PROTOCOL_ERROR, "fields in the middle of a request")
            self._end(stream)
            return
        if stream_id <= self._last_id or stream_id > self._final_id:
            # Trailers of a request that was answered before its end; or a stream that the farewell told is not taken.
            return
        self._last_id = stream_id
        if len(self.streams) >= STREAM_LIMIT:
            self.put(frame(RST_STREAM, 0, stream_id, NUMBER.pack(REFUSED_STREAM)))
            return
        stream = self.streams[stream_id] = Stream(self, stream_id, self._stream_window)
        stream.is_whole = bool(flags & END_STREAM)
        stream.receiver = self._accept(stream, fields)
        if stream.is_whole and stream_id in self.streams:
            stream.receiver.end()

    def _take_data(self, flags: int, stream_id: int, body: bytes) -> None:
        size = len(body)
        self._receive_window -= size
        if self._receive_window < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more than the window allows")
        if self._receive_window < CONNECTION_WINDOW // 2:
            more = CONNECTION_WINDOW - self._receive_window
            self._receive_window = CONNECTION_WINDOW
            self.put(frame(WINDOW_UPDATE, 0, 0, NUMBER.pack(more)))
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_begun(stream_id)
            return
        if stream.is_whole:
            raise Broken(STREAM_CLOSED, "data after the end")
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise Broken(FLOW_CONTROL_ERROR, "more than the stream's window allows")
        if flags & PADDED:
            plain = unpadded(body)
            stream.allow(size - len(plain))
            body = plain
        assert stream.receiver is not None
        if body:
            stream.receiver.take(body)
        if flags & END_STREAM and stream_id in self.streams:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        stream.is_whole = True
        assert stream.receiver is not None
        stream.receiver.end()

    def _take_reset(self, stream_id: int, body: bytes) -> None:
        if len(body) != 4:
            raise Broken(FRAME_SIZE_ERROR, "no reset")
        self._check_begun(stream_id)
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        self._forget(stream)
        assert stream.receiver is not None
        stream.receiver.gone()
        self._given_up += 1
        if self._given_up > http2.GIVEN_UP_LIMIT:
            raise Broken(ENHANCE_YOUR_CALM, "too many calls that nobody waits for")

    def _take_window(self, stream_id: int, body: bytes) -> None:
        if len(body) != 4:
            raise Broken(FRAME_SIZE_ERROR, "no window")
        more = NUMBER.unpack(body)[0] & LARGEST_WINDOW
        if not stream_id:
            self.send_window += more
            if not more or self.send_window > LARGEST_WINDOW:
                raise Broken(FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR, "no window")
            self._resume_streams()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_begun(stream_id)
            return
        stream.send_window += more
        if not more or stream.send_window > LARGEST_WINDOW:
            stream.reset(FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR)
            assert stream.receiver is not None
            stream.receiver.gone()
            return
        stream.resume()

    def _take_settings(self, flags: int, stream_id: int, body: bytes) -> None:
        if stream_id or len(body) % 6 or (flags & ACK and body):
            raise Broken(FRAME_SIZE_ERROR, "no settings")
        if flags & ACK:
            return
        for name, value in SETTING.iter_unpack(body):
            if name == http2.INITIAL_WINDOW:
                if value > LARGEST_WINDOW:
                    raise Broken(FLOW_CONTROL_ERROR, "no window")
                for stream in self.streams.values():
                    stream.send_window += value - self._stream_window
                self._stream_window = value
            elif name == http2.MAX_FRAME:
                if not 16_384 <= value < 1 << 24:
                    raise Broken(PROTOCOL_ERROR, "no size of a frame")
                self.frame_limit = value
        self.put(frame(SETTINGS, ACK, 0))
        self._resume_streams()

    def _forget(self, stream: Stream) -> None:
        stream.is_over = True
        self.streams.pop(stream.id, None)
        if not self.streams and self._final_id != LAST_STREAM:
            self._loop.call_soon(self.close)

    def _check_begun(self, stream_id: int) -> None:
        """Frames may still come for streams that have ended, and for those a farewell refused, but for no others."""
        if not stream_id or self._last_id < stream_id <= self._final_id:
            raise Broken(PROTOCOL_ERROR, "a frame of no stream")

    def _resume_streams(self) -> None:
        for stream in list(self.streams.values()):
            stream.resume()

    def _flush(self) -> None:
        self._is_flush_due = False
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))
