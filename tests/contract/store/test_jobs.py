"""Jobs: wishes, states that move only by the table, and attempts of which only the newest counts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from modelry.core.errors import IllegalMove, InUse, NotFound, StaleEpoch
from modelry.core.events import Checkpoint, Event, Log, Metric, Note, Opened, Progress
from modelry.core.records import Job
from modelry.core.states import JobState, JobWish, may_move
from modelry.server.store import Store, Transaction, curves, jobs, projects, references
from tests.contract.store.rows import (
    PROJECT,
    dataset_version,
    file,
    job_in,
    new_job,
    running_job,
)


def metric(step: int, value: float = 0.5, name: str = "train/loss") -> Metric:
    return Metric(at=float(step), name=name, step=step, value=value)


def curve(tx: Transaction, job: Job, name: str = "train/loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in curves.metrics(tx, job.id, name=name)]


def lines(tx: Transaction, job: Job) -> list[str]:
    return [line.text for line in curves.logs(tx, job.id)]


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(at=1.0, step=step, files=[file("weights", f"weights at {step}")])


def lose(tx: Transaction, job: Job, *events: Event) -> None:
    """One more attempt that says something and then dies."""
    attempt = jobs.start_attempt(tx, job.id)
    if events:
        jobs.append_events(tx, job.id, attempt.number, events, 10, offset=0)
    jobs.end_attempt(tx, job.id, attempt.number, "lost")
    jobs.set_state(tx, job.id, JobState.QUEUED)


def test_a_job_comes_back_as_it_was_accepted(store: Store) -> None:
    with store.write() as tx:
        version = dataset_version(tx)
        made = new_job(
            tx,
            kind="train",
            makes="手写数字",
            params={"recipe": "cnn", "params": {"epochs": 5}},
            inputs={"data": version.id},
            threads=2,
            memory_limit_bytes=2**40,
            time_limit_s=1.5,
        )
    with store.read() as tx:
        assert jobs.get(tx, PROJECT, made.id) == made
    assert (made.state, made.wish, made.attempt) == (JobState.QUEUED, JobWish.RUN, 0)
    assert made.inputs == {"data": version.id}
    assert made.params == {"recipe": "cnn", "params": {"epochs": 5}}
    assert (made.threads, made.memory_limit_bytes, made.time_limit_s) == (2, 2**40, 1.5)
    assert made.project == PROJECT
    assert made.checkpoint_step is None


def test_a_job_of_another_project_does_not_exist(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "other")
        job = new_job(tx, project="other")
        for act in (
            lambda: jobs.get(tx, PROJECT, job.id),
            lambda: jobs.set_wish(tx, PROJECT, job.id, JobWish.CANCEL),
            lambda: jobs.delete(tx, PROJECT, job.id),
            lambda: jobs.list(tx, PROJECT, before=job.id),
        ):
            with pytest.raises(NotFound, match=job.id):
                act()
        assert jobs.list(tx, PROJECT) == []
        assert [one.id for one in jobs.list_unfinished(tx)] == [job.id]


def test_jobs_are_listed_page_by_page_the_newest_first(store: Store) -> None:
    with store.write() as tx:
        made = [new_job(tx).id for _ in range(7)]
        pages: list[list[str]] = []
        before = None
        while page := jobs.list(tx, PROJECT, limit=3, before=before):
            pages.append([job.id for job in page])
            before = page[-1].id
        assert [len(page) for page in pages] == [3, 3, 1]
        assert sum(pages, []) == made[::-1]
        assert [job.id for job in jobs.list_unfinished(tx)] == made


def test_jobs_are_listed_by_state_and_kind(store: Store) -> None:
    with store.write() as tx:
        slept = job_in(tx, JobState.SUCCEEDED)
        imported = new_job(tx, kind="import-data", makes="digits")
        by_state = jobs.list(tx, PROJECT, state=JobState.SUCCEEDED)
        by_kind = jobs.list(tx, PROJECT, kind="import-data")
        assert [job.id for job in by_state] == [slept.id]
        assert [job.id for job in by_kind] == [imported.id]
        assert jobs.list(tx, PROJECT, state=JobState.FAILED) == []


@pytest.mark.parametrize("target", list(JobState))
@pytest.mark.parametrize("state", list(JobState))
def test_the_state_moves_by_the_table_and_an_illegal_move_changes_nothing(
    store: Store, state: JobState, target: JobState
) -> None:
    with store.write() as tx:
        before = job_in(tx, state)
        if may_move(state, target):
            jobs.set_state(tx, before.id, target, notes={"a": 1})
            after = jobs.get_by_id(tx, before.id)
            assert after.state is target
            assert (after.finished_at is not None) == target.is_final
        else:
            with pytest.raises(IllegalMove):
                jobs.set_state(tx, before.id, target, failure={"code": "x"}, notes={"a": 1})
            assert jobs.get_by_id(tx, before.id) == before


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.QUEUED])
def test_only_a_queued_job_starts(store: Store, state: JobState) -> None:
    with store.write() as tx:
        before = job_in(tx, state)
        attempt = jobs.current_attempt(tx, before.id)
        with pytest.raises(IllegalMove):
            jobs.start_attempt(tx, before.id)
        assert jobs.get_by_id(tx, before.id) == before
        assert jobs.current_attempt(tx, before.id) == attempt


def test_an_unknown_job_is_not_found(store: Store) -> None:
    with store.write() as tx:
        for act in (
            lambda: jobs.get_by_id(tx, "job_x"),
            lambda: jobs.start_attempt(tx, "job_x"),
            lambda: jobs.set_state(tx, "job_x", JobState.FAILED),
            lambda: jobs.append_events(tx, "job_x", 1, [], 1),
        ):
            with pytest.raises(NotFound, match="job 'job_x'"):
                act()
        assert jobs.current_attempt(tx, "job_x") is None
        assert jobs.get_checkpoint(tx, "job_x") is None
        assert jobs.count_lost(tx, "job_x") == 0


def test_what_is_wished_does_not_touch_the_state(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        for wish in (JobWish.PAUSE, JobWish.RUN, JobWish.CANCEL, JobWish.CANCEL):
            changed = jobs.set_wish(tx, PROJECT, job.id, wish)
            assert (changed.wish, changed.state) == (wish, JobState.RUNNING)


def test_a_cancel_is_not_taken_back(store: Store) -> None:
    with store.write() as tx:
        job = new_job(tx)
        jobs.set_wish(tx, PROJECT, job.id, JobWish.CANCEL)
        for wish in (JobWish.RUN, JobWish.PAUSE):
            with pytest.raises(IllegalMove, match="being cancelled"):
                jobs.set_wish(tx, PROJECT, job.id, wish)
        assert jobs.get_by_id(tx, job.id).wish is JobWish.CANCEL


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_nothing_can_be_wished_of_a_finished_job(store: Store, state: JobState) -> None:
    with store.write() as tx:
        job = job_in(tx, state)
        for wish in JobWish:
            with pytest.raises(IllegalMove, match=state.value):
                jobs.set_wish(tx, PROJECT, job.id, wish)


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_goes_with_all_it_said_once_it_is_finished(store: Store, state: JobState) -> None:
    with store.write() as tx:
        job = job_in(tx, state)
        if job.attempt:
            said: list[Event] = [metric(1), Log(at=1.0, text="hello"), checkpoint(1)]
            jobs.append_events(tx, job.id, job.attempt, said, 10, offset=0)
    if not state.is_final:
        with pytest.raises(InUse), store.write() as tx:
            jobs.delete(tx, PROJECT, job.id)
        return
    with store.write() as tx:
        jobs.delete(tx, PROJECT, job.id)
        assert jobs.list(tx, PROJECT) == []
        assert curves.metrics(tx, job.id) == []
        assert curves.logs(tx, job.id) == []
        assert jobs.get_checkpoint(tx, job.id) is None


def test_why_a_job_waits_is_kept_until_it_moves(store: Store) -> None:
    with store.write() as tx:
        job = new_job(tx)
        jobs.set_waiting(tx, job.id, "a free slot")
        jobs.hold_until(tx, job.id, 60)
        waiting = jobs.get_by_id(tx, job.id)
        assert waiting.waiting_for == "a free slot"
        assert waiting.not_before == pytest.approx(tx.now() + 60)
        jobs.start_attempt(tx, job.id)
        started = jobs.get_by_id(tx, job.id)
        assert (started.waiting_for, started.not_before) == (None, None)


def test_each_start_is_a_new_attempt_with_a_worker_of_its_own(store: Store) -> None:
    with store.write() as tx:
        job = new_job(tx)
        assert jobs.current_attempt(tx, job.id) is None
        one = jobs.start_attempt(tx, job.id)
        started_at = jobs.get_by_id(tx, job.id).started_at
        jobs.set_state(tx, job.id, JobState.QUEUED)
        two = jobs.start_attempt(tx, job.id)
        assert (one.number, two.number) == (1, 2)
        assert (one.worker_id, two.worker_id) == (f"{job.id}-1", f"{job.id}-2")
        assert jobs.current_attempt(tx, job.id) == two
        assert jobs.get_by_id(tx, job.id).attempt == 2
        assert jobs.get_by_id(tx, job.id).started_at == started_at


def test_an_attempt_ends_once(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        jobs.end_attempt(tx, job.id, 1, "lost")
        ended = jobs.current_attempt(tx, job.id)
        assert ended is not None
        assert ended.outcome == "lost"
        assert ended.ended_at is not None
        jobs.end_attempt(tx, job.id, 1, "lost")
        assert jobs.current_attempt(tx, job.id) == ended
        with pytest.raises(IllegalMove):
            jobs.end_attempt(tx, job.id, 1, "succeeded")
        with pytest.raises(NotFound):
            jobs.end_attempt(tx, job.id, 2, "lost")


def test_events_become_rows_and_the_offset_goes_with_them(store: Store) -> None:
    events: list[Event] = [
        Progress(at=1.0, phase="training", step=1, total_steps=4, samples_per_s=10.5),
        metric(1, 0.9),
        metric(1, 0.1, "validation/loss"),
        Log(at=1.0, text="手 one"),
        Log(at=2.0, text="two", level="warning"),
        Opened(at=1.0, split="train", rows=1437),
        Note(at=1.0, name="parameters", value=121_930),
        Progress(at=2.0, phase="training", step=2, total_steps=4),
        metric(2, 0.8),
        checkpoint(2),
    ]
    with store.write() as tx:
        job = running_job(tx)
        assert jobs.append_events(tx, job.id, 1, events, 1234, offset=0)
    with store.read() as tx:
        attempt = jobs.current_attempt(tx, job.id)
        after = jobs.get_by_id(tx, job.id)
        assert attempt is not None
        assert attempt.events_offset == 1234
        assert after.progress is not None
        assert (after.progress["phase"], after.progress["step"]) == ("training", 2)
        assert Progress(**after.progress) == events[7]
        assert curve(tx, job) == [(1, 0.9), (2, 0.8)]
        assert curve(tx, job, "validation/loss") == [(1, 0.1)]
        assert [(line.number, line.level, line.text) for line in curves.logs(tx, job.id)] == [
            (1, "info", "手 one"),
            (2, "warning", "two"),
        ]
        assert after.notes["parameters"] == 121_930
        assert after.notes["opened"] == {"train": {"rows": 1437, "times": 1}}
        assert after.checkpoint_step == 2
        assert jobs.get_checkpoint(tx, job.id) == [file("weights", "weights at 2")]


def test_a_chunk_that_is_handed_in_twice_is_stored_once(store: Store) -> None:
    chunk: list[Event] = [Log(at=1.0, text="once"), metric(1), Opened(at=1.0, split="test", rows=9)]
    with store.write() as tx:
        job = running_job(tx)
        assert jobs.append_events(tx, job.id, 1, chunk, 100, offset=0)
        assert not jobs.append_events(tx, job.id, 1, chunk, 100, offset=0)
        assert not jobs.append_events(tx, job.id, 1, chunk, 100)
        assert lines(tx, job) == ["once"]
        assert jobs.get_by_id(tx, job.id).notes["opened"] == {"test": {"rows": 9, "times": 1}}


@pytest.mark.parametrize("offset", [0, 50, 101])
def test_a_chunk_that_does_not_join_on_is_passed_over(store: Store, offset: int) -> None:
    with store.write() as tx:
        job = running_job(tx)
        assert jobs.append_events(tx, job.id, 1, [Log(at=1.0, text="one")], 100, offset=0)
        late = [Log(at=1.0, text="overlapping")]
        assert not jobs.append_events(tx, job.id, 1, late, 200, offset=offset)
        assert jobs.append_events(tx, job.id, 1, [Log(at=1.0, text="two")], 150, offset=100)
        assert lines(tx, job) == ["one", "two"]


def test_a_chunk_whose_transaction_fails_may_be_handed_in_again(store: Store) -> None:
    chunk: list[Event] = [Log(at=1.0, text="safe"), metric(1), checkpoint(1)]
    with store.write() as tx:
        job = running_job(tx)

    def fail() -> None:
        with store.write() as tx:
            jobs.append_events(tx, job.id, 1, chunk, 100, offset=0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.write() as tx:
        assert lines(tx, job) == []
        assert jobs.append_events(tx, job.id, 1, chunk, 100, offset=0)
        assert lines(tx, job) == ["safe"]


def test_only_the_newest_attempt_may_say_anything(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        jobs.append_events(tx, job.id, 1, [checkpoint(1)], 10, offset=0)
        jobs.set_state(tx, job.id, JobState.QUEUED)
        jobs.start_attempt(tx, job.id)
        before = jobs.get_by_id(tx, job.id)
        for number in (1, 3):
            with pytest.raises(StaleEpoch, match="2 is the newest"):
                jobs.append_events(tx, job.id, number, [checkpoint(99)], 20)
        assert jobs.get_checkpoint(tx, job.id) == [file("weights", "weights at 1")]
        assert jobs.get_by_id(tx, job.id) == before
        assert jobs.append_events(tx, job.id, 2, [checkpoint(2)], 5, offset=0)


def test_a_later_attempt_draws_its_stretch_of_the_curve_anew(store: Store) -> None:
    with store.write() as tx:
        job = new_job(tx)
        first = [metric(step, 1.0) for step in (2, 4, 6, 8, 10)]
        lose(tx, job, *first[:2], checkpoint(4), *first[2:])
        jobs.start_attempt(tx, job.id)
        jobs.append_events(tx, job.id, 2, [metric(5, 2.0), metric(7, 2.0)], 10, offset=0)
        assert curve(tx, job) == [(2, 1.0), (4, 1.0), (5, 2.0), (7, 2.0), (8, 1.0), (10, 1.0)]
        jobs.append_events(tx, job.id, 2, [metric(9, 2.0), metric(11, 2.0)], 20, offset=10)
        assert curve(tx, job) == [(step, 1.0) for step in (2, 4)] + [
            (step, 2.0) for step in (5, 7, 9, 11)
        ]


def test_without_a_checkpoint_the_curve_begins_anew(store: Store) -> None:
    with store.write() as tx:
        job = new_job(tx)
        lose(tx, job, metric(0, 1.0), metric(3, 1.0), metric(1, 1.0, "epoch/loss"))
        jobs.start_attempt(tx, job.id)
        jobs.append_events(tx, job.id, 2, [metric(0, 2.0), metric(4, 2.0)], 10, offset=0)
        assert curve(tx, job) == [(0, 2.0), (4, 2.0)]
        assert curve(tx, job, "epoch/loss") == [(1, 1.0)]


def test_a_point_said_twice_has_its_last_value(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        jobs.append_events(tx, job.id, 1, [metric(1, 0.1), metric(1, 0.2)], 10, offset=0)
        assert curve(tx, job) == [(1, 0.2)]
        jobs.append_events(tx, job.id, 1, [metric(1, 0.3)], 20, offset=10)
        assert curve(tx, job) == [(1, 0.3)]


def test_curves_and_logs_are_read_on_from_where_one_was(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        said: list[Event] = [metric(step) for step in range(5)]
        said += [Log(at=1.0, text=str(number)) for number in range(5)]
        jobs.append_events(tx, job.id, 1, said, 10, offset=0)
        jobs.append_events(tx, job.id, 1, [Log(at=1.0, text="5")], 20, offset=10)
        points = curves.metrics(tx, job.id, after_step=2)
        assert [point.step for point in points] == [3, 4]
        some = curves.logs(tx, job.id, after=2, limit=2)
        assert [(line.number, line.text) for line in some] == [(3, "2"), (4, "3")]
        assert curves.logs(tx, job.id, after=6) == []


def test_what_no_database_can_keep_does_not_stop_a_job(store: Store) -> None:
    strange: list[Any] = [
        Log(at=1.0, text="a\x00b \ud800 c", level="info"),
        metric(1, math.nan),
        metric(2, math.inf),
        metric(3, 1.0),
        Note(at=1.0, name="mean\x00", value=math.nan),
        Progress(at=1.0, phase="a\x00b", eta_s=math.inf),
    ]
    with store.write() as tx:
        job = running_job(tx)
        assert jobs.append_events(tx, job.id, 1, strange, 10, offset=0)
        assert curve(tx, job) == [(3, 1.0)]
        assert lines(tx, job) == ["a\N{REPLACEMENT CHARACTER}b ? c"]


def test_lost_attempts_are_counted_until_one_gets_further(store: Store) -> None:
    with store.write() as tx:
        job = new_job(tx)
        assert jobs.count_lost(tx, job.id) == 0
        lose(tx, job)
        lose(tx, job, metric(1))
        assert jobs.count_lost(tx, job.id) == 2
        lose(tx, job, checkpoint(5))
        assert jobs.count_lost(tx, job.id) == 0
        lose(tx, job)
        lose(tx, job, checkpoint(5))
        assert jobs.count_lost(tx, job.id) == 2, "the same checkpoint again is no progress"
        jobs.start_attempt(tx, job.id)
        assert jobs.count_lost(tx, job.id) == 2, "the attempt that runs is not lost"
        jobs.end_attempt(tx, job.id, 6, "interrupted")
        assert jobs.count_lost(tx, job.id) == 0


def test_a_checkpoint_is_kept_while_its_job_may_go_on(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        jobs.append_events(tx, job.id, 1, [checkpoint(1)], 10, offset=0)
        jobs.append_events(tx, job.id, 1, [checkpoint(2)], 20, offset=10)
        assert references.digests(tx) == {"weights at 2"}
        assert references.oldest_unfinished(tx) == jobs.get_by_id(tx, job.id).started_at
        jobs.set_state(tx, job.id, JobState.FAILED, failure={"code": "diverged"})
        assert references.digests(tx) == set()
        assert references.oldest_unfinished(tx) is None
        assert jobs.get_by_id(tx, job.id).failure == {"code": "diverged"}


def test_notes_are_added_to_those_a_job_has(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
        jobs.append_events(tx, job.id, 1, [Note(at=1.0, name="a", value=[1])], 10, offset=0)
        jobs.set_state(tx, job.id, JobState.SUCCEEDED, notes={"model": "digits", "version": 1})
        expected = {"a": [1], "model": "digits", "version": 1}
        assert jobs.get_by_id(tx, job.id).notes == expected
