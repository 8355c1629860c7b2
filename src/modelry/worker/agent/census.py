"""Which processes belong to a worker, and how much memory they hold. Reads `/proc`."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from modelry.core.processes import stat_fields

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: `(pid, start_ticks)` names a process for as long as the machine runs.
Mark = tuple[int, int]
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the census."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    rss_bytes: int

    @property
    def mark(self) -> Mark:
        return (self.pid, self.start_ticks)


class Census:
    """All processes of the machine that are no zombies, at one moment."""

    def __init__(self, processes: list[Process]) -> None:
        self.by_pid = {process.pid: process for process in processes}
        self._children: dict[int, list[Process]] = defaultdict(list)
        self._sessions: dict[int, list[Process]] = defaultdict(list)
        for process in processes:
            self._children[process.parent].append(process)
            self._sessions[process.session].append(process)

    def family(self, leader: Mark, known: Collection[Mark] = ()) -> list[Process]:
        """The leader of a session, the session, the members `known` from before, and all descendants of those.

        A worker adopts its orphans, so that whoever forks twice and leaves the session is still a descendant. A
        session's number is not given away while it has members: if the leader's number is another process now,
        there are none.
        """
        pid, _ = leader
        found: dict[int, Process] = {}
        todo = [self.by_pid[mark[0]] for mark in known if self._is_alive(mark)]
        if pid not in self.by_pid or self._is_alive(leader):
            todo += self._sessions[pid]
        while todo:
            process = todo.pop()
            if process.pid not in found:
                found[process.pid] = process
                todo += self._children[process.pid]
        return list(found.values())

    def _is_alive(self, mark: Mark) -> bool:
        found = self.by_pid.get(mark[0])
        return found is not None and found.mark == mark

    def children(self, parent: int) -> list[Process]:
        """The living children of a process."""
        return self._children[parent]


def take_census() -> Census:
    """Look at all processes; empty where there is no `/proc`."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return Census([])
    return Census([process for pid in pids if (process := _look_at(pid)) is not None])


def resident_bytes(family: list[Process]) -> int:
    """Resident memory of all, pages that several share counted for each: quick, and never too small."""
    return sum(process.rss_bytes for process in family)


def proportional_bytes(family: list[Process]) -> int:
    """Resident memory of all, shared pages divided among those who share them: exact, and slower."""
    return sum(_proportional(process) for process in family)


def _proportional(process: Process) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        return process.rss_bytes
    return int(found.group(1)) * 1024 if found else process.rss_bytes


def _look_at(pid: int) -> Process | None:
    fields = stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )
