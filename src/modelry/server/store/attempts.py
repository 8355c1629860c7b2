"""Attempts: one row for each try at a job. Only the newest may add events or a checkpoint.

Events arrive in chunks of an append-only file. A chunk's rows and the offset behind it are written together, so a
chunk that is handed in twice is stored once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from modelry.core.errors import IllegalMove, NotFound, StaleEpoch
from modelry.core.events import Checkpoint, Event, Log, Metric, Note, Opened, Progress
from modelry.core.files import FileRef
from modelry.core.records import Attempt
from modelry.core.specs import OutcomeStatus
from modelry.core.states import JobState
from modelry.server.store.file_rows import from_row, to_row
from modelry.server.store.tables import attempts, checkpoints, jobs, logs, metrics
from modelry.server.store.transaction import Transaction


def start_attempt(tx: Transaction, job_id: str) -> Attempt:
    """Moves a queued job to `starting` and numbers the attempt, in one UPDATE; else `IllegalMove`."""
    number = tx.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED.value)
        .values(
            state=JobState.STARTING.value,
            attempt=jobs.c.attempt + 1,
            started_at=sa.func.coalesce(jobs.c.started_at, tx.now()),
            waiting_for=None,
            not_before=None,
        )
        .returning(jobs.c.attempt)
    ).scalar_one_or_none()
    if number is None:
        raise _not_queued(tx, job_id)
    step = sa.select(checkpoints.c.step).where(checkpoints.c.job_id == job_id)
    tx.insert(
        attempts,
        {
            "job_id": job_id,
            "number": number,
            "worker_id": f"{job_id}-{number}",
            "started_at": tx.now(),
            "events_offset": 0,
            "from_step": tx.execute(step).scalar_one_or_none(),
        },
    )
    return _get(tx, job_id, number)


def _not_queued(tx: Transaction, job_id: str) -> IllegalMove | NotFound:
    statement = sa.select(jobs.c.state).where(jobs.c.id == job_id)
    state = tx.execute(statement).scalar_one_or_none()
    if state is None:
        return NotFound(noun="job", name=job_id)
    return IllegalMove(noun="job", state=state, target=JobState.STARTING.value)


def current_attempt(tx: Transaction, job_id: str) -> Attempt | None:
    """The newest attempt; None before the first."""
    newest = sa.select(attempts).where(attempts.c.job_id == job_id)
    row = tx.execute(newest.order_by(attempts.c.number.desc()).limit(1)).one_or_none()
    return _record(row) if row else None


def end_attempt(tx: Transaction, job_id: str, number: int, outcome: str) -> None:
    """Records how an attempt ended; a second, different end is an `IllegalMove`."""
    changed = tx.change(
        sa.update(attempts)
        .where(
            attempts.c.job_id == job_id,
            attempts.c.number == number,
            attempts.c.ended_at.is_(None),
        )
        .values(ended_at=tx.now(), outcome=outcome)
    )
    if changed == 1:
        return
    attempt = _get(tx, job_id, number)
    if attempt.outcome != outcome:
        raise IllegalMove(noun="attempt", state=attempt.outcome, target=outcome)


def get_checkpoint(tx: Transaction, job_id: str) -> list[FileRef] | None:
    """The files of the newest checkpoint, whichever attempt wrote it."""
    statement = sa.select(checkpoints.c.files).where(checkpoints.c.job_id == job_id)
    files = tx.execute(statement).scalar_one_or_none()
    return None if files is None else list(from_row(files))


def count_lost(tx: Transaction, job_id: str) -> int:
    """How many ended attempts in a row, up to the newest, were lost without getting any further."""
    ended = sa.select(attempts).where(attempts.c.job_id == job_id, attempts.c.ended_at.is_not(None))
    count = 0
    for row in tx.execute(ended.order_by(attempts.c.number.desc())):
        got_further = row.checkpoint_step is not None and (
            row.from_step is None or row.checkpoint_step > row.from_step
        )
        if row.outcome != OutcomeStatus.LOST.value or got_further:
            break
        count += 1
    return count


def append_events(
    tx: Transaction,
    job_id: str,
    attempt: int,
    events: Sequence[Event],
    next_offset: int,
    *,
    offset: int | None = None,
) -> bool:
    """Stores a chunk of the attempt's event file that ends at `next_offset`; False if it was stored before.

    With `offset`, where the chunk begins, a chunk that does not join on to what is stored is passed over too.
    Raises `StaleEpoch` for an attempt that is not the newest.
    """
    job = _locked_job(tx, job_id)
    if job.attempt != attempt:
        raise StaleEpoch(
            f"Attempt {attempt} of the job '{job_id}' is over; {job.attempt} is the newest.",
            epoch=attempt,
            current=job.attempt,
        )
    known = tx.execute(
        sa.select(attempts).where(attempts.c.job_id == job_id, attempts.c.number == attempt)
    ).one()
    if next_offset <= known.events_offset or offset not in (None, known.events_offset):
        return False
    chunk = _Chunk.of(events)
    _store_metrics(tx, job_id, attempt, known.from_step, chunk)
    _store_logs(tx, job_id, attempt, job.log_lines, chunk)
    _store_checkpoint(tx, job_id, attempt, chunk)
    _store_summary(tx, job, chunk)
    values: dict[str, Any] = {"events_offset": next_offset}
    if chunk.checkpoint is not None:
        values["checkpoint_step"] = chunk.checkpoint.step
    tx.change(
        sa.update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.number == attempt)
        .values(**values)
    )
    return True


@dataclass(slots=True)
class _Chunk:
    """Events by what becomes of them."""

    progress: Progress | None = None
    #: By key, so that one statement never meets a row twice.
    metrics: dict[tuple[str, int], Metric] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    opened: list[Opened] = field(default_factory=list)
    checkpoint: Checkpoint | None = None

    @classmethod
    def of(cls, events: Sequence[Event]) -> _Chunk:
        chunk = cls()
        for event in events:
            match event:
                case Progress():
                    chunk.progress = event
                case Metric():
                    chunk.metrics[event.name, event.step] = event
                case Log():
                    chunk.logs.append(event)
                case Note():
                    chunk.notes[event.name] = event.value
                case Opened():
                    chunk.opened.append(event)
                case Checkpoint():
                    chunk.checkpoint = event
        return chunk


def _store_metrics(
    tx: Transaction, job_id: str, attempt: int, from_step: int | None, chunk: _Chunk
) -> None:
    # No database keeps NaN and infinity alike, and no curve can show them.
    points = [point for point in chunk.metrics.values() if math.isfinite(point.value)]
    if attempt > 1:
        _drop_overtaken(tx, job_id, attempt, from_step, points)
    tx.upsert_all(
        metrics,
        [
            {
                "job_id": job_id,
                "name": _storable(point.name),
                "step": point.step,
                "value": point.value,
                "at": point.at,
                "attempt": attempt,
            }
            for point in points
        ],
    )


def _drop_overtaken(
    tx: Transaction, job_id: str, attempt: int, from_step: int | None, points: Sequence[Metric]
) -> None:
    """Removes earlier attempts' points of the stretch that this attempt has gone through again.

    Points are means over time, so two attempts have them at different steps: both together would be no curve.
    """
    reached: dict[str, int] = {}
    for point in points:
        reached[point.name] = max(point.step, reached.get(point.name, point.step))
    for name, step in reached.items():
        tx.change(
            sa.delete(metrics).where(
                metrics.c.job_id == job_id,
                metrics.c.name == _storable(name),
                metrics.c.step > (-1 if from_step is None else from_step),
                metrics.c.step <= step,
                metrics.c.attempt < attempt,
            )
        )


def _store_logs(
    tx: Transaction, job_id: str, attempt: int, lines_so_far: int, chunk: _Chunk
) -> None:
    rows = [
        {
            "job_id": job_id,
            "number": number,
            "at": line.at,
            "level": _storable(line.level),
            "text": _storable(line.text),
            "attempt": attempt,
        }
        for number, line in enumerate(chunk.logs, start=lines_so_far + 1)
    ]
    tx.insert_all(logs, rows)


def _store_checkpoint(tx: Transaction, job_id: str, attempt: int, chunk: _Chunk) -> None:
    if chunk.checkpoint is None:
        return
    row = {
        "job_id": job_id,
        "attempt": attempt,
        "step": chunk.checkpoint.step,
        "files": to_row(chunk.checkpoint.files),
        "created_at": chunk.checkpoint.at,
    }
    tx.upsert_all(checkpoints, [row])


def _store_summary(tx: Transaction, job: sa.Row[*tuple[Any, ...]], chunk: _Chunk) -> None:
    """What the job's own row says of it: progress, notes, splits opened, the number of log lines."""
    values: dict[str, Any] = {}
    if chunk.progress is not None:
        values["progress"] = msgspec.structs.asdict(chunk.progress)
    if chunk.logs:
        values["log_lines"] = job.log_lines + len(chunk.logs)
    if chunk.notes or chunk.opened:
        values["notes"] = {**job.notes, **chunk.notes}
    if chunk.opened:
        values["notes"]["opened"] = _count_opened(job.notes.get("opened", {}), chunk.opened)
    if values:
        tx.change(sa.update(jobs).where(jobs.c.id == job.id).values(**values))


def _count_opened(
    before: dict[str, dict[str, int]], opened: Sequence[Opened]
) -> dict[str, dict[str, int]]:
    """Split → its rows and how often it was read, over all attempts."""
    counted = dict(before)
    for event in opened:
        times = counted.get(event.split, {}).get("times", 0)
        counted[event.split] = {"rows": event.rows, "times": times + 1}
    return counted


def _storable(text: str) -> str:
    """PostgreSQL has no NUL character, and no database keeps half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _locked_job(tx: Transaction, job_id: str) -> sa.Row[*tuple[Any, ...]]:
    statement = sa.select(jobs.c.id, jobs.c.attempt, jobs.c.notes, jobs.c.log_lines)
    row = tx.execute(statement.where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(noun="job", name=job_id)
    return row


def _get(tx: Transaction, job_id: str, number: int) -> Attempt:
    statement = sa.select(attempts).where(attempts.c.job_id == job_id, attempts.c.number == number)
    row = tx.execute(statement).one_or_none()
    if row is None:
        raise NotFound(noun="attempt", name=f"{job_id}-{number}")
    return _record(row)


def _record(row: sa.Row[*tuple[Any, ...]]) -> Attempt:
    return Attempt(
        job_id=row.job_id,
        number=row.number,
        worker_id=row.worker_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        events_offset=row.events_offset,
        outcome=row.outcome,
    )
