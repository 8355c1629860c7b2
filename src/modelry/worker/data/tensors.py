"""Numbers of a fixed shape, one array per part, usually mapped from the disk instead of read into memory."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pyarrow as pa

from modelry.core.errors import InvalidData
from modelry.core.manifests import Feature
from modelry.worker.data.picturing import Array, small_png_url
from modelry.worker.data.statistics import Statistics

_SHOWN_VALUES = 16
#: Element types that stay as they are; the others become one of these without loss, or are refused.
_STORED = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_STORED_FLOATS = ("float32", "float64")


class TensorContent:
    """The rows of one array."""

    is_ordered = True

    def __init__(self, array: Array, file: str) -> None:
        self._array = array
        self._file = file
        self._dtype = _stored_type(array.dtype, file)
        self._name, self._feature = _describe(array, self._dtype, file)

    @property
    def features(self) -> dict[str, Feature]:
        """The one input feature."""
        return {self._name: self._feature}

    @property
    def rows(self) -> int:
        return len(self._array)

    @property
    def row_bytes(self) -> int:
        return math.prod(self._feature.shape) * self._dtype.itemsize

    def examine(self, start: int, stop: int, statistics: Statistics) -> list[bytes]:
        """Refuses NaN and infinity, with the row."""
        rows = self._flat(slice(start, stop))
        if self._dtype.kind == "f":
            finite = np.isfinite(rows).all(axis=1)
            if not finite.all():
                bad = start + int(np.argmin(finite))
                raise InvalidData(file=self._file, reason=f"row {bad} holds NaN or infinity")
        statistics.add_numbers(self._name, rows)
        little = rows.astype(self._dtype.newbyteorder("<"), copy=False)
        return [hashlib.sha256(row).digest() for row in little]

    def columns(self, indices: Array) -> dict[str, Any]:
        values = pa.array(self._flat(indices).reshape(-1))
        return {self._name: pa.FixedSizeListArray.from_arrays(values, self._width)}

    def show(self, index: int) -> dict[str, Any]:
        row = self._flat(slice(index, index + 1))
        if self._name == "image":
            return {"image": small_png_url(row.reshape(self._feature.shape))}
        return {self._name: row[0, :_SHOWN_VALUES].tolist()}

    @property
    def _width(self) -> int:
        return math.prod(self._feature.shape)

    def _flat(self, which: slice | Array) -> Array:
        rows = np.ascontiguousarray(self._array[which], dtype=self._dtype)
        return rows.reshape(-1, self._width)


def _stored_type(dtype: np.dtype[Any], file: str) -> np.dtype[Any]:
    name = dtype.newbyteorder("=").name
    if name == "bool":
        return np.dtype("uint8")
    if name == "float16":
        return np.dtype("float32")
    if name in _STORED or name in _STORED_FLOATS:
        return np.dtype(name)
    raise InvalidData(
        file=file, reason=f"its elements are {dtype}, not numbers that can be learned"
    )


def _describe(array: Array, dtype: np.dtype[Any], file: str) -> tuple[str, Feature]:
    if array.ndim == 0 or array.size == 0:
        raise InvalidData(file=file, reason="it holds no rows")
    shape = list(array.shape[1:]) or [1]
    is_bytes = array.dtype == np.uint8
    if is_bytes and len(shape) == 2:
        shape.append(1)
    is_image = is_bytes and len(shape) == 3 and shape[2] in (1, 3)
    scale = 1 / 255 if is_bytes else 1.0
    feature = Feature(kind="tensor", dtype=dtype.name, shape=shape, scale=scale)
    return "image" if is_image else "x", feature
