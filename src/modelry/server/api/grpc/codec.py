"""ModelInfer's messages ⇄ the gateway's words. Pure translation: it knows no limits, no versions and no replicas.

Raw contents are copied once, from the message into the frame. A request with raw contents gets raw contents back, one
with typed contents typed ones, unless an output is of the one type (FP16) that has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from modelry.core.errors import InvalidInput, InvalidRequest
from modelry.core.inputs import check_inputs
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import DTYPES, Array, decode_payload, encode_payload
from modelry.core.texts import STRING, pack_texts
from modelry.server.api.doors.datatypes import BYTES, DATATYPE_OF, NUMPY_OF
from modelry.server.api.doors.door import Answer, Call, Find
from modelry.server.api.doors.names import read_version
from modelry.server.api.doors.open_outputs import Wanted, take_output
from modelry.server.api.doors.open_tensors import read_raw
from modelry.server.api.grpc.wire.open_inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from modelry.server.gateway import Reply

#: The protocol's word → the field that holds such elements one by one.
FIELD_OF: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}

#: numpy's type → the protocol's word.
_WORD_OF = {DTYPES[name]: word for name, word in DATATYPE_OF.items()} | {np.dtype(object): BYTES}
_HALF = DTYPES["float16"]
_Input = ModelInferRequest.InferInputTensor
_Output = ModelInferResponse.InferOutputTensor


def read(data: bytes) -> ModelInferRequest:
    """The message; raises `InvalidRequest` for bytes that are none."""
    try:
        return ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidRequest(reason="it is not a ModelInferRequest") from None


def decode(message: ModelInferRequest, find: Find) -> Call:
    """The call; raises what `find` raises, `InvalidRequest` for its form and `InvalidInput` for its values."""
    name, version = message.model_name, read_version(message.model_version)
    if not name:
        raise InvalidRequest(reason="it names no model", remedy="Give the deployment's name.")
    _refuse_unknown(message)
    _refuse_parameters("the request", message.parameters)
    manifest = find(name, version)
    wanted = _read_outputs(message.outputs, manifest)
    is_raw = bool(message.raw_input_contents)
    tensors = _read_raw(message) if is_raw else _read_typed(message.inputs)
    rows = check_inputs(tensors, manifest.inputs)
    request_id = message.id

    def encode(reply: Reply) -> Answer:
        return Answer(write(reply, name, request_id, wanted, is_raw), "application/grpc")

    return Call(name, version, encode_payload(tensors), rows, encode)


def write(
    reply: Reply, name: str, request_id: str, wanted: Sequence[Wanted], is_raw: bool
) -> bytes:
    """The reply as a ModelInferResponse; raises `InvalidInput` where the model gave no such output."""
    tensors = decode_payload(reply.payload).tensors
    arrays = [take_output(tensors, one, reply.manifest) for one in wanted]
    message = ModelInferResponse(model_name=name, model_version=str(reply.version), id=request_id)
    is_raw = is_raw or any(array.dtype == _HALF for array in arrays)
    for one, array in zip(wanted, arrays, strict=True):
        datatype = _WORD_OF[array.dtype]
        output = message.outputs.add(name=one.name, datatype=datatype, shape=array.shape)
        if not is_raw:
            _write_elements(output, array)
        elif datatype == BYTES:
            message.raw_output_contents.append(pack_texts(one.name, array))
        else:
            message.raw_output_contents.append(array.tobytes())
    return message.SerializeToString()


def _write_elements(output: _Output, array: Array) -> None:
    elements = array.ravel().tolist()
    if output.datatype == BYTES:
        elements = [text.encode("utf-8", "replace") for text in elements]
    getattr(output.contents, FIELD_OF[output.datatype]).extend(elements)


def _read_outputs(asked: Sequence[Any], manifest: ModelManifest) -> list[Wanted]:
    """The outputs that are wanted, in their order; all where none is named."""
    known = [spec.name for spec in manifest.outputs]
    if not asked:
        return [Wanted(name, True, 0) for name in known]
    found: dict[str, Wanted] = {}
    for output in asked:
        _refuse_unknown(output)
        classes = _read_classes(output)
        if output.name not in known or output.name in found:
            raise InvalidRequest(
                reason=f"the output '{output.name}' is not known, or asked for twice",
                remedy=f"The model gives: {', '.join(known)}.",
            )
        found[output.name] = Wanted(output.name, True, classes)
    return list(found.values())


def _read_classes(output: ModelInferRequest.InferRequestedOutputTensor) -> int:
    """How many of the best classes are wanted as texts; 0: the tensor itself."""
    given = dict(output.parameters)
    classes = given.pop("classification", None)
    _refuse_parameters(f"the output '{output.name}'", given)
    if classes is None:
        return 0
    if classes.int64_param < 1:
        raise InvalidRequest(reason="'classification' is no whole number from 1 on")
    return classes.int64_param


def _read_raw(message: ModelInferRequest) -> dict[str, Array]:
    """Views into the raw contents."""
    inputs, raw = message.inputs, message.raw_input_contents
    if len(inputs) != len(raw):
        raise InvalidRequest(
            reason=f"it has {len(inputs)} inputs and {len(raw)} raw contents",
            remedy="Where raw_input_contents is used, it holds every input.",
        )
    tensors: dict[str, Array] = {}
    for tensor, data in zip(inputs, raw, strict=True):
        dtype, shape = _read_head(tensor, tensors)
        if tensor.HasField("contents"):
            raise InvalidRequest(reason=f"the input '{tensor.name}' has contents of both kinds")
        try:
            tensors[tensor.name] = read_raw(tensor.name, dtype, shape, memoryview(data))
        except ValueError as error:
            raise _misshapen(tensor.name, error) from None
    return tensors


def _read_typed(inputs: Iterable[_Input]) -> dict[str, Array]:
    """Tensors made of the elements of typed contents."""
    tensors: dict[str, Array] = {}
    for tensor in inputs:
        dtype, shape = _read_head(tensor, tensors)
        values = _read_elements(tensor)
        if len(values) != prod(shape):
            raise InvalidInput(
                reason=f"'{tensor.name}' has {len(values)} elements",
                expected=f"{prod(shape)} for the shape {list(shape)}",
            )
        array = (
            _read_texts(tensor.name, values) if dtype == STRING else _read_numbers(tensor, values)
        )
        try:
            tensors[tensor.name] = array.reshape(shape)
        except ValueError as error:
            raise _misshapen(tensor.name, error) from None
    return tensors


def _read_elements(tensor: _Input) -> Sequence[Any]:
    """The elements of the one field that the tensor's type uses; the others must be empty."""
    field = FIELD_OF.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(
            reason=f"{tensor.datatype} has no typed contents", remedy="Send raw_input_contents."
        )
    contents: InferTensorContents = tensor.contents
    _refuse_unknown(contents)
    for used, _ in contents.ListFields():
        if used.name != field:
            raise InvalidRequest(
                reason=f"the input '{tensor.name}' is {tensor.datatype} and has {used.name}",
                remedy=f"Put its elements into {field}.",
            )
    elements: Sequence[Any] = getattr(contents, field)
    return elements[:]


def _read_numbers(tensor: _Input, values: Sequence[Any]) -> Array:
    try:
        return np.array(values, DTYPES[NUMPY_OF[tensor.datatype]])
    except OverflowError:
        raise InvalidInput(
            reason=f"'{tensor.name}' holds numbers that are too large or too small",
            expected=f"numbers that {tensor.datatype} can hold",
        ) from None


def _read_texts(name: str, values: Sequence[bytes]) -> Array:
    array = np.empty(len(values), object)
    try:
        array[:] = [value.decode() for value in values]
    except UnicodeDecodeError:
        raise InvalidInput(
            reason=f"'{name}' holds bytes that are no UTF-8", expected="texts"
        ) from None
    return array


def _read_head(tensor: _Input, before: Mapping[str, Array]) -> tuple[str, tuple[int, ...]]:
    """The input's type in our words, and its shape."""
    _refuse_unknown(tensor)
    _refuse_parameters(f"the input '{tensor.name}'", tensor.parameters)
    if tensor.name in before:
        raise InvalidRequest(reason=f"the input '{tensor.name}' comes twice")
    dtype = STRING if tensor.datatype == BYTES else NUMPY_OF.get(tensor.datatype)
    if dtype is None:
        raise InvalidInput(
            reason=f"'{tensor.name}' is {tensor.datatype or 'of no type'}",
            expected=f"one of {', '.join(NUMPY_OF)}, {BYTES}",
        )
    shape = tuple(tensor.shape)
    if any(length < 0 for length in shape):
        raise InvalidInput(
            reason=f"'{tensor.name}' has the shape {list(shape)}", expected="lengths from 0 on"
        )
    return dtype, shape


def _misshapen(name: str, error: ValueError) -> InvalidInput:
    """More dimensions than there may be, or an empty tensor of an endless length."""
    return InvalidInput(reason=f"'{name}': {error}", expected="an ordinary shape")


def _refuse_parameters(owner: str, parameters: Mapping[str, Any]) -> None:
    for name in parameters:
        if name.startswith("shared_memory"):
            remedy = "Shared memory is not offered: send the tensor in the message."
        elif name in ("timeout", "priority"):
            remedy = "Set the call's deadline (client_timeout); requests have no priorities."
        else:
            remedy = "Send only what the protocol and this model know."
        raise InvalidRequest(
            reason=f"{owner} has the parameter '{name}', which is not supported", remedy=remedy
        )


def _refuse_unknown(message: Message) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise InvalidRequest(
            reason=f"{message.DESCRIPTOR.name} has the unknown field {unknown[0].field_number}"
        )
