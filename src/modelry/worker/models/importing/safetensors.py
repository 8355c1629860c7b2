"""The header of a safetensors file, read without any library: lengths, types and places must add up exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from modelry.core.errors import UnsafeFile
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.texts import read_unique_json

#: The format's own limit.
MAX_HEADER_BYTES = 100_000_000
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_REMEDY = "Save the weights anew with the safetensors library, or get an undamaged copy."

#: Tensor → (type, shape).
Tensors = dict[str, tuple[str, tuple[int, ...]]]


def looks_like_safetensors(head: bytes) -> bool:
    """Whether a file begins as the format does: the header's length, then an opening brace."""
    return len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 40


def check_safetensors(name: str, file: Path) -> Tensors:
    """What the file holds; raises `UnsafeFile` where header and content disagree in any way."""
    size = file.stat().st_size
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _damaged(name, f"its header claims {length} bytes of the {size} the file has")
        header = read_unique_json(name, content.read(length), _REMEDY)
    if not isinstance(header, dict):
        raise _damaged(name, "its header is no table of tensors")
    _check_metadata(name, header.pop("__metadata__", {}))
    places, tensors = [], {}
    for tensor, entry in header.items():
        tensors[tensor], place = _read_entry(name, tensor, entry)
        places.append(place)
    _check_places(name, sorted(places), size - 8 - length)
    return tensors


def _check_metadata(name: str, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(name, "its metadata are no texts")


def _read_entry(
    name: str, tensor: str, entry: Any
) -> tuple[tuple[str, tuple[int, ...]], tuple[int, int]]:
    shown = tensor[:100]
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(name, f"the entry of '{shown}' is malformed")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _ITEM_BYTES:
        raise _damaged(name, f"'{shown}' is of the unknown type {str(dtype)[:20]}")
    if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2 or len(shape) > 32:
        raise _damaged(name, f"'{shown}' has no valid shape or place")
    wanted = math.prod(shape) * _ITEM_BYTES[dtype]
    if place[1] - place[0] != wanted:
        raise _damaged(name, f"'{shown}' needs {wanted} bytes and claims {place[1] - place[0]}")
    return (dtype, tuple(shape)), (place[0], place[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_places(name: str, places: list[tuple[int, int]], size: int) -> None:
    """Tensors must fill the content from end to end: no gap to hide something in, no byte used twice."""
    at = 0
    for start, end in places:
        if start != at:
            raise _damaged(name, "its tensors overlap or leave gaps")
        at = end
    if at != size:
        raise _damaged(name, f"its header accounts for {at} of {size} bytes")


def _damaged(name: str, reason: str) -> UnsafeFile:
    return refuse(name, reason, _REMEDY)
