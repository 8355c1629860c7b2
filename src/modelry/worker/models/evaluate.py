"""How good a model is on rows it never saw: loss, accuracy, per class, confusion. Streams; keeps only counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelry.worker.models.verify import Floats

#: A probability of zero would make one row's loss infinite.
_SMALLEST = 1e-12


class Evaluation:
    """Counts over batches of probabilities and true classes."""

    def __init__(self, labels: list[str]) -> None:
        self._labels = labels
        #: True class × predicted class.
        self._confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        self._loss = 0.0

    def add(self, probabilities: Floats, truth: NDArray[np.int64]) -> None:
        """One batch."""
        np.add.at(self._confusion, (truth, probabilities.argmax(axis=1)), 1)
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
        }


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part ÷ whole, 0 where there is nothing to divide by."""
    ratio = np.zeros(len(part), dtype=np.float64)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio
