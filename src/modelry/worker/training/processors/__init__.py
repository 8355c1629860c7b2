"""How the rows of a data set become what a network takes: one file for each kind of data.

Whatever has to be known before a network can be built (a vocabulary, the categories, means) is learned from the
training split alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from modelry.core.learning import Lesson
from modelry.core.manifests import MediaInput, ModelManifest
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.training.samples import Samples


class Start:
    """The package of the version whose weights are the beginning."""

    def __init__(self, folder: Path, manifest: ModelManifest) -> None:
        self.folder = folder
        self.manifest = manifest


class Processor(Protocol):
    """What was learned of the training split, and the rows in the form that the network takes."""

    #: What the recipe's `Build` is given beside the parameters and `classes`.
    sizes: dict[str, Any]
    #: Hugging Face's name of what the model will do; "": the recipe's own.
    task: str

    def samples(self, split: str, network: Network) -> Samples:
        """All rows of a split, in memory."""

    def settle(self, network: Network) -> None:
        """Gives the network's buffers (means, spreads, bins) their values."""

    def media(self, network: Network) -> MediaInput | None:
        """How people's input becomes the tensor; None where tensors alone are taken."""

    def write(self, folder: Path) -> None:
        """Puts what serving needs beside the weights into the package."""


def make_processor(
    lesson: Lesson, data: OpenDataset, params: Mapping[str, Any], start: Start | None = None
) -> Processor:
    """Learns from the training split; from a start's package what must be the same, such as its tokenizer."""
    # Each kind's libraries are imported only where they are needed.
    if lesson.kind == "text":
        from modelry.worker.training.processors.texts import TextProcessor

        return TextProcessor(lesson, data, params, start)
    if lesson.kind == "table":
        from modelry.worker.training.processors.tables import TableProcessor

        return TableProcessor(lesson, data, params, start)
    if lesson.kind == "series":
        from modelry.worker.training.processors.series import SeriesProcessor

        return SeriesProcessor(lesson, data, params, start)
    if lesson.kind == "sequence":
        from modelry.worker.training.processors.sequences import SequenceProcessor

        return SequenceProcessor(lesson, data)
    if lesson.kind == "audio":
        from modelry.worker.training.processors.recordings import RecordingProcessor

        return RecordingProcessor(lesson, data, params)
    from modelry.worker.training.processors.tensors import TensorProcessor

    return TensorProcessor(lesson, data)
