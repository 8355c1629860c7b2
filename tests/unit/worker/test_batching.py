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
from modelry.worker.batching import Answer, Batcher, Work, fits

BAD = -1.0


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


class Room:
    """A batcher with the answers it has given."""

    def __init__(self, **options: Any) -> None:
        self.line = Line()
        self.answers: list[Answer] = []
        self.deliveries = 0
        self.alone: list[Work] = []
        self._changed = threading.Condition()
        self.batcher = Batcher(
            self.line, self._prepare, self._deliver, on_alone=self.alone.append, **options
        )

    @staticmethod
    def _prepare(payload: bytes) -> dict[str, Array]:
        return decode_payload(payload).tensors

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
        assert isinstance(outcome, dict)
        assert outcome["y"].tolist() == [[2.0 * number]]
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
            assert isinstance(outcome, dict)
            assert outcome["y"].tolist() == [[2.0 * number]]


def test_an_input_that_cannot_be_decoded_fails_before_it_runs(room: Room) -> None:
    room.occupy()
    bad = Work(b"noise")
    room.batcher.submit(bad)
    good = room.submit(3.0)
    room.line.free.set()
    room.wait(3)
    assert isinstance(room.answer(bad).outcome, InvalidInput)
    assert isinstance(room.answer(good).outcome, dict)
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
    assert isinstance(room.answer(kept).outcome, dict)
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
    assert isinstance(outcome, dict)
    assert outcome["y"].shape == (2, 3)


def test_more_rows_than_a_batch_run_in_portions(room: Room) -> None:
    work = room.submit(*map(float, range(70)))
    room.wait(1)
    assert room.line.seen == [32, 32, 6]
    outcome = room.answer(work).outcome
    assert isinstance(outcome, dict)
    assert outcome["y"].ravel().tolist() == [2.0 * number for number in range(70)]


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
        assert not isinstance(outcome, ModelryError)
        assert outcome["y"].ravel().tolist() == [2.0 * value for value in values]


def test_the_first_always_fits() -> None:
    work = Work(b"")
    work.make_ready({"x": np.zeros((100, 1), np.float32)})
    assert fits([], work, 32)
    assert not fits([work], work, 32)
