"""A model's outputs → columns of the new data set, with what is told of them: statistics, preview, fingerprint."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from modelry.core.errors import InvalidInput
from modelry.core.feeding import is_classifier
from modelry.core.manifests import DatasetManifest, Feature, ModelManifest, fingerprinted
from modelry.core.tensors import Array
from modelry.worker.tasks.scores import scores_of

#: Rows for people, and letters of one text in them.
PREVIEW_ROWS = 8
_SHOWN_LETTERS = 200
_SHOWN_VALUES = 16


class Tally(msgspec.Struct):
    """What is counted over all rows; plain, so that a checkpoint can keep it."""

    #: How often each label was the answer.
    counts: list[int] = []
    #: Of the scores, or of every output value where there are no labels.
    values: int = 0
    total: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    #: Rows whose answer is their target's label; None where the two cannot be compared.
    right: int | None = None
    preview: list[dict[str, Any]] = []
    #: SHA-256 of everything that was answered, row by row, in hexadecimal.
    digest: str = ""


class Answers:
    """The columns that are made for one model over one data set."""

    def __init__(self, data: DatasetManifest, model: ModelManifest, shape: tuple[int, ...]) -> None:
        """`shape` is that of one row of the model's first output."""
        self._data = data
        self._labels = model.labels if is_classifier(model, shape) else []
        self._model = model
        #: What is carried over, so that a row can be told from others: everything but pictures and tensors.
        self.kept = [
            name for name, one in data.features.items() if one.kind not in ("image", "tensor")
        ]
        self._names = {
            name: _free(name, self.kept)
            for name in ("row", "predicted", "predicted_score", "predicted_probabilities", "output")
        }
        self.features = self._features(list(shape))
        target = data.features.get(data.target or "")
        self._is_comparable = bool(
            self._labels and target and target.labels and set(target.labels) <= set(self._labels)
        )

    def begin(self) -> Tally:
        """Nothing is counted yet; the digest starts from what the data are and what is made of them."""
        about = {name: fingerprinted(feature) for name, feature in self.features.items()}
        start = msgspec.json.encode([self._data.fingerprint, about], order="sorted")
        return Tally(
            counts=[0] * len(self._labels),
            right=0 if self._is_comparable else None,
            digest=hashlib.sha256(start).hexdigest(),
        )

    def table(self, tally: Tally, rows: Any, output: Array, *, split: str, start: int) -> Any:
        """The new rows for `rows` of the split, which begin at `start`; counts them into the tally."""
        values = self._values(output, split, start)
        columns: dict[str, Any] = {
            self._names["row"]: pa.array(np.arange(start, start + len(values)))
        }
        columns |= {name: rows.column(name).combine_chunks() for name in self.kept}
        if self._labels:
            best = values.argmax(axis=1)
            scores = values[np.arange(len(values)), best]
            columns[self._names["predicted"]] = pa.array(best)
            columns[self._names["predicted_score"]] = pa.array(scores)
            columns[self._names["predicted_probabilities"]] = _lists(values)
            self._count_labels(tally, best, scores, columns)
        else:
            columns[self._names["output"]] = _lists(values.reshape(len(values), -1))
            _count(tally, values)
        tally.digest = _extend(tally.digest, split, values)
        table = pa.table(columns)
        missing = PREVIEW_ROWS - len(tally.preview)
        if missing > 0:
            tally.preview += [self._shown(row) for row in table.slice(0, missing).to_pylist()]
        return table

    def statistics(self, tally: Tally, *, is_whole: bool) -> dict[str, dict[str, Any]]:
        """Of the new columns, and of the old ones where all rows were read."""
        known = self._data.statistics if is_whole else {}
        found = {name: known[name] for name in self.kept if name in known}
        mean = tally.total / max(tally.values, 1)
        variance = max(tally.squares / max(tally.values, 1) - mean * mean, 0.0)
        numbers = {
            "minimum": tally.minimum,
            "maximum": tally.maximum,
            "mean": mean,
            "std": math.sqrt(variance),
        }
        if not self._labels:
            return {**found, self._names["output"]: numbers}
        counted = zip(self._labels, tally.counts, strict=True)
        ordered = dict(sorted(counted, key=lambda item: (-item[1], item[0]))[:1000])
        return {
            **found,
            self._names["predicted"]: {"distinct": len(self._labels), "counts": ordered},
            self._names["predicted_score"]: numbers,
        }

    def _features(self, shape: list[int]) -> dict[str, Feature]:
        features = {self._names["row"]: Feature(kind="number", dtype="int64")}
        features |= {name: self._data.features[name] for name in self.kept}
        if not self._labels:
            output = Feature(kind="tensor", dtype="float32", shape=shape or [1])
            return {**features, self._names["output"]: output}
        return {
            **features,
            self._names["predicted"]: Feature(kind="label", dtype="int64", labels=self._labels),
            self._names["predicted_score"]: Feature(kind="number", dtype="float32"),
            self._names["predicted_probabilities"]: Feature(
                kind="tensor", dtype="float32", shape=[len(self._labels)]
            ),
        }

    def _values(self, output: Array, split: str, start: int) -> Array:
        """float32, after the model's activation."""
        values = output
        if self._labels:
            values = scores_of(output.reshape(len(output), -1), self._model, None)
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise InvalidInput(
                reason=f"the model's answer to row {start + int(bad.argmax())} of '{split}' is no number",
                expected="rows as the model learned from",
            )
        return np.asarray(values.astype(np.float32))

    def _count_labels(
        self, tally: Tally, best: Array, scores: Array, columns: dict[str, Any]
    ) -> None:
        _count(tally, scores)
        found = np.bincount(best, minlength=len(self._labels))
        tally.counts = (np.asarray(tally.counts) + found).tolist()
        target = self._data.target
        if tally.right is not None and target is not None:
            truth = self._data.features[target].labels or []
            places = np.array([self._labels.index(label) for label in truth])
            tally.right += int((places[columns[target].to_numpy()] == best).sum())

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        shown = {}
        for name, value in row.items():
            labels = self.features[name].labels
            if labels is not None:
                value = labels[value]
            elif isinstance(value, str):
                value = value[:_SHOWN_LETTERS]
            elif isinstance(value, list):
                value = value[:_SHOWN_VALUES]
            shown[name] = value
        return shown


def _free(name: str, taken: list[str]) -> str:
    """The name, or the name with a number where a column of the data is called so."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _lists(values: Array) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _count(tally: Tally, values: Array) -> None:
    exact = values.astype(np.float64)
    tally.values += exact.size
    tally.total += float(exact.sum())
    tally.squares += float(np.square(exact).sum())
    tally.minimum = min(tally.minimum, float(exact.min()))
    tally.maximum = max(tally.maximum, float(exact.max()))


def _extend(digest: str, split: str, values: Array) -> str:
    """Row by row, so that it depends on no portion's size."""
    link = bytes.fromhex(digest)
    name = split.encode()
    for row in values.astype("<f4").reshape(len(values), -1):
        link = hashlib.sha256(link + name + row.tobytes()).digest()
    return link.hex()
