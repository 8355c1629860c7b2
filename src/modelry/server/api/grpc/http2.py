"""The words of HTTP/2 (RFC 7540) that its server's side here uses: frames, codes, limits. Pure."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Kinds of frames.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
#: Flags.
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
#: Codes of errors.
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
ENHANCE_YOUR_CALM = 11
#: Settings.
MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_FIELDS = 3, 4, 5, 6

#: Largest frame that is taken, bytes.
FRAME_LIMIT = 256 << 10
#: A stream's window at first: what may come before its receiver has said anything.
STREAM_WINDOW = 65_535
#: What may be under way on a connection, beyond what its streams allow.
CONNECTION_WINDOW = 16 << 20
#: Streams of a connection at once.
STREAM_LIMIT = 256
#: A header block counts so much at most.
FIELDS_LIMIT = 16 << 10
#: Streams that a client may give up beyond those it waits for.
GIVEN_UP_LIMIT = 1000
LARGEST_WINDOW = (1 << 31) - 1
LAST_STREAM = LARGEST_WINDOW

_HEAD = struct.Struct(">BHBBI")
HEAD_BYTES = _HEAD.size
#: A name and a value of the settings, and a plain number.
SETTING = struct.Struct(">HI")
NUMBER = struct.Struct(">I")


class Broken(Exception):
    """The client does not speak HTTP/2: the connection ends."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, body: bytes = b"") -> bytes:
    """A frame's bytes."""
    return head(kind, flags, stream_id, len(body)) + body


def head(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """The beginning of a frame; so many bytes follow."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id)


def read_head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Size, kind, flags and stream of the frame that begins there."""
    high, low, kind, flags, stream_id = _HEAD.unpack_from(data, at)
    return high << 16 | low, kind, flags, stream_id & LARGEST_WINDOW


def unpadded(body: bytes) -> bytes:
    """The body without its padding; raises `Broken`."""
    if not body or body[0] >= len(body):
        raise Broken(PROTOCOL_ERROR, "padding that is longer than its frame")
    return body[1 : len(body) - body[0]]
