"""How each kind of worker starts: jobs as a fresh Python, replicas forked from the warm agent where that is safe."""

from __future__ import annotations

import gc
import importlib
import os
from dataclasses import dataclass
from pathlib import Path

from modelry.core.processes import IS_LINUX
from modelry.core.specs import JobSpec, WorkerSpec
from modelry.worker.agent.launch import SINGLE_THREADED, Body, calling, executing, fork_worker
from modelry.worker.folder import WorkerFolder
from modelry.worker.orphans import PATIENCE_S

_RUNNER = "modelry.worker.runner"
#: Imported before the first fork, so that every replica shares them.
_WARM = ("numpy", "onnxruntime")
#: Runtimes whose replicas may be forked; "" is what an older controller says. Others (torch, OpenVINO, plug-ins) start
#: threads and pools of their own, and get a fresh process.
FORKED_RUNTIMES = frozenset({"", "onnxruntime"})


@dataclass(frozen=True, slots=True)
class Starter:
    """Starts workers for one home."""

    home_root: Path
    #: `fork` or `exec`, for replicas.
    method: str
    #: `module:function` that a replica is; the module is also run with `python -m`.
    replica: str = "modelry.worker.replica:main"
    #: How long jobs go on without an agent.
    patience_s: float = PATIENCE_S

    def warm_up(self) -> None:
        """Load what every forked replica needs; nothing that starts threads of its own may be among it."""
        if self.method != "fork":
            return
        # No pool of threads may exist when the agent forks.
        os.environ.update(SINGLE_THREADED)
        for name in (*_WARM, self.replica.partition(":")[0]):
            importlib.import_module(name)
        gc.collect()
        gc.freeze()

    def start(self, spec: WorkerSpec, folder: WorkerFolder, lock_fd: int) -> None:
        """Make the worker's process; the lock is its own from now on."""
        fork_worker(folder, lock_fd, self._body(spec, folder))

    def _body(self, spec: WorkerSpec, folder: WorkerFolder) -> Body:
        if isinstance(spec, JobSpec):
            return executing(_RUNNER, spec, folder, self.home_root, str(self.patience_s))
        if self.method == "fork" and spec.runtime in FORKED_RUNTIMES:
            return calling(self.replica, folder, self.home_root)
        return executing(self.replica.partition(":")[0], spec, folder, self.home_root)


def resolve_start_method(setting: str) -> str:
    """`fork` or `exec` for the setting `auto`, `fork` or `exec`."""
    if setting == "auto":
        return "fork" if IS_LINUX else "exec"
    return setting
