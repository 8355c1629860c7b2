"""Tables: numbers and categories, missing values among both, become one row of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from modelry.core.errors import WrongDataKind
from modelry.core.learning import Lesson
from modelry.core.manifests import Column, TableInput
from modelry.worker.data.encoding import column_numbers
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.training.processors import Start
from modelry.worker.training.processors.targets import read_targets
from modelry.worker.training.samples import Samples, TensorSamples

#: A category's names beyond these, the rarest ones, count as unknown.
_MOST_NAMES = 1000


class TableProcessor:
    """See `Processor`. Numbers come first in a row, then categories, both in the order of the data set."""

    def __init__(
        self, lesson: Lesson, data: OpenDataset, params: Mapping[str, Any], start: Start | None
    ) -> None:
        self._lesson, self._data = lesson, data
        self._bins = int(params["bins"])
        self.task = f"tabular-{lesson.goal}"
        features = data.manifest.features
        self._numbers = [name for name in lesson.columns if features[name].kind == "number"]
        categories = [name for name in lesson.columns if features[name].kind == "category"]
        known = self._known(start)
        self._columns = [Column(name=name) for name in self._numbers] + [
            Column(name=name, categories=known.get(name) or self._names(name))
            for name in categories
        ]
        if start is not None and [column.name for column in self._columns] != list(known):
            raise WrongDataKind(
                f"The model to start from takes the columns {', '.join(known) or 'of no table'}.",
                remedy="Start from a model of such rows, or from none.",
            )
        self.sizes: dict[str, Any] = {
            "numbers": len(self._numbers),
            "categories": [
                len(column.categories or ()) for column in self._columns[-len(categories) :]
            ]
            if categories
            else [],
        }

    def samples(self, split: str, network: Network) -> Samples:
        table = self._data.table(split, self._lesson.columns)
        rows = column_numbers(table, self._columns)
        targets = read_targets(self._data, split, self._lesson)
        return TensorSamples(torch.from_numpy(rows), targets)

    def settle(self, network: Network) -> None:
        rows = self.samples("train", network)
        assert isinstance(rows, TensorSamples)
        numbers = rows.inputs[:, : len(self._numbers)].numpy().astype(np.float64)
        for index in range(len(self._numbers)):
            known = numbers[:, index][~np.isnan(numbers[:, index])]
            if not len(known):
                continue
            # A column of one value says nothing; it must not become infinite.
            network.get_buffer("numbers.mean")[index] = known.mean()
            network.get_buffer("numbers.spread")[index] = known.std() or 1.0
            edges = np.quantile(known, np.linspace(0, 1, self._bins + 1))
            network.get_buffer("numbers.edges")[index] = torch.from_numpy(edges)
        if self._lesson.goal == "regression":
            network.get_buffer("target_mean").fill_(rows.labels.mean())
            network.get_buffer("target_spread").fill_(rows.labels.std(correction=0).item() or 1.0)

    def media(self, network: Network) -> TableInput:
        return TableInput(columns=self._columns, input=network.input_name)

    def write(self, folder: Path) -> None:
        """Nothing is needed: the names are in the manifest, the scales in the weights."""

    def _names(self, column: str) -> list[str]:
        """The most frequent names of the training split; equally frequent ones by letters."""
        counts = pc.value_counts(self._data.table("train", [column]).column(0).drop_null())
        pairs = [(entry["counts"].as_py(), entry["values"].as_py()) for entry in counts]
        pairs.sort(key=lambda pair: (-pair[0], pair[1]))
        return sorted(name for _, name in pairs[:_MOST_NAMES])

    def _known(self, start: Start | None) -> dict[str, list[str] | None]:
        if start is None or not isinstance(start.manifest.media, TableInput):
            return {}
        return {column.name: column.categories for column in start.manifest.media.columns}
