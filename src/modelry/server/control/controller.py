"""The controller process: leads by a lease with a growing epoch, and runs the loops while it leads.

Killed or paused at any moment, the next leader goes on; this one notices at its next write (`StaleEpoch`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time

from modelry.core.bell import Bell
from modelry.core.errors import ModelryError, StaleEpoch
from modelry.core.settings import Settings, load_settings
from modelry.server.compute.base import Backend
from modelry.server.compute.local import LocalCompute
from modelry.server.control.job_loop import JobLoop
from modelry.server.control.load import read_loads
from modelry.server.control.replica_loop import ReadLoads, ReplicaLoop, no_loads
from modelry.server.control.usage import UsageLoop
from modelry.server.logs import start_logging
from modelry.server.store import Store, uploads

log = logging.getLogger(__name__)

LEASE = "controller"
#: How often events of running jobs are read.
LIVE_POLL_S = 0.4
#: How often expired uploads are looked for.
TIDY_S = 60.0


class Controller:
    """One candidate for leading."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        compute: Backend,
        bell: Bell,
        read_loads: ReadLoads = no_loads,
    ) -> None:
        self._settings = settings
        self._store = store
        self._compute = compute
        self._bell = bell
        self._holder = f"{socket.gethostname()}-{os.getpid()}"
        self._epoch: int | None = None
        self._announced: int | None = None
        self._renewed = 0.0
        self._tidied = 0.0
        artifacts = settings.artifacts_address
        self._jobs = JobLoop(store, compute, artifacts=artifacts, slots=settings.job_slots)
        self._replicas = ReplicaLoop(store, compute, artifacts=artifacts, read_loads=read_loads)
        self._usage = UsageLoop(store, settings.places)

    def step(self) -> bool:
        """One round: lead or try to; True if something changed and another round may find more."""
        if not self._lead():
            return False
        epoch = self._epoch
        assert epoch is not None
        try:
            statuses = {status.worker_id: status for status in self._compute.poll()}
            changed = self._jobs.step(epoch, statuses)
            changed |= self._replicas.step(epoch, statuses)
            self._usage.step(epoch)
            self._tidy(epoch)
        except StaleEpoch:
            log.warning("leadership lost epoch=%s", epoch)
            self._epoch = None
            return True
        if changed:
            self._bell.ring()
        return changed

    @property
    def pause_s(self) -> float:
        """How long to sleep without a bell."""
        longest = min(self._settings.poll_s, self._settings.lease_s / 3)
        if self._epoch is None:
            return longest
        if self._jobs.is_busy:
            longest = min(LIVE_POLL_S, longest)
        due_s = self._replicas.next_look_s
        return longest if due_s is None else min(due_s, longest)

    def resign(self) -> None:
        """Gives the lease back, so that the next one need not wait for its end."""
        if self._epoch is not None:
            self._store.release_lease(LEASE, self._holder, self._epoch)
            self._epoch = None

    def _lead(self) -> bool:
        duration, now = self._settings.lease_s, time.monotonic()
        # Not in every round: a renewal waits for the disk, and whoever asked for a start waits for the round.
        if self._epoch is not None and now - self._renewed >= duration / 3:
            if not self._store.renew_lease(LEASE, self._holder, self._epoch, duration):
                log.warning("lease lost epoch=%s", self._epoch)
                self._epoch = None
            self._renewed = now
        if self._epoch is None:
            epoch = self._store.acquire_lease(LEASE, self._holder, duration)
            if epoch is None:
                return False
            self._epoch, self._renewed = epoch, now
            log.info("leading epoch=%s holder=%s", epoch, self._holder)
        if self._announced != self._epoch:
            # The agent hears of a new epoch before anything else, so that it refuses the old leader at once.
            self._compute.hello(self._epoch)
            self._announced = self._epoch
        return True

    def _tidy(self, epoch: int) -> None:
        if time.monotonic() - self._tidied < TIDY_S:
            return
        with self._store.lead(epoch) as tx:
            uploads.delete_expired(tx)
        self._tidied = time.monotonic()


def run(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home = settings.places
    store = Store(settings.database_address)
    bell = Bell(home.sockets / "bells", settings.bell)
    controller = Controller(settings, store, LocalCompute(home), bell, lambda: read_loads(home))
    with bell.listen(f"controller-{os.getpid()}") as listener:
        while not stopping:
            pause_s = settings.poll_s
            try:
                if controller.step():
                    continue
                pause_s = controller.pause_s
            except ModelryError as error:
                if not error.retryable:
                    log.exception("round failed")
                else:
                    log.warning("round put off: %s", error)
                pause_s = min(settings.poll_s, 0.2)
            except Exception:
                log.exception("round failed")
            if listener.wait(pause_s):
                listener.clear()
    with contextlib.suppress(ModelryError):
        # A database that is away just now sees the lease run out instead.
        controller.resign()
    store.close()


def main() -> None:
    """`python -m modelry.server.control.controller`."""
    settings = load_settings()
    start_logging(settings)
    run(settings)


if __name__ == "__main__":
    main()
