"""Encoded pictures to arrays and back: the one way for data sets, evaluation and serving.

Needs Pillow and numpy only, because served replicas import it.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from modelry.core.errors import InvalidMedia

Array = np.ndarray[Any, np.dtype[Any]]

#: Pillow's names of what may come in: PNG, JPEG, BMP, GIF (its first picture) and WebP.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
#: A picture that claims more is refused before it is unpacked.
MAX_PIXELS = 64 << 20

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")


def decode_image(data: bytes, *, height: int, width: int, channels: int) -> Array:
    """The picture as uint8, height × width × channels; raises `InvalidMedia`.

    Turned upright by its EXIF mark, laid on white where it is transparent, made grey for one channel, and scaled
    (without keeping its proportions) only where its size differs.
    """
    picture = open_image(data, channels)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)


def open_image(data: bytes, channels: int) -> Image.Image:
    """The picture in its own size with 1 (grey) or 3 (red, green, blue) channels; raises `InvalidMedia`.

    Turned upright by its EXIF mark, laid on white where it is transparent.
    """
    return _as_mode(_open(data), "L" if channels == 1 else "RGB")


def read_image(data: bytes) -> Array:
    """The picture in its own size, uint8, with one channel if it is grey and three if not; raises `InvalidMedia`."""
    picture = _open(data)
    channels = 1 if _is_grey(picture) else 3
    picture = _as_mode(picture, "L" if channels == 1 else "RGB")
    return np.asarray(picture, dtype=np.uint8).reshape(picture.height, picture.width, channels)


def encode_png(pixels: Array) -> bytes:
    """uint8 pixels, height × width × (1 or 3), as a PNG file."""
    shaped = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shaped)).save(out, format="PNG")
    return out.getvalue()


def small_png_url(pixels: Array, side: int = 96) -> str:
    """A data URL of the picture, scaled down to at most `side` pixels, for people to look at."""
    shaped = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    picture = Image.fromarray(np.ascontiguousarray(shaped))
    picture.thumbnail((side, side))
    small = np.asarray(picture).reshape(picture.height, picture.width, -1)
    return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode()


def _open(data: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise InvalidMedia(media="image", reason=f"it claims {picture.width}×{picture.height}")
        if picture.format == "PNG":
            picture.verify()  # decoding alone does not miss a lost end
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        picture.load()
        return ImageOps.exif_transpose(picture)
    except InvalidMedia:
        raise
    except Exception as error:  # hostile bytes raise nearly anything out of Pillow's decoders
        reason = str(error).split("<_io")[0].strip(" .") or "it cannot be read"
        raise InvalidMedia(media="image", reason=reason) from error


def _is_grey(picture: Image.Image) -> bool:
    if picture.mode in _GREY_MODES or picture.mode.startswith("I;16"):
        return True
    if picture.mode in ("P", "PA"):
        colours = np.asarray(picture.convert("RGBA").convert("RGB"))
        return bool((colours == colours[:, :, :1]).all())
    return False


def _as_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
        picture = picture.convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)
