"""One worker as its agent sees it: alive, asked to stop, over a limit, ended. Signals and reaps; starts nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field

from modelry.core.errors import ModelryError, OutOfMemory, OutOfTime, WorkerLost
from modelry.core.processes import IS_LINUX, boot_id, signal_name, start_ticks
from modelry.core.specs import (
    Failure,
    JobSpec,
    Outcome,
    OutcomeStatus,
    StopReason,
    WorkerSpec,
    WorkerStatus,
)
from modelry.worker.agent.census import Census, Mark, Process, proportional_bytes, resident_bytes
from modelry.worker.folder import Birth, WorkerFolder, outcome_of_stop


@dataclass(slots=True, eq=False)
class Worker:
    """A worker that was started and not forgotten. `outcome` is None exactly while it lives."""

    folder: WorkerFolder
    spec: WorkerSpec
    birth: Birth | None = None
    #: When it began, in monotonic seconds.
    began: float = 0.0
    #: Readable once the process has ended; None on systems without such descriptors.
    pidfd: int | None = None
    outcome: Outcome | None = None
    #: When the grace of a stop is over, in monotonic seconds.
    kill_at: float | None = None
    #: Why the agent killed it, before that is its outcome.
    verdict: ModelryError | None = None
    #: As `os.waitpid` tells it; None for workers of an earlier agent.
    exit_status: int | None = None
    #: A child of this agent: its end is told by `os.waitpid` and need not be looked for.
    is_own: bool = False
    rss_bytes: int = 0
    #: Processes that were seen as its own.
    members: set[Mark] = field(default_factory=set)
    address: str | None = None
    #: How long it has shown no sign of life, as far as the agent could see.
    silent_s: float = 0.0
    _last_sign: float = 0.0

    def come_to_know(self, now: float) -> None:
        """Learn who the worker is, as soon as it has said so."""
        birth = self.folder.read_birth() if self.birth is None else None
        if birth is None:
            return
        self.birth = birth
        self.began = now - max(0.0, time.time() - birth.started_at)
        if IS_LINUX:
            with contextlib.suppress(ProcessLookupError):
                self.pidfd = os.pidfd_open(birth.pid)
            # Asked after the descriptor exists, which from then on means this process and no later one.
            if not self._is_itself:
                self.let_go()

    @property
    def is_surely_alive(self) -> bool:
        """Whether that is known without asking the system; False means only that it has to be asked."""
        return self.is_own and self.birth is not None and self.exit_status is None

    @property
    def is_watched(self) -> bool:
        """Whether its processes and their memory have to be looked at all the time, and not now and then."""
        return isinstance(self.spec, JobSpec) or self.spec.limits.memory_bytes is not None

    @property
    def is_gone(self) -> bool:
        """Whether the worker's own process has ended (a child that kept its lock does not count)."""
        if self.pidfd is not None:
            ended = select.poll()
            ended.register(self.pidfd, select.POLLIN)
            return bool(ended.poll(0))
        if self.birth is None or not IS_LINUX:
            return not self.folder.is_locked()
        return not self._is_itself

    def ask_to_stop(self, reason: StopReason, grace_s: float, now: float) -> None:
        """Note the reason, then signal; the earlier of two deadlines holds."""
        self.folder.ask_to_stop(reason)
        deadline = now + max(0.0, grace_s)
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)
        self._signal(signal.SIGTERM)

    def count_memory(self, census: Census) -> ModelryError | None:
        """Count the worker's memory; the limit it is over, if any."""
        family = self._family(census)
        self.members = {process.mark for process in family}
        self.rss_bytes = resident_bytes(family)
        limit = self.spec.limits.memory_bytes
        if limit is None or self.rss_bytes <= limit:
            return None
        used = proportional_bytes(family)
        return OutOfMemory(used_bytes=used, limit_bytes=limit) if used > limit else None

    def listen(self, elapsed_s: float) -> None:
        """Look for a new sign of life; `elapsed_s` have passed since the last look."""
        sign = self.folder.last_sign_of_life()
        self.silent_s = self.silent_s + elapsed_s if sign == self._last_sign else 0.0
        self._last_sign = sign

    def out_of_time(self, now: float) -> ModelryError | None:
        """The time limit, if the worker is over it."""
        limit_s = self.spec.limits.time_s
        if limit_s is None or self.birth is None or now - self.began < limit_s:
            return None
        return OutOfTime(limit_s=limit_s)

    def kill(self, census: Census) -> bool:
        """End every process of the worker; whether there were any."""
        family = self._family(census)
        for process in family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        self._signal(signal.SIGKILL)
        return bool(family)

    def settle(self) -> None:
        """The process has ended: take its last word, or write one for it. Raises `OSError` if that is impossible."""
        outcome = self.folder.read_outcome()
        if outcome is None:
            outcome = self._judge()
            self.folder.write_outcome(outcome)
        self.outcome = outcome

    def let_go(self) -> None:
        """Close the process descriptor."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def status(self) -> WorkerStatus:
        is_alive = self.outcome is None
        if is_alive and self.address is None and not isinstance(self.spec, JobSpec):
            self.address = self.folder.read_address()
        return WorkerStatus(
            worker_id=self.spec.worker_id,
            kind="job" if isinstance(self.spec, JobSpec) else "replica",
            is_alive=is_alive,
            outcome=self.outcome,
            address=self.address if is_alive else None,
            pid=self.birth.pid if self.birth else None,
            rss_bytes=self.rss_bytes if is_alive else 0,
            silent_s=self.silent_s if is_alive else 0.0,
        )

    @property
    def _is_itself(self) -> bool:
        """Whether the process that has the worker's number is the worker."""
        if self.birth is None or not self._is_of_this_boot:
            return False
        return start_ticks(self.birth.pid) == self.birth.start_ticks

    @property
    def _is_of_this_boot(self) -> bool:
        return self.birth is not None and self.birth.boot_id == boot_id()

    def _family(self, census: Census) -> list[Process]:
        if self.birth is None or self.birth.start_ticks is None or not self._is_of_this_boot:
            return []
        return census.family((self.birth.pid, self.birth.start_ticks), self.members)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self.birth is not None and not self.is_gone:
                os.kill(self.birth.pid, number)

    def _judge(self) -> Outcome:
        """The outcome of a worker that left none."""
        if self.verdict is not None:
            return Outcome(status=OutcomeStatus.FAILED, failure=self._failure(self.verdict))
        reason = self.folder.read_stop()
        if reason is not None:
            return Outcome(status=outcome_of_stop(reason))
        lost = WorkerLost(f"The worker ended without a word{self._manner()}.")
        return Outcome(status=OutcomeStatus.LOST, failure=self._failure(lost))

    def _failure(self, error: ModelryError) -> Failure:
        return Failure(
            code=error.code,
            message=error.message,
            remedy=error.remedy,
            detail=self.folder.last_words(),
        )

    def _manner(self) -> str:
        if self.exit_status is None:
            return ""
        if os.WIFSIGNALED(self.exit_status):
            return f" ({signal_name(os.WTERMSIG(self.exit_status))})"
        return f" (exit status {os.WEXITSTATUS(self.exit_status)})"
