"""The first acts of a new worker process, between the agent's fork and the worker's own code.

Both ways to start share them: *fork* goes on inside a copy of the warm agent, *exec* becomes a fresh Python.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from modelry.core.processes import adopt_orphans, boot_id, start_ticks
from modelry.core.specs import JobSpec, WorkerSpec
from modelry.worker.folder import Birth, WorkerFolder

#: Where a worker finds its lock.
LOCK_FD = 3
#: The kernel's out-of-memory killer takes a worker before it takes the service.
_OOM_SCORE = "500"
#: Variables that keep numerical libraries from starting threads of their own.
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: How long a waiting OpenMP thread spins before it sleeps. The library's own 300,000 make two trainings on the same
#: cores five times slower together than one after the other; 5,000 cost a lone one nothing.
_SPIN_COUNT = {"GOMP_SPINCOUNT": "5000"}
_BLOCKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}

#: What a new process does once it is a worker; it does not come back.
Body = Callable[[], NoReturn]


def fork_worker(folder: WorkerFolder, lock_fd: int, body: Body) -> None:
    """Make a process that is a worker and runs `body`; it has said who it is (`pid`) when this returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    born, birth = os.pipe()
    try:
        _fork(folder, lock_fd, body)
    finally:
        os.close(birth)
        # Ends when the child has closed what it inherited, or is dead.
        os.read(born, 1)
        os.close(born)


def _fork(folder: WorkerFolder, lock_fd: int, body: Body) -> None:
    # A signal that comes before the child has its own handlers must not be eaten by the agent's.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        pid = os.fork()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    try:
        _become_worker(folder, lock_fd)
        body()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def calling(target: str, folder: WorkerFolder, home_root: Path) -> Body:
    """The body that calls `module:function(folder, home root, lock descriptor)` in the forked process."""
    module, _, function = target.partition(":")
    run = getattr(importlib.import_module(module), function)

    def body() -> NoReturn:
        os.set_inheritable(LOCK_FD, False)
        run(folder.path, home_root, LOCK_FD)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    return body


def executing(
    module: str, spec: WorkerSpec, folder: WorkerFolder, home_root: Path, *more: str
) -> Body:
    """The body that becomes `python -m module <folder> <home root> <lock descriptor> …`."""
    # -P: nothing that happens to lie in the current folder is imported.
    arguments = [sys.executable, "-P", "-m", module, str(folder.path), str(home_root), str(LOCK_FD)]
    environment = _environment(spec)

    def body() -> NoReturn:
        os.execve(sys.executable, [*arguments, *more], environment)

    return body


def _environment(spec: WorkerSpec) -> dict[str, str]:
    """The agent's variables without the service's settings: a worker knows its home, its spec and nothing else."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "MODELRY_HOME" or not name.startswith("MODELRY_")
    }
    threads = spec.threads if isinstance(spec, JobSpec) else 1
    threading = dict.fromkeys(SINGLE_THREADED, str(threads))
    return {**_SPIN_COUNT, **kept, **threading, "PYTHONUNBUFFERED": "1"}


def _become_worker(folder: WorkerFolder, lock_fd: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _BLOCKED:
        signal.signal(number, signal.SIG_DFL)
    adopt_orphans()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    folder.write_birth(_birth(os.getpid()))
    _arrange_descriptors(folder, lock_fd)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)


def _birth(pid: int) -> Birth:
    return Birth(pid=pid, start_ticks=start_ticks(pid), boot_id=boot_id(), started_at=time.time())


def _arrange_descriptors(folder: WorkerFolder, lock_fd: int) -> None:
    """0 reads nothing, 1 and 2 are the log, 3 is the lock; all others are closed, whoever left them open."""
    log = os.open(folder.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if lock_fd == LOCK_FD:
        os.set_inheritable(LOCK_FD, True)
    else:
        os.dup2(lock_fd, LOCK_FD)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    os.closerange(LOCK_FD + 1, highest + 1)
