"""What the deciding side orders and the working side reports: specs, statuses and outcomes.

A spec holds everything a worker may know; it never holds a secret or a database address.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from modelry.core.files import FileRef


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker may use; `None` means no limit."""

    #: Resident memory of the whole process group, bytes.
    memory_bytes: int | None = None
    #: Wall-clock seconds of one attempt.
    time_s: float | None = None


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, tag="job"):
    """One attempt of a job."""

    worker_id: str
    job_id: str
    attempt: int
    #: A name in the runner's table: `train`, `import-data`, `sleep`.
    kind: str
    #: The kind's own parameters, checked by `core/jobs.py` and the recipe before the job was accepted.
    params: dict[str, Any]
    #: Content the job reads: role (`data`, `upload`) → files of that version.
    inputs: dict[str, list[FileRef]] = {}
    #: What the inputs are called, for lineage: role → `{"name", "version", "fingerprint"}`.
    names: dict[str, dict[str, Any]] = {}
    #: The newest checkpoint of this job, whichever attempt wrote it.
    checkpoint: list[FileRef] | None = None
    #: Where content lives: a folder or an fsspec address.
    artifacts: str
    #: Part of the spec because 1 and 2 threads give different weights.
    threads: int = 1
    limits: Limits = Limits()


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True, tag="replica"):
    """One copy of one model version, to be served."""

    worker_id: str
    replica_id: str
    deployment: str
    model: str
    version: int
    #: The model package.
    files: list[FileRef]
    artifacts: str
    threads: int = 1
    #: The runtime that is to serve: the first of the package. It decides how the process is started; "": not known.
    runtime: str = ""
    #: Rows per runtime call at most.
    max_batch: int = 32
    #: Requests waiting at most; one more is refused with `overloaded`.
    max_queue: int = 1024
    limits: Limits = Limits()


WorkerSpec = JobSpec | ReplicaSpec


class StopReason(StrEnum):
    """Why a worker is asked to end."""

    #: The job is not wanted any more: no checkpoint, outcome `cancelled`.
    CANCEL = "cancel"
    #: Checkpoint, then outcome `paused`.
    PAUSE = "pause"
    #: The machine or the service ends: checkpoint, then outcome `interrupted`.
    SHUTDOWN = "shutdown"
    #: A replica's: finish what is accepted, then end.
    DRAIN = "drain"


class OutcomeStatus(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    #: Ended early by a shutdown; the work is to be taken up again.
    INTERRUPTED = "interrupted"
    #: Written by nobody: the agent's word for a worker that is gone without an outcome.
    LOST = "lost"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why work failed, for people and for programs."""

    code: str
    message: str
    remedy: str = ""
    #: The last lines of the traceback or of standard error.
    detail: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's last word, `run/<worker id>/outcome.json`."""

    status: OutcomeStatus
    failure: Failure | None = None
    #: What the job made; see `core/results.py` for each kind's shape.
    result: dict[str, Any] = {}


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent knows of one worker."""

    worker_id: str
    #: `job` or `replica`.
    kind: str
    is_alive: bool
    #: Set once the worker has ended.
    outcome: Outcome | None = None
    #: Where a replica answers: `unix:/path`; None until it is ready.
    address: str | None = None
    pid: int | None = None
    rss_bytes: int = 0
    #: Seconds since the worker last showed that it is alive.
    silent_s: float = 0.0


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The machine behind an agent."""

    pid: int
    epoch: int
    cores: int
    memory_bytes: int
    start_method: str
