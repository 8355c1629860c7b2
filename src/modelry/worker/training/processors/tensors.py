"""Pictures and numbers of a fixed shape: as they are, times the feature's scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from modelry.core.errors import InternalError
from modelry.core.learning import Lesson
from modelry.core.manifests import Feature, ImageInput
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.training.samples import Samples, to_samples


class TensorProcessor:
    """See `Processor`."""

    task = ""

    def __init__(self, lesson: Lesson, data: OpenDataset) -> None:
        self._data = data
        self._feature = data.manifest.features[lesson.columns[0]]
        self.sizes: dict[str, Any] = {"shape": list(self._feature.shape)}

    def samples(self, split: str, network: Network) -> Samples:
        rows = self._data.split(split)
        labels = rows.labels
        if labels is None:
            raise InternalError(reason="a split without labels passed the check")
        return to_samples(
            rows.inputs, labels, scale=self._feature.scale, input_shape=network.input_shape
        )

    def settle(self, network: Network) -> None:
        """Nothing is learned: the scale belongs to the data."""

    def media(self, network: Network) -> ImageInput | None:
        return _picture(self._feature, network)

    def write(self, folder: Path) -> None:
        """Nothing is needed."""


def _picture(feature: Feature, network: Network) -> ImageInput | None:
    """How a picture becomes the tensor input, where the data are pictures: images, or scaled bytes in their shape."""
    shape = [*feature.shape, 1] if len(feature.shape) == 2 else feature.shape
    is_picture = feature.kind == "image" or (feature.dtype == "uint8" and feature.scale != 1.0)
    if not is_picture or len(shape) != 3 or shape[2] not in (1, 3):
        return None
    height, width, channels = shape
    fixed = [length for length in network.input_shape if length is not None]
    assert math.prod(fixed) == math.prod(shape)
    return ImageInput(
        height=height,
        width=width,
        channels=channels,
        scale=feature.scale,
        input=network.input_name,
        shape=fixed,
    )
