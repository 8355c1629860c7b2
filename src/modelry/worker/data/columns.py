"""What each kind of column holds in Arrow's form: its figures, its part of a row's digest, what people are shown."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow.compute as pc

from modelry.core.manifests import Feature
from modelry.worker.data.statistics import Statistics

_SHOWN_LETTERS = 200
_SHOWN_VALUES = 16


def count(name: str, feature: Feature, column: Any, statistics: Statistics) -> None:
    """Adds a batch of checked cells to the statistics."""
    if feature.kind in ("number", "category"):
        statistics.add_missing(name, column.null_count)
        column = column.drop_null()
    if feature.kind == "number":
        statistics.add_numbers(name, column.to_numpy())
    elif feature.kind == "category":
        statistics.add_names(name, column.to_pylist())
    elif feature.kind == "text":
        statistics.add_sizes(name, "letters", pc.utf8_length(column).to_numpy())
    else:
        flat = column.combine_chunks().flatten()
        statistics.add_numbers(name, flat.to_numpy())
        if feature.kind == "sequence":
            lengths = pc.list_value_length(column).to_numpy()
            statistics.add_sizes(name, "lengths", lengths // feature.shape[0])


def digested(feature: Feature, column: Any) -> list[Any]:
    """The cells as JSON takes them; of numbers in bulk, the digest of their little-endian bytes."""
    if feature.kind not in ("tensor", "sequence"):
        cells: list[Any] = column.to_pylist()
        return cells
    flat = column.combine_chunks().flatten().to_numpy()
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    lengths = pc.list_value_length(column).to_numpy()
    ends = np.cumsum(lengths)
    pieces = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    return [hashlib.sha256(flat[start:end].tobytes()).hexdigest() for start, end in pieces]


def shown(feature: Feature, value: Any) -> Any:
    """One cell for people, as JSON: texts and numbers in bulk only with their beginning."""
    if feature.kind in ("tensor", "sequence"):
        return value[:_SHOWN_VALUES]
    return value[:_SHOWN_LETTERS] if isinstance(value, str) else value
