"""Bytes to pixels, the same for data sets and for serving."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modelry.core.errors import InvalidMedia
from modelry.worker.data import picturing
from modelry.worker.data.picturing import decode_image, encode_png, read_image, small_png_url
from tests.unit.worker.data.making import pictures, png

_GREY = pictures(1, (28, 20, 1))[0]
_COLOUR = pictures(1, (28, 20, 3))[0]


def _saved(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format=format, **options)
    return out.getvalue()


@pytest.mark.parametrize("pixels", [_GREY, _COLOUR], ids=["grey", "colour"])
def test_lossless_pictures_come_back_exactly(pixels: picturing.Array) -> None:
    data = encode_png(pixels)
    height, width, channels = pixels.shape
    assert np.array_equal(read_image(data), pixels)
    decoded = decode_image(data, height=height, width=width, channels=channels)
    assert np.array_equal(decoded, pixels)
    assert decoded.dtype == np.uint8


def test_a_picture_of_another_size_is_scaled() -> None:
    flat = np.full((50, 70, 3), 90, np.uint8)
    assert (decode_image(encode_png(flat), height=28, width=28, channels=3) == 90).all()


def test_colour_becomes_grey_and_grey_becomes_colour() -> None:
    grey = decode_image(encode_png(_COLOUR), height=28, width=20, channels=1)
    assert grey.shape == (28, 20, 1)
    colour = decode_image(encode_png(_GREY), height=28, width=20, channels=3)
    assert np.array_equal(colour, np.repeat(_GREY, 3, axis=2))


def test_a_picture_is_turned_upright_by_its_mark() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    data = _saved(Image.fromarray(_COLOUR), exif=exif)
    upright = np.rot90(_COLOUR, k=-1)
    assert np.array_equal(read_image(data), upright)
    assert np.array_equal(decode_image(data, height=20, width=28, channels=3), upright)


def test_what_is_transparent_is_white() -> None:
    layers = np.zeros((4, 4, 4), np.uint8)
    layers[:2, :, 3] = 255
    pixels = decode_image(_saved(Image.fromarray(layers)), height=4, width=4, channels=1)
    assert pixels[:2].max() == 0
    assert pixels[2:].min() == 255


def test_sixteen_bits_keep_their_upper_half() -> None:
    deep = (_GREY[:, :, 0].astype(np.uint16) << 8) + 7
    data = _saved(Image.fromarray(deep))
    assert np.array_equal(read_image(data), _GREY)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_gives_bytes_of_the_wanted_shape(mode: str) -> None:
    picture = Image.fromarray(_COLOUR).convert("L" if mode == "I;16" else mode)
    picture = picture.convert("I;16") if mode == "I;16" else picture
    data = _saved(picture, "JPEG" if mode == "CMYK" else "PNG")
    for channels in (1, 3):
        assert decode_image(data, height=7, width=9, channels=channels).shape == (7, 9, channels)
    assert read_image(data).shape[:2] == (28, 20)


def test_a_palette_of_greys_is_grey() -> None:
    picture = Image.fromarray(_GREY[:, :, 0])
    assert np.array_equal(read_image(_saved(picture, "GIF")), _GREY)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60), b"GIF89a"]
)
def test_other_bytes_are_invalid_media(data: bytes) -> None:
    with pytest.raises(InvalidMedia) as caught:
        decode_image(data, height=8, width=8, channels=1)
    assert "0x" not in caught.value.message


@given(cut=st.integers(1, 600), place=st.integers(0, 600), byte=st.integers(0, 255))
def test_damaged_pictures_raise_invalid_media_or_decode(cut: int, place: int, byte: int) -> None:
    whole = bytearray(encode_png(_GREY))
    whole[place % len(whole)] = byte
    for format_ in (bytes(whole), bytes(whole[:cut])):
        try:
            pixels = decode_image(format_, height=8, width=8, channels=1)
        except InvalidMedia:
            continue
        assert pixels.shape == (8, 8, 1)


def test_a_truncated_picture_is_refused() -> None:
    with pytest.raises(InvalidMedia):
        read_image(png(_COLOUR, "JPEG")[:-200])


def test_a_picture_that_claims_too_many_pixels_is_refused_before_unpacking() -> None:
    huge = bytearray(encode_png(_GREY))
    huge[16:24] = (50_000).to_bytes(4, "big") * 2
    import zlib

    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    with pytest.raises(InvalidMedia):
        read_image(bytes(huge))


def test_previews_are_small() -> None:
    url = small_png_url(pictures(1, (400, 300, 3))[0])
    shown = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert max(shown.size) == 96


def test_picturing_needs_no_parquet() -> None:
    """Served replicas import it."""
    code = (
        "import sys, modelry.worker.data.picturing; "
        "assert not {'pyarrow', 'torch', 'sklearn', 'fsspec'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
