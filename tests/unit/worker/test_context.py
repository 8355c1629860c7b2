"""What a job says arrives in order and thinned out; what it keeps is safe before it is said."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from modelry.artifacts import Artifacts
from modelry.core.events import Checkpoint, Event, Log, Metric, Progress, decode_events
from modelry.core.specs import JobSpec, OutcomeStatus, StopReason
from modelry.worker import context as context_module
from modelry.worker.context import JobContext, Stopped
from modelry.worker.folder import WorkerFolder


class Clock:
    """Stands in for the module's `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(context_module, "time", clock)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> WorkerFolder:
    found = WorkerFolder(tmp_path / "job_a-1")
    found.path.mkdir()
    return found


@pytest.fixture
def make(tmp_path: Path, folder: WorkerFolder) -> Callable[..., JobContext]:
    def made(**given: object) -> JobContext:
        spec = JobSpec(
            worker_id="job_a-1",
            job_id="job_a",
            attempt=1,
            kind="sleep",
            params={},
            artifacts=str(tmp_path / "blobs"),
            **given,  # type: ignore[arg-type]
        )
        return JobContext(folder, spec)

    return made


def said(folder: WorkerFolder, kind: type[Event] | None = None) -> list[Event]:
    events, _ = decode_events(folder.events.read_bytes())
    return [event for event in events if kind is None or isinstance(event, kind)]


def test_progress_passes_twice_a_second_and_a_new_phase_at_once(
    make: Callable[..., JobContext], folder: WorkerFolder, clock: Clock
) -> None:
    context = make()
    for step in range(7):
        context.progress("training", step=step)
        clock.now += 0.125
    context.progress("evaluating")
    context.close()
    steps = [(p.phase, p.step) for p in said(folder, Progress)]
    assert steps == [("training", 0), ("training", 4), ("evaluating", 0)]


def test_the_last_progress_is_never_swallowed(
    make: Callable[..., JobContext], folder: WorkerFolder, clock: Clock
) -> None:
    context = make()
    for step in range(1, 4):
        context.progress("training", step=step)
    context.close()
    assert [p.step for p in said(folder, Progress)] == [1, 3]


def test_metrics_that_come_too_fast_become_their_mean_at_the_last_step(
    make: Callable[..., JobContext], folder: WorkerFolder, clock: Clock
) -> None:
    context = make()
    for step in range(8):
        context.metric("train/loss", step, float(step))
        clock.now += 0.03125
    context.close()
    points = [(p.step, p.value) for p in said(folder, Metric)]
    assert points == [(0, 0.0), (4, 2.5), (7, 6.0)]


def test_each_curve_is_thinned_by_itself_and_epochs_pass_as_they_are(
    make: Callable[..., JobContext], folder: WorkerFolder, clock: Clock
) -> None:
    context = make()
    for epoch in range(3):
        context.metric("epoch/train_loss", epoch, 1.0)
    context.metric("a", 1, 1.0)
    context.metric("b", 1, 2.0)
    context.close()
    assert [p.name for p in said(folder, Metric)] == ["epoch/train_loss"] * 3 + ["a", "b"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_point(
    make: Callable[..., JobContext], folder: WorkerFolder, value: float
) -> None:
    context = make()
    context.metric("train/loss", 1, value)
    context.progress("training", eta_s=value)
    context.close()
    assert said(folder, Metric) == []
    (progress,) = said(folder, Progress)
    assert isinstance(progress, Progress)
    assert progress.eta_s is None


def test_a_checkpoint_comes_after_all_that_was_held_back_and_can_be_restored(
    make: Callable[..., JobContext], folder: WorkerFolder, tmp_path: Path, clock: Clock
) -> None:
    context = make()
    for step in range(3):
        context.metric("train/loss", step, 1.0)
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 1000)
    context.checkpoint(3, {"weights": weights, "state/step.json": b"3"})
    events = said(folder)
    assert [type(event) for event in events] == [Metric, Metric, Checkpoint]
    kept = events[-1]
    assert isinstance(kept, Checkpoint)
    assert [file.path for file in kept.files] == ["weights", "state/step.json"]
    context.close()
    restored = make(checkpoint=kept.files).restore()
    assert restored is not None
    assert (restored / "weights").read_bytes() == b"w" * 1000
    assert (restored / "state/step.json").read_bytes() == b"3"


def test_there_is_nothing_to_restore_at_the_first_beginning(
    make: Callable[..., JobContext],
) -> None:
    assert make().restore() is None


def test_inputs_are_fetched_by_role(make: Callable[..., JobContext], tmp_path: Path) -> None:
    file = Artifacts(str(tmp_path / "blobs")).put_bytes(b"rows", "train/0.parquet")
    found = make(inputs={"data": [file]}).fetch("data")
    assert (found / "train/0.parquet").read_bytes() == b"rows"


def test_scratch_is_empty_at_the_start_of_an_attempt(make: Callable[..., JobContext]) -> None:
    (make().work / "left").write_text("over")
    assert list(make().work.iterdir()) == []


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (StopReason.CANCEL, OutcomeStatus.CANCELLED),
        (StopReason.PAUSE, OutcomeStatus.PAUSED),
        (StopReason.SHUTDOWN, OutcomeStatus.INTERRUPTED),
    ],
)
def test_a_stop_is_raised_only_when_asked_for(
    make: Callable[..., JobContext], reason: StopReason, status: OutcomeStatus
) -> None:
    context = make()
    context.check_stop()
    context.stop_requested = reason
    with pytest.raises(Stopped) as stopped:
        context.check_stop()
    assert stopped.value.status is status


def test_lines_are_events_at_once(make: Callable[..., JobContext], folder: WorkerFolder) -> None:
    context = make()
    context.log("careful", "warning")
    context.note("parameters", 1234)
    context.opened("test", 10)
    first = said(folder)[0]
    assert isinstance(first, Log)
    assert (first.text, first.level) == ("careful", "warning")
    assert len(said(folder)) == 3
