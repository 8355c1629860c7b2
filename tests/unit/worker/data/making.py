"""Small sources the data tests are made of."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np
import soundfile
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

#: Samples a second of recordings.
RATE = 8000

_IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def pictures(count: int, shape: tuple[int, ...] = (8, 8), seed: int = 0) -> Array:
    """Random bytes in the shape of pictures."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype=np.uint8)


def npy(array: Array) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=array.dtype.hasobject)
    return out.getvalue()


def npz(**arrays: Array) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def idx(array: Array) -> bytes:
    code = _IDX_CODES[array.dtype.str[1:]]
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def idx_gz(array: Array) -> bytes:
    return gzip.compress(idx(array))


def png(pixels: Array, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=format)
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def picture_files(labels: list[str], each: int = 5, seed: int = 0) -> dict[str, bytes]:
    """PNG files in one folder per label."""
    images = iter(pictures(each * len(labels), seed=seed))
    return {
        f"{label}/{number}.png": png(next(images)) for label in labels for number in range(each)
    }


def tone(
    seconds: float = 0.1, height: float = 440, rate: int = RATE, format: str = "WAV", **options: Any
) -> bytes:
    at = np.arange(int(seconds * rate)) / rate
    out = io.BytesIO()
    soundfile.write(out, np.sin(2 * np.pi * height * at) / 2, rate, format=format, **options)
    return out.getvalue()


def tones(labels: list[str], each: int = 5, **options: Any) -> dict[str, bytes]:
    """WAV files in one folder per label."""
    return {
        f"{label}/{n}.wav": tone(height=200 + 50 * place + n, **options)
        for place, label in enumerate(labels)
        for n in range(each)
    }
