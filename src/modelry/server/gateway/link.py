"""One connection to one replica: frames out, answers in. Decides nothing; the dispatch does."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

import msgspec

from modelry.core.errors import FormatTooNew, ModelryError, from_wire
from modelry.core.frames import (
    ALONE,
    MORE,
    Assembler,
    Decoder,
    Frame,
    FrameError,
    Kind,
    Outbox,
    Stats,
    credit_frame,
    split_stats,
)
from modelry.core.manifests import ModelManifest
from modelry.core.records import Route
from modelry.server.gateway.dispatch import Dispatch, Pending, Reply

log = logging.getLogger(__name__)

#: A replica that has answered no ping for so long gets no new requests.
SILENCE_LIMIT_S = 5.0
#: After so many turns without an answer it is given up, and what it was given goes elsewhere.
SILENT_TURNS = 10

_error_decoder = msgspec.msgpack.Decoder(dict[str, Any])


class Link(asyncio.Protocol):
    """A replica, connected. Usable from its first word on."""

    def __init__(
        self,
        dispatch: Dispatch,
        route: Route,
        replica_id: str,
        version: int,
        manifest: ModelManifest,
    ) -> None:
        self.replica_id = replica_id
        self.requests: dict[int, Pending] = {}
        #: Done when the connection has ended.
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dispatch = dispatch
        self._deployment_id = route.deployment_id
        self._model = route.model
        self._version = version
        self._manifest = manifest
        self._queue_depth = 0
        self._is_open = False
        self._is_draining = False
        self._is_retired = False
        self._is_paused = False
        self._pinged_at: float | None = None
        self._silent_turns = 0
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._assembler = Assembler()
        self._outbox = Outbox()
        self._is_flush_due = False

    def __repr__(self) -> str:
        state = "open" if self._is_open else "closed"
        return f"<Link {self.replica_id} v{self._version} {state}, {self.in_flight} in flight>"

    @property
    def deployment_id(self) -> str:
        return self._deployment_id

    @property
    def version(self) -> int:
        return self._version

    @property
    def in_flight(self) -> int:
        return len(self.requests)

    @property
    def queue_depth(self) -> int:
        return self._queue_depth

    @property
    def is_usable(self) -> bool:
        return (
            self._is_open
            and not self._is_draining
            and not self._is_retired
            and (self._pinged_at is None or time.monotonic() - self._pinged_at < SILENCE_LIMIT_S)
        )

    @property
    def is_asked(self) -> bool:
        """Whether an answer to a ping is on its way."""
        return self._pinged_at is not None

    # What the dispatch asks for.

    def send(self, request: Pending) -> None:
        remaining_s = request.deadline_at - time.monotonic()
        frame = Frame(
            Kind.REQUEST,
            request.id,
            request.payload,
            op=request.op,
            flags=ALONE if request.alone else 0,
            deadline_ms=max(1, int(remaining_s * 1000)),
            trace=request.trace,
        )
        self._put(frame)

    def cancel(self, request_id: int) -> None:
        self._outbox.drop(request_id)
        self._assembler.drop(request_id)
        self._put(Frame(Kind.CANCEL, request_id))

    def idle(self) -> None:
        if self._is_draining:
            self._put(Frame(Kind.DRAINED, 0))
        elif self._is_retired:
            self.close()

    # What the gateway asks for.

    def ping(self) -> None:
        """Asks for a sign of life, one question at a time; once a turn, about every second.

        Who stays silent is given up: turns count, not seconds, so that after a pause of this process nobody is called
        silent before he could speak.
        """
        if self._is_open and self._pinged_at is None:
            self._pinged_at, self._silent_turns = time.monotonic(), 0
            self._put(Frame(Kind.PING, 0))
        elif self._is_open:
            self._silent_turns += 1
            if self._silent_turns >= SILENT_TURNS and self._transport is not None:
                log.warning("replica given up id=%s: it answers nothing", self.replica_id)
                self._transport.abort()

    def retire(self) -> None:
        """Gives it no new requests and closes the connection after the last answer."""
        self._is_retired = True
        if not self.requests and not self._is_draining:
            self.close()

    def close(self) -> None:
        """Ends the connection; what is under way counts as lost."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    # What the connection brings.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's without being its subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._transport = None
        self._dispatch.lost(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._schedule_flush()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except (FrameError, FormatTooNew, ModelryError) as error:
            log.error("link broken replica=%s reason=%s", self.replica_id, error)
            if self._transport is not None:
                self._transport.abort()

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.DONE | Kind.ERROR | Kind.CHUNK:
                self._take_answer(frame)
            case Kind.STATS:
                self._queue_depth = split_stats(frame.body)[0].queue_depth
                self._pinged_at = None
                if not self._is_open:
                    self._is_open = True
                    self._dispatch.opened(self)
            case Kind.STARTED:
                self._dispatch.started(self, frame.request_id)
            case Kind.CREDIT:
                self._outbox.credit(frame)
                self._schedule_flush()
            case Kind.DRAIN:
                self._is_draining = True
                if not self.requests:
                    self.idle()
            case _:
                raise FrameError(f"a replica does not send {frame.kind.name}")

    def _take_answer(self, frame: Frame) -> None:
        if frame.request_id not in self.requests:
            self._assembler.drop(frame.request_id)
            return
        message = self._assembler.take(frame)
        if message is None:
            if frame.flags & MORE:
                self._put(credit_frame(frame.request_id, len(frame.body)))
            return
        self._outbox.drop(frame.request_id)
        stats, payload = split_stats(message.body)
        self._queue_depth = stats.queue_depth
        self._dispatch.answered(self, frame.request_id, self._read(message.head, stats, payload))

    def _read(self, head: Frame, stats: Stats, payload: memoryview) -> Reply | ModelryError:
        if head.kind is Kind.DONE:
            return Reply(payload, stats, self._model, self._version, self._manifest)
        try:
            return from_wire(_error_decoder.decode(payload))
        except msgspec.DecodeError as error:
            raise FrameError(f"an unreadable error ({error})") from None

    # Many frames, one write.

    def _put(self, frame: Frame) -> None:
        self._outbox.put(frame)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_flush_due and not self._is_paused:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._transport is None or self._transport.is_closing():
            return
        while self._outbox.can_write and not self._is_paused:
            self._outbox.write(self._transport)
