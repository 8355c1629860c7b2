"""Sequences of different length: numbers step by step, scaled by their mean and spread inside the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelry.core.learning import Lesson
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.training.processors.targets import read_targets
from modelry.worker.training.samples import RaggedSamples, Samples


class SequenceProcessor:
    """See `Processor`."""

    task = ""

    def __init__(self, lesson: Lesson, data: OpenDataset) -> None:
        self._lesson, self._data = lesson, data
        self._step = int(data.manifest.features[lesson.columns[0]].shape[0])
        self.sizes: dict[str, Any] = {"step": self._step}

    def samples(self, split: str, network: Network) -> Samples:
        column = self._data.table(split, self._lesson.columns).column(0).combine_chunks()
        values = column.flatten().to_numpy().astype(np.float32).reshape(-1, self._step)
        # A slice's offsets need not begin at zero.
        ends = (column.offsets.to_numpy() - column.offsets[0].as_py()) // self._step
        return RaggedSamples(
            torch.from_numpy(values),
            torch.from_numpy(ends.astype(np.int64)),
            read_targets(self._data, split, self._lesson),
            fill=float("nan"),
        )

    def settle(self, network: Network) -> None:
        samples = self.samples("train", network)
        assert isinstance(samples, RaggedSamples)
        values = samples.values.double()
        spread = values.std(dim=0, correction=0)
        network.get_buffer("mean").copy_(values.mean(dim=0))
        # A number that never changes says nothing; it must not become infinite.
        network.get_buffer("spread").copy_(torch.where(spread > 0, spread, 1.0))

    def media(self, network: Network) -> None:
        return None

    def write(self, folder: Path) -> None:
        """Nothing is needed."""
