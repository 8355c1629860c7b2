"""All workers of one home, what each order does to them, and what time does."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from modelry.core.bell import Bell
from modelry.core.errors import InUse, NotFound, ShuttingDown
from modelry.core.home import Home
from modelry.core.orders import (
    EventChunk,
    Forget,
    Hello,
    Order,
    Poll,
    ReadEvents,
    Shutdown,
    Start,
    Stop,
)
from modelry.core.specs import AgentInfo, StopReason, WorkerSpec, WorkerStatus
from modelry.worker.agent.census import take_census
from modelry.worker.agent.epoch import EpochGuard
from modelry.worker.agent.starting import Starter
from modelry.worker.agent.worker import Worker
from modelry.worker.folder import WorkerFolder

_TRASH = ".trash-"
#: Between two looks more time than this has passed only if the agent did not run.
_LONGEST_LOOK_S = 2.0
#: Between two looks at the memory of replicas that have no limit.
_CALM_COUNT_S = 10.0
#: What a worker gets that an earlier agent asked to stop; when it did so is not known.
_ADOPTED_GRACE_S = 30.0
#: Looks at processes that were killed and have not gone yet, and the pause between two.
_LAST_LOOKS = 200
_LAST_LOOK_PAUSE_S = 0.005


class Roster:
    """The one owner of all workers; not for use by several threads."""

    def __init__(
        self,
        home: Home,
        starter: Starter,
        bell: Bell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._starter = starter
        self._bell = bell
        self._clock = clock
        self._epoch = EpochGuard(home.run / "epoch")
        self._listened_at = clock()
        self._counted_at = -_CALM_COUNT_S
        self.workers: dict[str, Worker] = {}
        #: Set by the order to shut down: nothing starts any more, and the agent ends with the last worker.
        self.is_closing = False

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.outcome is None]

    @property
    def is_done(self) -> bool:
        """Whether a shutdown is complete."""
        return self.is_closing and not self.living

    def adopt(self) -> None:
        """Take over what earlier agents started: the living go on, the dead are reported."""
        for trash in self._home.run.glob(f"{_TRASH}*"):
            shutil.rmtree(trash, ignore_errors=True)
        for draft in self._home.run.glob(".*.tmp"):
            draft.unlink(missing_ok=True)
        now = self._clock()
        for path in sorted(self._home.run.glob("*/spec.json")):
            try:
                self._adopt_one(WorkerFolder(path.parent), now)
            except (msgspec.DecodeError, OSError) as error:
                print(f"{path.parent} is left alone, it cannot be read: {error}", file=sys.stderr)
        for door in self._home.sockets.glob("rep_*.sock"):
            if door.stem not in self.workers:
                door.unlink(missing_ok=True)

    def _adopt_one(self, folder: WorkerFolder, now: float) -> None:
        worker = _find_worker(folder, now)
        if worker is None:
            return
        self.workers[worker.spec.worker_id] = worker
        reason = folder.read_stop()
        if reason is not None and not worker.is_gone:
            worker.ask_to_stop(reason, _ADOPTED_GRACE_S, now)

    def obey(self, order: Order) -> Any:
        """Do what the order says; the reply's value."""
        match order:
            case Hello(epoch=epoch):
                return self._hello(epoch)
            case Start(epoch=epoch, spec=spec):
                self._epoch.check(epoch)
                self._start(spec)
            case Poll():
                return self._poll()
            case Stop(epoch=epoch, worker_id=worker_id, reason=reason, grace_s=grace_s):
                self._epoch.check(epoch)
                self._stop(worker_id, reason, grace_s)
            case ReadEvents(worker_id=worker_id, offset=offset, limit_bytes=limit):
                return self._read_events(worker_id, offset, limit)
            case Forget(epoch=epoch, worker_id=worker_id):
                self._epoch.check(epoch)
                self._forget(worker_id)
            case Shutdown(grace_s=grace_s):
                self._shutdown(grace_s)
        return None

    def enforce(self, look: bool) -> None:
        """Kill whose grace or time is over and, with `look`, count memory and kill who has too much of it."""
        now = self._clock()
        if look:
            self._listen(now)
        living = self.living
        census = take_census() if look and self._must_count(living, now) else None
        for worker in living:
            worker.come_to_know(now)
            over = worker.out_of_time(now)
            if census is not None:
                over = worker.count_memory(census) or over
            if over is not None and worker.verdict is None:
                worker.verdict = over
            if worker.verdict is not None or _is_over(worker.kill_at, now):
                worker.kill(census or take_census())

    def _must_count(self, living: list[Worker], now: float) -> bool:
        """Looking at all processes of the machine costs: for replicas without a limit it is done now and then."""
        is_due = now - self._counted_at >= _CALM_COUNT_S
        if not living or not (is_due or any(worker.is_watched for worker in living)):
            return False
        self._counted_at = now
        return True

    def _listen(self, now: float) -> None:
        """Count silence, but only time in which the agent itself was awake: after a pause of everything at once (a
        closed laptop, a frozen container) nobody is called silent before he could speak."""
        elapsed_s = min(now - self._listened_at, _LONGEST_LOOK_S)
        self._listened_at = now
        for worker in self.living:
            worker.listen(elapsed_s)

    def settle_ended(self) -> None:
        """Give every worker whose process has ended its outcome, and end what it left behind.

        Raises the first `OSError` (a full disk, most likely) after all were tried; it is to be called again then.
        """
        has_strays = self._reap()
        # Hundreds of children need no system call each: who has not been reaped lives.
        ended = [
            worker
            for worker in self.living
            if (has_strays or not worker.is_surely_alive) and worker.is_gone
        ]
        if not ended:
            return
        self._end_families(ended)
        troubles = [error for worker in ended if (error := _settle(worker)) is not None]
        if len(troubles) < len(ended):
            self._bell.ring()
        if troubles:
            raise troubles[0]

    def next_deadline(self) -> float | None:
        """When, in monotonic seconds, the next grace is over."""
        return min((w.kill_at for w in self.living if w.kill_at is not None), default=None)

    def _hello(self, epoch: int) -> AgentInfo:
        self._epoch.check(epoch)
        return AgentInfo(
            pid=os.getpid(),
            epoch=self._epoch.current,
            cores=os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            start_method=self._starter.method,
        )

    def _start(self, spec: WorkerSpec) -> None:
        if spec.worker_id in self.workers:
            return
        if self.is_closing:
            raise ShuttingDown()
        folder = WorkerFolder.under(self._home.run, spec.worker_id)
        folder.create(spec)
        lock_fd = folder.take_lock()
        if lock_fd is not None:
            try:
                self._starter.start(spec, folder, lock_fd)
            finally:
                os.close(lock_fd)
        worker = Worker(folder=folder, spec=spec, is_own=lock_fd is not None)
        worker.come_to_know(self._clock())
        self.workers[spec.worker_id] = worker

    def _poll(self) -> list[WorkerStatus]:
        # Whose last word cannot be written counts as living until it can; the others are told of.
        with suppress(OSError):
            self.settle_ended()
        return [worker.status() for worker in self.workers.values()]

    def _stop(self, worker_id: str, reason: StopReason, grace_s: float) -> None:
        worker = self.workers.get(worker_id)
        if worker is not None and worker.outcome is None:
            worker.ask_to_stop(reason, grace_s, self._clock())

    def _read_events(self, worker_id: str, offset: int, limit: int) -> EventChunk:
        if worker_id not in self.workers:
            raise NotFound(noun="worker", name=worker_id)
        data = _whole_lines(self.workers[worker_id].folder.events, offset, limit)
        return EventChunk(data=data, next_offset=offset + len(data))

    def _forget(self, worker_id: str) -> None:
        with suppress(OSError):
            self.settle_ended()
        worker = self.workers.get(worker_id)
        if worker is None:
            return
        if worker.outcome is None:
            raise InUse(noun="worker", name=worker_id, users="its process")
        # At once out of the way: half a folder would look like a worker that never came to life.
        trash = self._home.run / f"{_TRASH}{secrets.token_hex(8)}"
        worker.folder.path.rename(trash)
        del self.workers[worker_id]
        shutil.rmtree(trash, ignore_errors=True)
        # A replica that was killed could not take it away itself.
        (self._home.sockets / f"{worker_id}.sock").unlink(missing_ok=True)

    def _shutdown(self, grace_s: float) -> None:
        self.is_closing = True
        for worker in self.living:
            worker.ask_to_stop(StopReason.SHUTDOWN, grace_s, self._clock())

    def _reap(self) -> bool:
        """Take the exit status of children that have ended; whether there were others than workers.

        Those are orphans that workers left behind, or a worker that ended before it said who it is.
        """
        has_strays = False
        by_pid: dict[int, Worker] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return has_strays
            if pid == 0:
                return has_strays
            by_pid = by_pid or {w.birth.pid: w for w in self.living if w.birth}
            if pid in by_pid:
                by_pid[pid].exit_status = status
            else:
                has_strays = True

    def _end_families(self, ended: list[Worker]) -> None:
        """Kill what ended workers left behind, until nothing is left."""
        living = {w.birth.pid for w in self.living if w.birth and w not in ended}
        for _ in range(_LAST_LOOKS):
            census = take_census()
            found = [worker.kill(census) for worker in ended]
            # Orphans come to the agent only when the worker that had adopted them is gone.
            strays = [child for child in census.children(os.getpid()) if child.pid not in living]
            for stray in strays:
                with suppress(ProcessLookupError):
                    os.kill(stray.pid, signal.SIGKILL)
            if not strays and not any(found):
                return
            time.sleep(_LAST_LOOK_PAUSE_S)


def _settle(worker: Worker) -> OSError | None:
    try:
        worker.settle()
    except OSError as error:
        return error
    return None


def _find_worker(folder: WorkerFolder, now: float) -> Worker | None:
    """The worker of a folder; None where none ever came to life, so that `start` may still make it."""
    spec = folder.read_spec()
    if spec is None or spec.worker_id != folder.path.name:
        return None
    if not folder.is_born and not folder.is_locked():
        return None
    worker = Worker(folder=folder, spec=spec, outcome=folder.read_outcome())
    worker.come_to_know(now)
    if worker.outcome is not None and not worker.is_gone:
        # Its last word is written and it is on its way out.
        worker.outcome = None
    return worker


def _whole_lines(path: Path, offset: int, limit: int) -> bytes:
    """Lines from the offset on, `limit` bytes at most unless a single line is longer."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(limit)
            end = data.rfind(b"\n") + 1
            while not end and len(data) == limit:
                limit *= 2
                file.seek(offset)
                data = file.read(limit)
                end = data.rfind(b"\n") + 1
    except FileNotFoundError:
        return b""
    return data[:end]


def _is_over(deadline: float | None, now: float) -> bool:
    return deadline is not None and now >= deadline
