"""Tables: numbers and categories, missing values among both, become one row of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelry.core.learning import Lesson
from modelry.core.manifests import TableInput
from modelry.worker.data.encoding import column_numbers
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.training.processors import Start
from modelry.worker.training.processors.columns import column_sizes, learn_columns
from modelry.worker.training.processors.targets import read_targets
from modelry.worker.training.samples import Samples, TensorSamples


class TableProcessor:
    """See `Processor`. Numbers come first in a row, then categories, both in the order of the data set."""

    def __init__(
        self, lesson: Lesson, data: OpenDataset, params: Mapping[str, Any], start: Start | None
    ) -> None:
        self._lesson, self._data = lesson, data
        self._bins = int(params["bins"])
        self.task = f"tabular-{lesson.goal}"
        self._columns = learn_columns(lesson, data, start)
        self.sizes: dict[str, Any] = column_sizes(self._columns)

    def samples(self, split: str, network: Network) -> Samples:
        table = self._data.table(split, self._lesson.columns)
        rows = column_numbers(table, self._columns)
        targets = read_targets(self._data, split, self._lesson)
        return TensorSamples(torch.from_numpy(rows), targets)

    def settle(self, network: Network) -> None:
        rows = self.samples("train", network)
        assert isinstance(rows, TensorSamples)
        count = self.sizes["numbers"]
        numbers = rows.inputs[:, :count].numpy().astype(np.float64)
        for index in range(count):
            known = numbers[:, index][np.isfinite(numbers[:, index])]
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
