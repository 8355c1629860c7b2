"""How good a model is on rows it never saw: loss, accuracy, per class, confusion, calibration, its worst errors.

Streams: only counts are kept, and the few errors it was surest of.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelry.worker.models.verify import Floats

#: A probability of zero would make one row's loss infinite.
_SMALLEST = 1e-12
#: Equal parts of 0 … 1 that the best label's probability falls into.
_BINS = 10
#: Errors that are kept.
_WORST = 32


class Evaluation:
    """Counts over batches of probabilities and true classes."""

    def __init__(self, labels: list[str]) -> None:
        self._labels = labels
        #: True class × predicted class.
        self._confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        self._loss = 0.0
        self._rows = 0
        #: For each part of 0 … 1: rows, the sum of their best probabilities, right answers.
        self._bins = np.zeros((_BINS, 3))
        #: A heap of (probability of the wrong label, −row, truth, said).
        self._worst: list[tuple[float, int, int, int]] = []

    def add(self, probabilities: Floats, truth: NDArray[np.int64]) -> None:
        """One batch."""
        said = probabilities.argmax(axis=1)
        np.add.at(self._confusion, (truth, said), 1)
        best = probabilities[np.arange(len(truth)), said].astype(np.float64)
        self._sort_in(best, said == truth)
        for row in np.flatnonzero(said != truth):
            error = float(best[row]), -(self._rows + int(row)), int(truth[row]), int(said[row])
            if len(self._worst) < _WORST:
                heapq.heappush(self._worst, error)
            else:
                heapq.heappushpop(self._worst, error)
        self._rows += len(truth)
        of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
        self._loss -= float(np.log(np.maximum(of_truth, _SMALLEST)).sum())

    def metrics(self) -> dict[str, Any]:
        """What `model.json` says: a class without a case has recall 0, one never predicted precision 0."""
        counts = self._confusion
        right = counts.diagonal()
        precision = _ratio(right, counts.sum(axis=0))
        recall = _ratio(right, counts.sum(axis=1))
        f1 = _ratio(2 * precision * recall, precision + recall)
        rows = int(counts.sum())
        return {
            "split": "test",
            "rows": rows,
            "accuracy": float(right.sum() / max(rows, 1)),
            "loss": self._loss / max(rows, 1),
            "macro_f1": float(f1.mean()),
            "classes": [
                {
                    "label": label,
                    "precision": float(precision[index]),
                    "recall": float(recall[index]),
                    "f1": float(f1[index]),
                    "support": int(counts[index].sum()),
                }
                for index, label in enumerate(self._labels)
            ],
            #: Row: true class, column: predicted class, both in the order of `classes`.
            "confusion": counts.tolist(),
            "calibration": self._calibration(),
            #: The wrong answers it was surest of; `row` counts in the split's order.
            "worst": [
                {
                    "row": -negative,
                    "truth": self._labels[truth],
                    "said": self._labels[said],
                    "probability": best,
                }
                for best, negative, truth, said in sorted(self._worst, reverse=True)
            ],
        }

    def _sort_in(self, best: NDArray[np.float64], is_right: NDArray[np.bool_]) -> None:
        places = np.minimum((best * _BINS).astype(np.int64), _BINS - 1).clip(min=0)
        np.add.at(self._bins, places, np.stack([np.ones(len(best)), best, is_right], axis=1))

    def _calibration(self) -> dict[str, Any]:
        """How often it is right when it says so: the expected calibration error (Guo and others, 2017)."""
        rows, best, right = self._bins.T
        gaps = np.abs(right - best)
        return {
            "error": float(gaps.sum() / max(rows.sum(), 1)),
            "bins": [
                {
                    "rows": int(count),
                    "probability": float(probability / count),
                    "accuracy": float(hits / count),
                }
                for count, probability, hits in self._bins
                if count
            ],
        }


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part ÷ whole, 0 where there is nothing to divide by."""
    ratio = np.zeros(len(part), dtype=np.float64)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio
