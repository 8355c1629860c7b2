"""Compute on this machine: speaks to the agent of the same home over its Unix socket."""

from __future__ import annotations

import os
import socket
import threading
from typing import TypeVar

import msgspec

from modelry.core.errors import ComputeUnavailable, InvalidRequest, from_wire
from modelry.core.events import Event, decode_events
from modelry.core.home import Home
from modelry.core.orders import (
    EventChunk,
    Forget,
    Hello,
    MessageReader,
    Order,
    Poll,
    ReadEvents,
    Reply,
    Shutdown,
    Start,
    Stop,
    send_message,
)
from modelry.core.specs import AgentInfo, StopReason, WorkerSpec, WorkerStatus

#: How long an agent may take; a fresh one imports its libraries before it answers.
_TIMEOUT_S = 30.0
_encoder = msgspec.json.Encoder()
_reply_decoder = msgspec.json.Decoder(Reply)

Value = TypeVar("Value")


class LocalCompute:
    """A `Backend`; one connection, kept and renewed, usable from several threads."""

    def __init__(self, home: Home, timeout_s: float = _TIMEOUT_S) -> None:
        self._path = home.sockets / "agent.sock"
        self._timeout_s = timeout_s
        self._peer: socket.socket | None = None
        self._lock = threading.Lock()

    def hello(self, epoch: int) -> AgentInfo:
        """See `Backend`."""
        return self._ask(Hello(epoch=epoch), AgentInfo)

    def start(self, epoch: int, spec: WorkerSpec) -> None:
        """See `Backend`."""
        self._ask(Start(epoch=epoch, spec=spec), None)

    def poll(self) -> list[WorkerStatus]:
        """See `Backend`."""
        return self._ask(Poll(), list[WorkerStatus])

    def stop(self, epoch: int, worker_id: str, reason: StopReason, grace_s: float) -> None:
        """See `Backend`."""
        self._ask(Stop(epoch=epoch, worker_id=worker_id, reason=reason, grace_s=grace_s), None)

    def read_events(self, worker_id: str, offset: int) -> tuple[list[Event], int]:
        """See `Backend`."""
        chunk = self._ask(ReadEvents(worker_id=worker_id, offset=offset), EventChunk)
        events, _ = decode_events(chunk.data)
        return events, chunk.next_offset

    def forget(self, epoch: int, worker_id: str) -> None:
        """See `Backend`."""
        self._ask(Forget(epoch=epoch, worker_id=worker_id), None)

    def shutdown(self, grace_s: float) -> None:
        """Have the agent stop all workers and end; it takes no more orders to start."""
        self._ask(Shutdown(grace_s=grace_s), None)

    def close(self) -> None:
        """See `Backend`."""
        with self._lock:
            self._disconnect()

    def _ask(self, order: Order, kind: type[Value] | None) -> Value:
        with self._lock:
            reply = self._exchange(_encoder.encode(order))
        if reply.error is not None:
            raise from_wire(reply.error)
        return msgspec.json.decode(reply.value, type=kind)

    def _exchange(self, message: bytes) -> Reply:
        """One order, one reply. An old connection may be to an agent that is gone: then once more, on a new one."""
        had_connection = self._peer is not None
        try:
            return self._send_and_wait(message)
        except (OSError, InvalidRequest, msgspec.DecodeError) as error:
            self._disconnect()
            if not had_connection or isinstance(error, TimeoutError):
                raise ComputeUnavailable(reason=_reason(error)) from error
        try:
            return self._send_and_wait(message)
        except (OSError, InvalidRequest, msgspec.DecodeError) as error:
            self._disconnect()
            raise ComputeUnavailable(reason=_reason(error)) from error

    def _send_and_wait(self, message: bytes) -> Reply:
        peer = self._connect()
        send_message(peer, message)
        reader = MessageReader()
        while chunk := peer.recv(1 << 16):
            for reply in reader.feed(chunk):
                return _reply_decoder.decode(reply)
        raise ConnectionResetError("the agent closed the connection")

    def _connect(self) -> socket.socket:
        if self._peer is None:
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            peer.settimeout(self._timeout_s)
            try:
                peer.connect(os.fspath(self._path))
            except OSError:
                peer.close()
                raise
            self._peer = peer
        return self._peer

    def _disconnect(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
