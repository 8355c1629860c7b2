"""Tensors of texts: numpy arrays of `str` objects here, length-prefixed UTF-8 in a frame.

    ├ length (4) ┼ UTF-8 ┼ length ┼ UTF-8 ┼ …   row-major, little-endian

The same layout is the Open Inference Protocol's BYTES. Elements are texts and not any bytes, as ONNX's strings are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelry.core.errors import InvalidInput

#: What specs and payloads call the element type; numpy has no such name.
STRING = "string"

_LENGTH = struct.Struct("<I")


def type_name(array: NDArray[Any]) -> str:
    """The element type as specs have it: numpy's name, or `string`."""
    return STRING if array.dtype.kind == "O" else array.dtype.name


def blank(dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Zeros of a spec's element type, or empty texts."""
    return np.full(shape, "", object) if dtype == STRING else np.zeros(shape, dtype)


def pack_texts(name: str, array: NDArray[Any]) -> bytes:
    """The elements' bytes; raises `InvalidInput` for an object that is no text."""
    pieces: list[bytes] = []
    for element in array.flat:
        if type(element) is not str:
            raise InvalidInput(
                reason=f"'{name}' holds an object of the type {type(element).__name__}",
                expected="plain numbers or texts",
            )
        text = element.encode("utf-8", "replace")
        pieces += (_LENGTH.pack(len(text)), text)
    return b"".join(pieces)


def unpack_texts(name: str, data: bytes | memoryview, shape: Sequence[int]) -> NDArray[Any]:
    """The array; raises `InvalidInput` where the bytes are not exactly so many texts."""
    count = prod(shape)
    # Each has four bytes at least: a lying shape costs no memory.
    if count * _LENGTH.size > len(data):
        raise _malformed(name, f"{len(data)} bytes hold no {count} texts")
    array = np.empty(count, object)
    at, end = 0, len(data)
    for index in range(count):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(data, at)[0] if start <= end else end + 1
        if at > end:
            raise _malformed(name, f"text {index} is cut off")
        try:
            array[index] = str(data[start:at], "utf-8")
        except UnicodeDecodeError:
            raise _malformed(name, f"element {index} is not UTF-8 text") from None
    if at != end:
        raise _malformed(name, f"{end - at} bytes follow the last text")
    return array.reshape(shape)


def _malformed(name: str, reason: str) -> InvalidInput:
    return InvalidInput(
        reason=f"'{name}': {reason}", expected="texts, each as its length (4 bytes) and its UTF-8"
    )
