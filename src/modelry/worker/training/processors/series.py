"""Series in time: every stretch of rows becomes a window that is looked at and the target's values after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelry.core.errors import WrongDataKind
from modelry.core.learning import Lesson
from modelry.core.manifests import TableInput
from modelry.worker.data.encoding import column_numbers
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.training.processors import Start
from modelry.worker.training.processors.columns import column_sizes, learn_columns
from modelry.worker.training.windows import WindowSamples


class SeriesProcessor:
    """See `Processor`. The target comes first in a row, then the other numbers, then categories."""

    task = ""

    def __init__(
        self, lesson: Lesson, data: OpenDataset, params: Mapping[str, Any], start: Start | None
    ) -> None:
        self._lesson, self._data = lesson, data
        self._window, self._horizon = int(params["window"]), int(params["horizon"])
        self._season = int(params["season"])
        self._columns = learn_columns(lesson, data, start)
        self.sizes: dict[str, Any] = column_sizes(self._columns)

    def samples(self, split: str, network: Network) -> WindowSamples:
        """Raises `WrongDataKind` where no stretch of the split is long enough."""
        rows = column_numbers(self._data.table(split, self._lesson.columns), self._columns)
        samples = WindowSamples(
            torch.from_numpy(rows), self._window, self._horizon, season=self._season
        )
        if not len(samples):
            raise WrongDataKind(
                f"The split '{split}' has no {self._window} rows with {self._horizon} known values of "
                f"'{self._lesson.target}' after them.",
                remedy="Set a smaller window or horizon, or bring more rows.",
            )
        return samples

    def settle(self, network: Network) -> None:
        numbers = self.samples("train", network).rows[:, : self.sizes["numbers"]].numpy()
        for index, column in enumerate(numbers.astype(np.float64).T):
            known = column[np.isfinite(column)]
            if not len(known):
                continue
            network.get_buffer("mean")[index] = known.mean()
            # A column of one value says nothing; it must not become infinite.
            network.get_buffer("spread")[index] = known.std() or 1.0

    def media(self, network: Network) -> TableInput:
        return TableInput(columns=self._columns, input=network.input_name, steps=self._window)

    def write(self, folder: Path) -> None:
        """Nothing is needed: the names are in the manifest, the scales in the weights."""
