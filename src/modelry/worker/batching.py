"""Batches of what is queued: one thread owns the queue and the runtime, and no timer exists.

When the runtime is free, everything that waits goes together, up to `max_batch` rows; a lone request goes at
once. Knows no sockets: requests come in by `submit`, answers leave through `deliver`, once a batch.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelry.core.errors import (
    DeadlineExceeded,
    InternalError,
    ModelryError,
    Overloaded,
    WorkFailed,
)
from modelry.core.frames import Stats
from modelry.core.tensors import Array
from modelry.worker.models.runtimes.base import Runtime

log = logging.getLogger(__name__)

#: How long the end waits for the runtime.
PATIENCE_S = 5.0


@dataclass(slots=True, eq=False)
class Work:
    """One request inside a replica."""

    payload: bytes
    #: Who gets the answer; the batcher does not look at it.
    sender: Any = None
    request_id: int = 0
    #: Monotonic seconds; None means it may take as long as it likes.
    deadline_at: float | None = None
    alone: bool = False
    received_at: float = field(default_factory=time.monotonic)
    #: Set by whoever submitted it when nobody waits any more.
    is_cancelled: bool = False
    #: Filled by the batcher's thread.
    inputs: dict[str, Array] = field(default_factory=dict)
    rows: int = 0
    #: What must be equal for two requests to share a batch: names and shapes without the rows.
    form: tuple[tuple[str, tuple[int, ...]], ...] = ()
    started_at: float = 0.0

    def make_ready(self, inputs: dict[str, Array]) -> None:
        """Gives it its decoded inputs."""
        self.inputs = inputs
        self.rows = next(iter(inputs.values())).shape[0]
        self.form = tuple(sorted((name, array.shape[1:]) for name, array in inputs.items()))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    work: Work
    outcome: dict[str, Array] | ModelryError
    stats: Stats


def fits(batch: Sequence[Work], work: Work, max_rows: int) -> bool:
    """Whether a prepared request may join the batch; the first always may."""
    if not batch:
        return True
    if work.alone or batch[0].alone or work.form != batch[0].form:
        return False
    return sum(member.rows for member in batch) + work.rows <= max_rows


class Batcher:
    """The queue, and the thread that owns it.

    `prepare` turns a payload into checked inputs (or raises for that request alone). `deliver` takes the
    answers of one batch and `on_alone` hears of a request that is to run alone, before it does; both are called
    in the batcher's thread.
    """

    def __init__(
        self,
        runtime: Runtime,
        prepare: Callable[[bytes], dict[str, Array]],
        deliver: Callable[[list[Answer]], None],
        *,
        on_alone: Callable[[Work], None] = lambda work: None,
        max_batch: int = 32,
        max_queue: int = 1024,
        name: str = "model",
    ) -> None:
        self._runtime = runtime
        self._prepare = prepare
        self._deliver = deliver
        self._on_alone = on_alone
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._name = name
        self._inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._waiting: deque[Work] = deque()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._busy_since: float | None = None
        self._is_stopping = False

    @property
    def depth(self) -> int:
        """Requests that wait. May be read by any thread."""
        return self._inbox.qsize() + len(self._waiting)

    @property
    def busy_s(self) -> float:
        """How long the present runtime call has taken so far; 0 while there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Work no more after the present batch; what waits is dropped without an answer.

        A runtime call that does not come back is left behind: the process is about to end.
        """
        self._is_stopping = True
        self._inbox.put(None)
        self._thread.join(PATIENCE_S)

    def submit(self, work: Work) -> None:
        """Queue a request; raises `Overloaded`. Set its `is_cancelled` to have it dropped."""
        depth = self.depth
        if depth >= self._max_queue:
            raise Overloaded(name=self._name, queued=depth)
        self._inbox.put(work)

    def _work(self) -> None:
        while not self._is_stopping:
            self._collect()
            answers: list[Answer] = []
            batch = self._next_batch(answers)
            if batch:
                answers += self._run(batch)
            if answers:
                self._deliver(answers)

    def _collect(self) -> None:
        """Moves what has come into the queue; sleeps only where the queue is empty."""
        if not self._waiting:
            self._append(self._inbox.get())
        while True:
            try:
                self._append(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _append(self, work: Work | None) -> None:
        if work is not None:
            self._waiting.append(work)

    def _next_batch(self, answers: list[Answer]) -> list[Work]:
        """Takes the next batch from the queue; requests that cannot run leave their answers in `answers`."""
        batch: list[Work] = []
        held: list[Work] = []
        rows = 0
        while self._waiting and rows < self._max_batch:
            work = self._waiting.popleft()
            if work.is_cancelled:
                continue
            refusal = self._make_ready(work)
            if refusal is not None:
                answers.append(Answer(work, refusal, self._stats(work)))
            elif fits(batch, work, self._max_batch):
                batch.append(work)
                rows += self._max_batch if work.alone else work.rows
            else:
                held.append(work)
        self._waiting.extendleft(reversed(held))
        return batch

    def _make_ready(self, work: Work) -> ModelryError | None:
        """Decodes a request's inputs; the reason where it cannot run."""
        now = work.started_at = time.monotonic()
        if work.deadline_at is not None and work.deadline_at <= now:
            return DeadlineExceeded(deadline_s=work.deadline_at - work.received_at)
        if not work.inputs:
            try:
                work.make_ready(self._prepare(work.payload))
            except ModelryError as error:
                return error
            except Exception as error:
                log.exception("input not decoded")
                return InternalError(reason=_first_line(error), request_id="of this answer")
        return None

    def _run(self, batch: list[Work]) -> list[Answer]:
        """The batch's answers. Where it raises, each member is tried by itself: a bad input fails alone."""
        try:
            return self._run_together(batch)
        except Exception as error:
            if len(batch) == 1:
                return [Answer(batch[0], _refusal(error), self._stats(batch[0], batch[0].rows))]
            return [answer for work in batch for answer in self._run([work])]

    def _run_together(self, batch: list[Work]) -> list[Answer]:
        if batch[0].alone:
            self._on_alone(batch[0])
        began = time.monotonic()
        for work in batch:
            work.started_at = began
        rows = sum(work.rows for work in batch)
        outputs = self._infer(_join(batch), rows)
        took_s = time.monotonic() - began
        answers, at = [], 0
        for work in batch:
            mine = {name: output[at : at + work.rows] for name, output in outputs.items()}
            answers.append(Answer(work, mine, self._stats(work, rows, took_s)))
            at += work.rows
        return answers

    def _infer(self, inputs: dict[str, Array], rows: int) -> dict[str, Array]:
        """Runs the model, in portions where one request alone has more rows than a batch."""
        portions = []
        for at in range(0, rows, self._max_batch):
            portion = {name: array[at : at + self._max_batch] for name, array in inputs.items()}
            portions.append(self._call(portion, min(self._max_batch, rows - at)))
        if len(portions) == 1:
            return portions[0]
        return {name: np.concatenate([part[name] for part in portions]) for name in portions[0]}

    def _call(self, inputs: dict[str, Array], rows: int) -> dict[str, Array]:
        self._busy_since = time.monotonic()
        try:
            outputs = self._runtime.run(inputs)
        finally:
            self._busy_since = None
        for name, output in outputs.items():
            if output.ndim == 0 or output.shape[0] != rows:
                raise WorkFailed(
                    f"The model gave '{name}' of shape {output.shape} for {rows} rows.",
                    remedy="Its first dimension must be the batch's.",
                )
        return outputs

    def _stats(self, work: Work, rows: int = 0, took_s: float = 0.0) -> Stats:
        queued_s = work.started_at - work.received_at
        return Stats(self.depth, _microseconds(queued_s), _microseconds(took_s), rows)


def _join(batch: list[Work]) -> dict[str, Array]:
    """The members' inputs under each other, in memory that is aligned and contiguous."""
    first = batch[0].inputs
    if len(batch) == 1:
        return {name: np.require(array, requirements=["C", "A"]) for name, array in first.items()}
    return {name: np.concatenate([work.inputs[name] for work in batch]) for name in first}


def _refusal(error: Exception) -> ModelryError:
    if isinstance(error, ModelryError):
        return error
    log.error("model failed error=%r", error)
    return WorkFailed(
        f"The model failed on this input: {_first_line(error)}.",
        remedy="Check the input; if others work, the model cannot take this one.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
