"""What a job's code has in its hand: its inputs, its checkpoints, a way to speak, and the wish that it may end.

A job is a function `run(context) -> result`. It raises whatever goes wrong; it looks at `stop_requested` often, makes
a checkpoint where that is of use, and raises `Stopped` (`check_stop` does).
"""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelry.artifacts import Artifacts
from modelry.core.events import (
    Checkpoint,
    Event,
    Log,
    Metric,
    Note,
    Opened,
    Progress,
    encode_event,
)
from modelry.core.files import FileRef
from modelry.core.specs import JobSpec, OutcomeStatus, StopReason
from modelry.worker.folder import WorkerFolder, outcome_of_stop

_PROGRESS_INTERVAL_S = 0.5
_METRIC_INTERVAL_S = 0.1


class Stopped(Exception):
    """The job ends early because it was asked to; its work is safe as far as that is of use."""

    def __init__(self, status: OutcomeStatus) -> None:
        super().__init__(status.value)
        self.status = status


class JobContext:
    """One attempt of a job, seen from inside. All methods may be called from any thread."""

    def __init__(self, folder: WorkerFolder, spec: JobSpec) -> None:
        self.spec = spec
        self.artifacts = Artifacts(spec.artifacts)
        #: Scratch, empty at the start of each attempt.
        self.work: Path = _fresh(folder.work)
        #: Why the job is asked to end, or None. Cheap: read it at every step.
        self.stop_requested: StopReason | None = None
        self._folder = folder
        self._lock = threading.RLock()
        self._events = os.open(folder.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._means: dict[str, _Mean] = {}
        self._last_progress: Progress | None = None
        self._held_progress: Progress | None = None

    def fetch(self, role: str) -> Path:
        """A folder with the files of an input."""
        return self._materialise(self.spec.inputs[role], f"input-{role}")

    def restore(self) -> Path | None:
        """A folder with the files of the job's newest checkpoint, or None at a first beginning."""
        if self.spec.checkpoint is None:
            return None
        return self._materialise(self.spec.checkpoint, "checkpoint")

    def progress(
        self,
        phase: str,
        *,
        step: int = 0,
        total_steps: int = 0,
        epoch: int = 0,
        epochs: int = 0,
        samples_per_s: float | None = None,
        eta_s: float | None = None,
    ) -> None:
        """Say how far the job is. Call it as often as you like: two a second are passed on, new phases at once."""
        now = Progress(
            at=time.time(),
            phase=phase,
            step=step,
            total_steps=total_steps,
            epoch=epoch,
            epochs=epochs,
            samples_per_s=_finite(samples_per_s),
            eta_s=_finite(eta_s),
        )
        with self._lock:
            self._held_progress = now
            last = self._last_progress
            if last is None or last.phase != phase or now.at - last.at >= _PROGRESS_INTERVAL_S:
                self._pass_progress()

    def metric(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve. More than ten a second and name become one: their mean, at the last step.

        Names under `epoch/` pass as they are. A value that is not finite is no point.
        """
        if not math.isfinite(value):
            return
        with self._lock:
            if name.startswith("epoch/"):
                self._write(Metric(at=time.time(), name=name, step=step, value=value))
                return
            mean = self._means.setdefault(name, _Mean())
            mean.add(step, value)
            if time.monotonic() - mean.passed_at >= _METRIC_INTERVAL_S:
                self._pass_mean(name, mean)

    def log(self, text: str, level: str = "info") -> None:
        """A line for people; `level` is info, warning or error."""
        self._write(Log(at=time.time(), text=text, level=level))

    def note(self, name: str, value: Any) -> None:
        """A fact for the job's record; JSON."""
        self._write(Note(at=time.time(), name=name, value=value))

    def opened(self, split: str, rows: int) -> None:
        """Say that a split of the data was read."""
        self._write(Opened(at=time.time(), split=split, rows=rows))

    def checkpoint(self, step: int, files: Mapping[str, Path | bytes | FileRef]) -> None:
        """Keep the files so that the job can go on from them; when this returns they outlive power loss.

        A `FileRef` is content that lies in the artifacts already.
        """
        kept = [self._keep(path, content) for path, content in files.items()]
        with self._lock:
            self._pass_all()
            self._write(Checkpoint(at=time.time(), step=step, files=kept))
            os.fsync(self._events)

    def check_stop(self) -> None:
        """Raise `Stopped` if the job is asked to end."""
        if self.stop_requested is not None:
            raise Stopped(outcome_of_stop(self.stop_requested))

    def close(self) -> None:
        """Write what was held back; the events are then on the disk. Saying more is an error."""
        with self._lock:
            self._pass_all()
            os.fsync(self._events)
            os.close(self._events)

    def _materialise(self, files: list[FileRef], name: str) -> Path:
        folder = _fresh(self.work / name)
        self.artifacts.fetch(files, folder)
        return folder

    def _keep(self, path: str, content: Path | bytes | FileRef) -> FileRef:
        if isinstance(content, FileRef):
            return content
        if isinstance(content, bytes):
            return self.artifacts.put_bytes(content, path)
        return self.artifacts.put_file(content, path)

    def _pass_all(self) -> None:
        self._pass_progress()
        for name, mean in self._means.items():
            self._pass_mean(name, mean)

    def _pass_progress(self) -> None:
        if self._held_progress is not None:
            self._write(self._held_progress)
            self._last_progress, self._held_progress = self._held_progress, None

    def _pass_mean(self, name: str, mean: _Mean) -> None:
        if mean.count:
            value = mean.total / mean.count
            self._write(Metric(at=time.time(), name=name, step=mean.step, value=value))
            mean.restart()

    def _write(self, event: Event) -> None:
        line = memoryview(encode_event(event))
        with self._lock:
            while line:
                line = line[os.write(self._events, line) :]


class _Mean:
    """The points of one curve that were not passed on yet."""

    def __init__(self) -> None:
        self.step = 0
        self.total = 0.0
        self.count = 0
        self.passed_at = -math.inf

    def add(self, step: int, value: float) -> None:
        self.step = step
        self.total += value
        self.count += 1

    def restart(self) -> None:
        self.total, self.count, self.passed_at = 0.0, 0, time.monotonic()


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
