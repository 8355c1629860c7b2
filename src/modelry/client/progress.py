"""What a waiting person sees: bars in a terminal or Jupyter, plain lines everywhere else."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from modelry.core.records import Job
from modelry.core.states import JobState

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Shown beside the bar, where the job has them: curve → short name.
SHOWN_METRICS = {"train/loss": "loss", "train/accuracy": "accuracy", "train/mae": "error"}


class Display(Protocol):
    """Takes every change of what is waited for."""

    #: Whether curves are worth fetching for it.
    shows_metrics: bool

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show_job(self, job: Job, metrics: dict[str, float]) -> None:
        """The job's newest record, and the newest value of each curve."""

    def show_sent(self, path: str, sent_bytes: int, total_bytes: int) -> None:
        """How much of an upload has gone out."""


def make_display(*, stream: TextIO | None = None) -> Display:
    """Bars where they can be drawn, lines otherwise."""
    from rich.console import Console

    console = Console(file=stream or sys.stderr)
    if console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal):
        return Bars(console)
    return Lines(stream or sys.stderr)


class Quiet:
    """Shows nothing."""

    shows_metrics = False

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def show_job(self, job: Job, metrics: dict[str, float]) -> None:
        return None

    def show_sent(self, path: str, sent_bytes: int, total_bytes: int) -> None:
        return None


@dataclass
class Lines(Quiet):
    """One line when something new begins: a state, a phase, an epoch, a quarter of an upload."""

    stream: TextIO
    shows_metrics = True
    _last: tuple[object, ...] = ()
    _quarter: int = -1

    def show_job(self, job: Job, metrics: dict[str, float]) -> None:
        progress = job.progress or {}
        now = (job.state, progress.get("phase"), progress.get("epoch"))
        if now != self._last:
            self._last = now
            self._say(f"{job.id} {describe(job)}{_values(metrics)}")

    def show_sent(self, path: str, sent_bytes: int, total_bytes: int) -> None:
        quarter = 4 * sent_bytes // max(total_bytes, 1)
        if quarter != self._quarter:
            self._quarter = quarter
            self._say(f"sent {sent_bytes / 1e6:.1f} of {total_bytes / 1e6:.1f} MB")

    def _say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


@dataclass
class Bars(Quiet):
    """A moving bar for the upload and one for the job."""

    console: Any
    shows_metrics = True
    _progress: Progress = field(init=False)
    _job: TaskID | None = None
    _upload: TaskID | None = None

    def __enter__(self) -> Bars:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=self.console,
        )
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show_job(self, job: Job, metrics: dict[str, float]) -> None:
        if self._job is None:
            self._job = self._progress.add_task(job.id, total=None, detail="")
        done, total = amount(job)
        self._progress.update(
            self._job,
            description=describe(job),
            completed=done,
            total=total,
            detail=_detail(job, metrics),
        )

    def show_sent(self, path: str, sent_bytes: int, total_bytes: int) -> None:
        if self._upload is None:
            self._upload = self._progress.add_task("sending", total=total_bytes, detail="")
        self._progress.update(
            self._upload,
            completed=sent_bytes,
            detail=f"{sent_bytes / 1e6:.1f}/{total_bytes / 1e6:.1f} MB  {path}",
        )


def describe(job: Job) -> str:
    """What the job is doing, in a few words."""
    if job.state is JobState.QUEUED and job.waiting_for:
        return f"queued: waits for {job.waiting_for}"
    if job.state is not JobState.RUNNING:
        return job.state.value
    progress = job.progress or {}
    phase = str(progress.get("phase") or "running")
    if progress.get("epochs"):
        return f"{phase}, epoch {progress.get('epoch', 0)}/{progress['epochs']}"
    return phase


def amount(job: Job) -> tuple[float, float | None]:
    """Done and total for a bar; a total of None is unknown."""
    if job.state is JobState.SUCCEEDED:
        return 1, 1
    progress = job.progress or {}
    return progress.get("step") or 0, progress.get("total_steps") or None


def _detail(job: Job, metrics: dict[str, float]) -> str:
    progress = job.progress or {}
    parts = [_values(metrics).strip()]
    if job.state is JobState.RUNNING and progress.get("samples_per_s"):
        parts.append(f"{progress['samples_per_s']:,.0f} samples/s")
    if job.state is JobState.RUNNING and progress.get("eta_s") is not None:
        parts.append(f"{duration(progress['eta_s'])} left")
    return "  ".join(part for part in parts if part)


def _values(metrics: dict[str, float]) -> str:
    return "".join(
        f"  {short} {metrics[name]:.4g}" for name, short in SHOWN_METRICS.items() if name in metrics
    )


def duration(seconds: float) -> str:
    """`5 s`, `2 min 10 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
