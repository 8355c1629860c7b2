"""Believes a converted form only when measured: every row of a batch beside the original's answer to it alone.

One comparison proves two things: the form answers as the original does, and rows that share a batch (padded to one
length, where they are texts) do not change each other's answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelry.core.errors import VerificationFailed
from modelry.core.manifests import Verification
from modelry.core.tensors import Array

#: Largest allowed difference of an output value, in parts of the largest of its row where that is over 1.
TOLERANCE = 1e-4

#: Inputs by name → outputs by name.
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Case:
    """A batch as it is served, and its rows as the original takes each of them alone."""

    inputs: dict[str, Array]
    rows: list[dict[str, Array]]


def sliced(inputs: dict[str, Array]) -> Case:
    """A batch whose rows are what they are in it."""
    count = len(next(iter(inputs.values())))
    rows = [{name: array[at : at + 1] for name, array in inputs.items()} for at in range(count)]
    return Case(inputs, rows)


def compare(
    form: Run,
    original: Run,
    cases: Sequence[Case],
    *,
    name: str = "ONNX",
    tolerance: float = TOLERANCE,
    classes: str | None = None,
) -> Verification:
    """Raises `VerificationFailed` beyond the tolerance, and where the best of the output `classes` is another."""
    difference, disagreements, rows = 0.0, 0, 0
    form_s = original_s = 0.0
    for case in cases:
        found, form_s = _timed(form, case.inputs)
        original_s = 0.0
        for index, row in enumerate(case.rows):
            expected, took_s = _timed(original, row)
            original_s += took_s
            difference = max(difference, _difference(found, expected, index))
            if classes is not None:
                disagreements += _differs(found[classes][index], expected[classes][0], tolerance)
        rows += len(case.rows)
    if not difference <= tolerance:
        raise VerificationFailed(form=name, difference=difference, tolerance=tolerance)
    if disagreements:
        raise VerificationFailed(
            f"The {name} form chooses another class than the original for {disagreements} of {rows} rows."
        )
    last = len(cases[-1].rows)
    return Verification(
        max_difference=difference,
        tolerance=tolerance,
        samples=rows,
        batch_sizes=[len(case.rows) for case in cases],
        disagreements=disagreements,
        rows_per_s=last / form_s,
        original_rows_per_s=last / original_s,
    )


def _difference(found: Mapping[str, Array], expected: Mapping[str, Array], index: int) -> float:
    """The largest over all outputs of one row; infinite for numbers that are none and shapes that do not fit."""
    worst = 0.0
    for name, output in expected.items():
        wanted = np.asarray(output[0], np.float64)
        got = np.asarray(found[name][index], np.float64)
        if got.ndim != wanted.ndim or any(
            have < want for have, want in zip(got.shape, wanted.shape, strict=True)
        ):
            return float("inf")
        # A padded row has more places than the row alone; nobody reads those.
        got = got[tuple(slice(0, length) for length in wanted.shape)]
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        distance = np.nan_to_num(np.abs(got - wanted), nan=np.inf).max(initial=0.0)
        worst = max(worst, float(distance) / scale)
    return worst


def _differs(found: Array, expected: Array, tolerance: float) -> int:
    """1 where another class is the best although the two best are further apart than the tolerance."""
    if expected.size < 2:
        return 0
    second, best = np.sort(expected.ravel())[-2:]
    is_clear = best - second > tolerance * max(1.0, abs(float(best)))
    return int(is_clear and found.argmax() != expected.argmax())


def _timed(run: Run, inputs: Mapping[str, Array]) -> tuple[Mapping[str, Array], float]:
    began = time.perf_counter()
    outputs = run(inputs)
    return outputs, max(time.perf_counter() - began, 1e-9)
