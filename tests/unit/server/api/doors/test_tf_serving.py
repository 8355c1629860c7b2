"""TensorFlow Serving's predict call: rows and columns in, the same shape out, and clear refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import InvalidInput, InvalidRequest, ModelryError, NotFound
from modelry.core.frames import Stats
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import decode_payload, encode_payload
from modelry.server.api.doors.door import Call, Head, Target
from modelry.server.api.doors.numbers import read_regular
from modelry.server.api.doors.tf_serving import TfServingDoor
from modelry.server.gateway import Reply
from tests.unit.server.api.doors.looks import manifest

DOOR = TfServingDoor()
SAMPLE = [[[0.5], [1], [-2e-3]], [[0], [7], [1.25]]]


def enter(body: bytes, *inputs: TensorSpec) -> Call:
    """The call that a body is."""
    head = Head(Target("digits"), "", {})
    return DOOR.decode(head, body, lambda name, version: manifest(*inputs))


def decode(call: Any, *inputs: TensorSpec) -> dict[str, Any]:
    body = call if isinstance(call, bytes) else json.dumps(call).encode()
    return decode_payload(enter(body, *inputs).payload).tensors


def encode(payload: bytes, key: str = "instances") -> bytes:
    """The answer to a call by rows or by columns."""
    call = enter(json.dumps({key: [SAMPLE]}).encode())
    return call.encode(Reply(memoryview(payload), Stats(), "mnist", 1, manifest())).body


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/models/digits:predict", Target("digits")),
        ("/v1/models/digits/versions/3:predict", Target("digits", 3)),
        ("/v1/models/digits/labels/production:predict", Target("digits", "production")),
        ("/v1/models/team/数字:predict", Target("team/数字")),
        ("/v1/models/team/digits/versions/3:predict", Target("team/digits", 3)),
        ("/v1/models/digits", None),
        ("/v1/models/:predict", None),
        ("/v1/models//versions/3:predict", None),
        ("/v1/models/a/b/c:predict", None),
        ("/v1/models/digits:classify", None),
    ],
)
def test_a_path_names_a_deployment_and_perhaps_what_it_is_pinned_to(
    path: str, target: Target | None
) -> None:
    assert DOOR.match(path) == target


@pytest.mark.parametrize("version", ["0", "-1", "x", "1.5", ""])
def test_a_version_is_a_whole_number(version: str) -> None:
    with pytest.raises(InvalidRequest):
        DOOR.match(f"/v1/models/digits/versions/{version}:predict")


@pytest.mark.parametrize("spacing", [None, 2])
@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize("rows", [1, 3])
def test_bare_values_are_rows_of_the_one_input(key: str, rows: int, spacing: int | None) -> None:
    body = json.dumps({key: [SAMPLE] * rows}, indent=spacing).encode()
    call = enter(body)
    tensor = decode_payload(call.payload).tensors["x"]
    assert call.rows == rows
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor, np.array([SAMPLE] * rows, np.float32))


def test_rows_may_name_their_inputs() -> None:
    two = (
        TensorSpec(name="a", dtype="float32", shape=[None]),
        TensorSpec(name="b", dtype="int64", shape=[None, 2]),
    )
    rows = decode({"instances": [{"a": 1, "b": [1, 2]}, {"a": 0.5, "b": [3, 4]}]}, *two)
    columns = decode({"inputs": {"a": [1, 0.5], "b": [[1, 2], [3, 4]]}}, *two)
    for tensors in (rows, columns):
        assert tensors["a"].tolist() == [1.0, 0.5]
        assert tensors["b"].tolist() == [[1, 2], [3, 4]]
        assert tensors["b"].dtype == np.int64
    assert np.array_equal(
        decode({"inputs": {"x": [SAMPLE]}})["x"], decode({"inputs": [SAMPLE]})["x"]
    )


def test_the_default_signature_may_be_named() -> None:
    assert decode({"signature_name": "serving_default", "instances": [SAMPLE]})["x"].shape[0] == 1


def test_bare_words_for_numbers_that_are_not_finite_pass_both_ways() -> None:
    text = json.dumps({"instances": [[[[math.nan], [math.inf], [-math.inf]], SAMPLE[1]]]})
    got = decode(text.encode())["x"].ravel()
    assert math.isnan(got[0])
    assert got[1:3].tolist() == [math.inf, -math.inf]
    output = encode_payload({"p": np.array([[math.nan, math.inf, -math.inf]], np.float32)})
    assert encode(output) == b'{"predictions":[[NaN,Infinity,-Infinity]]}'


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (b"", InvalidRequest, "not JSON"),
        (b'{"instances": [[1, 2}', InvalidRequest, "not JSON"),
        (b"\xff\xfe", InvalidRequest, "not JSON"),
        (b"[" * 100_000, InvalidRequest, ""),
        ([1, 2], InvalidRequest, "object"),
        ({}, InvalidRequest, "either"),
        ({"instances": [SAMPLE], "inputs": [SAMPLE]}, InvalidRequest, "either"),
        ({"instances": [SAMPLE], "context": 1}, InvalidRequest, "'context'"),
        ({"instances": [SAMPLE], "signature_name": "other"}, InvalidRequest, "serving_default"),
        ({"instances": []}, InvalidInput, "at least one"),
        ({"instances": 5}, InvalidInput, "at least one"),
        ({"inputs": []}, InvalidInput, "(N, 2, 3, 1)"),
        ({"instances": SAMPLE}, InvalidInput, "(N, 2, 3, 1)"),
        ({"instances": [[[[1], [2]], [[3], [4]]]]}, InvalidInput, "(N, 2, 3, 1)"),
        ({"instances": [[[[1], [2], [3]], [[4], [5]]]]}, InvalidInput, "ragged"),
        ({"instances": [[[["1"], [2], [3]], SAMPLE[1]]]}, InvalidInput, "no number"),
        ({"instances": [[[[None], [2], [3]], SAMPLE[1]]]}, InvalidInput, "no number"),
        ({"instances": [[[[True], [False], [True]]] * 2]}, InvalidInput, "bool"),
        ({"instances": [{"b64": "AAAA"}]}, InvalidInput, "/predict/"),
        ({"instances": [{"y": 1}]}, InvalidInput, "'y'"),
        ({"instances": [{"x": SAMPLE}, SAMPLE]}, InvalidInput, "same inputs"),
        ({"inputs": {"x": [SAMPLE], "y": 1}}, InvalidInput, "'y'"),
    ],
)
def test_what_is_wrong_is_said(call: Any, error: type[ModelryError], word: str) -> None:
    with pytest.raises(error) as caught:
        decode(call)
    assert word in str(caught.value)


def test_numbers_must_fit_the_type() -> None:
    byte = TensorSpec(name="x", dtype="uint8", shape=[None])
    assert decode({"instances": [0, 255]}, byte)["x"].tolist() == [0, 255]
    for wrong in ([256], [-1], [1.5], [10**30]):
        with pytest.raises(InvalidInput):
            decode({"instances": wrong}, byte)


numbers = st.floats(-1e6, 1e6, width=32) | st.integers(-(2**62), 2**62)


@given(
    st.lists(
        st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_the_quick_way_reads_what_the_general_way_reads(rows: list[Any]) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[None, 2, 3])
    quick = read_regular(json.dumps(rows).encode(), spec, is_batch=True)
    assert quick is not None
    assert np.array_equal(quick, np.array(rows, np.float64).astype(np.float32))


@given(
    st.recursive(
        numbers | st.none() | st.text(max_size=2), lambda inner: st.lists(inner, max_size=4)
    )
)
def test_the_quick_way_takes_nothing_irregular(value: Any) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[None, 2])
    quick = read_regular(json.dumps(value).encode(), spec, is_batch=True)
    if quick is not None:
        assert np.asarray(value).shape == quick.shape


def test_empty_lists_do_not_pass_for_single_numbers() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[None, 1])
    assert read_regular(b"[[],[1]]", spec, is_batch=True) is None
    assert read_regular(b"[[3],[1]]", spec, is_batch=True) is not None


def test_one_output_is_bare_and_several_have_names() -> None:
    one = encode_payload({"p": np.array([[0.5, 0.25]], np.float32)})
    two = encode_payload({"p": np.array([1, 2], np.int64), "q": np.array([[3], [4]], np.int64)})
    assert encode(one) == b'{"predictions":[[0.5,0.25]]}'
    assert encode(one, "inputs") == b'{"outputs":[[0.5,0.25]]}'
    assert json.loads(encode(two)) == {"predictions": [{"p": 1, "q": [3]}, {"p": 2, "q": [4]}]}
    assert json.loads(encode(two, "inputs")) == {"outputs": {"p": [1, 2], "q": [[3], [4]]}}


def test_an_error_is_one_text() -> None:
    refusal = DOOR.encode_error(NotFound(noun="deployment", name="数字"))
    assert "'数字' does not exist" in json.loads(refusal.body)["error"]
    assert refusal.headers == (("x-modelry-error", "not_found"),)


def test_texts_are_refused_before_each_gets_the_room_of_the_longest() -> None:
    # As numpy's texts these would fill 40 GB.
    rows = ["x" * 1_000_000, *"abcdefghij" * 1000]
    with pytest.raises(InvalidInput, match="no number"):
        enter(json.dumps({"instances": rows}).encode())


TEXTS = TensorSpec(name="x", dtype="string", shape=[None])


@pytest.mark.parametrize(
    "call",
    [
        {"instances": ["a", "字"]},
        {"instances": [{"b64": "YQ=="}, {"b64": "5a2X"}]},
        {"instances": [{"x": "a"}, {"x": {"b64": "5a2X"}}]},
        {"inputs": ["a", {"b64": "5a2X"}]},
        {"inputs": {"x": ["a", "字"]}},
    ],
)
def test_texts_come_as_they_are_or_in_base64(call: Any) -> None:
    assert decode(call, TEXTS)["x"].tolist() == ["a", "字"]


@pytest.mark.parametrize(
    "call",
    [
        {"instances": [{"b64": "no base64!"}]},
        {"instances": [{"b64": "/w=="}]},
        {"instances": [{"b64": 3}]},
        {"instances": ["a", 3]},
        {"instances": [["a"], ["b", "c"]]},
        {"inputs": ["a", {"b64": "YQ==", "more": 1}]},
    ],
)
def test_what_is_no_text_is_refused(call: Any) -> None:
    with pytest.raises(InvalidInput):
        decode(call, TEXTS)


def test_texts_of_outputs_called_bytes_are_answered_in_base64() -> None:
    names = np.array(["a", "字"], object)
    assert json.loads(encode(encode_payload({"names": names}))) == {"predictions": ["a", "字"]}
    packed = [{"b64": "YQ=="}, {"b64": "5a2X"}]
    assert json.loads(encode(encode_payload({"name_bytes": names}))) == {"predictions": packed}
