"""The laws of the job plan: it decides without doing, and every unfinished job gets at most what it needs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from modelry.core.records import Attempt, Job
from modelry.core.specs import Outcome, OutcomeStatus, StopReason, WorkerStatus
from modelry.core.states import JobState, JobWish, may_move
from modelry.server.control.job_loop import (
    LOST_LIMIT,
    Begin,
    End,
    JobView,
    Move,
    Order,
    Room,
    Stop,
    Wait,
    plan,
    state_after,
)


def job(number: int = 1, state: JobState = JobState.QUEUED, wish: JobWish = JobWish.RUN) -> Job:
    return Job(
        id=f"job_{number}",
        project="default",
        kind="sleep",
        makes="",
        params={},
        state=state,
        wish=wish,
        attempt=int(state.is_active),
        threads=1,
        memory_limit_bytes=None,
        time_limit_s=None,
        created_at=float(number),
    )


def attempt(of: Job) -> Attempt:
    return Attempt(
        job_id=of.id,
        number=1,
        worker_id=f"{of.id}-1",
        started_at=1.0,
        ended_at=None,
        events_offset=0,
        outcome=None,
    )


def status(of: Job, outcome: Outcome | None = None) -> WorkerStatus:
    return WorkerStatus(
        worker_id=f"{of.id}-1", kind="job", is_alive=outcome is None, outcome=outcome
    )


def view(of: Job, seen: WorkerStatus | None = None) -> JobView:
    return JobView(of, attempt(of) if of.state.is_active else None, seen)


def test_no_more_jobs_begin_than_there_are_slots() -> None:
    views = [view(job(n)) for n in range(1, 6)]
    actions = plan(views, Room(2, 8), now=0.0)
    assert [a.job.id for a in actions if isinstance(a, Begin)] == ["job_1", "job_2"]
    assert sum(isinstance(a, Wait) for a in actions) == 3


def test_trainings_share_no_core_and_small_jobs_pass_by() -> None:
    first = replace(job(1, JobState.RUNNING), kind="train", threads=2)
    second = replace(job(2), kind="train", threads=2)
    small = replace(job(3), kind="import-data")
    views = [view(first, status(first)), view(second), view(small)]
    actions = plan(views, Room(3, 2), now=0.0)
    assert actions == [Wait(second, "2 free cores"), Begin(small)]


def test_a_training_larger_than_the_machine_runs_alone() -> None:
    large = replace(job(1), kind="train", threads=64)
    assert plan([view(large)], Room(1, 2), now=0.0) == [Begin(large)]


def test_a_wait_is_written_once() -> None:
    first = plan([view(job())], Room(0, 8), now=0.0)
    assert isinstance(first[0], Wait)
    told = replace(job(), waiting_for=first[0].reason)
    assert plan([view(told)], Room(0, 8), now=0.0) == []


def test_a_starting_job_unknown_to_the_agent_is_ordered_again() -> None:
    starting = job(state=JobState.STARTING)
    assert plan([view(starting)], Room(1, 8), now=0.0) == [Order(starting, attempt(starting))]


def test_a_running_job_unknown_to_the_agent_is_lost() -> None:
    running = job(state=JobState.RUNNING)
    [action] = plan([view(running)], Room(1, 8), now=0.0)
    assert isinstance(action, End)
    assert action.outcome.status is OutcomeStatus.LOST


def test_a_wish_reaches_the_worker_as_a_reason() -> None:
    for wish, reason in ((JobWish.CANCEL, StopReason.CANCEL), (JobWish.PAUSE, StopReason.PAUSE)):
        running = job(state=JobState.RUNNING, wish=wish)
        [action] = plan([view(running, status(running))], Room(1, 8), now=0.0)
        assert isinstance(action, Stop)
        assert action.reason is reason


def test_a_waiting_job_that_is_cancelled_never_starts() -> None:
    for state in (JobState.QUEUED, JobState.PAUSED):
        cancelled = job(state=state, wish=JobWish.CANCEL)
        assert plan([view(cancelled)], Room(1, 8), now=0.0) == [Move(cancelled, JobState.CANCELLED)]


def test_a_lost_job_waits_for_its_pause() -> None:
    held = replace(job(), not_before=10.0)
    assert isinstance(plan([view(held)], Room(1, 8), now=9.0)[0], Wait)
    assert isinstance(plan([view(held)], Room(1, 8), now=10.0)[0], Begin)


def test_a_job_that_is_always_lost_fails_in_the_end() -> None:
    lost = Outcome(status=OutcomeStatus.LOST)
    assert state_after(lost, JobWish.RUN, 1) is JobState.QUEUED
    assert state_after(lost, JobWish.RUN, LOST_LIMIT) is JobState.FAILED


def test_an_interrupted_job_goes_back_to_the_queue_however_often() -> None:
    interrupted = Outcome(status=OutcomeStatus.INTERRUPTED)
    assert state_after(interrupted, JobWish.RUN, 1000) is JobState.QUEUED


@given(
    state=st.sampled_from([s for s in JobState if not s.is_final]),
    wish=st.sampled_from(list(JobWish)),
    outcome=st.sampled_from([None, *OutcomeStatus]),
    is_known=st.booleans(),
    lost_before=st.integers(0, 10),
)
def test_every_planned_move_is_legal(
    state: JobState,
    wish: JobWish,
    outcome: OutcomeStatus | None,
    is_known: bool,
    lost_before: int,
) -> None:
    one = job(state=state, wish=wish)
    seen = status(one, Outcome(status=outcome) if outcome else None) if is_known else None
    now = state
    for action in plan([view(one, seen)], Room(1, 8), now=0.0):
        if isinstance(action, Move):
            target = action.target
        elif isinstance(action, End):
            target = state_after(action.outcome, wish, lost_before)
            if now is JobState.STARTING and target is JobState.SUCCEEDED:
                now = JobState.RUNNING
        else:
            continue
        assert may_move(now, target), (now, target)
        now = target
