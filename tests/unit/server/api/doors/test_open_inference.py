"""The Open Inference Protocol's infer call: every type both ways, as JSON and as bytes; clear refusals for the rest."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import BadInput, InvalidInput, InvalidRequest, NotFound
from modelry.core.frames import Stats
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import Array, decode_payload, encode_payload
from modelry.core.texts import STRING, pack_texts, type_name
from modelry.server.api.doors.datatypes import BYTES, DATATYPE_OF
from modelry.server.api.doors.door import Answer, Call, Head, Target
from modelry.server.api.doors.open_inference import OpenInferenceDoor
from modelry.server.api.doors.open_outputs import LENGTH_HEADER
from modelry.server.gateway import Reply
from tests.unit.server.api.doors.looks import manifest

DOOR = OpenInferenceDoor()
TYPES = (*sorted(DATATYPE_OF), STRING)
#: One input of each type.
EVERY = manifest(*(TensorSpec(name=f"in_{name}", dtype=name, shape=[None, 2]) for name in TYPES))
FLOATS = manifest(TensorSpec(name="x", dtype="float32", shape=[None, 2, 3]))


def datatype(array: Array) -> str:
    name = type_name(array)
    return BYTES if name == STRING else DATATYPE_OF[name]


def raw(array: Array) -> bytes:
    return pack_texts("x", array) if array.dtype.kind == "O" else array.tobytes()


def enter(
    call: Any, tail: bytes = b"", look: ModelManifest = FLOATS, length: str | None = None
) -> Call:
    """The call that a head and the bytes behind it are."""
    text = call if isinstance(call, bytes) else json.dumps(call).encode()
    headers = {LENGTH_HEADER: str(len(text))} if tail else {}
    if length is not None:
        headers = {LENGTH_HEADER: length}
    head = Head(Target("digits"), "", headers)
    return DOOR.decode(head, text + tail, lambda name, version: look)


def tensors_of(call: Call) -> dict[str, Array]:
    return decode_payload(call.payload).tensors


def send(arrays: dict[str, Array], is_binary: bool, look: ModelManifest, **more: Any) -> Call:
    """The arrays as the official client sends them."""
    inputs = []
    for name, array in arrays.items():
        one: dict[str, Any] = {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype(array),
        }
        if is_binary:
            one["parameters"] = {"binary_data_size": len(raw(array))}
        else:
            one["data"] = array.ravel().tolist()
        inputs.append(one)
    tail = b"".join(map(raw, arrays.values())) if is_binary else b""
    return enter({"inputs": inputs, **more}, tail, look)


def answered(call: Call, outputs: dict[str, Array], version: int = 3) -> tuple[Any, Answer]:
    """The answer to a call: its JSON, and all of it."""
    look = manifest(
        *(TensorSpec(name=n, dtype=type_name(a), shape=[None]) for n, a in outputs.items())
    )
    reply = Reply(memoryview(encode_payload(outputs)), Stats(), "mnist", version, look)
    answer = call.encode(reply)
    length = dict(answer.headers).get(LENGTH_HEADER)
    return json.loads(answer.body[: int(length)] if length else answer.body), answer


def same(got: Array, wanted: Array) -> bool:
    return (
        type_name(got) == type_name(wanted)
        and got.shape == wanted.shape
        and (
            got.tolist() == wanted.tolist() if wanted.dtype.kind == "O" else raw(got) == raw(wanted)
        )
    )


def elements(name: str) -> st.SearchStrategy[Any]:
    if name == STRING:
        return st.text(max_size=6)
    dtype = np.dtype(name)
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=dtype.itemsize * 8, allow_nan=False)
    bounds = np.iinfo(dtype)
    return st.integers(int(bounds.min), int(bounds.max))


def rows_of(name: str) -> st.SearchStrategy[Array]:
    dtype = object if name == STRING else name
    row = st.lists(elements(name), min_size=2, max_size=2)
    return st.lists(row, min_size=1, max_size=3).map(lambda rows: np.array(rows, dtype))


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_every_type_arrives_as_it_was_sent(name: str, data: st.DataObject) -> None:
    look = manifest(TensorSpec(name="x", dtype=name, shape=[None, 2]))
    array = data.draw(rows_of(name))
    for is_binary in (True, False):
        if name == "float16" and not is_binary:
            continue
        call = send({"x": array}, is_binary, look)
        assert call.rows == len(array)
        assert same(tensors_of(call)["x"], array)


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_every_type_is_answered_as_it_was_given(name: str, data: st.DataObject) -> None:
    array = data.draw(rows_of(name))
    look = msgspec.structs.replace(
        FLOATS, outputs=[TensorSpec(name="y", dtype=name, shape=[None, 2])]
    )
    x = np.zeros((1, 2, 3), np.float32)
    for is_binary in (True, False):
        if name == "float16" and not is_binary:
            continue
        call = send({"x": x}, True, look, parameters={"binary_data_output": is_binary})
        told, answer = answered(call, {"y": array})
        (output,) = told["outputs"]
        assert (output["datatype"], output["shape"]) == (datatype(array), list(array.shape))
        if is_binary:
            size = output["parameters"]["binary_data_size"]
            assert answer.body[-size:] == raw(array) if size else True
            assert answer.content_type == "application/octet-stream"
        else:
            dtype = object if name == STRING else name
            assert same(np.array(output["data"], dtype).reshape(array.shape), array)
            assert answer.content_type == "application/json"


def test_binary_and_json_tensors_share_a_request() -> None:
    arrays = {f"in_{name}": np.array([["a", "b"]], object) for name in (STRING,)}
    arrays |= {f"in_{name}": np.ones((1, 2), name) for name in DATATYPE_OF}
    inputs, tail = [], b""
    for number, (name, array) in enumerate(arrays.items()):
        one: dict[str, Any] = {"name": name, "shape": [1, 2], "datatype": datatype(array)}
        if number % 2 or array.dtype == np.float16:
            one["parameters"] = {"binary_data_size": len(raw(array))}
            tail += raw(array)
        else:
            one["data"] = array.tolist()
        inputs.append(one)
    got = tensors_of(enter({"inputs": inputs}, tail, EVERY))
    assert all(same(got[name], array) for name, array in arrays.items())


def test_the_same_head_with_other_bytes_means_the_same() -> None:
    for seed in range(3):
        x = np.random.default_rng(seed).random((2, 2, 3)).astype(np.float32)
        call = send({"x": x}, True, FLOATS)
        assert call.rows == 2
        assert same(tensors_of(call)["x"], x)


def test_a_remembered_head_is_read_anew_for_another_model() -> None:
    x = np.zeros((1, 2, 3), np.float32)
    send({"x": x}, True, FLOATS)
    with pytest.raises(InvalidInput, match="float32"):
        send({"x": x}, True, manifest(TensorSpec(name="x", dtype="float64", shape=[None, 2, 3])))


def test_a_remembered_head_does_not_vouch_for_other_bytes() -> None:
    look = manifest(TensorSpec(name="x", dtype="bool", shape=[None, 2]))
    send({"x": np.array([[True, False]])}, True, look)
    one = {"name": "x", "shape": [1, 2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}
    with pytest.raises(InvalidInput, match="BOOL"):
        enter({"inputs": [one]}, b"\x01\x02", look)
    with pytest.raises(InvalidRequest, match="cut off"):
        enter({"inputs": [one]}, b"\x01", look)
    with pytest.raises(InvalidRequest, match="follow"):
        enter({"inputs": [one]}, b"\x01\x00\x00", look)


@pytest.mark.parametrize("body", [np.arange(6, dtype=np.float32), np.arange(18, dtype=np.float32)])
def test_a_body_without_a_head_is_the_only_input(body: Array) -> None:
    call = enter(body.tobytes(), length="0")
    assert call.rows == body.size // 6
    assert tensors_of(call)["x"].ravel().tolist() == body.tolist()
    told, _ = answered(call, {"probabilities": np.zeros((call.rows, 3), np.float32)})
    assert told["outputs"][0]["parameters"] == {"binary_data_size": 12 * call.rows}


def test_a_body_without_a_head_is_one_text() -> None:
    look = manifest(TensorSpec(name="x", dtype=STRING, shape=[None]))
    call = enter("grüße".encode(), look=look, length="0")
    assert tensors_of(call)["x"].tolist() == ["grüße"]


def test_the_id_comes_back() -> None:
    x = np.zeros((1, 2, 3), np.float32)
    output = {"probabilities": np.zeros((1, 3), np.float32)}
    for is_binary in (True, False):
        call = send({"x": x}, is_binary, FLOATS, id="七", parameters={"binary_data_output": True})
        assert answered(call, output)[0]["id"] == "七"
        assert "id" not in answered(send({"x": x}, is_binary, FLOATS), output)[0]


def test_an_answer_names_who_gave_it() -> None:
    call = send({"x": np.zeros((1, 2, 3), np.float32)}, True, FLOATS)
    told, _ = answered(call, {"probabilities": np.zeros((1, 3), np.float32)}, version=12)
    assert (told["model_name"], told["model_version"]) == ("digits", "12")


def test_outputs_may_be_chosen_each_in_its_own_form() -> None:
    specs = [TensorSpec(name=name, dtype="float32", shape=[None]) for name in "abc"]
    look = msgspec.structs.replace(FLOATS, outputs=specs)
    outputs = [
        {"name": "c", "parameters": {"binary_data": True}},
        {"name": "a"},
    ]
    call = send({"x": np.zeros((1, 2, 3), np.float32)}, True, look, outputs=outputs)
    arrays = {name: np.array([float(ord(name))], np.float32) for name in "abc"}
    told, answer = answered(call, arrays)
    assert [one["name"] for one in told["outputs"]] == ["c", "a"]
    assert told["outputs"][1]["data"] == [97.0]
    assert answer.body.endswith(arrays["c"].tobytes())


def test_the_best_classes_are_told_as_texts() -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2, "binary_data": False}}]
    call = send({"x": np.zeros((2, 2, 3), np.float32)}, True, FLOATS, outputs=outputs)
    scores = np.array([[0.5, 0.25, 0.75], [1, 2, 0]], np.float32)
    look = msgspec.structs.replace(manifest(), labels=["zero", "one"])
    reply = Reply(memoryview(encode_payload({"probabilities": scores})), Stats(), "m", 1, look)
    (output,) = json.loads(call.encode(reply).body)["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == [
        *("0.750000:2", "0.500000:0:zero"),
        *("2.000000:1:one", "1.000000:0:zero"),
    ]


def test_bare_words_for_numbers_that_are_not_finite_pass_both_ways() -> None:
    text = (
        b'{"inputs":[{"name":"x","shape":[1,2,3],"datatype":"FP32",'
        b'"data":[NaN,Infinity,-Infinity,0,1,2]}]}'
    )
    call = enter(text)
    got = tensors_of(call)["x"].ravel().tolist()
    assert math.isnan(got[0])
    assert got[1:] == [math.inf, -math.inf, 0, 1, 2]
    assert b"[NaN,Infinity,0.0]" in answered_body(call, [math.nan, math.inf, 0.0])


def answered_body(call: Call, values: list[float]) -> bytes:
    return answered(call, {"probabilities": np.array([values], np.float32)})[1].body


X = {"name": "x", "shape": [1, 2, 3], "datatype": "FP32", "data": [0, 1, 2, 3, 4, 5]}
SIZED = {**X, "parameters": {"binary_data_size": 24}}
UNREAD = {name: value for name, value in SIZED.items() if name != "data"}


@pytest.mark.parametrize(
    ("call", "tail", "word"),
    [
        (b"", b"", "not JSON"),
        (b"[" * 100_000, b"", ""),
        (b"\xff", b"", "not JSON"),
        ([1], b"", ""),
        ({}, b"", "inputs"),
        ({"inputs": []}, b"", "inputs"),
        ({"inputs": [X], "more": 1}, b"", "'more'"),
        ({"inputs": [X, X]}, b"", "twice"),
        ({"inputs": [{**X, "name": "z"}]}, b"", "'z'"),
        ({"inputs": [{**X, "more": 1}]}, b"", "'more'"),
        ({"inputs": [{**X, "shape": [-1, 2, 3]}]}, b"", ">= 0"),
        ({"inputs": [{**X, "shape": [1, 6]}]}, b"", "shape"),
        ({"inputs": [{**X, "shape": [2, 2, 3]}]}, b"", "shape"),
        ({"inputs": [{**X, "data": [[0, 1, 2, 3, 4, 5]]}]}, b"", "[1, 6]"),
        ({"inputs": [{**X, "data": ["a"] * 6}]}, b"", "no number"),
        ({"inputs": [{**X, "data": [[[0], [1, 2]]]}]}, b"", "ragged"),
        ({"inputs": [{**X, "datatype": "FP64"}]}, b"", "float64"),
        ({"inputs": [{**X, "datatype": "FP16"}]}, b"", "FP16"),
        ({"inputs": [{**X, "datatype": "BF16"}]}, b"", "BF16"),
        ({"inputs": [{**X, "datatype": "BYTES"}]}, b"", "no text"),
        ({"inputs": [{**X, "datatype": "FP32 "}]}, b"", "FP32 "),
        ({"inputs": [SIZED]}, bytes(24), "either"),
        ({"inputs": [{**X, "data": None, "shape": []}]}, b"", ""),
        ({"inputs": [UNREAD]}, bytes(20), "cut off"),
        ({"inputs": [UNREAD]}, bytes(28), "follow"),
        ({"inputs": [{**UNREAD, "shape": [1, 3, 3]}]}, bytes(24), "24 bytes"),
        ({"inputs": [X], "parameters": {"sequence_id": 1}}, b"", "'sequence_id'"),
        ({"inputs": [X], "parameters": {"priority": 1}}, b"", "'priority'"),
        ({"inputs": [X], "outputs": [{"name": "y"}]}, b"", "'y'"),
        ({"inputs": [X], "outputs": [{"name": "probabilities"}] * 2}, b"", "twice"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(call: Any, tail: bytes, word: str) -> None:
    with pytest.raises(BadInput) as caught:
        enter(call, tail)
    assert word in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"shared_memory_region": "r", "shared_memory_byte_size": 24}, "Shared memory"),
        ({"mine": 1}, "Send only"),
    ],
)
def test_parameters_that_are_not_known_are_refused(parameters: Any, word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        enter({"inputs": [{**X, "parameters": parameters}]})
    assert word in caught.value.remedy
    with pytest.raises(InvalidRequest, match="timeout") as caught:
        enter({"inputs": [X], "parameters": {"timeout": 5}})
    assert "x-request-timeout" in caught.value.remedy


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999", "", "9" * 40, "٣"])
def test_a_length_of_the_head_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(InvalidRequest, match="Content-Length"):
        enter({"inputs": [X]}, length=length)


@pytest.mark.parametrize("size", [0, 4, 25])
def test_a_bare_body_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput):
        enter(bytes(size), length="0")


def test_a_bare_body_is_refused_where_there_are_several_inputs() -> None:
    with pytest.raises(InvalidInput, match="one input"):
        enter(bytes(8), look=EVERY, length="0")


def test_an_output_that_json_does_not_carry_is_refused_before_it_is_made() -> None:
    half = [TensorSpec(name="y", dtype="float16", shape=[None])]
    look = msgspec.structs.replace(FLOATS, outputs=half)
    with pytest.raises(InvalidRequest, match="FP16"):
        enter({"inputs": [X]}, look=look)


def test_an_answer_without_the_wanted_output_says_so() -> None:
    call = send({"x": np.zeros((1, 2, 3), np.float32)}, True, FLOATS)
    with pytest.raises(InvalidInput, match="'probabilities'"):
        answered(call, {"other": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/models/digits/infer", Target("digits")),
        ("/v2/models/team/数字/infer", Target("team/数字")),
        ("/v2/models/digits/versions/3/infer", Target("digits", 3)),
        ("/v2/models/team/digits/versions/production/infer", Target("team/digits", "production")),
        ("/v2/models/digits", None),
        ("/v2/models//infer", None),
        ("/v2/models/a/b/c/infer", None),
        ("/v2/models/a/versions/1/2/infer", None),
        ("/v2/models/a/versions//infer", None),
    ],
)
def test_a_path_names_a_deployment_and_perhaps_a_version(path: str, target: Target | None) -> None:
    assert DOOR.match(path) == target


def test_errors_have_the_protocols_one_shape() -> None:
    refusal = DOOR.encode_error(NotFound(noun="deployment", name="x"))
    assert list(json.loads(refusal.body)) == ["error"]
    assert "'x' does not exist" in json.loads(refusal.body)["error"]
    assert dict(refusal.headers)["x-modelry-error"] == "not_found"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "in_bool", "in_string", ""]) | VALUES,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | VALUES,
        "datatype": st.sampled_from(["FP32", "BOOL", "BYTES", "INT8"]) | VALUES,
        "data": VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": VALUES}) | VALUES,
    },
)
CALLS = st.fixed_dictionaries(
    {"inputs": st.lists(FIELDS, max_size=2) | VALUES},
    optional={"outputs": VALUES, "id": VALUES, "parameters": VALUES},
)


@given(st.sampled_from([FLOATS, EVERY]), CALLS | VALUES, st.binary(max_size=20), st.booleans())
def test_any_call_is_read_or_refused(
    look: ModelManifest, call: Any, tail: bytes, is_sized: bool
) -> None:
    text = json.dumps(call).encode()
    try:
        enter(text, tail, look, str(len(text)) if is_sized else None)
    except BadInput:
        return


@given(st.binary(max_size=80), st.none() | st.integers(0, 90).map(str))
def test_any_bytes_are_read_or_refused(body: bytes, length: str | None) -> None:
    for look in (FLOATS, EVERY, manifest(TensorSpec(name="x", dtype=STRING, shape=[None]))):
        try:
            enter(body, look=look, length=length)
        except BadInput:
            continue


def test_half_a_character_in_json_breaks_nothing() -> None:
    text = json.dumps({"inputs": [X], "id": "\ud800"}).encode()
    with pytest.raises(InvalidRequest):
        enter(text)
