"""One process of the service: started, watched, started again when it ends, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from modelry.core.processes import die_with_parent, signal_name

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
#: A process that has lived so long starts again with the first pause.
STEADY_S = 10.0
_LARGEST_LOG_BYTES = 10 << 20


class Child:
    """A process that shall live as long as the supervisor wants, and never longer than the supervisor."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        keep_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._keep_fds = keep_fds
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        #: When it is to be started again, in monotonic seconds; None while it lives.
        self.start_at: float | None = 0.0

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tend(self, now: float) -> str | None:
        """Start the process if it is time to; what to tell people if it has just ended."""
        if self.start_at is not None:
            if now >= self.start_at:
                self._start(now)
            return None
        if self.is_alive:
            return None
        return self._plan_restart(now)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process, if it lives."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _start(self, now: float) -> None:
        supervisor = os.getpid()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                pass_fds=self._keep_fds,
                # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends all in order.
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(supervisor),
            )
        self._started_at = now
        self.start_at = None

    def _plan_restart(self, now: float) -> str:
        assert self._process is not None
        if now - self._started_at >= STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        pause_s = self._pause_s
        self.start_at = now + pause_s
        self._pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        return (
            f"{self.name} ended ({_manner(self._process.returncode)}) and starts again in "
            f"{pause_s:g} s; see {self.log}"
        )


def rotate(log: Path) -> None:
    """Put a log that has grown large aside, in place of the one that was put aside before."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LARGEST_LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def _manner(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal_name(-status)
