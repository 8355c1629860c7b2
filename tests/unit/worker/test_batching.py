"""Batching: what is queued goes together, equals what goes alone, and fails alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import DeadlineExceeded, InvalidInput, ModelryError, Overloaded, WorkFailed
from modelry.core.tensors import Array, decode_payload, encode_payload
from modelry.worker.batching import Answer, Batcher, Work
from modelry.worker.tasks.opened import Opened

BAD, UNSPEAKABLE = -1.0, -3.0


class Line:
    """A real runtime of one line, y = 2x; it can be held, counts rows, and raises for one value."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["x"]
        self.seen.append(len(x))
        self.entered.set()
        assert self.free.wait(10)
        if (x == BAD).any():
            raise RuntimeError("a value it cannot take\nand more")
        return {"y": x * 2}


def finish(outputs: Mapping[str, Array]) -> bytes:
    """The answer's bytes; one value cannot be said."""
    if (outputs["y"] == 2 * UNSPEAKABLE).any():
        raise InvalidInput(reason="it cannot be said", expected="another")
    return encode_payload(outputs)


def said(outcome: bytes | ModelryError) -> Array:
    """What an answer says."""
    assert isinstance(outcome, bytes), outcome
    return decode_payload(outcome).tensors["y"]


class Room:
    """A batcher with the answers it has given."""

    def __init__(self, **options: Any) -> None:
        self.line = Line()
        self.answers: list[Answer] = []
        self.deliveries = 0
        self.alone: list[Work] = []
        self._changed = threading.Condition()
        self.batcher = Batcher(
            self.line, self._open, self._deliver, on_alone=self.alone.append, **options
        )

    @staticmethod
    def _open(op: int, payload: bytes) -> Opened:
        return Opened(decode_payload(payload).tensors, finish)

    def _deliver(self, answers: list[Answer]) -> None:
        with self._changed:
            self.answers += answers
            self.deliveries += 1
            self._changed.notify_all()

    def submit(self, *values: float, **options: Any) -> Work:
        payload = encode_payload({"x": np.array(values, np.float32).reshape(-1, 1)})
        work = Work(payload, **options)
        self.batcher.submit(work)
        return work

    def occupy(self) -> None:
        """The runtime works on a first request and does not come back before `line.free` is set."""
        self.line.free.clear()
        self.submit(0.0)
        assert self.line.entered.wait(10)

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.answers) >= count, 10)

    def answer(self, work: Work) -> Answer:
        return next(answer for answer in self.answers if answer.work is work)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room(max_batch=32)
    room.batcher.start()
    yield room
    room.line.free.set()
    room.batcher.close()


def test_sixty_four_at_once_become_two_batches_behind_the_blocked_one(room: Room) -> None:
    room.occupy()
    works = [room.submit(float(number)) for number in range(64)]
    room.line.free.set()
    room.wait(65)
    assert room.line.seen == [1, 32, 32]
    assert room.deliveries == 3
    for number, work in enumerate(works):
        outcome = room.answer(work).outcome
        assert said(outcome).tolist() == [[2.0 * number]]
        assert room.answer(work).stats.batch_rows == 32


def test_a_lone_request_does_not_wait(room: Room) -> None:
    began = time.monotonic()
    work = room.submit(1.0)
    room.wait(1)
    assert time.monotonic() - began < 1.0
    assert room.line.seen == [1]
    assert room.answer(work).stats.batch_rows == 1


def test_one_bad_input_fails_alone(room: Room) -> None:
    room.occupy()
    works = [room.submit(BAD if number == 5 else float(number)) for number in range(8)]
    room.line.free.set()
    room.wait(9)
    assert room.line.seen == [1, 8] + [1] * 8
    for number, work in enumerate(works):
        outcome = room.answer(work).outcome
        if number == 5:
            assert isinstance(outcome, WorkFailed)
            assert "a value it cannot take." in outcome.message
        else:
            assert said(outcome).tolist() == [[2.0 * number]]


def test_an_input_that_cannot_be_decoded_fails_before_it_runs(room: Room) -> None:
    room.occupy()
    bad = Work(b"noise")
    room.batcher.submit(bad)
    good = room.submit(3.0)
    room.line.free.set()
    room.wait(3)
    assert isinstance(room.answer(bad).outcome, InvalidInput)
    assert isinstance(room.answer(good).outcome, bytes)
    assert room.line.seen == [1, 1]


def test_nobody_waits_for_cancelled_and_late_requests(room: Room) -> None:
    room.occupy()
    cancelled, late = room.submit(1.0), room.submit(2.0, deadline_at=time.monotonic() + 0.01)
    kept = room.submit(3.0)
    cancelled.is_cancelled = True
    time.sleep(0.02)
    room.line.free.set()
    room.wait(3)
    assert room.line.seen == [1, 1]
    assert isinstance(room.answer(late).outcome, DeadlineExceeded)
    assert isinstance(room.answer(kept).outcome, bytes)
    assert all(answer.work is not cancelled for answer in room.answers)


def test_a_request_that_must_be_alone_is_alone_and_announced(room: Room) -> None:
    room.occupy()
    room.submit(1.0)
    alone = room.submit(2.0, alone=True)
    room.submit(3.0)
    room.line.free.set()
    room.wait(4)
    assert room.line.seen == [1, 2, 1]
    assert room.alone == [alone]


def test_requests_of_other_shapes_form_their_own_batches(room: Room) -> None:
    room.occupy()
    room.submit(1.0)
    wide = Work(encode_payload({"x": np.ones((2, 3), np.float32)}))
    room.batcher.submit(wide)
    room.submit(2.0)
    room.line.free.set()
    room.wait(4)
    assert room.line.seen == [1, 2, 2]
    outcome = room.answer(wide).outcome
    assert said(outcome).shape == (2, 3)


def test_more_rows_than_a_batch_run_in_portions(room: Room) -> None:
    work = room.submit(*map(float, range(70)))
    room.wait(1)
    assert room.line.seen == [32, 32, 6]
    outcome = room.answer(work).outcome
    assert said(outcome).ravel().tolist() == [2.0 * number for number in range(70)]


def test_one_request_too_many_is_refused() -> None:
    room = Room(max_batch=4, max_queue=3)
    room.batcher.start()
    room.occupy()
    for _ in range(3):
        room.submit(1.0)
    with pytest.raises(Overloaded):
        room.submit(1.0)
    room.line.free.set()
    room.wait(4)
    room.batcher.close()


def test_a_model_that_loses_rows_is_found_out() -> None:
    room = Room()
    room.line.run = lambda inputs: {"y": np.zeros((7, 1), np.float32)}  # type: ignore[method-assign]
    room.batcher.start()
    work = room.submit(1.0)
    room.wait(1)
    assert isinstance(room.answer(work).outcome, WorkFailed)
    room.batcher.close()


@given(st.lists(st.lists(st.floats(0, 9, width=32), min_size=1, max_size=6), max_size=20))
def test_batched_answers_equal_single_ones(requests: list[list[float]]) -> None:
    room = Room(max_batch=8)
    works = [room.submit(*values) for values in requests]
    room.batcher.start()
    room.wait(len(works))
    room.batcher.close()
    assert max(room.line.seen, default=0) <= 8
    for work, values in zip(works, requests, strict=True):
        outcome = room.answer(work).outcome
        assert said(outcome).ravel().tolist() == [2.0 * value for value in values]


def test_an_answer_that_cannot_be_made_fails_alone(room: Room) -> None:
    room.occupy()
    works = [room.submit(UNSPEAKABLE if number == 2 else float(number)) for number in range(4)]
    room.line.free.set()
    room.wait(5)
    assert room.line.seen == [1, 4]
    for number, work in enumerate(works):
        outcome = room.answer(work).outcome
        if number == 2:
            assert isinstance(outcome, InvalidInput)
        else:
            assert said(outcome).tolist() == [[2.0 * number]]


def test_a_request_of_many_rows_lets_others_in_between_its_portions(room: Room) -> None:
    room.occupy()
    large = room.submit(*map(float, range(100)))
    small = [room.submit(float(number)) for number in range(3)]
    room.line.free.set()
    room.wait(5)
    # Its first portion fills a batch; then those who came after it go together with its next.
    assert room.line.seen[:2] == [1, 32]
    assert [answer.work for answer in room.answers[1:4]] == small
    assert room.answers[4].work is large
    assert said(room.answer(large).outcome).ravel().tolist() == [2.0 * n for n in range(100)]
    assert sum(room.line.seen) == 104


def test_a_large_request_that_is_cancelled_stops_between_its_portions(room: Room) -> None:
    room.occupy()
    large = room.submit(*map(float, range(3200)))
    room.line.run = _cancelling(room.line, large)  # type: ignore[method-assign]
    room.line.free.set()
    after = room.submit(1.0)
    room.wait(2)
    assert isinstance(room.answer(after).outcome, bytes)
    assert sum(room.line.seen) < 200


def _cancelling(line: Line, work: Work) -> Any:
    run = line.run

    def run_and_cancel(inputs: Mapping[str, Array]) -> dict[str, Array]:
        work.is_cancelled = len(inputs["x"]) > 1
        return run(inputs)

    return run_and_cancel


FATES = ["good"] * 6 + ["bad", "unspeakable", "late", "cancelled", "alone", "noise"]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(FATES), st.booleans()), max_size=25),
    st.integers(1, 9),
)
def test_whatever_comes_together_each_gets_exactly_one_answer_of_its_own(
    asked: list[tuple[int, str, bool]], max_batch: int
) -> None:
    room = Room(max_batch=max_batch)
    works: list[tuple[Work, str, list[float]]] = []
    for number, (rows, fate, is_wide) in enumerate(asked):
        values = [float(100 * number + row) for row in range(rows)]
        values[-1] = {"bad": BAD, "unspeakable": UNSPEAKABLE}.get(fate, values[-1])
        x = np.array(values, np.float32).reshape(-1, 1).repeat(1 + is_wide, axis=1)
        payload = b"noise" if fate == "noise" else encode_payload({"x": x})
        due = time.monotonic() - 1 if fate == "late" else None
        work = Work(payload, alone=fate == "alone", deadline_at=due)
        work.is_cancelled = fate == "cancelled"
        room.batcher.submit(work)
        works.append((work, fate, values))
    room.batcher.start()
    room.wait(sum(fate != "cancelled" for _, fate, _ in works))
    room.batcher.close()
    assert max(room.line.seen, default=0) <= max_batch
    errors = {"bad": WorkFailed, "unspeakable": InvalidInput, "late": DeadlineExceeded}
    errors["noise"] = InvalidInput
    for work, fate, values in works:
        mine = [answer.outcome for answer in room.answers if answer.work is work]
        assert len(mine) == (fate != "cancelled")
        if fate in errors:
            assert isinstance(mine[0], errors[fate])
        elif mine:
            assert said(mine[0])[:, 0].tolist() == [2.0 * value for value in values]
