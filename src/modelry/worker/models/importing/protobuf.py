"""The outermost fields of an ONNX file, read byte by byte without a library: a cheap first look at what a file is."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

#: Field → wire type in ONNX's `ModelProto`.
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_IR_VERSION, _GRAPH, _OPSETS = 1, 7, 8
_MAX_FIELDS = 100_000


def is_onnx(file: Path) -> bool:
    """Whether the whole file is made of an ONNX model's fields, with nothing before, between or behind them."""
    size = file.stat().st_size
    found: set[int] = set()
    with file.open("rb") as content:
        for _ in range(_MAX_FIELDS):
            if content.tell() == size:
                return {_IR_VERSION, _GRAPH, _OPSETS} <= found
            field = _skip_field(content, size)
            if field is None:
                return False
            found.add(field)
    return False


def _skip_field(content: BinaryIO, size: int) -> int | None:
    """Reads one field's key and passes over its value; None where it is none of ours or leaves the file."""
    key = _varint(content)
    if key is None or _FIELDS.get(key >> 3) != key & 7:
        return None
    value = _varint(content)
    if value is None:
        return None
    if key & 7 == 2:
        if content.tell() + value > size:
            return None
        content.seek(value, 1)
    return key >> 3


def _varint(content: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = content.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
