"""The agent's loop: one thread waits for orders, for workers that end, for signals and for time to pass."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from modelry.core.bell import Bell
from modelry.core.durable import make_private, take_lock
from modelry.core.errors import InternalError, InvalidRequest, ModelryError, StorageFull, to_wire
from modelry.core.home import Home
from modelry.core.orders import MessageReader, Order, Reply, send_message
from modelry.core.processes import adopt_orphans
from modelry.worker.agent.roster import Roster
from modelry.worker.agent.starting import Starter
from modelry.worker.agent.worker import Worker

#: Between two looks at memory and time limits.
LOOK_S = 1.0
#: A client that does not read its reply for so long is let go.
_SEND_TIMEOUT_S = 5.0
_AFTER_TROUBLE_S = 0.2
#: How long an agent waits for its predecessor, which got SIGTERM, to leave.
_PREDECESSOR_S = 10.0
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Order)


def serve(home: Home, starter: Starter, bell: Bell, look_s: float = LOOK_S) -> int:
    """Be the agent; the exit status."""
    make_private(home.run)
    make_private(home.sockets)
    if not _become_only_agent(home.run / "agent.lock"):
        print("Another agent serves this home.", file=sys.stderr)
        return 1
    adopt_orphans()
    # The door is open before the slow imports: early orders wait in its backlog.
    door = open_door(home.sockets / "agent.sock")
    starter.warm_up()
    roster = Roster(home, starter, bell)
    roster.adopt()
    Server(roster, door, look_s).run()
    # The lock is still held: no successor can have put its own door there.
    (home.sockets / "agent.sock").unlink(missing_ok=True)
    return 0


def open_door(path: Path) -> socket.socket:
    """The socket that orders come to. It takes the place of an earlier one only once somebody listens at it.

    Whoever had the place before is dead, for the caller holds the agent's lock.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    try:
        door.bind(os.fspath(draft))
    finally:
        os.umask(old_mask)
    door.listen(64)
    door.setblocking(False)
    draft.rename(path)
    return door


class Server:
    """Serves until a shutdown is complete or SIGTERM says to leave the workers to the next agent."""

    def __init__(self, roster: Roster, door: socket.socket, look_s: float = LOOK_S) -> None:
        self._roster = roster
        self._door = door
        self._look_s = look_s
        self._next_look = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._readers: dict[socket.socket, MessageReader] = {}
        self._watched: dict[int, Worker] = {}
        self._is_leaving = False

    def run(self) -> None:
        """The loop."""
        self._selector.register(self._door, selectors.EVENT_READ, self._accept)
        self._listen_to_signals()
        while not self._is_leaving and not self._roster.is_done:
            self._watch_workers()
            for key, _ in self._selector.select(self._patience_s()):
                key.data(key.fileobj)
            self._pass_time()

    def _listen_to_signals(self) -> None:
        """Signals only wake the loop; nothing happens inside a handler."""
        self._wake_up, alarm = socket.socketpair()
        self._wake_up.setblocking(False)
        alarm.setblocking(False)
        self._alarm = alarm
        self._selector.register(self._wake_up, selectors.EVENT_READ, self._hear)
        signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._leave)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._is_leaving = True

    def _hear(self, wake_up: socket.socket) -> None:
        with suppress(BlockingIOError):
            while wake_up.recv(256):
                pass

    def _patience_s(self) -> float:
        deadline = self._roster.next_deadline()
        until = self._next_look if deadline is None else min(self._next_look, deadline)
        return max(0.0, until - time.monotonic())

    def _watch_workers(self) -> None:
        """Have exactly the process descriptors of living workers in the selector."""
        for pidfd, worker in list(self._watched.items()):
            if worker.outcome is not None:
                self._selector.unregister(pidfd)
                del self._watched[pidfd]
                # Closed only now: until here nobody else could get its number.
                worker.let_go()
        for worker in self._roster.living:
            if worker.pidfd is not None and worker.pidfd not in self._watched:
                self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda pidfd: None)
                self._watched[worker.pidfd] = worker

    def _pass_time(self) -> None:
        now = time.monotonic()
        look = now >= self._next_look
        if look:
            self._next_look = now + self._look_s
        try:
            self._roster.enforce(look)
            self._roster.settle_ended()
        except OSError as error:
            # A full disk, most likely: tried again, but not as fast as the loop turns, and in few words.
            print(f"not written, tried again: {error}", file=sys.stderr)
            time.sleep(_AFTER_TROUBLE_S)

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):
            peer, _ = door.accept()
            peer.settimeout(_SEND_TIMEOUT_S)
            self._readers[peer] = MessageReader()
            self._selector.register(peer, selectors.EVENT_READ, self._receive)

    def _receive(self, peer: socket.socket) -> None:
        try:
            chunk = peer.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError
            for message in self._readers[peer].feed(chunk):
                send_message(peer, _encoder.encode(self._answer(message)))
        except (OSError, InvalidRequest):
            self._selector.unregister(peer)
            del self._readers[peer]
            peer.close()

    def _answer(self, message: bytes) -> Reply:
        try:
            value = self._roster.obey(_decoder.decode(message))
            return Reply(value=msgspec.Raw(_encoder.encode(value)))
        except msgspec.DecodeError as error:
            return Reply(error=to_wire(InvalidRequest(reason=str(error))))
        except ModelryError as error:
            return Reply(error=to_wire(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                return Reply(error=to_wire(StorageFull(place="the run folder")))
            traceback.print_exc()
            return Reply(error=to_wire(InternalError(reason=repr(error), request_id="of the log")))


def _become_only_agent(lock: Path) -> bool:
    """Whether the lock could be taken; it is held until the process ends."""
    deadline = time.monotonic() + _PREDECESSOR_S
    while take_lock(lock) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
