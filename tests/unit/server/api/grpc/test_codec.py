"""ModelInfer's messages: every data type both ways, raw and typed, and a clear refusal for all else."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import BadInput, InvalidInput, InvalidRequest, NotFound
from modelry.core.frames import Stats
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import Array, decode_payload, encode_payload
from modelry.server.api.doors.datatypes import DATATYPE_OF, NUMPY_OF
from modelry.server.api.doors.door import Call
from modelry.server.api.grpc import codec
from modelry.server.api.grpc.wire.open_inference_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
)
from modelry.server.gateway import Reply
from tests.unit.server.api.doors.looks import manifest

X = TensorSpec(name="x", dtype="float32", shape=[None, 2])
ROW = np.array([[1.5, -2.0]], np.float32)


def request(*tensors: Array, raw: bool = True, **fields: Any) -> ModelInferRequest:
    """A request with inputs `x`, `x1`, …"""
    message = ModelInferRequest(**{"model_name": "digits", **fields})
    for number, tensor in enumerate(tensors):
        datatype = DATATYPE_OF[tensor.dtype.name]
        name = f"x{number or ''}"
        added = message.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
        if raw:
            message.raw_input_contents.append(tensor.tobytes())
        else:
            getattr(added.contents, codec.FIELD_OF[datatype]).extend(tensor.ravel().tolist())
    return message


def decode(message: ModelInferRequest, *inputs: TensorSpec) -> Call:
    return codec.decode(codec.read(message.SerializeToString()), finder(*inputs))


def finder(*inputs: TensorSpec) -> Any:
    def find(name: str, version: int | str | None) -> ModelManifest:
        if name != "digits":
            raise NotFound(noun="deployment", name=name)
        return manifest(*(inputs or (X,)))

    return find


def answer(call: Call, **outputs: Array) -> ModelInferResponse:
    """What a client gets when the model gives these."""
    payload = memoryview(encode_payload(outputs))
    reply = Reply(payload, Stats(), "mnist", 3, manifest())
    return ModelInferResponse.FromString(call.encode(reply).body)


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    """Any numbers of any type."""
    dtype = np.dtype(draw(st.sampled_from(sorted(DATATYPE_OF))))
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    data = draw(st.binary(min_size=1, max_size=64))
    count = int(np.prod(shape))
    raw = (data * (count * dtype.itemsize // len(data) + 1))[: count * dtype.itemsize]
    array = np.frombuffer(raw, np.uint8) & 1 if dtype.kind == "b" else np.frombuffer(raw, dtype)
    return array.view(dtype).reshape(shape)


@given(tensors(), st.booleans())
def test_what_goes_in_reaches_the_model_to_the_bit(tensor: Array, raw: bool) -> None:
    raw = raw or tensor.dtype.name == "float16"
    spec = TensorSpec(name="x", dtype=tensor.dtype.name, shape=[None] * tensor.ndim)
    call = decode(request(tensor, raw=raw), spec)
    (arrived,) = decode_payload(call.payload).tensors.values()
    assert arrived.dtype == tensor.dtype
    assert call.rows == len(tensor)
    if raw or tensor.dtype.kind != "f":
        assert arrived.tobytes() == tensor.tobytes()
    else:
        np.testing.assert_array_equal(arrived, tensor)


@given(tensors(), st.booleans())
def test_what_the_model_gives_reaches_the_client_as_it_asked(tensor: Array, raw: bool) -> None:
    response = answer(decode(request(ROW, raw=raw)), probabilities=tensor)
    (output,) = response.outputs
    assert (output.name, output.datatype) == ("probabilities", DATATYPE_OF[tensor.dtype.name])
    assert list(output.shape) == list(tensor.shape)
    if raw or tensor.dtype.name == "float16":
        assert list(response.raw_output_contents) == [tensor.tobytes()]
        assert not output.HasField("contents")
    else:
        assert not response.raw_output_contents
        values = getattr(output.contents, codec.FIELD_OF[output.datatype])
        np.testing.assert_array_equal(np.array(values[:], tensor.dtype), tensor.ravel())


def test_the_answer_names_what_answered_and_echoes_the_id() -> None:
    call = decode(request(ROW, id="a-1", model_version="production"))
    assert (call.name, call.version, call.rows) == ("digits", "production", 1)
    response = answer(call, probabilities=ROW)
    assert (response.model_name, response.model_version, response.id) == ("digits", "3", "a-1")


@pytest.mark.parametrize(("sent", "pinned"), [("", None), ("7", 7), ("production", "production")])
def test_a_version_is_pinned_by_number_or_alias(sent: str, pinned: int | str | None) -> None:
    assert decode(request(ROW, model_version=sent)).version == pinned


def test_raw_contents_hold_every_input_in_their_order() -> None:
    specs = (X, TensorSpec(name="x1", dtype="int64", shape=[None]))
    both = request(ROW, np.array([7]))
    arrived = decode_payload(decode(both, *specs).payload).tensors
    assert arrived["x1"].tolist() == [7]
    del both.raw_input_contents[1]
    with pytest.raises(InvalidRequest, match="2 inputs and 1 raw"):
        decode(both, *specs)


def test_only_the_outputs_that_were_asked_for_come_back_in_that_order() -> None:
    message = request(ROW)
    message.outputs.add(name="probabilities")
    response = answer(decode(message), other=ROW, probabilities=ROW)
    assert [output.name for output in response.outputs] == ["probabilities"]


def test_a_version_without_the_output_says_so() -> None:
    message = request(ROW)
    message.outputs.add(name="probabilities")
    with pytest.raises(InvalidInput, match="'probabilities'"):
        answer(decode(message), other=ROW)


def _doubled(message: ModelInferRequest) -> None:
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def _both_ways(message: ModelInferRequest) -> None:
    message.inputs[0].contents.fp32_contents.append(1.0)


def _elsewhere(message: ModelInferRequest) -> None:
    message.inputs[0].parameters["shared_memory_region"].string_param = "mine"


def _outputs(*names: str) -> Any:
    return lambda message: message.outputs.extend(
        ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names
    )


def _set(**fields: Any) -> Any:
    def change(message: ModelInferRequest) -> None:
        for name, value in fields.items():
            setattr(message.inputs[0], name, value)

    return change


def _shape(*lengths: int) -> Any:
    def change(message: ModelInferRequest) -> None:
        message.inputs[0].shape[:] = lengths

    return change


def _parameter(name: str) -> Any:
    def change(message: ModelInferRequest) -> None:
        message.parameters[name].CopyFrom(InferParameter(int64_param=1))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda message: message.ClearField("model_name"), "names no model"),
        (lambda message: message.ClearField("inputs"), "0 inputs and 1 raw"),
        (_doubled, "comes twice"),
        (_both_ways, "contents of both kinds"),
        (_elsewhere, "Shared memory is not offered"),
        (_outputs("nothing"), "'nothing' is not known"),
        (_outputs("probabilities", "probabilities"), "asked for twice"),
        (_set(name="y"), "no input 'y'"),
        (_set(datatype="FP64"), "has 8 bytes"),
        (_set(datatype="INT32"), "is int32"),
        (_set(datatype="BF16"), "'x' is BF16"),
        (_set(datatype=""), "of no type"),
        (_shape(2, 1), "has the shape"),
        (_shape(1, -2), "[1, -2]"),
        (_shape(1, 3), "has 8 bytes"),
        (_shape(0, 2**62, 2**62), "has 8 bytes"),
        (_shape(), "has 8 bytes"),
        (_parameter("sequence_id"), "'sequence_id', which is not supported"),
        (_parameter("timeout"), "client_timeout"),
    ],
)
def test_what_is_not_supported_is_refused_with_a_sentence(change: Any, said: str) -> None:
    message = request(ROW)
    change(message)
    with pytest.raises((InvalidRequest, InvalidInput)) as refused:
        decode(message)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("datatype", "values", "said"),
    [
        ("INT8", {"int_contents": [1, 128]}, "too large or too small"),
        ("UINT8", {"uint_contents": [1, 256]}, "too large or too small"),
        ("FP32", {"fp64_contents": [1.0, 2.0]}, "Put its elements into fp32_contents"),
        ("FP32", {"fp32_contents": [1.0]}, "has 1 elements"),
        ("FP16", {"fp32_contents": [1.0, 2.0]}, "Send raw_input_contents"),
        ("FP32", {}, "has 0 elements"),
    ],
)
def test_typed_contents_lie_in_the_field_of_their_type(
    datatype: str, values: dict[str, Any], said: str
) -> None:
    message = ModelInferRequest(model_name="digits")
    added = message.inputs.add(name="x", datatype=datatype, shape=[1, 2])
    for field, elements in values.items():
        getattr(added.contents, field).extend(elements)
    with pytest.raises(BadInput) as refused:
        decode(message, TensorSpec(name="x", dtype=NUMPY_OF[datatype], shape=[None, 2]))
    assert said in str(refused.value)


@pytest.mark.parametrize("raw", [True, False])
def test_texts_go_both_ways(raw: bool) -> None:
    message = ModelInferRequest(model_name="digits")
    added = message.inputs.add(name="x", datatype="BYTES", shape=[2])
    texts = ["", "数字"]
    packed = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
    if raw:
        message.raw_input_contents.append(packed)
    else:
        added.contents.bytes_contents.extend(text.encode() for text in texts)
    call = decode(message, TensorSpec(name="x", dtype="string", shape=[None]))
    arrived = decode_payload(call.payload).tensors["x"]
    assert arrived.tolist() == texts
    response = answer(call, probabilities=arrived)
    assert response.outputs[0].datatype == "BYTES"
    if raw:
        assert list(response.raw_output_contents) == [packed]
    else:
        assert list(response.outputs[0].contents.bytes_contents) == [t.encode() for t in texts]


@pytest.mark.parametrize("raw", [True, False])
def test_bytes_that_are_no_texts_are_refused(raw: bool) -> None:
    message = ModelInferRequest(model_name="digits")
    added = message.inputs.add(name="x", datatype="BYTES", shape=[1])
    if raw:
        message.raw_input_contents.append(b"\x01\0\0\0\xff")
    else:
        added.contents.bytes_contents.append(b"\xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        decode(message, TensorSpec(name="x", dtype="string", shape=[None]))


def test_the_best_classes_come_as_texts_where_they_are_asked_for() -> None:
    message = request(ROW)
    wanted = message.outputs.add(name="probabilities")
    wanted.parameters["classification"].int64_param = 2
    response = answer(decode(message), probabilities=np.array([[0.25, 0.5, 0.125]], np.float32))
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [1, 2])
    assert b"0.500000:1:one" in response.raw_output_contents[0]
    wanted.parameters["classification"].int64_param = 0
    with pytest.raises(InvalidRequest, match="classification"):
        decode(message)


def test_an_endless_empty_tensor_is_refused() -> None:
    message = ModelInferRequest(model_name="digits", raw_input_contents=[b""])
    message.inputs.add(name="x", datatype="FP32", shape=[0, 2**62, 2**62])
    with pytest.raises(InvalidInput):
        decode(message)


def test_a_truth_is_0_or_1() -> None:
    spec = TensorSpec(name="x", dtype="bool", shape=[None])
    message = request(np.array([True, False]))
    message.raw_input_contents[0] = b"\x01\x02"
    with pytest.raises(InvalidInput, match="no BOOL"):
        decode(message, spec)


def test_a_field_of_a_later_protocol_is_refused() -> None:
    data = request(ROW).SerializeToString() + b"\xa0\x06\x01"
    with pytest.raises(InvalidRequest, match="unknown field 100"):
        codec.decode(codec.read(data), finder())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadInput, NotFound):
        codec.decode(codec.read(data), finder())


@st.composite
def messages(draw: st.DrawFn) -> ModelInferRequest:
    """Messages that are nearly right, and some that are."""
    message = ModelInferRequest(
        model_name=draw(st.sampled_from(["digits", "", "other"])),
        model_version=draw(st.sampled_from(["", "1", "latest", "-1"])),
        raw_input_contents=draw(st.lists(st.binary(max_size=16), max_size=2)),
    )
    words = st.sampled_from([*NUMPY_OF, "BYTES", "BF16", ""])
    lengths = st.lists(st.integers(-2, 4) | st.integers(-(2**63), 2**63 - 1), max_size=4)
    for name in draw(st.lists(st.sampled_from(["x", "y", ""]), max_size=2)):
        added = message.inputs.add(name=name, datatype=draw(words), shape=draw(lengths))
        added.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=3)))
        added.contents.int_contents.extend(draw(st.lists(st.integers(-9, 9), max_size=3)))
        if draw(st.booleans()):
            added.ClearField("contents")
    return message


@given(messages(), st.sampled_from(sorted(DATATYPE_OF)))
def test_any_message_is_a_call_or_refused(message: ModelInferRequest, dtype: str) -> None:
    with contextlib.suppress(BadInput, NotFound):
        call = decode(message, TensorSpec(name="x", dtype=dtype, shape=[None]))
        assert decode_payload(call.payload).tensors["x"].shape == (call.rows,)
