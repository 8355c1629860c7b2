"""What the deciding side needs from a place where workers run; every call may be made again without harm."""

from __future__ import annotations

from typing import Protocol

from modelry.core.events import Event
from modelry.core.specs import AgentInfo, StopReason, WorkerSpec, WorkerStatus


class Backend(Protocol):
    """A compute backend: starts workers, tells how they are, and never decides anything itself.

    Orders carry the leader's epoch; one that is smaller than the largest ever seen raises `StaleEpoch` and changes
    nothing. Every call may raise `ComputeUnavailable`; then it is unknown whether it took effect, and calling it
    again is right.
    """

    def hello(self, epoch: int) -> AgentInfo:
        """Make the epoch known, so that orders of earlier leaders are refused from now on."""
        ...

    def start(self, epoch: int, spec: WorkerSpec) -> None:
        """Start the worker. Idempotent by `spec.worker_id`: one that lives or has ended is left as it is.

        When this returns, the worker is on record: whatever dies, `poll` tells of it until it is forgotten.
        """
        ...

    def poll(self) -> list[WorkerStatus]:
        """Every worker that was started and not forgotten. An ended one always has an outcome."""
        ...

    def stop(self, epoch: int, worker_id: str, reason: StopReason, grace_s: float) -> None:
        """Ask the worker to end, and kill it with all its processes once the grace is over.

        Idempotent; nothing happens to workers that have ended or are unknown. Asked twice, the earlier deadline
        holds, and the stronger reason: cancel over pause over shutdown. A worker that ends without its own word
        after a stop gets the outcome of the reason (`cancelled`, `paused`, `interrupted`).
        """
        ...

    def read_events(self, worker_id: str, offset: int) -> tuple[list[Event], int]:
        """Events from a byte offset on (0 first), and the offset to go on from; empty where nothing is new.

        Reading changes nothing. May return fewer events than there are; works until the worker is forgotten, then
        raises `NotFound`.
        """
        ...

    def forget(self, epoch: int, worker_id: str) -> None:
        """Delete all that is left of an ended worker. Idempotent; raises `InUse` while it lives."""
        ...

    def close(self) -> None:
        """Let go of connections; workers live on."""
        ...
