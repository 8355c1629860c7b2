"""Waiting for jobs: the end is told, failure is raised, progress is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modelry.client._sync import jobs
from modelry.client.progress import Bars, Lines, duration
from modelry.core.errors import DeadlineExceeded, Diverged, JobCancelled, ModelryError
from tests.unit.client.answering import talking
from tests.unit.client.test_uploading import JOB

POINT = {"name": "train/loss", "step": 3, "value": 0.5, "at": 1.0}


def job(state: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {**JOB, "kind": "train", "state": state, **more}


def running(epoch: int) -> tuple[int, dict[str, Any]]:
    progress = {"at": 1.0, "phase": "training", "step": epoch * 10, "total_steps": 30}
    progress |= {"epoch": epoch, "epochs": 3, "samples_per_s": 1234.0, "eta_s": 70.0}
    return job("running", progress=progress)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_S", 0.001)


def test_waiting_ends_with_the_job() -> None:
    with talking(job("queued"), job("starting"), job("running"), job("succeeded")) as (_, client):
        assert client.jobs.get("job_1").wait().state == "succeeded"


def test_a_failed_job_raises_its_own_error_with_its_last_words() -> None:
    failure = {"code": "diverged", "message": "NaN.", "remedy": "Slower.", "detail": "Traceback"}
    with (
        talking(job("running"), job("failed", failure=failure)) as (_, client),
        pytest.raises(Diverged) as caught,
    ):
        client.jobs.get("job_1").wait()
    assert caught.value.facts == {"job": "job_1", "detail": "Traceback"}


def test_a_failure_without_a_reason_is_still_one() -> None:
    with talking(job("failed")) as (_, client), pytest.raises(ModelryError, match="no reason"):
        client.jobs.get("job_1").wait()


def test_a_cancelled_job_raises_too() -> None:
    with talking(job("cancelled")) as (_, client), pytest.raises(JobCancelled, match="job_1"):
        client.jobs.get("job_1").wait()


def test_waiting_can_have_an_end() -> None:
    with talking(job("running")) as (_, client), pytest.raises(DeadlineExceeded, match="running"):
        client.jobs.get("job_1").wait(timeout_s=0.02)


def test_without_a_terminal_each_epoch_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = (200, [POINT])
    looks = [running(1), metrics, running(1), metrics, running(2), metrics, job("succeeded")]
    with talking(job("queued"), *looks) as (_, client):
        client.jobs.get("job_1").watch()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "job_1 training, epoch 1/3  loss 0.5",
        "job_1 training, epoch 2/3  loss 0.5",
        "job_1 succeeded  loss 0.5",
    ]


def test_in_a_terminal_a_bar_moves() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with (
        talking(job("queued"), running(1), (200, [POINT]), job("succeeded")) as (_, client),
        Bars(console) as bars,
    ):
        client.jobs.get("job_1").follow(bars)
    assert "succeeded" in screen.getvalue()
    assert "100%" in screen.getvalue()


def test_labels_with_brackets_are_not_taken_for_markup() -> None:
    screen = io.StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=120)) as bars:
        bars.show_sent("[red]七[/].png", 5, 10)
    assert "[red]七[/].png" in screen.getvalue()


def test_an_upload_is_told_in_quarters() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    for sent in range(101):
        lines.show_sent("a", sent * 10**6, 100 * 10**6)
    assert len(stream.getvalue().splitlines()) == 5


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (130, "2 min 10 s"), (3900, "1 h 5 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_long_log_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "_LOG_PAGE", 2)
    lines = [
        {"number": n, "at": 1.0, "level": "info", "text": str(n), "attempt": 1} for n in range(1, 4)
    ]
    with talking(job("running"), (200, lines[:2]), (200, lines[2:])) as (server, client):
        found = client.jobs.get("job_1").logs()
        assert server.asked[2].path.endswith("/logs?after=2&limit=2")
    assert [line.text for line in found] == ["1", "2", "3"]
