"""The watch inside a worker: shows that the worker lives, and notices when no agent has lived for a while."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from modelry.core.durable import is_locked
from modelry.core.home import Home

#: How long a worker goes on without an agent; a restart of the service takes seconds.
PATIENCE_S = 60.0
#: Longest time between two looks.
_INTERVAL_S = 2.0


def agent_lives(home: Home) -> bool:
    """Whether an agent holds its lock."""
    return is_locked(home.run / "agent.lock")


class OrphanWatch:
    """A thread that touches the worker's lock file and calls `on_orphaned` once if no agent comes back in time."""

    def __init__(
        self,
        home: Home,
        lock_fd: int,
        on_orphaned: Callable[[], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._home = home
        self._lock_fd = lock_fd
        self._on_orphaned = on_orphaned
        self._patience_s = patience_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orphan-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_seen = time.monotonic()
        interval_s = min(_INTERVAL_S, self._patience_s / 4)
        while not self._ended.wait(interval_s):
            os.utime(self._lock_fd)
            now = time.monotonic()
            if agent_lives(self._home):
                last_seen = now
            elif now - last_seen >= self._patience_s:
                self._on_orphaned()
                return
