"""The columns of one table as the rows of a data set, held in memory whole, in Arrow's form."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import msgspec
import pyarrow as pa

from modelry.core.manifests import Feature
from modelry.worker.data.columns import count, digested, shown
from modelry.worker.data.picturing import Array
from modelry.worker.data.statistics import Statistics


class TableContent:
    """Columns that were checked and have the types their features tell."""

    def __init__(
        self, table: Any, features: dict[str, Feature], *, is_ordered: bool = True
    ) -> None:
        self.is_ordered = is_ordered
        self._table = table
        self._features = features

    @property
    def features(self) -> dict[str, Feature]:
        """The input columns, and a target that is no label."""
        return self._features

    @property
    def rows(self) -> int:
        return int(self._table.num_rows)

    @property
    def row_bytes(self) -> int:
        return int(self._table.nbytes) // max(1, self.rows) + 1

    def examine(self, start: int, stop: int, statistics: Statistics) -> list[bytes]:
        """Counts; everything was checked when the types were settled."""
        batch = self._table.slice(start, stop - start)
        for name, feature in self._features.items():
            count(name, feature, batch.column(name), statistics)
        return self.digest(start, stop)

    def digest(self, start: int, stop: int, without: Collection[str] = ()) -> list[bytes]:
        """SHA-256 of each row, of all columns but some."""
        batch = self._table.slice(start, stop - start)
        columns = [
            digested(feature, batch.column(name))
            for name, feature in self._features.items()
            if name not in without
        ]
        rows = zip(*columns, strict=True)
        return [hashlib.sha256(msgspec.json.encode(row)).digest() for row in rows]

    def columns(self, indices: Array) -> dict[str, Any]:
        chosen = self._table.take(pa.array(indices)).combine_chunks()
        return {name: chosen.column(name) for name in self._features}

    def show(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self._table.slice(index, 1).to_pylist()[0]
        return {name: shown(self._features[name], value) for name, value in row.items()}
