"""The Open Inference Protocol's tensors over HTTP: JSON and raw bytes ⇄ arrays. Pure translation.

    ├ JSON, `Inference-Header-Content-Length` bytes ┼ first binary tensor ┼ second binary tensor ┼ …

Raw tensors are little-endian and row-major; an element of BYTES is its length (4 bytes) and itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import prod
from typing import Annotated

import msgspec
import numpy as np

from modelry.core.errors import InvalidInput, InvalidRequest
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import DTYPES, Array
from modelry.core.texts import STRING, unpack_texts
from modelry.server.api.doors.datatypes import BYTES, NUMPY_OF
from modelry.server.api.doors.numbers import read_json, read_regular, to_tensor

Length = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_PLACE = re.compile(r" - at `\$\.?([^`]*)`")


class InputParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    #: The tensor's bytes follow the JSON.
    binary_data_size: Length | None = None


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: list[Length]
    datatype: str
    parameters: InputParameters = InputParameters()
    #: Not yet read; empty where there is none.
    data: msgspec.Raw = msgspec.Raw()


class OutputParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    #: None: as the request says for all.
    binary_data: bool | None = None
    #: The best so many classes as texts, instead of the tensor.
    classification: Count | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    binary_data_output: bool = False


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of an inference request."""

    inputs: Annotated[list[Input], msgspec.Meta(min_length=1)]
    outputs: list[Output] = []
    id: str = ""
    parameters: RequestParameters = RequestParameters()


_decoder = msgspec.json.Decoder(Request)


def read_request(text: bytes) -> Request:
    """The request; raises `InvalidRequest` for what is none, and for fields that are not known."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _read_loosely(text)


def read_tensors(request: Request, raw: memoryview) -> dict[str, Array]:
    """The inputs, in their order; binary ones are views into `raw`. Raises `InvalidRequest` and `InvalidInput`."""
    tensors: dict[str, Array] = {}
    at = 0
    for tensor in request.inputs:
        if tensor.name in tensors:
            raise InvalidRequest(reason=f"the input '{tensor.name}' comes twice")
        size = tensor.parameters.binary_data_size
        if (size is None) == (not tensor.data):
            raise InvalidRequest(
                reason=f"the input '{tensor.name}' needs either 'data' or 'binary_data_size'"
            )
        if size is None:
            tensors[tensor.name] = _read_json_tensor(tensor)
            continue
        if at + size > len(raw):
            raise InvalidRequest(reason=f"the bytes of '{tensor.name}' are cut off")
        part = raw[at : at + size]
        tensors[tensor.name] = read_raw(tensor.name, numpy_name(tensor), tensor.shape, part)
        at += size
    if at != len(raw):
        raise InvalidRequest(reason=f"{len(raw) - at} bytes follow the last tensor")
    return tensors


def read_raw(name: str, dtype: str, shape: Sequence[int], data: memoryview) -> Array:
    """A view of the bytes, or texts; raises `InvalidInput` where they are not of the shape's size."""
    if dtype == STRING:
        return unpack_texts(name, data, shape)
    known = DTYPES[dtype]
    size = prod(shape) * known.itemsize
    if len(data) != size:
        raise InvalidInput(
            reason=f"'{name}' has {len(data)} bytes", expected=f"{size} for {dtype}{list(shape)}"
        )
    if dtype == "bool":
        check_truth(name, data)
    return np.ndarray(shape, known, data) if size else np.empty(shape, known)


def check_truth(name: str, data: memoryview) -> None:
    """A BOOL is a byte of 0 or 1: another one would be neither in numpy and in runtimes."""
    if len(data) and int(np.frombuffer(data, np.uint8).max()) > 1:
        raise InvalidInput(reason=f"'{name}' holds bytes that are no BOOL", expected="0 or 1")


def numpy_name(tensor: Input) -> str:
    """The element type in our words; raises `InvalidInput` for one that no model here takes."""
    if tensor.datatype == BYTES:
        return STRING
    found = NUMPY_OF.get(tensor.datatype)
    if found is None:
        raise InvalidInput(
            reason=f"'{tensor.name}' is {tensor.datatype or 'of no type'}",
            expected=f"one of {', '.join(NUMPY_OF)}, {BYTES}",
        )
    return found


def _read_json_tensor(tensor: Input) -> Array:
    """`data` may be nested as the shape says, or flat."""
    dtype, shape = numpy_name(tensor), tensor.shape
    if dtype == "float16":
        raise InvalidRequest(
            reason=f"the input '{tensor.name}' is FP16, which JSON does not carry",
            remedy="Send its bytes behind the JSON (binary_data_size).",
        )
    text = bytes(tensor.data)
    nested = TensorSpec(name=tensor.name, dtype=dtype, shape=list(shape))
    flat = TensorSpec(name=tensor.name, dtype=dtype, shape=[None])
    for spec in (flat, nested):
        quick = read_regular(text, spec, is_batch=True)
        if quick is not None and quick.size == prod(shape):
            return quick.reshape(shape)
    array = to_tensor(read_json(text), nested)
    if array.size != prod(shape) or (array.ndim != 1 and array.shape != tuple(shape)):
        raise InvalidInput(
            reason=f"the data of '{tensor.name}' have the shape {list(array.shape)}",
            expected=f"{list(shape)}, nested so or flat",
        )
    return array.reshape(shape)


def _read_loosely(text: bytes) -> Request:
    """The same with the bare words NaN and Infinity, which are no JSON but are sent."""
    call = read_json(text)
    try:
        # Their numbers have been read; as JSON they are read again, in the one way.
        for tensor in call["inputs"]:
            if "data" in tensor:
                tensor["data"] = msgspec.Raw(json.dumps(tensor["data"]).encode())
        request = msgspec.convert(call, Request)
        request.id.encode()
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (TypeError, KeyError, IndexError, UnicodeEncodeError, RecursionError):
        raise InvalidRequest(reason="it is no inference request with a list of inputs") from None
    return request


def _refusal(error: msgspec.ValidationError) -> InvalidRequest:
    """msgspec's words, with the place in front and a remedy where there is one."""
    text = str(error)
    place = _PLACE.search(text)
    reason = text[: place.start()] if place else text
    where = f"{place[1]}: " if place and place[1] else ""
    if "shared_memory" in reason:
        remedy = "Shared memory is not offered: send the tensor in the body."
    elif "`timeout`" in reason:
        remedy = "Send the header x-request-timeout (seconds) instead."
    else:
        remedy = "Send only what the protocol and this model know."
    return InvalidRequest(reason=where + reason.replace("`", "'"), remedy=remedy)
