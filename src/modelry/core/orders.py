"""How the deciding side speaks to an agent: JSON orders and replies, each behind its length (4 bytes, big-endian)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import msgspec

from modelry.core.errors import InvalidRequest
from modelry.core.specs import StopReason, WorkerSpec

#: More than any spec or answer; a peer that announces more speaks something else.
LARGEST_MESSAGE_BYTES = 64 << 20
_LENGTH = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Make the epoch known; the reply is an `AgentInfo`."""

    epoch: int


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """Start a worker."""

    epoch: int
    spec: WorkerSpec


class Poll(msgspec.Struct, frozen=True, kw_only=True, tag="poll"):
    """Ask for all workers; the reply is a list of `WorkerStatus`."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Ask a worker to end."""

    epoch: int
    worker_id: str
    reason: StopReason
    grace_s: float


class ReadEvents(msgspec.Struct, frozen=True, kw_only=True, tag="read_events"):
    """Ask for a job's events from an offset on; the reply is an `EventChunk`."""

    worker_id: str
    offset: int
    limit_bytes: int = 1 << 20


class Forget(msgspec.Struct, frozen=True, kw_only=True, tag="forget"):
    """Delete what is left of an ended worker."""

    epoch: int
    worker_id: str


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, tag="shutdown"):
    """Stop all workers and then end; the reply comes at once."""

    grace_s: float


Order = Hello | Start | Poll | Stop | ReadEvents | Forget | Shutdown


class EventChunk(msgspec.Struct, frozen=True, kw_only=True):
    """Whole lines of `events.jsonl`."""

    data: bytes
    next_offset: int


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one order: a value, or an error as `core.errors.to_wire` makes it."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, object] | None = None


def send_message(peer: socket.socket, payload: bytes) -> None:
    """Send one message; raises `OSError` when the peer is gone or does not read."""
    peer.sendall(_LENGTH.pack(len(payload)) + payload)


class MessageReader:
    """Puts the messages of a stream together."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The messages that are whole with this chunk; raises `InvalidRequest` for what is none."""
        self._held += chunk
        while len(self._held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held)
            if length > LARGEST_MESSAGE_BYTES:
                raise InvalidRequest(reason=f"a message of {length} bytes is too long")
            end = _LENGTH.size + length
            if len(self._held) < end:
                return
            message = bytes(self._held[_LENGTH.size : end])
            del self._held[:end]
            yield message
