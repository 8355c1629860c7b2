"""A worker's folder `run/<worker id>/`: all that a worker and its agent tell each other.

spec.json      what to do, durable before the worker exists
lock           held by the worker as long as it lives; its time of change is its sign of life
pid            who the worker is, written by itself before anything else
stop           one word, why it is asked to end; written before the signal
events.jsonl   what a job says
address        where a replica answers
outcome.json   the last word; durable
output.log     standard output and error
work/          scratch
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from modelry.core.durable import is_locked, sync_folder, take_lock, write_durably, write_whole
from modelry.core.errors import InvalidName
from modelry.core.specs import Outcome, OutcomeStatus, StopReason, WorkerSpec

Word = TypeVar("Word")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
#: Of two reasons the stronger holds.
_STRENGTH = {
    StopReason.SHUTDOWN: 0,
    StopReason.DRAIN: 0,
    StopReason.PAUSE: 1,
    StopReason.CANCEL: 2,
}


_ENDS = {
    StopReason.CANCEL: OutcomeStatus.CANCELLED,
    StopReason.DRAIN: OutcomeStatus.CANCELLED,
    StopReason.PAUSE: OutcomeStatus.PAUSED,
    StopReason.SHUTDOWN: OutcomeStatus.INTERRUPTED,
}


def outcome_of_stop(reason: StopReason) -> OutcomeStatus:
    """How a worker ends that was asked to end for this reason and did not finish."""
    return _ENDS[reason]


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `pid`: the number may be given to somebody else later, all three together are not."""

    pid: int
    #: Clock ticks from the machine's start to the process's; None where the system does not tell.
    start_ticks: int | None
    #: Which run of the machine this was; empty where the system does not tell.
    boot_id: str
    #: Seconds since 1970.
    started_at: float


@dataclass(frozen=True, slots=True)
class WorkerFolder:
    """The paths of one worker, and how each file is read and written."""

    path: Path

    @staticmethod
    def under(run: Path, worker_id: str) -> WorkerFolder:
        """The folder of a worker; raises `InvalidName` for what is no worker's id."""
        if not _ID.fullmatch(worker_id):
            raise InvalidName(name=worker_id, noun="worker")
        return WorkerFolder(run / worker_id)

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def output(self) -> Path:
        return self.path / "output.log"

    @property
    def work(self) -> Path:
        return self.path / "work"

    def create(self, spec: WorkerSpec) -> None:
        """Make the folder with its spec, durably."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(self.path.parent)
        write_durably(self.path / "spec.json", msgspec.json.encode(spec))

    def read_spec(self) -> WorkerSpec | None:
        """The spec, or None where none was written."""
        data = _read(self.path / "spec.json")
        return None if data is None else msgspec.json.decode(data, type=WorkerSpec)

    def take_lock(self) -> int | None:
        """The worker's lock as an open descriptor, or None while a worker has it."""
        return take_lock(self.lock)

    def is_locked(self) -> bool:
        """Whether the worker, or somebody who inherited its lock, lives."""
        return is_locked(self.lock)

    def write_birth(self, birth: Birth) -> None:
        write_whole(self.path / "pid", msgspec.json.encode(birth))

    def read_birth(self) -> Birth | None:
        """Who the worker is or was; None where it never came to life."""
        return _decode(_read(self.path / "pid"), Birth)

    @property
    def is_born(self) -> bool:
        """Whether there ever was a process, though nothing may be left to tell which."""
        return (self.path / "pid").exists()

    def ask_to_stop(self, reason: StopReason) -> None:
        """Note why the worker is to end; a weaker reason does not replace a stronger one."""
        known = self.read_stop()
        if known is None or _STRENGTH[reason] > _STRENGTH[known]:
            write_durably(self.path / "stop", reason.value.encode())

    def read_stop(self) -> StopReason | None:
        """Why the worker is asked to end, or None."""
        data = _read(self.path / "stop")
        try:
            return None if data is None else StopReason(data.decode().strip())
        except ValueError:
            return None

    def write_address(self, address: str) -> None:
        """Say where the replica answers; from now on it is ready."""
        write_whole(self.path / "address", address.encode())

    def read_address(self) -> str | None:
        data = _read(self.path / "address")
        return None if data is None else data.decode().strip()

    def write_outcome(self, outcome: Outcome) -> None:
        write_durably(self.path / "outcome.json", msgspec.json.encode(outcome))

    def read_outcome(self) -> Outcome | None:
        return _decode(_read(self.path / "outcome.json"), Outcome)

    def last_sign_of_life(self) -> float:
        """Seconds since 1970; 0 where there never was one."""
        try:
            return self.lock.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def last_words(self, lines: int = 20) -> str:
        """The end of standard output and error."""
        try:
            with self.output.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 16384))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def _decode(data: bytes | None, kind: type[Word]) -> Word | None:
    """None for what is not there, and for what a power cut or a stranger left in its place."""
    try:
        return None if data is None else msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
