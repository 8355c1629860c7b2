"""One encoded image → one row of a model's tensor input: the same step where a model is evaluated and served."""

from __future__ import annotations

import numpy as np
from PIL import Image

from modelry.core.errors import InvalidMedia
from modelry.core.manifests import ImageInput
from modelry.core.tensors import Array
from modelry.worker.data.picturing import open_image

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
#: A picture a thousand times as long as it is wide would be blown up before its middle is cut out.
_LONGEST_SIDE = 16384


def image_tensor(data: bytes, media: ImageInput) -> Array:
    """float32 in the shape the manifest says, scaled as in training; raises `InvalidMedia`."""
    picture = fit_image(open_image(data, media.channels), media)
    pixels = np.asarray(picture, np.uint8).reshape(media.height, media.width, media.channels)
    return normalise(pixels, media)


def fit_image(picture: Image.Image, media: ImageInput) -> Image.Image:
    """The picture in the model's size: resized as it is or by its shorter side, then the middle of that."""
    width, height = _exact(media) if media.resize == "exact" else _covering(picture, media)
    if picture.size != (width, height):
        picture = picture.resize((width, height), _FILTERS[media.resample])
    left, top = (width - media.width) // 2, (height - media.height) // 2
    return picture.crop((left, top, left + media.width, top + media.height))


def normalise(pixels: Array, media: ImageInput) -> Array:
    """uint8 height × width × channels (red first) → float32 in the shape, order and range of the model's input."""
    values: Array = pixels.astype(np.float32) * np.float32(media.scale)
    if media.order == "bgr":
        values = values[:, :, ::-1]
    if media.mean:
        values = values - np.asarray(media.mean, np.float32)
    if media.std:
        values = values / np.asarray(media.std, np.float32)
    if media.layout == "channels_first":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values).reshape(media.shape)


def _exact(media: ImageInput) -> tuple[int, int]:
    """Width and height that every picture is brought to; never smaller than what is cut out of it."""
    side = media.resize_to or 0
    return max(side, media.width), max(side, media.height)


def _covering(picture: Image.Image, media: ImageInput) -> tuple[int, int]:
    """Width and height with the shorter side at `resize_to`, never smaller than what is cut out of them."""
    shorter = max(media.resize_to or 0, media.width, media.height)
    narrow, long = sorted(picture.size)
    longer = int(shorter * long / narrow)
    if longer > _LONGEST_SIDE:
        raise InvalidMedia(media="image", reason=f"{picture.width}×{picture.height} is too oblong")
    return (shorter, longer) if picture.width <= picture.height else (longer, shorter)
