"""Hugging Face's call: the task decides; bytes, JSON and base64 become one call, answers pass as the task made them."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.calls import TaskAnswer, TaskCall, pack, unpack
from modelry.core.errors import BadInput, InvalidRequest, NotFound, UnsupportedTask
from modelry.core.frames import Op, Stats
from modelry.core.manifests import Column, ModelManifest, TableInput, TensorSpec, TextInput
from modelry.core.tensors import decode_payload, encode_payload
from modelry.server.api.doors.door import Call, Head, Target
from modelry.server.api.doors.hugging_face import HuggingFaceDoor
from modelry.server.gateway import Reply
from tests.unit.server.api.doors.looks import manifest

DOOR = HuggingFaceDoor()
TEXT = TextInput(tokenizer="tokenizer.json", max_length=16, inputs={"ids": "ids"})
IMAGES = manifest()


def texts(task: str) -> ModelManifest:
    return msgspec.structs.replace(manifest(), task=task, media=TEXT)


def enter(body: Any, look: ModelManifest, task: str = "", content_type: str = "") -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = Head(Target("m", None, task), "", {"content-type": content_type} if content_type else {})
    return DOOR.decode(head, data, lambda name, version: look)


def call_of(call: Call) -> TaskCall:
    assert call.op is Op.TASK
    return unpack(call.payload, TaskCall)


def answered(call: Call, answer: TaskAnswer) -> Any:
    return json.loads(call.encode(Reply(memoryview(pack(answer)), Stats(), "m", 1, IMAGES)).body)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/hf/models/m", Target("m")),
        ("/hf/models/m/", Target("m")),
        ("/hf/models/team/m@production", Target("team/m", "production")),
        ("/hf/models/m:3", Target("m", 3)),
        ("/hf/models/m/pipeline/fill-mask", Target("m", None, "fill-mask")),
        ("/hf/models/team/m/pipeline/fill-mask", Target("team/m", None, "fill-mask")),
        ("/hf/models/a/b/c", None),
        ("/hf/models/", None),
        ("/hf/models/m/pipeline/", Target("m/pipeline")),
        ("/hf/m", None),
    ],
)
def test_a_path_names_a_model_and_perhaps_its_task(path: str, target: Target | None) -> None:
    assert DOOR.match(path) == target


def test_a_picture_comes_as_bytes_or_in_base64() -> None:
    picture = b"\x89PNG\r\n\x1a\n..."
    plain = call_of(enter(picture, IMAGES, content_type="image/png; q=1"))
    assert (plain.media, plain.media_type, plain.parameters) == (picture, "image/png", {})
    assert call_of(enter(picture, IMAGES)).media_type == ""
    sent = {"inputs": base64.b64encode(picture).decode(), "parameters": {"top_k": 3}}
    packed = call_of(enter(sent, IMAGES, content_type="application/json"))
    assert (packed.media, packed.parameters) == (picture, {"top_k": 3})


def test_text_comes_with_its_parameters() -> None:
    call = enter({"inputs": "a", "parameters": {"top_k": 2}}, texts("fill-mask"))
    assert call_of(call) == TaskCall(inputs="a", parameters={"top_k": 2})
    assert call.rows == 1


def test_embeddings_have_their_parameters_beside_the_inputs() -> None:
    sent = {"inputs": ["a", "b"], "normalize": True, "truncate": False}
    call = enter(sent, texts("feature-extraction"))
    assert call_of(call).parameters == {"normalize": True, "truncate": False}
    assert call.rows == 2


@pytest.mark.parametrize(
    ("call", "rows"),
    [
        ({"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}, 3),
        ({"inputs": {"question": "a", "context": "b"}}, 1),
        ({"inputs": "a", "parameters": {"candidate_labels": ["b", "c"]}}, 2),
        ({"inputs": ["a", "b", "c"]}, 3),
    ],
)
def test_a_call_counts_as_many_rows_as_the_model_reads(call: Any, rows: int) -> None:
    assert enter(call, texts("sentence-similarity")).rows == rows


def test_an_answer_passes_as_the_task_made_it() -> None:
    value = [[{"label": "好", "score": 0.75}]]
    call = enter({"inputs": "a"}, texts("text-classification"))
    assert answered(call, TaskAnswer(value=value)) == value


def test_vectors_of_one_text_are_not_in_a_list() -> None:
    vectors = np.array([[0.5, 2.0]], "<f4")
    answer = TaskAnswer(array=vectors.tobytes(), shape=[1, 2])
    look = texts("feature-extraction")
    assert answered(enter({"inputs": "a"}, look), answer) == [0.5, 2.0]
    assert answered(enter({"inputs": ["a"]}, look), answer) == [[0.5, 2.0]]


def test_a_path_that_names_another_task_is_refused() -> None:
    with pytest.raises(UnsupportedTask, match="fill-mask"):
        enter({"inputs": "a"}, texts("fill-mask"), "text-classification")
    enter({"inputs": "a"}, texts("feature-extraction"), "sentence-similarity")


def test_a_model_of_tensors_is_refused_with_the_way_to_it() -> None:
    with pytest.raises(UnsupportedTask) as caught:
        enter({"inputs": "a"}, manifest(is_visual=False))
    assert "/predict/m" in caught.value.remedy


@pytest.mark.parametrize(
    ("look", "call", "word"),
    [
        (texts("fill-mask"), b"", ""),
        (texts("fill-mask"), b"\xff", ""),
        (texts("fill-mask"), [1], "object"),
        (texts("fill-mask"), {}, "'inputs'"),
        (texts("fill-mask"), {"inputs": None}, "'inputs'"),
        (texts("fill-mask"), {"inputs": "a", "options": {}}, "'options'"),
        (texts("fill-mask"), {"inputs": "a", "normalize": True}, "'normalize'"),
        (texts("fill-mask"), {"inputs": "a", "parameters": 3}, "'parameters'"),
        (IMAGES, {"inputs": "no base64!"}, "base64"),
        (IMAGES, {"inputs": 3}, "base64"),
        (IMAGES, {}, "base64"),
        (IMAGES, {"inputs": "", "stream": True}, "'stream'"),
        (IMAGES, b'{"inputs": ', ""),
    ],
)
def test_what_is_not_supported_is_refused(look: ModelManifest, call: Any, word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        enter(call, look)
    assert word in caught.value.message
    # The client takes these words for an invitation to try again without a parameter.
    assert "model_kwargs" not in str(caught.value)


def test_errors_have_hugging_faces_shape() -> None:
    refusal = DOOR.encode_error(NotFound(noun="deployment", name="m"))
    assert "'m' does not exist" in json.loads(refusal.body)["error"]


@given(
    st.sampled_from([IMAGES, texts("fill-mask"), texts("feature-extraction")]),
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["inputs", "parameters", "normalize"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3)),
    ).map(lambda call: json.dumps(call).encode()),
)
def test_any_bytes_are_read_or_refused(look: ModelManifest, body: bytes) -> None:
    try:
        enter(body, look)
    except BadInput:
        return


@pytest.mark.parametrize("look", [IMAGES, texts("fill-mask")])
def test_what_only_breaks_readers_is_refused(look: ModelManifest) -> None:
    for body in (b'{"inputs":"\\ud800"}', b'{"inputs":' + b"[" * 100_000, b'{"inputs":1e999}'):
        try:
            enter(body, look)
        except BadInput:
            continue


SERIES = msgspec.structs.replace(
    manifest(TensorSpec(name="x", dtype="float32", shape=[None, 2, 1]), labels=()),
    media=TableInput(columns=[Column(name="level")], input="x", steps=2),
)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [[{"level": 1}, {"level": None}]]},
        {"table": {"level": [1, None]}},
    ],
)
def test_a_forecast_is_asked_with_the_rows_of_a_window_and_has_all_steps(body: Any) -> None:
    call = enter(body, SERIES)
    rows = decode_payload(call.payload).tensors["x"]
    assert np.array_equal(rows, np.array([[[1], [np.nan]]], np.float32), equal_nan=True)
    payload = memoryview(encode_payload({"values": np.array([[3, 4, 5]], np.float32)}))
    answer = call.encode(Reply(payload, Stats(), "m", 1, SERIES))
    assert json.loads(answer.body) == [[3, 4, 5]]
