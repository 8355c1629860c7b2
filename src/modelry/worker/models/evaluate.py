"""How good a model is on rows it never saw. Of labels: loss, accuracy, per class, confusion, calibration, the worst
errors; of two labels also the area under the curve. Of numbers: the errors' size and share.

Streams: only counts are kept, and the few errors it was surest of; of two labels one number for each row.
"""

from __future__ import annotations

import heapq
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modelry.worker.models.verify import Floats

#: A probability of zero would make one row's loss infinite.
_SMALLEST = 1e-12
#: Equal parts of 0 … 1 that the best label's probability falls into.
_BINS = 10
#: Errors that are kept.
_WORST = 32


class Scored(Protocol):
    """Takes batches of answers beside the truth; tells what `model.json` says of them."""

    #: The figure that stands for all, by its name in the metrics.
    score: str

    def add(self, answers: Floats, truth: NDArray[Any]) -> None: ...

    def metrics(self) -> dict[str, Any]: ...

    def describe(self) -> str:
        """The score for people."""


def evaluation_of(labels: list[str]) -> Scored:
    """For a model of labels, or, without any, of numbers."""
    return Evaluation(labels) if labels else NumberEvaluation()


class Evaluation:
    """Counts over batches of probabilities and true classes."""

    score = "accuracy"

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
        #: Of two labels: the second one's probabilities, and whether it was right.
        self._seconds: list[tuple[Floats, NDArray[np.bool_]]] = []

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
        if len(self._labels) == 2:
            self._seconds.append((probabilities[:, 1].copy(), truth == 1))
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
            **({"auc": self._area()} if self._seconds else {}),
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

    def describe(self) -> str:
        return f"accuracy {self._confusion.trace() / max(self._rows, 1):.2%}"

    def _sort_in(self, best: NDArray[np.float64], is_right: NDArray[np.bool_]) -> None:
        places = np.minimum((best * _BINS).astype(np.int64), _BINS - 1).clip(min=0)
        np.add.at(self._bins, places, np.stack([np.ones(len(best)), best, is_right], axis=1))

    def _area(self) -> float | None:
        """Under the receiver operating characteristic: how often a row of the second label has the higher probability
        than one of the first (Mann and Whitney, 1947; equal ones count half). None where one of them has no row."""
        scores, is_second = (np.concatenate(part) for part in zip(*self._seconds, strict=True))
        seconds = int(is_second.sum())
        firsts = len(scores) - seconds
        if not seconds or not firsts:
            return None
        _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
        # Ranks from 1; equal scores share their mean rank.
        ranks = np.cumsum(count) - (count - 1) / 2
        total = float(ranks[place][is_second].sum())
        return (total - seconds * (seconds + 1) / 2) / (seconds * firsts)

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


class NumberEvaluation:
    """Errors of predicted numbers, in the target's own units."""

    score = "mae"

    def __init__(self) -> None:
        self._rows = 0
        self._absolute = 0.0
        self._squares = 0.0
        #: Of the truth: mean and sum of squared distances from it, joined batch by batch.
        self._mean = 0.0
        self._spread = 0.0
        #: A heap of (size of the error, −row, truth, said).
        self._worst: list[tuple[float, int, float, float]] = []

    def add(self, answers: Floats, truth: NDArray[Any]) -> None:
        """One batch: rows × 1, and a number for each row."""
        said, wanted = answers[:, 0].astype(np.float64), truth.astype(np.float64)
        errors = np.abs(said - wanted)
        for row in np.argsort(-errors)[:_WORST]:
            error = (
                float(errors[row]),
                -(self._rows + int(row)),
                float(wanted[row]),
                float(said[row]),
            )
            if len(self._worst) < _WORST:
                heapq.heappush(self._worst, error)
            else:
                heapq.heappushpop(self._worst, error)
        rows, mean = len(truth), float(wanted.mean())
        distance = mean - self._mean
        total = self._rows + rows
        self._spread += (
            float(np.square(wanted - mean).sum()) + distance**2 * self._rows * rows / total
        )
        self._mean += distance * rows / total
        self._rows = total
        self._absolute += float(errors.sum())
        self._squares += float(np.square(errors).sum())

    def metrics(self) -> dict[str, Any]:
        """`r2` is the share of the target's variance that is explained; 0 for one that never changes."""
        rows = max(self._rows, 1)
        return {
            "split": "test",
            "rows": self._rows,
            "mae": self._absolute / rows,
            "rmse": (self._squares / rows) ** 0.5,
            "r2": 1 - self._squares / self._spread if self._spread else 0.0,
            #: Of always saying the mean: what any model should be better than.
            "spread": (self._spread / rows) ** 0.5,
            "worst": [
                {"row": -negative, "truth": truth, "said": said, "error": error}
                for error, negative, truth, said in sorted(self._worst, reverse=True)
            ],
        }

    def describe(self) -> str:
        return f"mean absolute error {self._absolute / max(self._rows, 1):.4g}"


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part ÷ whole, 0 where there is nothing to divide by."""
    ratio = np.zeros(len(part), dtype=np.float64)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio
