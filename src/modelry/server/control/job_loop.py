"""Which jobs run: what each should do next (`plan`, pure) and doing it (`JobLoop`).

A job's worker is ordered in two steps, so that a controller killed between them loses nothing: first the row
says `starting` with a new attempt, then the agent is told; a `starting` job that no agent knows is ordered again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from modelry.core.errors import ModelryError, WorkerLost, to_wire
from modelry.core.jobs import MAKES
from modelry.core.records import Attempt, Job
from modelry.core.results import made_dataset, made_model
from modelry.core.specs import (
    Failure,
    JobSpec,
    Limits,
    Outcome,
    OutcomeStatus,
    StopReason,
    WorkerStatus,
)
from modelry.core.states import JobState, JobWish
from modelry.server.compute.base import Backend
from modelry.server.control.trouble import EVERYBODYS, as_failure, as_known
from modelry.server.store import Store, Transaction, attempts, datasets, jobs, models, uploads

log = logging.getLogger(__name__)

#: How often in a row a worker may vanish without a new checkpoint before its job fails.
LOST_LIMIT = 5
#: First pause before a lost job starts again; doubles each time.
LOST_PAUSE_S = 0.25
#: Kinds that use their threads all the time: two of them on the same cores only get in each other's way.
COMPUTING = frozenset({"train", "predict-batch"})
#: How long a worker may take to checkpoint and end before it is killed.
STOP_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class JobView:
    """One unfinished job as seen at one moment."""

    job: Job
    attempt: Attempt | None
    #: What the agent knows of the newest attempt's worker; None if it knows nothing.
    status: WorkerStatus | None


@dataclass(frozen=True, slots=True)
class Move:
    """Write another state, without any worker."""

    job: Job
    target: JobState


@dataclass(frozen=True, slots=True)
class Wait:
    """Say why the job waits."""

    job: Job
    reason: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a new attempt."""

    job: Job


@dataclass(frozen=True, slots=True)
class Order:
    """Tell the agent (again) to start the newest attempt."""

    job: Job
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the worker to end."""

    job: Job
    worker_id: str
    reason: StopReason


@dataclass(frozen=True, slots=True)
class End:
    """The newest attempt has ended like this."""

    job: Job
    attempt: Attempt
    outcome: Outcome


Action = Move | Wait | Begin | Order | Stop | End

LOST = Outcome(status=OutcomeStatus.LOST)


@dataclass(frozen=True, slots=True)
class Room:
    """What is free for jobs that are to begin."""

    slots: int
    #: Cores that no training uses. Small jobs need none: they do not wait behind a long training.
    cores: int

    def without(self, job: Job) -> Room:
        """What is left beside this job."""
        return Room(self.slots - 1, self.cores - (job.threads if job.kind in COMPUTING else 0))

    def lacks(self, job: Job, *, is_idle: bool) -> str | None:
        """What keeps the job waiting, for people; a job that is larger than the machine runs alone."""
        if self.slots < 1:
            return "a free job slot (MODELRY_JOB_SLOTS)"
        if job.kind in COMPUTING and job.threads > self.cores and not is_idle:
            return f"{job.threads} free cores"
        return None


def plan(views: Sequence[JobView], room: Room, *, now: float) -> list[Action]:
    """What to do next, oldest job first; decides without doing."""
    actions: list[Action] = []
    is_idle = True
    for view in views:
        if view.job.state.is_active:
            room = room.without(view.job)
            is_idle &= view.job.kind not in COMPUTING
    for view in views:
        if view.job.state.is_active:
            actions.extend(_plan_active(view))
            continue
        action = _plan_waiting(view.job, room.lacks(view.job, is_idle=is_idle), now)
        if isinstance(action, Begin):
            room = room.without(view.job)
            is_idle &= view.job.kind not in COMPUTING
        if action is not None:
            actions.append(action)
    return actions


def _plan_waiting(job: Job, lacking: str | None, now: float) -> Action | None:
    if job.wish is JobWish.CANCEL:
        return Move(job, JobState.CANCELLED)
    if job.state is JobState.PAUSED:
        return Move(job, JobState.QUEUED) if job.wish is JobWish.RUN else None
    if job.wish is JobWish.PAUSE:
        return Move(job, JobState.PAUSED)
    if job.not_before is not None and job.not_before > now:
        return _wait(job, "a pause after its worker was lost")
    return Begin(job) if lacking is None else _wait(job, lacking)


def _wait(job: Job, reason: str) -> Wait | None:
    return None if job.waiting_for == reason else Wait(job, reason)


def _plan_active(view: JobView) -> list[Action]:
    job, attempt, status = view.job, view.attempt, view.status
    if attempt is None:
        return [Move(job, JobState.QUEUED)]
    if status is None:
        return [_plan_unknown(job, attempt)]
    if not status.is_alive:
        return [End(job, attempt, status.outcome or LOST)]
    actions: list[Action] = []
    if job.state is JobState.STARTING:
        actions.append(Move(job, JobState.RUNNING))
    if job.wish is not JobWish.RUN:
        reason = StopReason.CANCEL if job.wish is JobWish.CANCEL else StopReason.PAUSE
        actions.append(Stop(job, attempt.worker_id, reason))
    return actions


def _plan_unknown(job: Job, attempt: Attempt) -> Action:
    """No agent knows the worker: it is lost, or it never came to be and is made, if it is still wished for."""
    if job.state is JobState.RUNNING:
        return End(job, attempt, LOST)
    if job.wish is JobWish.RUN:
        return Order(job, attempt)
    is_cancelled = job.wish is JobWish.CANCEL
    status = OutcomeStatus.CANCELLED if is_cancelled else OutcomeStatus.PAUSED
    return End(job, attempt, Outcome(status=status))


def state_after(outcome: Outcome, wish: JobWish, lost: int) -> JobState:
    """Where a job goes when an attempt ended; `lost` counts the attempts lost in a row, this one included."""
    after = {
        OutcomeStatus.SUCCEEDED: JobState.SUCCEEDED,
        OutcomeStatus.FAILED: JobState.FAILED,
        OutcomeStatus.CANCELLED: JobState.CANCELLED,
    }
    if outcome.status in after:
        return after[outcome.status]
    if wish is JobWish.CANCEL:
        return JobState.CANCELLED
    if wish is JobWish.PAUSE:
        return JobState.PAUSED
    too_often = outcome.status is OutcomeStatus.LOST and lost >= LOST_LIMIT
    return JobState.FAILED if too_often else JobState.QUEUED


class JobLoop:
    """Carries the plan out. Decides by no state of its own: the store and the agent have it all."""

    def __init__(self, store: Store, compute: Backend, *, artifacts: str, slots: int) -> None:
        self._store = store
        self._compute = compute
        self._artifacts = artifacts
        #: Whether a worker was at work or being made at the last look.
        self.is_busy = False
        self._room = Room(slots, os.cpu_count() or 1)

    def step(self, epoch: int, statuses: dict[str, WorkerStatus]) -> bool:
        """One round; True if a state changed. `statuses` is the agent's word from before this call."""
        with self._store.read() as tx:
            views = _read_views(tx, statuses)
            now = tx.now()
        active = [view for view in views if view.attempt is not None]
        self._ingest(epoch, active)
        actions = plan(views, self._room, now=now)
        self._say_why(epoch, [action for action in actions if isinstance(action, Wait)])
        changed = False
        for action in actions:
            changed |= self._attempt(epoch, action) and not isinstance(action, Stop | Order)
        self._forget(epoch, statuses, active)
        self.is_busy = bool(active)
        return changed

    def _ingest(self, epoch: int, views: Sequence[JobView]) -> None:
        """Moves new events into the store; those that cannot be read keep nobody from the rest."""
        for view in views:
            if view.attempt is None or view.status is None:
                continue
            try:
                self._ingest_one(epoch, view.attempt)
            except EVERYBODYS:
                raise
            except Exception:
                log.exception("events not read worker=%s", view.attempt.worker_id)

    def _ingest_one(self, epoch: int, attempt: Attempt) -> None:
        """Offset and rows in one transaction."""
        offset = attempt.events_offset
        while True:
            events, following = self._compute.read_events(attempt.worker_id, offset)
            if following == offset:
                return
            with self._store.lead(epoch) as tx:
                attempts.append_events(
                    tx, attempt.job_id, attempt.number, events, following, offset=offset
                )
            offset = following

    def _say_why(self, epoch: int, waits: Sequence[Wait]) -> None:
        """All reasons in one transaction: a long queue must not take longer than the lease."""
        if waits:
            with self._store.lead(epoch) as tx:
                for wait in waits:
                    jobs.set_waiting(tx, wait.job.id, wait.reason)

    def _attempt(self, epoch: int, action: Action) -> bool:
        """Whether it is done. One job's trouble is not its neighbours': what can never be done fails this job alone."""
        try:
            self._apply(epoch, action)
        except EVERYBODYS:
            raise
        except Exception as error:
            known = as_known(error)
            if known.retryable:
                log.warning("job action put off job=%s error=%s", action.job.id, known)
                return False
            log.exception("job action refused job=%s", action.job.id)
            if not isinstance(action, Begin | Order | End):
                return False
            self._fail(epoch, action.job.id, known)
        return True

    def _fail(self, epoch: int, job_id: str, error: ModelryError) -> None:
        """The way out that needs nothing but the job's own rows."""
        with self._store.lead(epoch) as tx:
            attempt = attempts.current_attempt(tx, job_id)
            if attempt is not None and attempt.ended_at is None:
                attempts.end_attempt(tx, job_id, attempt.number, OutcomeStatus.FAILED.value)
            failure = as_failure(error)
            job = jobs.get_by_id(tx, job_id)
            if not job.state.is_final:
                jobs.set_state(tx, job_id, JobState.FAILED, failure=failure)
                _clear(tx, job, JobState.FAILED)

    def _apply(self, epoch: int, action: Action) -> None:
        match action:
            case Move(job, target):
                with self._store.lead(epoch) as tx:
                    jobs.set_state(tx, job.id, target)
                    _clear(tx, job, target)
            case Wait():
                """All at once, by `_say_why`."""
            case Begin(job):
                with self._store.lead(epoch) as tx:
                    attempt = attempts.start_attempt(tx, job.id)
                self._order(epoch, job, attempt)
            case Order(job, attempt):
                self._order(epoch, job, attempt)
            case Stop(_, worker_id, reason):
                self._compute.stop(epoch, worker_id, reason, STOP_GRACE_S)
            case End(job, attempt, outcome):
                self._end(epoch, job, attempt, outcome)

    def _order(self, epoch: int, job: Job, attempt: Attempt) -> None:
        try:
            with self._store.read() as tx:
                spec = _spec(tx, job, attempt, self._artifacts)
        except ModelryError as error:
            self._end(epoch, job, attempt, _failed(error))
            return
        self._compute.start(epoch, spec)
        log.info("job ordered job=%s attempt=%s kind=%s", job.id, attempt.number, job.kind)

    def _end(self, epoch: int, job: Job, attempt: Attempt, outcome: Outcome) -> None:
        """Records the end of an attempt and, where it made something, publishes it in the same transaction."""
        try:
            with self._store.lead(epoch) as tx:
                self._record_end(tx, job, attempt, outcome)
        except EVERYBODYS:
            raise
        except Exception as error:
            known = as_known(error)
            if outcome.status is not OutcomeStatus.SUCCEEDED or known.retryable:
                raise
            log.warning("job could not publish job=%s", job.id, exc_info=True)
            with self._store.lead(epoch) as tx:
                self._record_end(tx, job, attempt, _failed(known))

    def _record_end(self, tx: Transaction, job: Job, attempt: Attempt, outcome: Outcome) -> None:
        attempts.end_attempt(tx, job.id, attempt.number, outcome.status.value)
        lost = attempts.count_lost(tx, job.id)
        target = state_after(outcome, job.wish, lost)
        notes = _publish(tx, job, outcome) if target is JobState.SUCCEEDED else {}
        failure = outcome.failure
        if target is JobState.FAILED and outcome.status is OutcomeStatus.LOST:
            failure = _failed(WorkerLost(times=lost)).failure
        if job.state is JobState.STARTING and target is JobState.SUCCEEDED:
            jobs.set_state(tx, job.id, JobState.RUNNING)
        jobs.set_state(
            tx,
            job.id,
            target,
            failure=msgspec.to_builtins(failure) if failure else None,
            notes=notes,
        )
        if target is JobState.QUEUED and outcome.status is OutcomeStatus.LOST:
            jobs.hold_until(tx, job.id, LOST_PAUSE_S * 2 ** max(lost - 1, 0))
        _clear(tx, job, target)
        log.info("job attempt ended job=%s outcome=%s state=%s", job.id, outcome.status, target)

    def _forget(
        self, epoch: int, statuses: dict[str, WorkerStatus], active: Sequence[JobView]
    ) -> None:
        """Ends workers of older attempts and clears the folders of recorded ones.

        An attempt that began in this round is in no status of before it.
        """
        with self._store.read() as tx:
            newest = {
                attempt.worker_id
                for view in active
                if (attempt := attempts.current_attempt(tx, view.job.id))
                and attempt.ended_at is None
            }
        for worker_id, status in statuses.items():
            if status.kind != "job" or worker_id in newest:
                continue
            try:
                if status.is_alive:
                    self._compute.stop(epoch, worker_id, StopReason.CANCEL, 1.0)
                else:
                    self._compute.forget(epoch, worker_id)
            except EVERYBODYS:
                raise
            except ModelryError as error:
                log.warning("worker not cleared worker=%s error=%s", worker_id, error)


def _read_views(tx: Transaction, statuses: dict[str, WorkerStatus]) -> list[JobView]:
    views = []
    for job in jobs.list_unfinished(tx):
        attempt = attempts.current_attempt(tx, job.id) if job.state.is_active else None
        status = statuses.get(attempt.worker_id) if attempt else None
        views.append(JobView(job, attempt, status))
    return views


def _spec(tx: Transaction, job: Job, attempt: Attempt, artifacts: str) -> JobSpec:
    inputs, names = {}, {}
    for role, identifier in job.inputs.items():
        if role == "upload":
            inputs[role] = list(uploads.get(tx, job.project, identifier).files)
            continue
        if role == "model":
            model = models.get_version_by_id(tx, identifier)
            inputs[role] = list(model.files)
            names[role] = {"name": model.model, "version": model.version, "version_id": model.id}
            continue
        version = datasets.get_version_by_id(tx, identifier)
        inputs[role] = list(version.files)
        names[role] = {
            "name": version.dataset,
            "version": version.version,
            "version_id": version.id,
            "fingerprint": version.fingerprint,
        }
    return JobSpec(
        worker_id=attempt.worker_id,
        job_id=job.id,
        attempt=attempt.number,
        kind=job.kind,
        params=job.params,
        inputs=inputs,
        names=names,
        checkpoint=attempts.get_checkpoint(tx, job.id),
        artifacts=artifacts,
        threads=job.threads,
        limits=Limits(memory_bytes=job.memory_limit_bytes, time_s=job.time_limit_s),
    )


def _publish(tx: Transaction, job: Job, outcome: Outcome) -> dict[str, object]:
    """Rows for what the job made; safe to repeat, because a version knows its job."""
    if (data := made_dataset(outcome.result)) is not None:
        dataset_version = datasets.add_version(
            tx, job.project, job.makes, msgspec.to_builtins(data.manifest), data.files, job.id
        )
        return {"dataset": job.makes, "version": dataset_version.version}
    if (model := made_model(outcome.result)) is not None:
        models.ensure(tx, job.project, job.makes)
        model_version = models.add_version(
            tx,
            job.project,
            job.makes,
            msgspec.to_builtins(model.manifest),
            model.files,
            job.id,
            job.inputs.get("data"),
        )
        return {"model": job.makes, "version": model_version.version}
    return {"result": outcome.result} if outcome.result else {}


def _clear(tx: Transaction, job: Job, target: JobState) -> None:
    """What a job that is over leaves to nobody: its upload, and a data set that got no version."""
    if not target.is_final:
        return
    if "upload" in job.inputs:
        uploads.delete(tx, job.project, job.inputs["upload"])
    if MAKES.get(job.kind) == "dataset" and target is not JobState.SUCCEEDED:
        datasets.delete_empty(tx, job.project, job.makes)


def _failed(error: ModelryError) -> Outcome:
    wire = to_wire(error)
    return Outcome(
        status=OutcomeStatus.FAILED,
        failure=Failure(
            code=str(wire["code"]), message=str(wire["message"]), remedy=str(wire["remedy"])
        ),
    )
