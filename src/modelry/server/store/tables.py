"""The tables. Their history is in `migrations/`; a test holds both equal.

Names are unique within a project. What a row was *made from* (a job, a data set version) is kept as a plain id
without a foreign key, because lineage outlives what it names. Everything that belongs to a row goes with it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Named,
    Table,
    Text,
    TypedColumns,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: A row number of its own; SQLite grows one only for a column called exactly INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")


class Json(TypeDecorator[Any]):
    """Plain values as JSON text: the same bytes in every database, and NaN becomes null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


class LeaseColumns(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    holder: Named[str]
    #: Grows by one with each new leader.
    epoch: Named[int] = Column(BigInteger)
    acquired_at: Named[float]
    expires_at: Named[float]


class CounterColumns(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    value: Named[int] = Column(BigInteger)


class ProjectColumns(TypedColumns):
    id: Named[str] = Column(primary_key=True)
    name: Named[str] = Column(unique=True)
    created_at: Named[float]


class KeyColumns(TypedColumns):
    id: Named[str] = Column(primary_key=True)
    label: Named[str]
    #: Null for an instance key.
    project_id: Named[str | None] = Column(
        ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    scopes: Named[list[str]] = Column(Json)
    secret_hmac: Named[bytes]
    created_at: Named[float]
    expires_at: Named[float | None]
    revoked_at: Named[float | None]
    #: The fields of `KeyLimits` that are set; null for none.
    limits: Named[dict[str, Any] | None] = Column(Json)


class UploadColumns(TypedColumns):
    id: Named[str] = Column(primary_key=True)
    project_id: Named[str] = Column(ForeignKey("projects.id"), index=True)
    #: An upload is kept this long after its last file.
    ttl_s: Named[float]
    created_at: Named[float]
    expires_at: Named[float]


class UploadFileColumns(TypedColumns):
    upload_id: Named[str] = Column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    path: Named[str] = Column(primary_key=True)
    digest: Named[str]
    size_bytes: Named[int] = Column(BigInteger)


class LineColumns(TypedColumns):
    """A named line of versions: data sets and models."""

    id: Named[str] = Column(primary_key=True)
    project_id: Named[str] = Column(ForeignKey("projects.id"))
    name: Named[str]
    created_at: Named[float]
    #: The largest number ever given to a version; a number is never used again.
    numbered: Named[int]


class DatasetVersionColumns(TypedColumns):
    id: Named[str] = Column(primary_key=True)
    dataset_id: Named[str] = Column(ForeignKey("datasets.id", ondelete="CASCADE"))
    version: Named[int]
    fingerprint: Named[str]
    manifest: Named[dict[str, Any]] = Column(Json)
    files: Named[list[dict[str, Any]]] = Column(Json)
    size_bytes: Named[int] = Column(BigInteger)
    job_id: Named[str | None]
    created_at: Named[float]


class ModelVersionColumns(TypedColumns):
    id: Named[str] = Column(primary_key=True)
    model_id: Named[str] = Column(ForeignKey("models.id", ondelete="CASCADE"))
    version: Named[int]
    manifest: Named[dict[str, Any]] = Column(Json)
    files: Named[list[dict[str, Any]]] = Column(Json)
    size_bytes: Named[int] = Column(BigInteger)
    job_id: Named[str | None]
    dataset_version_id: Named[str | None]
    created_at: Named[float]


class ModelAliasColumns(TypedColumns):
    model_id: Named[str] = Column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    alias: Named[str] = Column(primary_key=True)
    version_id: Named[str] = Column(ForeignKey("model_versions.id", ondelete="CASCADE"), index=True)


class JobColumns(TypedColumns):
    #: The order of acceptance.
    number: Named[int] = Column(RowNumber, primary_key=True)
    id: Named[str] = Column(unique=True)
    project_id: Named[str] = Column(ForeignKey("projects.id"))
    kind: Named[str]
    makes: Named[str]
    params: Named[dict[str, Any]] = Column(Json)
    state: Named[str] = Column(index=True)
    wish: Named[str]
    attempt: Named[int]
    threads: Named[int]
    memory_limit_bytes: Named[int | None] = Column(BigInteger)
    time_limit_s: Named[float | None]
    created_at: Named[float]
    started_at: Named[float | None]
    finished_at: Named[float | None]
    not_before: Named[float | None]
    progress: Named[dict[str, Any] | None] = Column(Json)
    failure: Named[dict[str, Any] | None] = Column(Json)
    notes: Named[dict[str, Any]] = Column(Json)
    waiting_for: Named[str | None]
    #: Lines of log so far; the next one's number is one more.
    log_lines: Named[int]


class JobInputColumns(TypedColumns):
    job_id: Named[str] = Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    role: Named[str] = Column(primary_key=True)
    #: A data set version or an upload.
    source_id: Named[str] = Column(index=True)


class AttemptColumns(TypedColumns):
    job_id: Named[str] = Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Named[int] = Column(primary_key=True)
    worker_id: Named[str]
    started_at: Named[float]
    ended_at: Named[float | None]
    events_offset: Named[int] = Column(BigInteger)
    outcome: Named[str | None]
    #: The checkpoint it went on from, and the last one it wrote itself.
    from_step: Named[int | None] = Column(BigInteger)
    checkpoint_step: Named[int | None] = Column(BigInteger)


class CheckpointColumns(TypedColumns):
    job_id: Named[str] = Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Named[int]
    step: Named[int] = Column(BigInteger)
    files: Named[list[dict[str, Any]]] = Column(Json)
    created_at: Named[float]


class MetricColumns(TypedColumns):
    job_id: Named[str] = Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Named[str] = Column(primary_key=True)
    step: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    value: Named[float]
    at: Named[float]
    attempt: Named[int]


class LogColumns(TypedColumns):
    job_id: Named[str] = Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Named[int] = Column(primary_key=True, autoincrement=False)
    at: Named[float]
    level: Named[str]
    text: Named[str]
    attempt: Named[int]


class DeploymentColumns(TypedColumns):
    id: Named[str] = Column(primary_key=True)
    project_id: Named[str] = Column(ForeignKey("projects.id"))
    name: Named[str]
    model_version_id: Named[str] = Column(ForeignKey("model_versions.id"), index=True)
    replicas: Named[int]
    max_batch: Named[int]
    threads: Named[int]
    state: Named[str]
    wish: Named[str]
    created_at: Named[float]
    updated_at: Named[float]
    failure: Named[dict[str, Any] | None] = Column(Json)
    min_replicas: Named[int]
    max_replicas: Named[int]
    idle_s: Named[float | None]
    max_in_flight: Named[int | None]
    max_queue: Named[int | None]
    deadline_s: Named[float | None]
    canary_version_id: Named[str | None] = Column(ForeignKey("model_versions.id"), index=True)
    canary_percent: Named[float | None]
    #: A number, not a row: the version may be deleted meanwhile.
    previous_version: Named[int | None]
    #: The routes number of the last change that gateways have to hear of.
    changed: Named[int] = Column(BigInteger, index=True)


class ReplicaColumns(TypedColumns):
    #: The order of creation.
    number: Named[int] = Column(RowNumber, primary_key=True)
    id: Named[str] = Column(unique=True)
    deployment_id: Named[str] = Column(ForeignKey("deployments.id", ondelete="CASCADE"), index=True)
    model_version_id: Named[str] = Column(
        ForeignKey("model_versions.id", ondelete="CASCADE"), index=True
    )
    max_batch: Named[int]
    threads: Named[int]
    worker_id: Named[str]
    state: Named[str] = Column(index=True)
    address: Named[str | None]
    created_at: Named[float]
    ready_at: Named[float | None]
    ended_at: Named[float | None]
    failure: Named[dict[str, Any] | None] = Column(Json)


class UsageColumns(TypedColumns):
    """What a key used of a version in an hour. It outlives key, deployment and project."""

    #: Empty where the project was gone before its last use came in.
    project_id: Named[str] = Column(primary_key=True)
    key_id: Named[str] = Column(primary_key=True)
    deployment_id: Named[str] = Column(primary_key=True)
    version: Named[int] = Column(primary_key=True, autoincrement=False)
    #: Hours since the epoch (UTC).
    hour: Named[int] = Column(primary_key=True, autoincrement=False)
    deployment: Named[str]
    model: Named[str]
    requests: Named[int] = Column(BigInteger)
    errors: Named[int] = Column(BigInteger)
    rows: Named[int] = Column(BigInteger)
    bytes_in: Named[int] = Column(BigInteger)
    bytes_out: Named[int] = Column(BigInteger)
    compute_us: Named[int] = Column(BigInteger)


class UsageJournalColumns(TypedColumns):
    """How far a web process's journal has been read."""

    name: Named[str] = Column(primary_key=True)
    offset: Named[int] = Column(BigInteger)


leases = Table("leases", metadata, LeaseColumns)
counters = Table("counters", metadata, CounterColumns)
projects = Table("projects", metadata, ProjectColumns)
keys = Table("keys", metadata, KeyColumns)
uploads = Table("uploads", metadata, UploadColumns)
upload_files = Table("upload_files", metadata, UploadFileColumns)
datasets = Table("datasets", metadata, LineColumns, UniqueConstraint("project_id", "name"))
dataset_versions = Table(
    "dataset_versions",
    metadata,
    DatasetVersionColumns,
    UniqueConstraint("dataset_id", "version"),
    UniqueConstraint("dataset_id", "fingerprint"),
)
models = Table("models", metadata, LineColumns, UniqueConstraint("project_id", "name"))
model_versions = Table(
    "model_versions",
    metadata,
    ModelVersionColumns,
    UniqueConstraint("model_id", "version"),
    UniqueConstraint("model_id", "job_id"),
)
model_aliases = Table("model_aliases", metadata, ModelAliasColumns)
jobs = Table(
    "jobs",
    metadata,
    JobColumns,
    Index(None, "project_id", "number"),
    sqlite_autoincrement=True,
)
job_inputs = Table("job_inputs", metadata, JobInputColumns)
attempts = Table("attempts", metadata, AttemptColumns)
checkpoints = Table("checkpoints", metadata, CheckpointColumns)
metrics = Table("metrics", metadata, MetricColumns, sqlite_with_rowid=False)
logs = Table("logs", metadata, LogColumns, sqlite_with_rowid=False)
#: What the controller looks at although no replica of it lives: all but the stopped and the idle ones.
UNSETTLED = text(
    "NOT (replicas = 0 AND"
    " (wish = 'stop' AND state = 'stopped' OR wish = 'run' AND state = 'idle'))"
)
deployments = Table(
    "deployments",
    metadata,
    DeploymentColumns,
    UniqueConstraint("project_id", "name"),
    Index("ix_deployments_unsettled", "id", sqlite_where=UNSETTLED, postgresql_where=UNSETTLED),
)
replicas = Table("replicas", metadata, ReplicaColumns, sqlite_autoincrement=True)
usage = Table(
    "usage",
    metadata,
    UsageColumns,
    Index(None, "key_id", "hour"),
    Index(None, "project_id", "hour"),
    sqlite_with_rowid=False,
)
usage_journals = Table("usage_journals", metadata, UsageJournalColumns)
