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
        now = self._clock()
        for path in sorted(self._home.run.glob("*/spec.json")):
            worker = _find_worker(WorkerFolder(path.parent), now)
            if worker is not None:
                self.workers[worker.spec.worker_id] = worker
                reason = worker.folder.read_stop()
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
        living = self.living
        census = take_census() if look and living else None
        for worker in living:
            worker.come_to_know(now)
            over = worker.out_of_time(now)
            if census is not None:
                over = worker.count_memory(census) or over
            if over is not None and worker.verdict is None:
                worker.verdict = over
            if worker.verdict is not None or _is_over(worker.kill_at, now):
                worker.kill(census or take_census())

    def settle_ended(self) -> None:
        """Give every worker whose process has ended its outcome, and end what it left behind."""
        self._reap()
        ended = [worker for worker in self.living if worker.is_gone]
        if not ended:
            return
        self._end_families(ended)
        for worker in ended:
            worker.settle()
        self._bell.ring()

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
        worker = Worker(folder=folder, spec=spec)
        worker.come_to_know(self._clock())
        self.workers[spec.worker_id] = worker

    def _poll(self) -> list[WorkerStatus]:
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

    def _shutdown(self, grace_s: float) -> None:
        self.is_closing = True
        for worker in self.living:
            worker.ask_to_stop(StopReason.SHUTDOWN, grace_s, self._clock())

    def _reap(self) -> None:
        """Take the exit status of children that have ended: workers, and orphans that workers left behind."""
        by_pid = {worker.birth.pid: worker for worker in self.living if worker.birth}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                by_pid[pid].exit_status = status

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


def _find_worker(folder: WorkerFolder, now: float) -> Worker | None:
    """The worker of a folder; None where none ever came to life, so that `start` may still make it."""
    try:
        spec = folder.read_spec()
    except msgspec.DecodeError as error:
        print(f"{folder.path} is left alone, its spec cannot be read: {error}", file=sys.stderr)
        return None
    if spec is None or (folder.read_birth() is None and not folder.is_locked()):
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
