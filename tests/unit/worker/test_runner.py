"""Whatever a job's function does becomes an outcome that people and programs can read."""

from __future__ import annotations

import errno
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelry.core.errors import Diverged, InternalError
from modelry.core.specs import JobSpec, OutcomeStatus, StopReason
from modelry.worker import sleeping
from modelry.worker.context import JobContext, Stopped
from modelry.worker.folder import WorkerFolder
from modelry.worker.runner import JOB_KINDS, load_kind, run_job

Result = dict[str, Any]


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    return make_context(tmp_path)


def make_context(tmp_path: Path, **params: Any) -> JobContext:
    folder = WorkerFolder(tmp_path / "job_a-1")
    folder.path.mkdir()
    spec = JobSpec(
        worker_id="job_a-1",
        job_id="job_a",
        attempt=1,
        kind="sleep",
        params=params,
        artifacts=str(tmp_path / "blobs"),
    )
    return JobContext(folder, spec)


def test_what_the_function_returns_is_the_result(context: JobContext) -> None:
    outcome = run_job(context, lambda kind: lambda context: {"kind": kind})
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert outcome.result == {"kind": "sleep"}


def test_a_stop_is_no_failure(context: JobContext) -> None:
    def stop(context: JobContext) -> Result:
        raise Stopped(OutcomeStatus.PAUSED)

    outcome = run_job(context, lambda kind: stop)
    assert (outcome.status, outcome.failure) == (OutcomeStatus.PAUSED, None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Diverged(value="nan", step=3), "diverged"),
        (ZeroDivisionError("division by zero"), "program_failed"),
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/disk/file"), "storage_full"),
        (SystemExit(0), "program_failed"),
        (KeyboardInterrupt(), "program_failed"),
    ],
)
def test_each_error_has_a_code_a_sentence_and_the_end_of_its_traceback(
    context: JobContext, error: BaseException, code: str
) -> None:
    def break_down(context: JobContext) -> Result:
        raise error

    outcome = run_job(context, lambda kind: break_down)
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.failure is not None
    assert outcome.failure.code == code
    assert outcome.failure.message.endswith(".")
    assert "unknown)" not in outcome.failure.message + outcome.failure.remedy
    assert "break_down" in outcome.failure.detail
    assert len(outcome.failure.detail.splitlines()) <= 20


def test_a_result_that_cannot_be_written_is_a_failure(context: JobContext) -> None:
    outcome = run_job(context, lambda kind: lambda context: {"made": object()})
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.result == {}


def test_a_kind_that_does_not_exist_is_a_failure(context: JobContext) -> None:
    def load(kind: str) -> Callable[[JobContext], Result]:
        return load_kind("dance")

    outcome = run_job(context, load)
    assert outcome.failure is not None
    assert outcome.failure.code == InternalError.code


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_every_kind_in_the_table_can_be_found(kind: str) -> None:
    module, _, function = JOB_KINDS[kind].partition(":")
    assert function == "run"
    assert importlib.util.find_spec(module) is not None


def test_the_runner_itself_loads_no_training_library() -> None:
    code = (
        "import modelry.worker.runner, sys\n"
        "print([m for m in ('torch', 'pyarrow', 'onnxruntime') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_sleep_counts_and_keeps_every_so_many_steps(tmp_path: Path) -> None:
    context = make_context(tmp_path, steps=5, step_s=0.0, checkpoint_steps=2)
    outcome = run_job(context, lambda kind: sleeping.run)
    assert outcome.result == {"steps": 5}
    lines = [json.loads(line) for line in (tmp_path / "job_a-1/events.jsonl").open()]
    assert [line["step"] for line in lines if line["type"] == "checkpoint"] == [2, 4]


@pytest.mark.parametrize(
    ("reason", "kept"),
    [(StopReason.PAUSE, [0]), (StopReason.SHUTDOWN, [0]), (StopReason.CANCEL, [])],
)
def test_sleep_keeps_its_count_at_every_stop_but_a_cancel(
    tmp_path: Path, reason: StopReason, kept: list[int]
) -> None:
    context = make_context(tmp_path, steps=5, step_s=60.0)
    context.stop_requested = reason
    run_job(context, lambda kind: sleeping.run)
    lines = [json.loads(line) for line in (tmp_path / "job_a-1/events.jsonl").open()]
    assert [line["step"] for line in lines if line["type"] == "checkpoint"] == kept
