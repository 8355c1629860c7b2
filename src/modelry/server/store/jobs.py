"""Jobs: what is wished of them (the web's part) and their state (the leading controller's).

The state moves only by the table in `core/states.py`; each move is an UPDATE guarded by the state it comes from.
What happens inside an attempt is in `attempts.py`; this module hands its functions on.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from modelry.core.errors import IllegalMove, InUse, NotFound
from modelry.core.ids import new_id
from modelry.core.jobs import MAKES
from modelry.core.records import Job
from modelry.core.states import JobState, JobWish, move
from modelry.server.store import projects as project_rows
from modelry.server.store.attempts import (
    append_events,
    count_lost,
    current_attempt,
    end_attempt,
    get_checkpoint,
    start_attempt,
)
from modelry.server.store.naming import normal
from modelry.server.store.tables import (
    checkpoints,
    dataset_versions,
    datasets,
    job_inputs,
    jobs,
    model_versions,
    models,
    projects,
    uploads,
)
from modelry.server.store.transaction import Transaction

__all__ = [
    "append_events",
    "count_lost",
    "create",
    "current_attempt",
    "delete",
    "end_attempt",
    "get",
    "get_by_id",
    "get_checkpoint",
    "hold_until",
    "list",
    "list_unfinished",
    "makers",
    "readers",
    "set_state",
    "set_waiting",
    "set_wish",
    "sources_in_use",
    "start_attempt",
]

_SELECT = (
    sa.select(jobs, projects.c.name.label("project"), checkpoints.c.step.label("checkpoint_step"))
    .join(projects, projects.c.id == jobs.c.project_id)
    .outerjoin(checkpoints, checkpoints.c.job_id == jobs.c.id)
)
_unfinished = jobs.c.state.in_([state.value for state in JobState if not state.is_final])


def create(
    tx: Transaction,
    *,
    project: str,
    kind: str,
    makes: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    threads: int,
    memory_limit_bytes: int | None,
    time_limit_s: float | None,
) -> Job:
    """A queued job. Its inputs (role → version or upload) cannot be deleted until it is finished."""
    project_id = project_rows.id_of(tx, project)
    for source_id in inputs.values():
        _hold_input(tx, project_id, source_id)
    job_id = new_id("job")
    tx.insert(
        jobs,
        {
            "id": job_id,
            "project_id": project_id,
            "kind": kind,
            "makes": makes,
            "params": dict(params),
            "state": JobState.QUEUED.value,
            "wish": JobWish.RUN.value,
            "attempt": 0,
            "threads": threads,
            "memory_limit_bytes": memory_limit_bytes,
            "time_limit_s": time_limit_s,
            "created_at": tx.now(),
            "notes": {},
            "log_lines": 0,
        },
    )
    rows = [
        {"job_id": job_id, "role": role, "source_id": source_id}
        for role, source_id in inputs.items()
    ]
    tx.insert_all(job_inputs, rows)
    return get_by_id(tx, job_id)


def _hold_input(tx: Transaction, project_id: str, source_id: str) -> None:
    """Raises `NotFound` unless the project has it; then it stays until the transaction ends."""
    version = (
        sa.select(dataset_versions.c.id)
        .join(datasets, datasets.c.id == dataset_versions.c.dataset_id)
        .where(dataset_versions.c.id == source_id, datasets.c.project_id == project_id)
    )
    upload = sa.select(uploads.c.id).where(
        uploads.c.id == source_id, uploads.c.project_id == project_id
    )
    model = (
        sa.select(model_versions.c.id)
        .join(models, models.c.id == model_versions.c.model_id)
        .where(model_versions.c.id == source_id, models.c.project_id == project_id)
    )
    found = (
        tx.held(version, dataset_versions).all()
        or tx.held(upload, uploads).all()
        or tx.held(model, model_versions).all()
    )
    if not found:
        raise NotFound(noun="input", name=source_id)


def get(tx: Transaction, project: str, job_id: str) -> Job:
    """Raises `NotFound`, also for a job of another project."""
    project_id = project_rows.id_of(tx, project)
    return _one(tx, job_id, _SELECT.where(jobs.c.id == job_id, jobs.c.project_id == project_id))


def get_by_id(tx: Transaction, job_id: str) -> Job:
    """A job of whatever project. Raises `NotFound`."""
    return _one(tx, job_id, _SELECT.where(jobs.c.id == job_id))


def list(
    tx: Transaction,
    project: str,
    *,
    state: JobState | None = None,
    kind: str | None = None,
    limit: int = 100,
    before: str | None = None,
) -> builtins.list[Job]:
    """The newest first; `before` is the id of the last job of the page before this one."""
    statement = _SELECT.where(jobs.c.project_id == project_rows.id_of(tx, project))
    if state is not None:
        statement = statement.where(jobs.c.state == state.value)
    if kind is not None:
        statement = statement.where(jobs.c.kind == kind)
    if before is not None:
        get(tx, project, before)
        edge = sa.select(jobs.c.number).where(jobs.c.id == before).scalar_subquery()
        statement = statement.where(jobs.c.number < edge)
    return _records(tx, statement.order_by(jobs.c.number.desc()).limit(limit))


def list_unfinished(tx: Transaction) -> builtins.list[Job]:
    """Of all projects, the oldest first."""
    return _records(tx, _SELECT.where(_unfinished).order_by(jobs.c.number))


def set_wish(tx: Transaction, project: str, job_id: str, wish: JobWish) -> Job:
    """What the job is to do. Raises `IllegalMove` when it is finished, or another wish follows a cancel."""
    job = get(tx, project, job_id)
    row = _locked(tx, job.id)
    is_final, is_cancelled = JobState(row.state).is_final, row.wish == JobWish.CANCEL.value
    if is_final or (is_cancelled and wish is not JobWish.CANCEL):
        state = row.state if is_final else "being cancelled"
        raise IllegalMove(noun="job", state=state, target=f"one to {wish.value}")
    tx.change(sa.update(jobs).where(jobs.c.id == job.id).values(wish=wish.value))
    return get_by_id(tx, job.id)


def delete(tx: Transaction, project: str, job_id: str) -> None:
    """With its log and curves; what it made stays. Raises `InUse` while it is not finished."""
    job = get(tx, project, job_id)
    row = _locked(tx, job.id)
    if not JobState(row.state).is_final:
        raise InUse(
            noun="job", name=job_id, users=f"its own work ({row.state})", remedy="Cancel it first."
        )
    tx.change(sa.delete(jobs).where(jobs.c.id == job.id))


def set_state(
    tx: Transaction,
    job_id: str,
    target: JobState,
    *,
    failure: dict[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """One move of the table, else `IllegalMove`; notes are added to those it has.

    A finished job has the failure given here or none: what went wrong on the way there is over.
    """
    row = _locked(tx, job_id)
    move(JobState(row.state), target)
    values: dict[str, Any] = {"state": target.value, "waiting_for": None}
    if failure is not None or target.is_final:
        values["failure"] = failure
    if notes:
        values["notes"] = {**row.notes, **notes}
    if target.is_final:
        values |= {"finished_at": tx.now(), "not_before": None}
    tx.change(sa.update(jobs).where(jobs.c.id == job_id).values(**values))


def set_waiting(tx: Transaction, job_id: str, reason: str | None) -> None:
    """Says why a job waits; it changes nothing else."""
    tx.change(sa.update(jobs).where(jobs.c.id == job_id).values(waiting_for=reason))


def hold_until(tx: Transaction, job_id: str, seconds: float) -> None:
    """The job is not to be started earlier than `seconds` from now."""
    tx.change(sa.update(jobs).where(jobs.c.id == job_id).values(not_before=tx.now() + seconds))


def readers(tx: Transaction, source_ids: Collection[str]) -> builtins.list[str]:
    """The unfinished jobs that read any of these versions or uploads, in words."""
    reading = sa.select(job_inputs.c.job_id).where(job_inputs.c.source_id.in_(source_ids))
    statement = sa.select(jobs.c.id, jobs.c.state).where(_unfinished, jobs.c.id.in_(reading))
    return _in_words(tx, statement.order_by(jobs.c.number))


def makers(tx: Transaction, noun: str, project: str, name: str) -> builtins.list[str]:
    """The unfinished jobs that are to add a version to this data set or model, in words."""
    statement = sa.select(jobs.c.id, jobs.c.state).where(
        _unfinished,
        jobs.c.project_id == project_rows.id_of(tx, project),
        jobs.c.makes == normal(name),
        jobs.c.kind.in_([kind for kind, made in MAKES.items() if made == noun]),
    )
    return _in_words(tx, statement.order_by(jobs.c.number))


def sources_in_use(tx: Transaction) -> set[str]:
    """Every version and upload that an unfinished job reads."""
    statement = sa.select(job_inputs.c.source_id).join(jobs, jobs.c.id == job_inputs.c.job_id)
    return set(tx.execute(statement.where(_unfinished)).scalars())


def _in_words(tx: Transaction, statement: sa.Select[str, str]) -> builtins.list[str]:
    return [f"job '{job_id}' ({state})" for job_id, state in tx.execute(statement)]


def _locked(tx: Transaction, job_id: str) -> sa.Row[*tuple[Any, ...]]:
    row = tx.execute(sa.select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(noun="job", name=job_id)
    return row


def _one(tx: Transaction, job_id: str, statement: sa.Select[*tuple[Any, ...]]) -> Job:
    found = _records(tx, statement)
    if not found:
        raise NotFound(noun="job", name=job_id)
    return found[0]


def _records(tx: Transaction, statement: sa.Select[*tuple[Any, ...]]) -> builtins.list[Job]:
    rows = tx.execute(statement).all()
    inputs = _inputs(tx, [row.id for row in rows])
    return [_record(row, inputs.get(row.id, {})) for row in rows]


def _inputs(tx: Transaction, job_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in tx.execute(sa.select(job_inputs).where(job_inputs.c.job_id.in_(job_ids))):
        found.setdefault(row.job_id, {})[row.role] = row.source_id
    return found


def _record(row: sa.Row[*tuple[Any, ...]], inputs: dict[str, str]) -> Job:
    return Job(
        id=row.id,
        project=row.project,
        kind=row.kind,
        makes=row.makes,
        params=row.params,
        state=JobState(row.state),
        wish=JobWish(row.wish),
        attempt=row.attempt,
        threads=row.threads,
        memory_limit_bytes=row.memory_limit_bytes,
        time_limit_s=row.time_limit_s,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=row.progress,
        failure=row.failure,
        notes=row.notes,
        inputs=inputs,
        checkpoint_step=row.checkpoint_step,
        waiting_for=row.waiting_for,
        not_before=row.not_before,
    )
