"""Nested numbers in JSON → tensors, quickly where the nesting is regular. Pure: bytes and specs in, arrays out.

The quick way never makes a Python object per number: the compiled part (`_regular.c`) reads the text once and puts
each number where it belongs. Where it was not built, simdjson does the same in two steps: without digits, signs and
spaces the text of a tensor is nothing but brackets and commas, which must be exactly those of the expected shape; then
its numbers are read straight into a buffer. Whatever does not fit (other nesting, NaN, free dimensions) takes the
general way, which also finds the words for what is wrong.
"""

from __future__ import annotations

import json
import re
from contextvars import copy_context
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import simdjson

from modelry.core.errors import InvalidInput, InvalidRequest
from modelry.core.inputs import describe
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import Array
from modelry.core.texts import STRING

if TYPE_CHECKING:
    from modelry.server.api.doors import _regular
else:
    try:
        from modelry.server.api.doors import _regular
    except ImportError:
        # There was no C compiler at the install.
        _regular = None

#: Whether the compiled part is there.
IS_COMPILED = _regular is not None

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


def write_numbers(value: Any) -> bytes:
    """The same for values of which nobody has looked whether their numbers are finite."""
    text = msgspec.json.encode(value)
    # What is not finite has become null; nothing else in an answer is.
    return write_json(value, is_finite=False) if b"null" in text else text


def read_regular(text: bytes, spec: TensorSpec, *, is_batch: bool) -> Array | None:
    """The tensor in a JSON text if it is regular; None if the general way must look at it.

    `is_batch` says whether the text holds all rows or (False) one row without the batch dimension.
    """
    if spec.dtype not in ("float32", "float64"):
        return None
    sample = tuple(length or 0 for length in spec.shape[1:])
    # A number takes a character at least. Shapes come from clients and from foreign models too.
    if not 0 < prod(sample) <= len(text):
        return None
    if IS_COMPILED:
        data = _regular.read(text, 0, len(text), sample, is_batch, spec.dtype == "float64")
        return None if data is None else np.frombuffer(data, spec.dtype).reshape((-1, *sample))
    return _read_in_two_steps(text, spec.dtype, sample, is_batch)


def _read_in_two_steps(
    text: bytes, dtype: str, sample: tuple[int, ...], is_batch: bool
) -> Array | None:
    nesting = _nesting(sample)
    structure = text.translate(None, _NOT_STRUCTURE)
    rows = _count_rows(structure, nesting) if is_batch else 1
    if rows is None or (not is_batch and structure != nesting):
        return None
    numbers = _read_numbers(text, rows * prod(sample))
    if numbers is None:
        return None
    return _narrow(numbers, dtype).reshape((rows, *sample))


@lru_cache(maxsize=256)
def _nesting(shape: tuple[int, ...]) -> bytes:
    """A sample's brackets and commas."""
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


def _narrow(numbers: Array, dtype: str) -> Array:
    """In the type that is wanted; what is too large for it becomes infinite, without a warning."""
    if dtype == "float64":
        return numbers
    try:
        return _quiet.run(numbers.astype, dtype)
    except RuntimeError:
        # Another thread is in there now; the slower way to the same.
        with np.errstate(over="ignore"):
            return numbers.astype(dtype)


#: Where numpy says nothing of overflows. To enter it once and for all costs less than to enter it with each request.
_quiet = copy_context()
_quiet.run(np.seterr, over="ignore")


def to_tensor(value: Any, spec: TensorSpec) -> Array:
    """Nested lists as a tensor of the spec's type; raises `InvalidInput`. The shape is not checked here."""
    if spec.dtype == STRING:
        return _to_texts(value, spec)
    # numpy would give each element the room of the longest text.
    if _holds_text(value):
        raise _misfit(spec, "holds something that is no number")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise _misfit(spec, "is ragged: its lists differ in length") from None
    target = np.dtype(spec.dtype)
    if target.name == "uint64" and array.dtype.kind == "f":
        array = _exact(value, array)
    if array.dtype.kind not in "biuf":
        raise _misfit(spec, "holds something that is no number")
    if (array.dtype.kind == "b") != (target.kind == "b"):
        raise _misfit(spec, f"holds {array.dtype.name} values")
    if target.kind in "iu" and not _is_within(array, target):
        raise _misfit(spec, "holds numbers that are not whole or too large")
    with np.errstate(over="ignore"):
        return array.astype(target)


def _to_texts(value: Any, spec: TensorSpec) -> Array:
    try:
        array = np.array(value, object)
    except ValueError:
        raise _misfit(spec, "is ragged: its lists differ in length") from None
    # Ragged lists mostly stay lists inside, and are no texts.
    if not all(type(element) is str for element in array.flat):
        raise _misfit(spec, "holds something that is no text, or is ragged")
    return array


def _holds_text(value: Any) -> bool:
    level = [value]
    while level:
        if str in set(map(type, level)):
            return True
        level = [item for part in level if type(part) is list for item in part]
    return False


def _exact(value: Any, rounded: Array) -> Array:
    """Numbers above and below 2^63 beside each other make numpy round them all; whole ones need not be."""
    exact = np.asarray(value, object)
    if all(type(element) is int and 0 <= element < 1 << 64 for element in exact.flat):
        return exact.astype(np.uint64)
    return rounded


def _is_within(array: Array, target: np.dtype[Any]) -> bool:
    if array.size == 0:
        return True
    if array.dtype.kind == "f":
        return False
    bounds = np.iinfo(target)
    return int(array.min()) >= bounds.min and int(array.max()) <= bounds.max


def _misfit(spec: TensorSpec, what: str) -> InvalidInput:
    return InvalidInput(reason=f"'{spec.name}' {what}", expected=describe([spec]))
