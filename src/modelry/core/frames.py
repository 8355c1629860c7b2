"""The language between gateway and replica: small binary frames on one socket. Knows bytes, opens no socket.

    0        4         5      6    7       8            16           20         36
    ├ length ┼ version ┼ kind ┼ op ┼ flags ┼ request id ┼ deadline ms ┼ trace id ┼ body …

Little-endian. The first five bytes keep their place in every version, so that a later version is refused
cleanly. A frame is at most 256 KiB; a longer message goes on in `chunk` frames, and all frames but its last
carry the flag MORE. Messages of one link are interleaved, so a cancel or a small answer never waits behind a
large one. The replica speaks first (`stats`): its version is the one the link uses.

A message may send its first `INITIAL_CREDIT` bytes unasked; for more its reader grants `credit`.
"""

from __future__ import annotations

import struct
from asyncio import WriteTransport
from collections import deque
from enum import IntEnum
from typing import NamedTuple

from modelry.core.errors import FormatTooNew

PROTOCOL = 1
FRAME_LIMIT = 256 * 1024
#: Bytes of one message that may be under way before its reader grants more.
INITIAL_CREDIT = 4 * FRAME_LIMIT

_HEADER = struct.Struct("<IBBBBQI16s")
_CREDIT = struct.Struct("<I")
_STATS = struct.Struct("<IIII")
#: The header of an answer with its stats, in one go.
_ANSWER = struct.Struct("<IBBBBQI16sIIII")
HEADER_SIZE = _HEADER.size
BODY_LIMIT = FRAME_LIMIT - HEADER_SIZE

#: Flag: the message goes on in `chunk` frames.
MORE = 1
#: Flag of a request: run it in a batch of its own.
ALONE = 2

#: Remaining deadlines are 32 bits of milliseconds.
_LONGEST_DEADLINE_MS = 2**32 - 1


class Kind(IntEnum):
    """What a frame is for. →: gateway to replica, ←: replica to gateway."""

    #: → a prediction to make.
    REQUEST = 1
    #: ⇄ more of the message with this id.
    CHUNK = 2
    #: ← the answer: `Stats`, then the payload.
    DONE = 3
    #: ← the refusal: `Stats`, then the error.
    ERROR = 4
    #: → nobody waits for this request any more.
    CANCEL = 5
    #: ← send no new requests; answer `drained` when nothing is under way.
    DRAIN = 6
    #: → nothing is under way and nothing will come.
    DRAINED = 7
    #: → answer with `stats`.
    PING = 8
    #: ← `Stats`; the first frame on a link, then the answer to each ping.
    STATS = 9
    #: ⇄ the reader of this message takes so many bytes more.
    CREDIT = 10
    #: ← this request, sent with ALONE, is what the model works on from now.
    STARTED = 11


class Op(IntEnum):
    """What a request asks of the model."""

    NONE = 0
    #: Tensors or media in, the model's output tensors out.
    PREDICT = 1
    #: A `TaskCall` in, a `TaskAnswer` out: the task's own decoding, running and reading of the outputs.
    TASK = 2
    #: An `ExplainCall` in, an `ExplainAnswer` out.
    EXPLAIN = 3


#: Smaller pieces are cheaper to join than to hand to the kernel one by one.
_WORTH_A_COPY = 32 * 1024

_KINDS = {int(kind): kind for kind in Kind}
_OPS = {int(op) for op in Op}
_STARTS = frozenset({Kind.REQUEST, Kind.DONE, Kind.ERROR})
_NO_TRACE = bytes(16)


class FrameError(Exception):
    """The bytes are not frames; the link is of no more use."""


class Frame(NamedTuple):
    """One frame, parsed."""

    kind: Kind
    request_id: int
    body: bytes = b""
    op: int = Op.NONE
    flags: int = 0
    deadline_ms: int = 0
    trace: bytes = _NO_TRACE


class Stats(NamedTuple):
    """What every answer of a replica says about itself."""

    #: Requests waiting in the replica.
    queue_depth: int = 0
    #: How long this request waited, microseconds.
    queue_us: int = 0
    #: How long its batch was in the runtime, microseconds.
    inference_us: int = 0
    #: Rows that were in its batch.
    batch_rows: int = 0

    def encode(self) -> bytes:
        """16 bytes."""
        return _STATS.pack(*(min(value, _LONGEST_DEADLINE_MS) for value in self))


def split_stats(body: bytes) -> tuple[Stats, memoryview]:
    """The stats at the start of a body, and the rest; raises `FrameError`."""
    if len(body) < _STATS.size:
        raise FrameError(f"an answer of {len(body)} bytes has no stats")
    return Stats(*_STATS.unpack_from(body)), memoryview(body)[_STATS.size :]


def encode_frame(frame: Frame) -> bytes:
    """The frame's bytes."""
    return _head(frame) + frame.body


def _head(frame: Frame) -> bytes:
    kind, request_id, body, op, flags, deadline_ms, trace = frame
    if deadline_ms > _LONGEST_DEADLINE_MS:
        deadline_ms = _LONGEST_DEADLINE_MS
    return _HEADER.pack(len(body), PROTOCOL, kind, op, flags, request_id, deadline_ms, trace)


def credit_frame(request_id: int, size: int) -> Frame:
    """Lets the sender of a message go on."""
    return Frame(Kind.CREDIT, request_id, _CREDIT.pack(size))


class Decoder:
    """Bytes in any portions → frames. After a raise the link must be closed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        #: Fewer bytes than this are no whole frame.
        self._wanted = HEADER_SIZE

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now; raises `FrameError`, or `FormatTooNew` for a later protocol."""
        frames: list[Frame] = []
        if self._parts:
            # Put together once they are whole, and not with each portion that comes.
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return frames
            data = b"".join(self._parts)
            self._parts = []
        at = self._parse(data, frames)
        if at < len(data):
            self._parts = [data[at:] if at else data]
            self._held = len(data) - at
        return frames

    def _parse(self, data: bytes, frames: list[Frame]) -> int:
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            size, version, kind, op, flags, request_id, deadline, trace = _HEADER.unpack_from(
                data, at
            )
            if version > PROTOCOL:
                raise FormatTooNew(file="The peer's frame", version=version, known=PROTOCOL)
            known = _KINDS.get(kind)
            if not version or known is None or op not in _OPS or size > BODY_LIMIT:
                raise FrameError(f"no frame begins with {data[at : at + 8].hex()}")
            start = at + HEADER_SIZE
            if end - start < size:
                self._wanted = HEADER_SIZE + size
                return at
            at = start + size
            frames.append(Frame(known, request_id, data[start:at], op, flags, deadline, trace))
        self._wanted = HEADER_SIZE
        return at


class Message(NamedTuple):
    """A whole message: the head of its first frame, and all of its body."""

    head: Frame
    body: bytes


class Assembler:
    """Frames of messages → whole messages, and the credit that their sender is owed."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[Frame, list[bytes]]] = {}
        #: Bytes held for messages that are not whole yet.
        self.held_bytes = 0

    def take(self, frame: Frame) -> Message | None:
        """The message that this frame completes; raises `FrameError` for a frame out of order.

        A chunk of a message that was dropped is passed over.
        """
        if not self._parts and not frame.flags & MORE:
            return Message(frame, frame.body) if frame.kind in _STARTS else None
        if frame.kind in _STARTS:
            return self._start(frame)
        entry = self._parts.get(frame.request_id)
        if entry is None:
            return None
        head, parts = entry
        parts.append(frame.body)
        self.held_bytes += len(frame.body)
        if frame.flags & MORE:
            return None
        self.drop(frame.request_id)
        return Message(head, b"".join(parts))

    def _start(self, frame: Frame) -> Message | None:
        if frame.request_id in self._parts:
            raise FrameError(f"the message {frame.request_id} begins twice")
        if not frame.flags & MORE:
            return Message(frame, frame.body)
        self._parts[frame.request_id] = (frame, [frame.body])
        self.held_bytes += len(frame.body)
        return None

    def holds(self, request_id: int) -> bool:
        """Whether this message has begun and is not whole."""
        return request_id in self._parts

    def drop(self, request_id: int) -> None:
        """Forgets an unfinished message."""
        entry = self._parts.pop(request_id, None)
        if entry is not None:
            self.held_bytes -= sum(len(part) for part in entry[1])


class _Stream:
    """A long message on its way out."""

    __slots__ = ("body", "credit", "frame", "position")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame._replace(body=b"")
        self.body = memoryview(frame.body)
        self.position = 0
        self.credit = INITIAL_CREDIT

    @property
    def is_done(self) -> bool:
        return self.position >= len(self.body)

    def next_frame(self) -> bytes:
        size = min(BODY_LIMIT, self.credit, len(self.body) - self.position)
        end = self.position + size
        more = MORE if end < len(self.body) else 0
        flags = (self.frame.flags & ~MORE) | more
        piece = self.frame._replace(body=bytes(self.body[self.position : end]), flags=flags)
        self.position = end
        self.credit -= size
        self.frame = Frame(Kind.CHUNK, self.frame.request_id)
        return encode_frame(piece)


class Outbox:
    """What one side of a link has still to write. Short frames go first, long messages take turns."""

    def __init__(self) -> None:
        self._ready: list[bytes] = []
        self._streams: deque[_Stream] = deque()
        self._stalled: dict[int, _Stream] = {}

    @property
    def is_empty(self) -> bool:
        """True if nothing is left to write, not even what waits for credit."""
        return not (self._ready or self._streams or self._stalled)

    @property
    def can_write(self) -> bool:
        """True if `take` has something."""
        return bool(self._ready or self._streams)

    def put(self, frame: Frame) -> None:
        """A message of any length, or a control frame."""
        if len(frame.body) <= BODY_LIMIT:
            self._ready += (_head(frame), frame.body)
        else:
            self._streams.append(_Stream(frame))

    def put_answer(self, request_id: int, stats: Stats, payload: bytes) -> None:
        """A `done` message: what `put` does with stats and payload as its body, with fewer copies."""
        size = _STATS.size + len(payload)
        if size > BODY_LIMIT or max(stats) > _LONGEST_DEADLINE_MS:
            self.put(Frame(Kind.DONE, request_id, stats.encode() + payload))
            return
        head = _ANSWER.pack(size, PROTOCOL, Kind.DONE, Op.NONE, 0, request_id, 0, _NO_TRACE, *stats)
        self._ready += (head, payload)

    def credit(self, frame: Frame) -> None:
        """The reader's leave to go on with one message; raises `FrameError`."""
        if len(frame.body) != _CREDIT.size:
            raise FrameError("a credit frame without an amount")
        amount = _CREDIT.unpack(frame.body)[0]
        stalled = self._stalled.pop(frame.request_id, None)
        if stalled is not None:
            stalled.credit += amount
            self._streams.append(stalled)
            return
        for stream in self._streams:
            if stream.frame.request_id == frame.request_id:
                stream.credit += amount

    def drop(self, request_id: int) -> None:
        """Forgets the rest of a long message."""
        self._stalled.pop(request_id, None)
        if self._streams:
            self._streams = deque(s for s in self._streams if s.frame.request_id != request_id)

    def write(self, transport: WriteTransport, limit_bytes: int = 4 * FRAME_LIMIT) -> None:
        """Writes what `take` gives in one go."""
        pieces = self.take(limit_bytes)
        if any(len(piece) >= _WORTH_A_COPY for piece in pieces):
            transport.writelines(pieces)
        else:
            transport.write(b"".join(pieces))

    def take(self, limit_bytes: int = 4 * FRAME_LIMIT) -> list[bytes]:
        """Bytes to write now: all short frames, then long messages' pieces in turn up to about the limit."""
        frames, self._ready = self._ready, []
        size = 0
        while self._streams and size < limit_bytes:
            stream = self._streams.popleft()
            frames.append(stream.next_frame())
            size += len(frames[-1])
            if stream.is_done:
                continue
            if stream.credit:
                self._streams.append(stream)
            else:
                self._stalled[stream.frame.request_id] = stream
        return frames
