"""Statistics gathered while a source is examined; the same rows in the same order give the same figures."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from modelry.worker.data.picturing import Array

#: Names listed with their counts; the rest are only counted.
_MAX_LISTED = 1000
#: `bincount` makes eight bytes of each byte.
_COUNTED_AT_ONCE = 1 << 18


class Numbers:
    """Minimum, maximum, mean and standard deviation of a stream of numbers."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._minimum = math.inf
        self._maximum = -math.inf

    def add(self, values: Array) -> None:
        """Joins a batch, by the stable formula for joining two samples."""
        if values.size == 0:
            return
        if values.dtype == np.uint8:
            self._add_bytes(values)
            return
        mean = float(values.mean(dtype=np.float64))
        squares = float(np.square(values.astype(np.float64) - mean).sum())
        self._join(values.size, mean, squares, float(values.min()), float(values.max()))

    def result(self) -> dict[str, Any]:
        """The figures as JSON."""
        if not self._count:
            return {}
        return {
            "minimum": self._minimum,
            "maximum": self._maximum,
            "mean": self._mean,
            "std": math.sqrt(self._squares / self._count),
        }

    def _add_bytes(self, values: Array) -> None:
        flat = values.reshape(-1)
        counts = np.zeros(256, np.int64)
        for start in range(0, flat.size, _COUNTED_AT_ONCE):
            counts += np.bincount(flat[start : start + _COUNTED_AT_ONCE], minlength=256)
        levels = np.arange(256, dtype=np.float64)
        mean = float((counts * levels).sum() / values.size)
        squares = float((counts * np.square(levels - mean)).sum())
        present = np.flatnonzero(counts)
        self._join(values.size, mean, squares, float(present[0]), float(present[-1]))

    def _join(self, count: int, mean: float, squares: float, low: float, high: float) -> None:
        total = self._count + count
        distance = mean - self._mean
        self._squares += squares + distance * distance * self._count * count / total
        self._mean += distance * count / total
        self._count = total
        self._minimum = min(self._minimum, low)
        self._maximum = max(self._maximum, high)


class Statistics:
    """Figures by feature."""

    def __init__(self) -> None:
        self._numbers: dict[str, Numbers] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._missing: dict[str, int] = {}
        self._sizes: dict[tuple[str, str], Numbers] = {}

    def add_numbers(self, feature: str, values: Array) -> None:
        """Numbers of a feature: tensors, pixels, columns."""
        self._numbers.setdefault(feature, Numbers()).add(values)

    def add_names(self, feature: str, names: list[str]) -> None:
        """Names of a feature: categories."""
        self._counts.setdefault(feature, Counter()).update(names)

    def add_counts(self, feature: str, names: list[str], counts: Array) -> None:
        """Names of a feature that were counted already: labels."""
        found = dict(zip(names, counts.tolist(), strict=True))
        self._counts.setdefault(feature, Counter()).update(found)

    def add_missing(self, feature: str, count: int) -> None:
        """Cells of a feature that hold nothing."""
        self._missing[feature] = self._missing.get(feature, 0) + count

    def add_sizes(self, feature: str, unit: str, sizes: Array) -> None:
        """How large rows are: `lengths` of sequences, `letters` of texts, `seconds` of recordings."""
        self._sizes.setdefault((feature, unit), Numbers()).add(sizes)

    def result(self) -> dict[str, dict[str, Any]]:
        """Per feature the numbers' figures, or how often each name occurs (the most frequent ones)."""
        figures = {name: numbers.result() for name, numbers in self._numbers.items()}
        for name, counts in self._counts.items():
            ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            figures[name] = {"distinct": len(counts), "counts": dict(ordered[:_MAX_LISTED])}
        for name, count in self._missing.items():
            figures.setdefault(name, {})["missing"] = count
        for (name, unit), sizes in self._sizes.items():
            figures.setdefault(name, {})[unit] = _sizes(sizes.result())
        return figures


def _sizes(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in ("minimum", "maximum", "mean") if key in figures}
