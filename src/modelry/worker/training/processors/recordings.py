"""Recordings: decoded and resampled as a deployment does it; rows of as many samples as each has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelry.core.errors import InvalidData, InvalidMedia
from modelry.core.learning import Lesson
from modelry.core.manifests import AudioInput
from modelry.core.tensors import Array
from modelry.worker.data.reading import OpenDataset
from modelry.worker.data.recordings import MAX_SECONDS
from modelry.worker.recipes.network import Network
from modelry.worker.tasks.recordings import audio_tensor
from modelry.worker.training.processors.targets import read_targets
from modelry.worker.training.samples import RaggedSamples, Samples


class RecordingProcessor:
    """See `Processor`. A split lies in memory as float32: 32 kB for a second at 8,000 samples a second."""

    task = ""

    def __init__(self, lesson: Lesson, data: OpenDataset, params: Mapping[str, Any]) -> None:
        self._lesson, self._data = lesson, data
        self._sample_rate = int(params["sample_rate"])
        #: Samples of a recording that are kept: the network hears no more.
        self._kept = round(float(params["seconds"]) * self._sample_rate)
        self.sizes: dict[str, Any] = {}

    def samples(self, split: str, network: Network) -> Samples:
        """Raises `InvalidData` for a recording that is missing, too long or none."""
        media = self.media(network)
        column = self._data.table(split, self._lesson.columns).column(0)
        rows = [
            _decoded(data.as_py(), media, split, row)[: self._kept]
            for row, data in enumerate(column)
        ]
        ends = np.cumsum([0, *(len(samples) for samples in rows)])
        return RaggedSamples(
            torch.from_numpy(np.concatenate(rows)),
            torch.from_numpy(ends.astype(np.int64)),
            read_targets(self._data, split, self._lesson),
            fill=0.0,
        )

    def settle(self, network: Network) -> None:
        """Nothing is learned: each recording is scaled by its own loudness."""

    def media(self, network: Network) -> AudioInput:
        return AudioInput(
            sample_rate=self._sample_rate, input=network.input_name, max_seconds=float(MAX_SECONDS)
        )

    def write(self, folder: Path) -> None:
        """Nothing is needed."""


def _decoded(data: bytes | None, media: AudioInput, split: str, row: int) -> Array:
    try:
        return audio_tensor(data or b"", media)
    except InvalidMedia as refusal:
        raise InvalidData(
            file=split,
            reason=f"row {row} cannot be learned from: {refusal.facts['reason']}",
            remedy="Mend or remove this recording and add the data again.",
        ) from None
