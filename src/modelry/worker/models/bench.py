"""Rows on which the ways to run a model are compared and timed, against the original's answers."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array
from modelry.worker.models.runtimes import Runtime
from modelry.worker.models.runtimes.base import Tensors
from modelry.worker.models.ways import Way

#: Largest allowed difference of an output, for outputs of size 1; larger outputs may differ by as much more.
TOLERANCE = 1e-4
#: Rows of the timed batch, and rows that are compared at most.
BATCH, COMPARED = 32, 64
_ROUNDS = 7
_SINGLES = 5

Reference = Callable[[Tensors], Mapping[str, Array]]


@dataclass(slots=True)
class Trial:
    """A way that runs, and what was seen of it."""

    way: Way
    runtime: Runtime
    max_difference: float
    is_faithful: bool
    batch_s: list[float] = field(default_factory=list)
    single_s: list[float] = field(default_factory=list)

    def figure(self, rows: int) -> float:
        """What is compared: the geometric mean of rows a second together and alone."""
        return math.sqrt(self.rows_per_s(rows) / statistics.median(self.single_s))

    def rows_per_s(self, rows: int) -> float:
        return rows / statistics.median(self.batch_s)


class Bench:
    """The rows, the original's answers to them, and how they are timed."""

    def __init__(
        self, manifest: ModelManifest, samples: Tensors, reference: Reference, budget_s: float
    ) -> None:
        self._manifest = manifest
        fixed = next((spec.shape[0] for spec in manifest.inputs if spec.shape[0] is not None), None)
        one = _rows(samples, 0, fixed or 1)
        reference(one)
        began = time.perf_counter()
        reference(one)
        single_s = max(time.perf_counter() - began, 1e-7)
        # A large model gets fewer rows, so that each way has its turn.
        affordable = max(1, int(budget_s / 30 / single_s))
        self.batch = fixed or min(BATCH, affordable)
        self._one, self._many = one, _rows(samples, 0, self.batch)
        self._compared = [
            _rows(samples, start, fixed or self.batch)
            for start in range(0, _count(samples), self.batch)
        ][: max(1, min(COMPARED, affordable) // self.batch)]
        self._expected = [dict(reference(part)) for part in self._compared]
        self._expected_one = dict(reference(one))
        began = time.perf_counter()
        reference(self._many)
        self.reference_rows_per_s = self.batch / max(time.perf_counter() - began, 1e-7)

    @property
    def compared_rows(self) -> int:
        return sum(_count(part) for part in self._compared)

    @property
    def alone(self) -> int:
        """Rows of the smallest call."""
        return _count(self._one)

    def examine(self, way: Way, runtime: Runtime) -> Trial:
        """Whether the way answers as the original does, together and alone; also its first, slow runs."""
        pairs = [
            (runtime.run(part), expected)
            for part, expected in zip(self._compared, self._expected, strict=True)
        ]
        pairs.append((runtime.run(self._one), self._expected_one))
        difference, is_faithful = 0.0, True
        for found, expected in pairs:
            for spec in self._manifest.outputs:
                distance, is_close = _compare(found[spec.name], expected[spec.name])
                difference, is_faithful = max(difference, distance), is_faithful and is_close
        return Trial(way, runtime, difference, is_faithful)

    def time(
        self, trials: Sequence[Trial], deadline: float, check_stop: Callable[[], None]
    ) -> None:
        """In turns, forth and back, until all rounds are done or the time is over; each way at least once."""
        for turn in range(_ROUNDS):
            check_stop()
            for trial in trials if turn % 2 == 0 else trials[::-1]:
                if trial.batch_s and time.monotonic() > deadline:
                    return
                trial.batch_s.append(_timed(trial.runtime, self._many))
                trial.single_s += [_timed(trial.runtime, self._one) for _ in range(_SINGLES)]


def _compare(found: Array, expected: Array) -> tuple[float, bool]:
    """The largest difference, and whether it is small enough and changes no clear best class."""
    if found.shape != expected.shape:
        return math.inf, False
    if expected.size == 0:
        return 0.0, True
    one, other = found.astype(np.float64), expected.astype(np.float64)
    # A NaN on either side must not pass: it counts as the largest difference.
    difference = float(np.nan_to_num(np.abs(one - other), nan=np.inf).max())
    tolerance = TOLERANCE * max(1.0, float(np.abs(other).max()))
    if other.ndim != 2 or other.shape[1] < 2:
        return difference, difference <= tolerance
    two_best = np.sort(other, axis=1)[:, -2:]
    is_clear = two_best[:, 1] - two_best[:, 0] > tolerance
    differs = one.argmax(axis=1) != other.argmax(axis=1)
    return difference, difference <= tolerance and not (is_clear & differs).any()


def _rows(samples: Tensors, start: int, count: int) -> dict[str, Array]:
    """`count` rows from `start` on, from the beginning again where they end."""
    index = np.arange(start, start + count) % _count(samples)
    return {name: np.ascontiguousarray(array[index]) for name, array in samples.items()}


def _count(samples: Tensors) -> int:
    return len(next(iter(samples.values())))


def _timed(runtime: Runtime, inputs: Tensors) -> float:
    began = time.perf_counter()
    runtime.run(inputs)
    return max(time.perf_counter() - began, 1e-7)
