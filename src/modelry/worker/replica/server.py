"""The main thread of a replica: sockets, signals, signs of life, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from modelry.core.errors import Overloaded
from modelry.core.frames import Frame, Kind, Stats
from modelry.core.home import Home
from modelry.core.specs import ReplicaSpec
from modelry.worker.batching import Answer, Batcher, Work
from modelry.worker.orphans import agent_lives
from modelry.worker.replica.link import GatewayLink
from modelry.worker.replica.model import ServedModel

log = logging.getLogger(__name__)

#: Between two signs of life.
SIGN_S = 10.0
#: A runtime call that takes longer is no sign of life.
LONGEST_CALL_S = 30.0
#: A draining replica waits so long for its gateways.
DRAIN_GRACE_S = 60.0


class ReplicaServer:
    """The main thread: sockets, signals, signs of life, and the end."""

    def __init__(self, spec: ReplicaSpec, model: ServedModel, home: Home, lock_fd: int) -> None:
        self._spec = spec
        self._home = home
        self._lock_fd = lock_fd
        self._loop = asyncio.get_running_loop()
        self._links: set[GatewayLink] = set()
        self._is_draining = False
        self._ended = asyncio.Event()
        self._socket = home.sockets / f"{spec.replica_id}.sock"
        self._batcher = Batcher(
            model.runtime,
            model.open,
            lambda answers: self._from_thread(self._answer, answers),
            on_alone=self._announce,
            max_batch=model.max_batch,
            max_queue=spec.max_queue,
            name=spec.deployment,
        )

    async def run(self, on_ready: Callable[[str], None], *, orphan_patience_s: float) -> None:
        """Serves until it was asked to end and all is answered; `on_ready` hears the address."""
        self._home.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        self._batcher.start()
        server = await self._loop.create_unix_server(lambda: GatewayLink(self), self._socket)
        self._loop.add_signal_handler(signal.SIGTERM, self.drain)
        signs = asyncio.create_task(self._show_life(orphan_patience_s))
        on_ready(f"unix:{self._socket}")
        await self._ended.wait()
        signs.cancel()
        server.close()
        for link in list(self._links):
            link.close()
        self._batcher.close()
        # The transports' last bytes and their farewells take one or two turns of the loop.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while self._links:
                    await asyncio.sleep(0.001)

    def drain(self) -> None:
        """Take no new links, tell the present ones, end when all is answered or the grace is over."""
        if self._is_draining:
            return
        self._is_draining = True
        log.info("draining replica=%s", self._spec.replica_id)
        self._socket.unlink(missing_ok=True)
        for link in self._links:
            link.put(Frame(Kind.DRAIN, 0))
        self._loop.call_later(DRAIN_GRACE_S, self._ended.set)
        self.look_for_end()

    def joined(self, link: GatewayLink) -> None:
        """A gateway has connected; the replica speaks first."""
        self._links.add(link)
        link.put(Frame(Kind.STATS, 0, self.stats().encode()))
        if self._is_draining:
            link.put(Frame(Kind.DRAIN, 0))
        # At once: a peer that sends nonsense is cut off, but hears first which protocol is spoken here.
        link.flush()

    def left(self, link: GatewayLink) -> None:
        """A gateway has gone."""
        self._links.discard(link)
        self.look_for_end()

    def look_for_end(self) -> None:
        """Ends the drain if every gateway has answered `drained` and nothing is under way."""
        if self._is_draining and all(link.is_drained and link.is_idle for link in self._links):
            self._ended.set()

    def submit(self, work: Work) -> None:
        """Queues a request; raises `Overloaded`."""
        self._batcher.submit(work)

    def stats(self) -> Stats:
        """The replica's state outside of any answer."""
        return Stats(queue_depth=self._batcher.depth)

    def overloaded(self) -> Overloaded:
        """The refusal for a request there is no memory for."""
        return Overloaded(name=self._spec.deployment, queued=self._batcher.depth)

    def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            answer.work.sender.answer(answer)

    def _announce(self, work: Work) -> None:
        """Says, before it happens, that this request runs alone; so that a crash has one culprit."""
        told = threading.Event()

        def tell() -> None:
            if not work.is_cancelled:
                work.sender.put(Frame(Kind.STARTED, work.request_id))
                work.sender.flush()
            told.set()

        self._from_thread(tell)
        told.wait(1.0)

    def _from_thread(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody is there to be told.
            self._loop.call_soon_threadsafe(call, *arguments)

    async def _show_life(self, orphan_patience_s: float) -> None:
        """Touches the lock file while all is well, and drains when no agent has lived for a while."""
        agent_seen = time.monotonic()
        while True:
            if self._batcher.busy_s < LONGEST_CALL_S:
                os.utime(self._lock_fd)
            if agent_lives(self._home):
                agent_seen = time.monotonic()
            elif time.monotonic() - agent_seen > orphan_patience_s:
                self.drain()
            await asyncio.sleep(min(SIGN_S, orphan_patience_s / 4))
