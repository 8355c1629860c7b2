"""The nouns as rows: what the store keeps, the API answers and the SDK hands out.

Frozen; a change is a new record. Times are seconds since the epoch (UTC) by the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from modelry.core.files import FileRef
from modelry.core.states import (
    DeploymentState,
    DeploymentWish,
    JobState,
    JobWish,
    ReplicaState,
)

#: What a key may do; `admin` includes all others.
SCOPES = ("admin", "train", "run", "deploy", "infer", "read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A tenant: every other noun belongs to one."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What a key may use; None means no limit. Buckets hold `burst_s` seconds' worth."""

    requests_per_s: float | None = None
    rows_per_s: float | None = None
    burst_s: float = 1.0
    #: Of a calendar month (UTC).
    requests_per_month: int | None = None
    rows_per_month: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, without its secret."""

    #: The public part, as in `mk_<id>_<secret>`.
    id: str
    #: For people.
    label: str
    #: The project's name; None for an instance key, which names one with each call.
    project: str | None
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    limits: KeyLimits = KeyLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was used, summed over everything that the fields which are None do not tell apart."""

    project: str | None = None
    key: str | None = None
    deployment: str | None = None
    model: str | None = None
    version: int | None = None
    #: The day in UTC: `2026-11-24`.
    day: str | None = None
    #: Requests that were let in, those that failed or were left by their client among them.
    requests: int
    errors: int
    #: Rows that were answered.
    rows: int
    bytes_in: int
    bytes_out: int
    #: The rows' share of the time in the runtime.
    compute_s: float


#: What usage can be told apart by.
USAGE_BY = ("key", "deployment", "version", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Files on their way into a data set."""

    id: str
    project: str
    files: tuple[FileRef, ...]
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One immutable state of a data set."""

    id: str
    dataset: str
    version: int
    fingerprint: str
    #: `dataset.json`, parsed to plain values.
    manifest: dict[str, Any]
    files: tuple[FileRef, ...]
    size_bytes: int
    job_id: str | None
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A named line of versions."""

    id: str
    project: str
    name: str
    created_at: float
    #: The newest version's number; 0 while its first import runs.
    latest_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of heavy work: `train`, `import-data`, …"""

    id: str
    project: str
    kind: str
    #: What it will make: the model's or data set's name; "" if nothing.
    makes: str
    params: dict[str, Any]
    state: JobState
    wish: JobWish
    #: 0 until first started; numbered in the UPDATE that starts it.
    attempt: int
    threads: int
    memory_limit_bytes: int | None
    time_limit_s: float | None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    #: The last `Progress` event, as plain values.
    progress: dict[str, Any] | None = None
    #: Why it failed: a `Failure` as plain values.
    failure: dict[str, Any] | None = None
    #: Notes of the job and the names of what it made (`model`, `version`).
    notes: dict[str, Any] = field(default_factory=dict)
    #: Input versions it stands on: role → dataset version id.
    inputs: dict[str, str] = field(default_factory=dict)
    #: Where the last checkpoint is; None before the first.
    checkpoint_step: int | None = None
    #: Why a queued job waits, for people.
    waiting_for: str | None = None
    #: Not to be started earlier than this (a pause after a worker was lost).
    not_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a job; only the newest may checkpoint or publish."""

    job_id: str
    number: int
    worker_id: str
    started_at: float
    ended_at: float | None
    #: Bytes of its event file already in the store.
    events_offset: int
    #: `OutcomeStatus` of the attempt once it ended.
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """One point of a job's curve."""

    name: str
    step: int
    value: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a job's log; `number` grows and is the cursor to read on from."""

    number: int
    at: float
    level: str
    text: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One immutable model package."""

    id: str
    model: str
    version: int
    #: `model.json`, parsed to plain values.
    manifest: dict[str, Any]
    files: tuple[FileRef, ...]
    size_bytes: int
    job_id: str | None
    dataset_version_id: str | None
    created_at: float
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A named line of versions with movable aliases."""

    id: str
    project: str
    name: str
    created_at: float
    latest_version: int
    #: Alias → version number.
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Another version of the same model that gets a share of the requests."""

    version: int
    model_version_id: str
    #: Share of the unpinned requests, 0 to 100.
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy a deployment was, summed over the web processes of this machine."""

    #: Requests under way now: waiting for a replica, and given to one.
    waiting: int = 0
    in_flight: int = 0
    #: Since the counters began.
    requests: int = 0
    queue_us: int = 0
    #: By the database's clock; 0.0 before the first.
    last_request_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model version that is to answer, and how."""

    id: str
    project: str
    name: str
    model: str
    #: The version that is wished.
    version: int
    model_version_id: str
    replicas: int
    max_batch: int
    threads: int
    #: The state column, written by the controller.
    state: DeploymentState
    wish: DeploymentWish
    #: Replicas ready now, of the wished version.
    ready_replicas: int
    created_at: float
    updated_at: float
    failure: dict[str, Any] | None = None
    #: Autoscaling keeps `replicas` between these two; equal ones mean a fixed number.
    min_replicas: int = 1
    max_replicas: int = 1
    #: After so many seconds without a request it stops, and the next request starts it; None: never.
    idle_s: float | None = None
    #: Requests worked on at once, and waiting beside them (or beside what the replicas run), at most; None: no bound.
    max_in_flight: int | None = None
    max_queue: int | None = None
    #: The deadline of requests that name none; None: the service's.
    deadline_s: float | None = None
    canary: Canary | None = None
    #: The version before the present one, for a rollback.
    previous_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One process that serves one model version for one deployment."""

    id: str
    deployment_id: str
    model_version_id: str
    version: int
    #: Rows per runtime call at most, and threads of its own, as it was started.
    max_batch: int
    threads: int
    worker_id: str
    state: ReplicaState
    address: str | None
    created_at: float
    ready_at: float | None = None
    ended_at: float | None = None
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTraffic:
    """What one version of a deployment did, beside the others; counted by this machine's web processes."""

    version: int
    #: `serving`, `canary`, or `before` for one that served and is counted still.
    role: Literal["serving", "canary", "before"]
    #: Its share of the unpinned requests as it is wished, 0 to 100.
    percent: float
    ready_replicas: int
    #: Requests answered well; answered with an error; refused over a limit.
    answered: int
    failed: int
    refused: int
    #: Of those answered well: the mean, and what 99 of 100 stay below; None before the first.
    mean_ms: float | None
    p99_ms: float | None
    #: The mean time they waited for the runtime.
    queue_ms: float | None
    #: Code → count.
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the gateway knows of one deployment; no row, but a view made for it in one read."""

    deployment_id: str
    project: str
    name: str
    state: DeploymentState
    model: str
    #: The wished version.
    version: int
    max_batch: int
    failure: dict[str, Any] | None
    #: Ready replicas to choose from: (replica id, version, address).
    replicas: tuple[tuple[str, int, str], ...]
    #: Version → the model's manifest (plain values), for signatures and labels.
    manifests: dict[int, dict[str, Any]]
    created_at: float = 0.0
    #: Version → share of the unpinned requests; empty: all go to the wished one.
    weights: tuple[tuple[int, float], ...] = ()
    #: The model's aliases, which some protocols call labels: alias → version.
    aliases: dict[str, int] = field(default_factory=dict)
    #: True: no replica may run now, and a request starts one.
    wakes: bool = False
    max_in_flight: int | None = None
    max_queue: int | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key as the gateway needs it: the secret's HMAC to compare with."""

    key: Key
    secret_hmac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that an inference request needs, read at one moment."""

    #: Grows with every change of routes or keys.
    number: int
    #: (project, deployment) → route.
    routes: dict[tuple[str, str], Route]
    #: Public id → key.
    keys: dict[str, KeyRow]
