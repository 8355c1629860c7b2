"""One encoded image → one row of a model's tensor input: the same step where a model is evaluated and served."""

from __future__ import annotations

import numpy as np

from modelry.core.manifests import ImageInput
from modelry.core.tensors import Array
from modelry.worker.data.picturing import decode_image


def image_tensor(data: bytes, media: ImageInput) -> Array:
    """float32 in the shape the manifest says, scaled as in training; raises `InvalidMedia`."""
    pixels = decode_image(data, height=media.height, width=media.width, channels=media.channels)
    return pixels.reshape(media.shape).astype(np.float32) * np.float32(media.scale)
