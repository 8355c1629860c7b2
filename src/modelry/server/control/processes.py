"""The processes of one service and their memory, as Linux tells it; elsewhere there is nothing to tell."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelry.core.home import Home
from modelry.core.processes import IS_LINUX, stat_fields

_KINDS = (
    ("modelry.server.api.serve", "web"),
    ("modelry.server.control.controller", "controller"),
    ("modelry.server.supervisor", "supervisor"),
    ("modelry.worker.agent", "agent"),
)
_WORKERS = {"rep": "replica", "job": "job"}
_PARENT_FIELD = 1


@dataclass(slots=True)
class Group:
    """All processes of one kind."""

    count: int = 0
    #: Proportional set size: what several share counts for each with its share.
    memory_bytes: int = 0


def by_kind(home: Home) -> dict[str, Group]:
    """Kind (`web`, `controller`, `agent`, `replica`, `job`, `supervisor`, `other`) → its processes."""
    found: dict[str, Group] = defaultdict(Group)
    if not IS_LINUX:
        return found
    workers = _workers(home)
    for pid in _family(_supervisor(home)):
        memory_bytes = _memory_bytes(pid)
        if memory_bytes is not None:
            group = found[workers.get(pid) or _kind(pid)]
            group.count += 1
            group.memory_bytes += memory_bytes
    return found


def _supervisor(home: Home) -> int | None:
    try:
        return int(json.loads(home.service.read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def _workers(home: Home) -> dict[int, str]:
    """Pid → kind, as the agent has it on record."""
    found = {}
    for path in home.run.glob("*/pid"):
        kind = _WORKERS.get(path.parent.name.partition("_")[0])
        try:
            pid = int(json.loads(path.read_text())["pid"])
        except (OSError, ValueError, KeyError):
            continue
        if kind is not None:
            found[pid] = kind
    return found


def _family(root: int | None) -> Iterator[int]:
    """A process and all its descendants."""
    if root is None:
        return
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            fields = stat_fields(int(entry.name))
            if fields is not None:
                children[int(fields[_PARENT_FIELD])].append(int(entry.name))
    todo = [root]
    while todo:
        pid = todo.pop()
        yield pid
        todo += children[pid]


def _kind(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "other"
    return next((kind for word, kind in _KINDS if word in line), "other")


def _memory_bytes(pid: int) -> int | None:
    """None for one that has just ended, or belongs to somebody else."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
