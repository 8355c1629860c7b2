"""A call's messages as they come, in pieces of any size. Pure.

├ is it packed? (1) ┼ length (4, big-endian) ┼ message ┼ is it packed? ┼ …
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from modelry.core.errors import InvalidRequest
from modelry.server.api.exchange import too_large

PREFIX_BYTES = 5


class Packed(NamedTuple):
    """A message as it came."""

    data: bytes
    #: Compressed, as the call's `grpc-encoding` says.
    is_packed: bool


class Inbox:
    """Pieces in, messages out. No message larger than the limit is ever held."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pieces: list[bytes] = []
        self._held = 0
        #: Of the message under way, with its prefix; 0 before that has come.
        self._size = 0
        self._whole: deque[Packed] = deque()
        #: Bytes of the messages that wait to be taken.
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def missing_bytes(self) -> int:
        """What the message under way needs to be whole, as far as it is known."""
        return self._size - self._held if self._size else 0

    @property
    def is_halfway(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._held > 0

    def feed(self, piece: bytes) -> None:
        """Takes a piece; raises `BodyTooLarge` from a message's prefix on, and `InvalidRequest` for what is none."""
        if not self._held and len(piece) > PREFIX_BYTES:
            size = self._read_size(piece)
            if len(piece) == size:
                self._add(piece)
                return
        self._pieces.append(piece)
        self._held += len(piece)
        while self._held >= (self._size or PREFIX_BYTES):
            held = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            size = self._size or self._read_size(held)
            if len(held) < size:
                self._pieces, self._size = [held], size
                return
            self._add(held[:size])
            rest = held[size:]
            self._pieces, self._held, self._size = [rest] if rest else [], len(rest), 0

    def take(self) -> Packed:
        """The oldest whole message."""
        message = self._whole.popleft()
        self.waiting_bytes -= len(message.data)
        return message

    def _read_size(self, held: bytes) -> int:
        size = int.from_bytes(held[1:PREFIX_BYTES])
        if held[0] > 1:
            raise InvalidRequest(reason="it is no gRPC message")
        if size > self._limit:
            raise too_large(self._limit)
        return PREFIX_BYTES + size

    def _add(self, held: bytes) -> None:
        message = Packed(held[PREFIX_BYTES:], held[0] == 1)
        self._whole.append(message)
        self.waiting_bytes += len(message.data)
