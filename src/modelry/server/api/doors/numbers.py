"""Nested numbers in JSON → tensors, quickly where the nesting is regular. Pure: bytes and specs in, arrays out.

The quick way never makes a Python object per number: without digits, signs and spaces the text of a tensor is
nothing but brackets and commas, which must be exactly those of the expected shape; simdjson then reads the
numbers straight into a buffer. Whatever does not fit (other nesting, NaN, free dimensions) takes the general way,
which also finds the words for what is wrong.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from math import prod
from typing import Any

import msgspec
import numpy as np
import simdjson

from modelry.core.errors import InvalidInput, InvalidRequest
from modelry.core.inputs import describe
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import Array

_NOT_STRUCTURE = b"0123456789+-.eE \t\r\n"


def read_count(name: str, text: str) -> int:
    """A number in a path or a query; raises `InvalidRequest`."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise InvalidRequest(reason=f"{name}={text!r} is not a whole number from 1 on")
    return int(text)


def read_json(body: bytes) -> Any:
    """Any JSON, with the bare words NaN, Infinity and -Infinity; raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return json.loads(body)
    except RecursionError:
        raise InvalidRequest(reason="the body is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(reason=f"the body is not JSON ({error})") from None


def write_json(value: Any, *, is_finite: bool) -> bytes:
    """The value as JSON; numbers that are not finite as bare words."""
    if is_finite:
        return msgspec.json.encode(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def read_regular(text: bytes, spec: TensorSpec, *, is_batch: bool) -> Array | None:
    """The tensor in a JSON text if it is regular; None if the general way must look at it.

    `is_batch` says whether the text holds all rows or (False) one row without the batch dimension.
    """
    sample = spec.shape[1:]
    if spec.dtype not in ("float32", "float64") or None in sample:
        return None
    shape = tuple(length or 0 for length in sample)
    if prod(shape) == 0:
        return None
    structure = text.translate(None, _NOT_STRUCTURE)
    rows = _count_rows(structure, _nesting(shape)) if is_batch else 1
    if rows is None or (not is_batch and structure != _nesting(shape)):
        return None
    numbers = _read_numbers(text, rows * prod(shape))
    if numbers is None:
        return None
    with np.errstate(over="ignore"):
        return numbers.astype(spec.dtype, copy=False).reshape((rows, *shape))


@lru_cache(maxsize=256)
def _nesting(shape: tuple[int, ...]) -> bytes:
    """The brackets and commas of one sample."""
    text = b""
    for length in reversed(shape):
        text = b"[" + b",".join([text] * length) + b"]"
    return text


def _count_rows(structure: bytes, sample: bytes) -> int | None:
    """How many samples the structure of a batch holds; None where it holds anything else."""
    rows, rest = divmod(len(structure) - 1, len(sample) + 1)
    if rest or rows < 1:
        return None
    return rows if structure == b"[" + b",".join([sample] * rows) + b"]" else None


def _read_numbers(text: bytes, count: int) -> Array | None:
    """All numbers of a JSON array, nested or not, as float64; None if there are not exactly so many."""
    try:
        document = simdjson.Parser().parse(text)
        if not isinstance(document, simdjson.Array):
            return None
        numbers = np.frombuffer(document.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, RuntimeError):
        return None
    return numbers if numbers.size == count else None


def to_tensor(value: Any, spec: TensorSpec) -> Array:
    """Nested lists as a tensor of the spec's type; raises `InvalidInput`. The shape is not checked here."""
    # numpy would give each element the room of the longest text.
    if _holds_text(value):
        raise _misfit(spec, "holds something that is no number")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise _misfit(spec, "is ragged: its lists differ in length") from None
    target = np.dtype(spec.dtype)
    if array.dtype.kind not in "biuf":
        raise _misfit(spec, "holds something that is no number")
    if (array.dtype.kind == "b") != (target.kind == "b"):
        raise _misfit(spec, f"holds {array.dtype.name} values")
    if target.kind in "iu" and not _is_within(array, target):
        raise _misfit(spec, "holds numbers that are not whole or too large")
    with np.errstate(over="ignore"):
        return array.astype(target)


def _holds_text(value: Any) -> bool:
    level = [value]
    while level:
        if str in set(map(type, level)):
            return True
        level = [item for part in level if type(part) is list for item in part]
    return False


def _is_within(array: Array, target: np.dtype[Any]) -> bool:
    if array.size == 0:
        return True
    if array.dtype.kind == "f":
        return False
    bounds = np.iinfo(target)
    return int(array.min()) >= bounds.min and int(array.max()) <= bounds.max


def _misfit(spec: TensorSpec, what: str) -> InvalidInput:
    return InvalidInput(reason=f"'{spec.name}' {what}", expected=describe([spec]))
