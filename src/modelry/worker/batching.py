"""Batches of what is queued: one thread owns the queue and the runtime, and no timer exists.

When the runtime is free, everything that waits goes together, up to `max_batch` rows; a lone request goes at
once. A request of more rows than that goes in portions, and lets the others in between them. Knows no sockets:
requests come in by `submit`, answers leave through `deliver`, once a batch.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from modelry.core.errors import (
    DeadlineExceeded,
    InternalError,
    ModelryError,
    Overloaded,
    WorkFailed,
)
from modelry.core.frames import Op, Stats
from modelry.core.tensors import Array
from modelry.worker.models.runtimes.base import Runtime
from modelry.worker.tasks.opened import Opened

log = logging.getLogger(__name__)

#: How long the end waits for the runtime.
PATIENCE_S = 5.0

#: What must be equal for two requests to share a batch: names and shapes without the rows.
Form = tuple[tuple[str, tuple[int, ...]], ...]
Outputs = dict[str, Array]


class Work:
    """One request inside a replica."""

    __slots__ = (
        "alone",
        "at",
        "batch_rows",
        "deadline_at",
        "finish",
        "form",
        "inputs",
        "is_cancelled",
        "op",
        "parts",
        "payload",
        "received_at",
        "request_id",
        "rows",
        "sender",
        "started_at",
        "took_s",
    )

    def __init__(
        self,
        payload: bytes,
        *,
        op: int = Op.PREDICT,
        sender: Any = None,
        request_id: int = 0,
        deadline_at: float | None = None,
        alone: bool = False,
    ) -> None:
        self.payload = payload
        self.op = op
        #: Who gets the answer; the batcher does not look at it.
        self.sender = sender
        self.request_id = request_id
        #: Monotonic seconds; None means it may take as long as it likes.
        self.deadline_at = deadline_at
        self.alone = alone
        self.received_at = time.monotonic()
        #: Set by whoever submitted it when nobody waits any more.
        self.is_cancelled = False
        # From here on the batcher's thread is the owner.
        self.inputs: dict[str, Array] = {}
        self.finish: Callable[[Outputs], bytes] | None = None
        self.rows = 0
        self.form: Form = ()
        #: Rows that have run, and the outputs of the portions they ran in.
        self.at = 0
        self.parts: list[Outputs] = []
        self.started_at = 0.0
        self.took_s = 0.0
        self.batch_rows = 0

    def make_ready(self, opened: Opened) -> None:
        """Gives it its rows."""
        self.inputs, self.finish = opened.inputs, opened.finish
        form = [(name, array.shape[1:]) for name, array in opened.inputs.items()]
        self.form = tuple(sorted(form) if len(form) > 1 else form)
        self.rows = next(iter(opened.inputs.values())).shape[0]

    def portion(self, limit: int) -> int:
        """How many of its rows go together at most."""
        return min(self.rows - self.at, limit)


class Answer(NamedTuple):
    """What became of one request: the answer's bytes, or the reason why there is none."""

    work: Work
    outcome: bytes | ModelryError
    stats: Stats


class Batcher:
    """The queue, and the thread that owns it.

    `open_request` turns an op and a payload into rows and what finishes them (or raises for that request alone).
    `deliver` takes the answers of one batch and `on_alone` hears of a request that is to run alone, before it does;
    both are called in the batcher's thread.
    """

    def __init__(
        self,
        runtime: Runtime,
        open_request: Callable[[int, bytes], Opened],
        deliver: Callable[[list[Answer]], None],
        *,
        on_alone: Callable[[Work], None] = lambda work: None,
        max_batch: int = 32,
        max_queue: int = 1024,
        name: str = "model",
    ) -> None:
        self._runtime = runtime
        self._open = open_request
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
                self._run(batch, answers)
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
                answers.append(self._answer(work, refusal))
            elif self._joins(work, batch, rows):
                batch.append(work)
                rows += self._max_batch if work.alone else work.portion(self._max_batch)
            else:
                held.append(work)
        self._waiting.extendleft(reversed(held))
        return batch

    def _joins(self, work: Work, batch: list[Work], rows: int) -> bool:
        if not batch:
            return True
        if work.alone or work.form != batch[0].form:
            return False
        return rows + work.portion(self._max_batch) <= self._max_batch

    def _make_ready(self, work: Work) -> ModelryError | None:
        """Opens a request; the reason where it cannot run."""
        now = time.monotonic()
        if not work.at:
            work.started_at = now
        if work.deadline_at is not None and work.deadline_at <= now:
            return DeadlineExceeded(deadline_s=work.deadline_at - work.received_at)
        if work.finish is None:
            try:
                work.make_ready(self._open(work.op, work.payload))
            except ModelryError as error:
                return error
            except Exception as error:
                log.exception("input not decoded")
                return InternalError(reason=_first_line(error), request_id="of this answer")
        return None

    def _run(self, batch: list[Work], answers: list[Answer]) -> None:
        """Runs a batch. Where that raises, each member is tried by itself: a bad input fails alone."""
        try:
            outputs, rows, took_s = self._run_together(batch)
        except Exception as error:
            if len(batch) == 1:
                answers.append(self._answer(batch[0], _refusal(error)))
                return
            for work in batch:
                self._run([work], answers)
            return
        at = 0
        for work in batch:
            end = at + work.portion(self._max_batch)
            mine = {name: output[at:end] for name, output in outputs.items()}
            work.took_s += took_s
            work.batch_rows = max(work.batch_rows, rows)
            self._advance(work, mine, end - at, answers)
            at = end

    def _run_together(self, batch: list[Work]) -> tuple[Outputs, int, float]:
        if batch[0].alone:
            self._on_alone(batch[0])
        inputs, rows = _join(batch, self._max_batch)
        began = self._busy_since = time.monotonic()
        try:
            outputs = self._runtime.run(inputs)
        finally:
            self._busy_since = None
        took_s = time.monotonic() - began
        for name, output in outputs.items():
            if output.ndim == 0 or output.shape[0] != rows:
                raise WorkFailed(
                    f"The model gave '{name}' of shape {output.shape} for {rows} rows.",
                    remedy="Its first dimension must be the batch's.",
                )
        for work in batch:
            if not work.at:
                work.started_at = began
        return outputs, rows, took_s

    def _advance(self, work: Work, outputs: Outputs, rows: int, answers: list[Answer]) -> None:
        """Takes the outputs of a portion; the rest of a large request waits behind the others."""
        work.at += rows
        if work.at < work.rows:
            work.parts.append(outputs)
            self._waiting.append(work)
            return
        if work.parts:
            parts = [*work.parts, outputs]
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in outputs}
        answers.append(self._answer(work, self._finish(work, outputs)))

    @staticmethod
    def _finish(work: Work, outputs: Outputs) -> bytes | ModelryError:
        assert work.finish is not None
        try:
            return work.finish(outputs)
        except ModelryError as error:
            return error
        except Exception as error:
            log.exception("answer not made")
            return InternalError(reason=_first_line(error), request_id="of this answer")

    def _answer(self, work: Work, outcome: bytes | ModelryError) -> Answer:
        queued_us = int((work.started_at - work.received_at) * 1e6)
        took_us = int(work.took_s * 1e6)
        return Answer(work, outcome, Stats(self.depth, max(0, queued_us), took_us, work.batch_rows))


def _join(batch: list[Work], limit: int) -> tuple[dict[str, Array], int]:
    """The members' next rows under each other, in memory that is aligned and contiguous; and how many."""
    if len(batch) == 1:
        work = batch[0]
        rows = work.portion(limit)
        end = work.at + rows
        return {
            name: np.require(array[work.at : end], requirements=["C", "A"])
            for name, array in work.inputs.items()
        }, rows
    rows, slices = 0, []
    for work in batch:
        count = work.portion(limit)
        slices.append((work.inputs, work.at, work.at + count))
        rows += count
    return {
        name: np.concatenate([inputs[name][at:end] for inputs, at, end in slices])
        for name in batch[0].inputs
    }, rows


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
