"""When two answers of a model count as the same, and what answers look like."""

from __future__ import annotations

import numpy as np

from modelry.core.tensors import Array

RTOL, ATOL = 1e-3, 1e-4


def largest(pairs: list[tuple[Array, Array]]) -> float | None:
    """The largest distance of all pairs; None where one pair is not the same."""
    found = [distance(*pair) for pair in pairs]
    known = [each for each in found if each is not None]
    return max(known) if len(known) == len(found) else None


def distance(found: Array, wanted: Array) -> float | None:
    """The largest difference, or None where the two are not the same within the tolerance. NaN equals NaN."""
    if found.shape != wanted.shape:
        return None
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else None
    loose = 10.0 if found.dtype == np.float16 else 1.0
    if not np.allclose(found, wanted, rtol=RTOL * loose, atol=ATOL * loose, equal_nan=True):
        return None
    with np.errstate(invalid="ignore"):
        gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return float(np.nan_to_num(gap, nan=0.0).max(initial=0.0))


def magnitude(answer: Array) -> float:
    """The largest value, for a tolerance in proportion."""
    if answer.dtype.kind == "O":
        return 0.0
    with np.errstate(invalid="ignore"):
        values = np.abs(answer.astype(np.float64))
    return float(np.nan_to_num(values, nan=0.0, posinf=0.0).max(initial=0.0))


def is_share(answer: Array) -> bool:
    """Whether every row adds up to 1 with no negative number: these are probabilities already."""
    if answer.dtype.kind != "f" or answer.ndim < 2 or answer.shape[-1] < 2:
        return False
    sums = answer.astype(np.float64).sum(axis=-1)
    return bool((answer >= 0).all() and np.allclose(sums, 1.0, atol=1e-3))
