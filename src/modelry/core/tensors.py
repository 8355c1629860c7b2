"""What travels inside a frame: named tensors and media bytes, without copies where it can.

    ├ head length (4) ┼ head (msgpack) ┼ padding to 8 ┼ tensor ┼ padding ┼ tensor ┼ … ┼ media ┼ …

Everything is little-endian and row-major. Only plain numbers and texts travel; there is nothing to unpickle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelry.core.errors import InvalidInput
from modelry.core.texts import STRING, pack_texts, unpack_texts

Array = NDArray[Any]

#: The element types of numbers that may travel; texts travel as `string`.
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
    #: Bytes, for texts only.
    size: int = 0


class _Medium(msgspec.Struct, frozen=True, array_like=True):
    content_type: str
    size: int


class _Head(msgspec.Struct, frozen=True, array_like=True):
    tensors: list[_Tensor]
    media: list[_Medium]


class _Place(NamedTuple):
    """Where a tensor lies."""

    name: str
    #: None for texts.
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    at: int
    size: int


class _Layout(NamedTuple):
    """A head, understood: all payloads with the same head have it."""

    tensors: tuple[_Place, ...]
    media: tuple[_Medium, ...]
    size: int
    has_texts: bool


#: (name, numpy's short name of the type, shape, bytes of texts) of each tensor.
_Shapes = tuple[tuple[str, str, tuple[int, ...], int], ...]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Head)
#: Longer heads are not remembered; those of tensors are short.
_REMEMBERED_BYTES = 512


def encode_payload(tensors: Mapping[str, Array], media: Sequence[Media] = ()) -> bytes:
    """The payload's bytes; raises `InvalidInput` for elements that are neither plain numbers nor texts."""
    shapes: list[tuple[str, str, tuple[int, ...], int]] = []
    pieces: list[bytes] = [b""]
    for name, array in tensors.items():
        if array.dtype.kind == "O":
            piece = pack_texts(name, array)
            shapes.append((name, STRING, array.shape, len(piece)))
        else:
            if array.dtype.byteorder == ">":
                array = array.astype(array.dtype.newbyteorder("<"))
            # One copy, in C order whatever the array's is.
            piece = array.tobytes()
            shapes.append((name, array.dtype.str, array.shape, 0))
        pieces.append(piece)
        if len(piece) % _ALIGNMENT:
            pieces.append(_padding(len(piece)))
    pieces[0] = _prefix(tuple(shapes), tuple([(m.content_type, len(m.data)) for m in media]))
    pieces += [medium.data for medium in media]
    return b"".join(pieces)


def wrap_payload(
    tensors: Iterable[tuple[str, str, Sequence[int], bytes | memoryview]],
) -> bytes:
    """The payload of tensors that are bytes already: (name, dtype, shape, little-endian row-major buffer).

    Copies each once and looks at none of its numbers. Raises `InvalidInput` for a type that does not travel and for
    a buffer that is not of its shape's size. Texts (`string`) come as `core/texts.py` packs them.
    """
    shapes: list[tuple[str, str, tuple[int, ...], int]] = []
    pieces: list[bytes | memoryview] = [b""]
    for name, dtype, shape, buffer in tensors:
        if dtype == STRING:
            shapes.append((name, STRING, tuple(shape), len(buffer)))
            pieces += (buffer, _padding(len(buffer)))
            continue
        known = DTYPES.get(dtype)
        if known is None:
            raise InvalidInput(reason=f"'{name}' holds {dtype}", expected="plain numbers")
        size, wanted = memoryview(buffer).nbytes, prod(shape) * known.itemsize
        if size != wanted or any(length < 0 for length in shape):
            raise InvalidInput(
                reason=f"'{name}' has {size} bytes", expected=f"{wanted} for {dtype}{list(shape)}"
            )
        shapes.append((name, known.str, tuple(shape), 0))
        pieces += (buffer, _padding(size))
    pieces[0] = _prefix(tuple(shapes), ())
    return b"".join(pieces)


@lru_cache(maxsize=1024)
def _prefix(shapes: _Shapes, media: tuple[tuple[str, int], ...]) -> bytes:
    """All that comes before the first tensor."""
    heads = []
    for name, short, shape, size in shapes:
        dtype = STRING if short == STRING else np.dtype(short).name
        if dtype not in DTYPES and dtype != STRING:
            raise InvalidInput(reason=f"'{name}' holds {dtype}", expected="plain numbers")
        heads.append(_Tensor(name, dtype, list(shape), size))
    head = _encoder.encode(_Head(heads, [_Medium(*medium) for medium in media]))
    return _LENGTH.pack(len(head)) + head + _padding(_LENGTH.size + len(head))


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
    head = bytes(view[_LENGTH.size : _LENGTH.size + length])
    layout = _remembered_layout(head) if length <= _REMEMBERED_BYTES else _layout(head)
    if len(view) != layout.size:
        raise ValueError(f"{len(view)} bytes where {layout.size} are declared")
    if layout.has_texts:
        tensors = {place.name: _read(view, place) for place in layout.tensors}
    else:
        tensors = {
            name: np.ndarray(shape, dtype, view, at) if size else np.empty(shape, dtype)
            for name, dtype, shape, at, size in layout.tensors
        }
    if not layout.media:
        return Payload(tensors)
    media, at = [], layout.size - sum(medium.size for medium in layout.media)
    for medium in layout.media:
        media.append(Media(bytes(view[at : at + medium.size]), medium.content_type))
        at += medium.size
    return Payload(tensors, tuple(media))


def _layout(data: bytes) -> _Layout:
    head = _decoder.decode(data)
    at = _LENGTH.size + len(data)
    at += -at % _ALIGNMENT
    places = []
    for tensor in head.tensors:
        dtype = DTYPES.get(tensor.dtype)
        is_text = tensor.dtype == STRING and tensor.size >= 0
        if (dtype is None and not is_text) or any(length < 0 for length in tensor.shape):
            raise ValueError(f"{tensor.dtype}{tensor.shape} is no tensor")
        size = tensor.size if dtype is None else prod(tensor.shape) * dtype.itemsize
        places.append(_Place(tensor.name, dtype, tuple(tensor.shape), at, size))
        at += size + -size % _ALIGNMENT
    if any(medium.size < 0 for medium in head.media):
        raise ValueError("a medium of less than no bytes")
    size = at + sum(medium.size for medium in head.media)
    has_texts = any(place.dtype is None for place in places)
    return _Layout(tuple(places), tuple(head.media), size, has_texts)


def _read(view: memoryview, place: _Place) -> Array:
    if place.dtype is None:
        return unpack_texts(place.name, view[place.at : place.at + place.size], place.shape)
    if not place.size:
        return np.empty(place.shape, place.dtype)
    return np.ndarray(place.shape, place.dtype, view, place.at)


#: The head of a model's input is the same with every request of one row.
_remembered_layout = lru_cache(maxsize=1024)(_layout)
