"""numpy's own files: the header is read without unpickling, the numbers are mapped from the disk."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modelry.core.errors import InvalidData
from modelry.worker.data.picturing import Array
from modelry.worker.data.sources import SourceFile


def open_npy(file: SourceFile) -> Array:
    """The array of a `.npy` file, read-only; raises `InvalidData` for objects and for sizes that lie."""
    with file.place.open("rb") as opened:
        try:
            shape, is_fortran, dtype = _read_header(opened)
        except Exception as error:  # numpy's parser lets through what Python's own raises
            reason = f"its header is damaged ({type(error).__name__})"
            raise InvalidData(file=file.name, reason=reason) from error
        offset = opened.tell()
    if dtype.hasobject:
        raise InvalidData(
            file=file.name,
            reason="it holds Python objects, which would run code when read",
            remedy="Save plain numbers: numpy.save(..., array.astype('float32')), without pickle.",
        )
    if any(side < 0 for side in shape):
        raise InvalidData(file=file.name, reason="its header has a negative size")
    wanted = offset + math.prod(shape) * dtype.itemsize
    if wanted != file.size_bytes:
        reason = f"its header promises {wanted} bytes, but it has {file.size_bytes}"
        raise InvalidData(file=file.name, reason=reason)
    if wanted == offset:
        return np.empty(shape, dtype)
    return np.memmap(file.place, dtype, "r", offset, shape, order="F" if is_fortran else "C")


def _read_header(opened: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(opened)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(opened)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(opened)
    raise ValueError(f"format {version[0]}.{version[1]} is for structured arrays")
