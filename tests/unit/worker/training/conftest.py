"""Real job contexts over temporary folders, and small data that can be learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelry.core.events import Checkpoint, Event, decode_events
from modelry.core.files import FileRef
from modelry.core.specs import JobSpec, Limits
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder
from modelry.worker.training.samples import TensorSamples, to_samples

MakeContext = Callable[..., JobContext]


class Attempts:
    """Attempts of one job, each with a folder of its own, all with the same artifacts."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self._open = ExitStack()

    def start(
        self, *, checkpoint: list[FileRef] | None = None, limits: Limits | None = None, **spec: Any
    ) -> JobContext:
        """The context of a further attempt."""
        self._count += 1
        worker_id = f"job_a-{self._count}"
        job = JobSpec(
            worker_id=worker_id,
            job_id="job_a",
            attempt=self._count,
            kind="train",
            params=spec.pop("params", {}),
            artifacts=str(self._root / "blobs"),
            checkpoint=checkpoint,
            limits=limits or Limits(),
            **spec,
        )
        folder = WorkerFolder(self._root / "run" / worker_id)
        folder.create(job)
        return self._open.enter_context(closing(JobContext(folder, job)))

    def events(self) -> list[Event]:
        """What the newest attempt has said."""
        path = self._root / "run" / f"job_a-{self._count}" / "events.jsonl"
        return decode_events(path.read_bytes())[0]

    def newest_checkpoint(self) -> list[FileRef] | None:
        """The files of the newest attempt's last checkpoint."""
        made = [event for event in self.events() if isinstance(event, Checkpoint)]
        return made[-1].files if made else None

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    """A job to be attempted."""
    torch.set_num_threads(1)
    made = Attempts(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def pictures() -> TensorSamples:
    """120 pictures of 6×6 bytes in three classes that differ in their brightest corner."""
    random = np.random.default_rng(0)
    labels = np.arange(120, dtype=np.int64) % 3
    inputs = random.integers(0, 120, (120, 6, 6, 1), dtype=np.uint8)
    for row, label in enumerate(labels):
        inputs[row, 2 * label : 2 * label + 2, :3] += 100
    return to_samples(inputs, labels, input_shape=(6, 6, 1), scale=1 / 255)
