"""What travels inside a frame: named tensors and media bytes, without copies where it can.

    ├ head length (4) ┼ head (msgpack) ┼ padding to 8 ┼ tensor ┼ padding ┼ tensor ┼ … ┼ media ┼ …

Everything is little-endian and row-major. Only plain numbers travel; there is nothing to unpickle.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelry.core.errors import InvalidInput

Array = NDArray[Any]

#: The element types that may travel.
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    )
}
_LENGTH = struct.Struct("<I")
_ALIGNMENT = 8
_PADDING = bytes(_ALIGNMENT)


@dataclass(frozen=True, slots=True)
class Media:
    """Encoded bytes, such as a PNG image, to be decoded beside the model."""

    data: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Payload:
    """The content of a request or an answer."""

    tensors: dict[str, Array] = field(default_factory=dict)
    media: tuple[Media, ...] = ()


class _Tensor(msgspec.Struct, frozen=True, array_like=True):
    name: str
    dtype: str
    shape: list[int]


class _Medium(msgspec.Struct, frozen=True, array_like=True):
    content_type: str
    size: int


class _Head(msgspec.Struct, frozen=True, array_like=True):
    tensors: list[_Tensor]
    media: list[_Medium]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Head)


def encode_payload(tensors: Mapping[str, Array], media: Sequence[Media] = ()) -> bytes:
    """The payload's bytes; raises `InvalidInput` for elements that are not plain numbers."""
    heads, parts = [], []
    for name, tensor in tensors.items():
        dtype = DTYPES.get(tensor.dtype.name)
        if dtype is None:
            raise InvalidInput(
                reason=f"'{name}' holds {tensor.dtype.name}", expected="plain numbers"
            )
        heads.append(_Tensor(name, tensor.dtype.name, list(tensor.shape)))
        parts.append(np.ascontiguousarray(tensor, dtype=dtype).tobytes())
    head = _encoder.encode(
        _Head(heads, [_Medium(medium.content_type, len(medium.data)) for medium in media])
    )
    pieces = [_LENGTH.pack(len(head)), head, _padding(_LENGTH.size + len(head))]
    for part in parts:
        pieces += (part, _padding(len(part)))
    pieces += (medium.data for medium in media)
    return b"".join(pieces)


def _padding(size: int) -> bytes:
    return _PADDING[: -size % _ALIGNMENT]


def decode_payload(data: bytes | memoryview) -> Payload:
    """The payload; its tensors are views into `data`. Raises `InvalidInput` where the bytes do not add up."""
    view = memoryview(data)
    try:
        return _decode(view)
    except (ValueError, struct.error, msgspec.DecodeError, OverflowError) as error:
        reason = f"the payload is malformed ({error})"
        raise InvalidInput(reason=reason, expected="tensors as their heads declare them") from None


def _decode(view: memoryview) -> Payload:
    length = _LENGTH.unpack_from(view)[0]
    if _LENGTH.size + length > len(view):
        raise ValueError("its head is cut off")
    head = _decoder.decode(view[_LENGTH.size : _LENGTH.size + length])
    at = _LENGTH.size + length
    at += -at % _ALIGNMENT
    tensors = {}
    for tensor in head.tensors:
        tensors[tensor.name], size = _read_tensor(view, at, tensor)
        at += size + -size % _ALIGNMENT
    media = []
    for medium in head.media:
        if medium.size < 0 or at + medium.size > len(view):
            raise ValueError("its media are cut off")
        media.append(Media(bytes(view[at : at + medium.size]), medium.content_type))
        at += medium.size
    if at != len(view):
        raise ValueError(f"{len(view)} bytes where {at} are declared")
    return Payload(tensors, tuple(media))


def _read_tensor(view: memoryview, at: int, tensor: _Tensor) -> tuple[Array, int]:
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or any(length < 0 for length in tensor.shape):
        raise ValueError(f"{tensor.dtype}{tensor.shape} is no tensor")
    count = prod(tensor.shape)
    if count * dtype.itemsize > len(view) - at:
        raise ValueError(f"'{tensor.name}' is cut off")
    array = np.frombuffer(view, dtype, count, at) if count else np.empty(0, dtype)
    return array.reshape(tensor.shape), count * dtype.itemsize
