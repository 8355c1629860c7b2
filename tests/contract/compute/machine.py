"""A machine with a real agent and real workers, and ways to wait for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from modelry.core.home import Home
from modelry.core.specs import JobSpec, Limits, ReplicaSpec, WorkerStatus
from modelry.server.compute.local import LocalCompute

HERE = Path(__file__).parent
PATIENCE_S = 20.0


def eventually(claim: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """The claim's first true value; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := claim():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not true within {timeout_s} s")


class Machine:
    """One home, its agent, and the deciding side's connection to it."""

    def __init__(self, root: Path, method: str) -> None:
        self.home = Home(root)
        self.method = method
        self.patience_s = PATIENCE_S
        #: What replicas are; the stand-in tells more about itself than the real one.
        self.replica_target = "stand_in:main"
        self.agent: subprocess.Popen[bytes] | None = None
        self.compute = LocalCompute(self.home)

    def start_agent(self) -> None:
        """Start one and wait until it answers."""
        self.home.root.mkdir(exist_ok=True)
        with (self.home.root / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, HERE / "quick_agent.py", self.home.root, self.method]
                + [str(self.patience_s), self.replica_target],
                stdout=log,
                stderr=log,
            )
        eventually(lambda: (self.home.sockets / "agent.sock").exists())

    def kill_agent(self, number: int = signal.SIGKILL) -> None:
        assert self.agent is not None
        self.agent.send_signal(number)
        self.agent.wait(20)
        (self.home.sockets / "agent.sock").unlink(missing_ok=True)

    def status(self, worker_id: str) -> WorkerStatus | None:
        return next((s for s in self.compute.poll() if s.worker_id == worker_id), None)

    def ended(self, worker_id: str) -> WorkerStatus:
        """The status of the worker once it has ended."""
        return eventually(lambda: (s := self.status(worker_id)) and s.outcome and s)

    def ready(self, worker_id: str, timeout_s: float = 15.0) -> WorkerStatus:
        """The status of the replica once it is ready."""
        return eventually(lambda: (s := self.status(worker_id)) and s.address and s, timeout_s)

    def sleep_job(self, worker_id: str = "job_a-1", **given: Any) -> JobSpec:
        params = {"steps": 3, "step_s": 0.01, "checkpoint_steps": 1, **given.pop("params", {})}
        return JobSpec(
            worker_id=worker_id,
            job_id="job_a",
            attempt=1,
            kind="sleep",
            params=params,
            artifacts=str(self.home.blobs),
            **given,
        )

    def replica(
        self, worker_id: str = "rep_a", model: str = "obedient", limits: Limits | None = None
    ) -> ReplicaSpec:
        return ReplicaSpec(
            worker_id=worker_id,
            replica_id=worker_id,
            deployment="d",
            model=model,
            version=1,
            files=[],
            artifacts=str(self.home.blobs),
            limits=limits or Limits(),
        )

    def stepping(self, worker_id: str = "job_a-1") -> int:
        """Wait until the job has a checkpoint; its process."""
        eventually(lambda: self.checkpoints(worker_id))
        status = self.status(worker_id)
        assert status is not None
        assert status.pid is not None
        return status.pid

    def checkpoints(self, worker_id: str) -> list[Any]:
        events, _ = self.compute.read_events(worker_id, 0)
        return [event for event in events if type(event).__name__ == "Checkpoint"]

    def clean_up(self) -> None:
        """End everything that belongs to this home, whatever a test left."""
        self.compute.close()
        if self.agent is not None and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        for path in self.home.run.glob("*/pid"):
            pid = int(path.read_text().split('"pid":')[1].split(",")[0])
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if str(self.home.root) in " ".join(psutil.Process(pid).cmdline()):
                    os.killpg(pid, signal.SIGKILL)
