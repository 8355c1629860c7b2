"""IDX, the format of MNIST: a big-endian header (type, dimensions), then the numbers."""

from __future__ import annotations

import math
import struct

import numpy as np

from modelry.core.errors import InvalidData
from modelry.worker.data.picturing import Array
from modelry.worker.data.sources import SourceFile

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def open_idx(file: SourceFile) -> Array:
    """The array of an IDX file, read-only; raises `InvalidData` for a header that lies."""
    with file.place.open("rb") as opened:
        _, _, code, dimensions = struct.unpack("4B", opened.read(4))
        sizes = opened.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise InvalidData(file=file.name, reason="it ends within its header")
    shape = struct.unpack(f">{dimensions}I", sizes)
    dtype = np.dtype(_TYPES[code])
    offset = 4 + 4 * dimensions
    wanted = offset + math.prod(shape) * dtype.itemsize
    if wanted != file.size_bytes:
        reason = f"its header promises {wanted} bytes, but it has {file.size_bytes}"
        raise InvalidData(file=file.name, reason=reason)
    if wanted == offset:
        return np.empty(shape, dtype)
    return np.memmap(file.place, dtype, "r", offset, shape)
