"""What only Linux tells about processes, and what it does for them; elsewhere these calls do nothing or say None."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from pathlib import Path

IS_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Loaded here and not between fork and exec, where little is allowed.
_libc = ctypes.CDLL(None, use_errno=True) if IS_LINUX else None


def die_with_parent(parent_pid: int) -> None:
    """Get SIGTERM when the parent ends, even by kill -9. Call it in the child, right after the fork.

    The kernel watches the *thread* that forked: fork from a thread that lives as long as the process, the main one.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parents end; kept across exec, not inherited by children."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since the machine's start; None where it is gone, a zombie or unknown."""
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; the number where the signal has no name, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@functools.cache
def boot_id() -> str:
    """A name of this run of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def stat_fields(pid: int) -> list[str] | None:
    """The fields of `/proc/<pid>/stat` from the third (the state) on; None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    # The second field is the program's name in parentheses and may hold anything, more parentheses included.
    return text[text.rindex(")") + 2 :].split()
