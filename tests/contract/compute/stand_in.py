"""A replica for the compute suite: reports what it was born with, then does what its spec's `model` says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from modelry.core.specs import Outcome, OutcomeStatus
from modelry.worker.folder import WorkerFolder

_HOG = "import time; held = bytearray(90 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep(60)"


def main(folder_path: Path, home_root: Path, lock_fd: int) -> None:
    """Be the replica."""
    os.set_inheritable(lock_fd, False)
    folder = WorkerFolder(Path(folder_path))
    spec = folder.read_spec()
    assert spec is not None
    fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    links = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in fds if _is_open(fd)}
    (folder.path / "descriptors").write_text("\n".join(f"{k} {v}" for k, v in links.items()))
    if spec.model == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: _end(folder))
    if spec.model == "grandchild":
        subprocess.Popen(["sh", "-c", f'{sys.executable} -c "{_HOG}" & wait'])
    if spec.model == "double-fork":
        _hide([sys.executable, "-c", _HOG])
    folder.write_address(f"unix:{home_root}/nowhere")
    while True:
        time.sleep(0.05)


def _end(folder: WorkerFolder) -> None:
    folder.write_outcome(Outcome(status=OutcomeStatus.SUCCEEDED, result={"drained": True}))
    os._exit(0)


def _is_open(fd: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def _hide(command: list[str]) -> None:
    """Start the command as a daemon: out of the session, without a living parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(command[0], command)
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
