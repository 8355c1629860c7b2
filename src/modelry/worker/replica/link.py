"""One gateway's connection to a replica: requests in, answers out. Computes nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol, cast

import msgspec

from modelry.core.errors import FormatTooNew, ModelryError, Overloaded, to_wire
from modelry.core.frames import (
    ALONE,
    MORE,
    Assembler,
    Decoder,
    Frame,
    FrameError,
    Kind,
    Message,
    Outbox,
    Stats,
    credit_frame,
)
from modelry.worker.batching import Answer, Work

log = logging.getLogger(__name__)

#: Requests that are not whole yet may hold so many bytes of one link's memory.
HELD_LIMIT_BYTES = 256 << 20


class Desk(Protocol):
    """What a link needs of its replica."""

    def submit(self, work: Work) -> None:
        """Queues a request; raises `Overloaded`."""

    def overloaded(self) -> Overloaded:
        """The refusal for a request there is no memory for."""

    def stats(self) -> Stats:
        """The replica's state outside of any answer."""

    def joined(self, link: GatewayLink) -> None:
        """A gateway has connected."""

    def left(self, link: GatewayLink) -> None:
        """A gateway has gone."""

    def look_for_end(self) -> None:
        """Something was finished; perhaps everything."""


class GatewayLink(asyncio.Protocol):
    """One gateway's connection: takes its requests, writes its answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._assembler = Assembler()
        self._outbox = Outbox()
        self._works: dict[int, Work] = {}
        self._is_flush_due = False
        self._is_paused = False
        #: The gateway has promised to send nothing more.
        self.is_drained = False

    @property
    def is_idle(self) -> bool:
        """Nothing under way and nothing left to write."""
        return not self._works and self._outbox.is_empty

    def put(self, frame: Frame) -> None:
        """Writes a frame soon, together with others."""
        self._outbox.put(frame)
        self._schedule_flush()

    def answer(self, answer: Answer) -> None:
        """Writes the answer to one of its requests, unless it was cancelled."""
        work = answer.work
        if self._works.pop(work.request_id, None) is None:
            return
        if isinstance(answer.outcome, ModelryError):
            self._refuse(work.request_id, answer.outcome, answer.stats)
            return
        self._outbox.put_answer(work.request_id, answer.stats, answer.outcome)
        self._schedule_flush()

    def close(self) -> None:
        """Ends the connection after what is written."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's without being its subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self._desk.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for work in self._works.values():
            work.is_cancelled = True
        self._works.clear()
        self._desk.left(self)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._schedule_flush()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except (FrameError, FormatTooNew) as error:
            log.error("link refused reason=%s", error)
            if self._transport is not None:
                self._transport.abort()

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.REQUEST | Kind.CHUNK:
                self._take_request(frame)
            case Kind.CANCEL:
                self._cancel(frame.request_id)
            case Kind.CREDIT:
                self._outbox.credit(frame)
                self._schedule_flush()
            case Kind.PING:
                self.put(Frame(Kind.STATS, 0, self._desk.stats().encode()))
            case Kind.DRAINED:
                self.is_drained = True
                self._desk.look_for_end()
            case _:
                raise FrameError(f"a gateway does not send {frame.kind.name}")

    def _take_request(self, frame: Frame) -> None:
        message = self._assembler.take(frame)
        if message is not None:
            self._accept(message)
        elif frame.flags & MORE and self._assembler.holds(frame.request_id):
            if self._assembler.held_bytes > HELD_LIMIT_BYTES:
                self._assembler.drop(frame.request_id)
                self._refuse(frame.request_id, self._desk.overloaded(), self._desk.stats())
            else:
                self.put(credit_frame(frame.request_id, len(frame.body)))

    def _accept(self, message: Message) -> None:
        head = message.head
        now = time.monotonic()
        work = Work(
            message.body,
            op=head.op,
            sender=self,
            request_id=head.request_id,
            deadline_at=now + head.deadline_ms / 1000 if head.deadline_ms else None,
            alone=bool(head.flags & ALONE),
        )
        try:
            self._desk.submit(work)
        except Overloaded as error:
            self._refuse(head.request_id, error, self._desk.stats())
        else:
            self._works[head.request_id] = work

    def _cancel(self, request_id: int) -> None:
        self._assembler.drop(request_id)
        self._outbox.drop(request_id)
        work = self._works.pop(request_id, None)
        if work is not None:
            work.is_cancelled = True

    def _refuse(self, request_id: int, error: ModelryError, stats: Stats) -> None:
        body = stats.encode() + msgspec.msgpack.encode(to_wire(error))
        self.put(Frame(Kind.ERROR, request_id, body))

    def _schedule_flush(self) -> None:
        if not self._is_flush_due and not self._is_paused:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is waiting, in one write."""
        self._is_flush_due = False
        if self._transport is None or self._transport.is_closing():
            return
        while self._outbox.can_write and not self._is_paused:
            self._outbox.write(self._transport)
        self._desk.look_for_end()
