"""Modelry's own call with text: one text, several, or a task's object; predictions say what the task said."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.calls import TaskAnswer, TaskCall, pack, unpack
from modelry.core.errors import BadInput, InvalidRequest, UnsupportedMedia
from modelry.core.frames import Op, Stats
from modelry.core.manifests import ModelManifest, TensorSpec, TextInput
from modelry.core.tensors import decode_payload, encode_payload
from modelry.server.api.doors.door import Call, Head, Target
from modelry.server.api.doors.native import NativeDoor
from modelry.server.gateway import Reply
from tests.unit.server.api.doors.looks import manifest

DOOR = NativeDoor()
IDS = TensorSpec(name="ids", dtype="int64", shape=[None, None])
TEXT = TextInput(tokenizer="tokenizer.json", max_length=16, inputs={"ids": "ids"})


def look(task: str = "text-classification") -> ModelManifest:
    return msgspec.structs.replace(manifest(IDS), task=task, media=TEXT)


def enter(body: Any, content_type: str = "application/json", query: str = "", **about: str) -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = Head(Target("moods"), query, {"content-type": content_type})
    return DOOR.decode(head, data, lambda name, version: look(**about))


def asked(call: Call) -> TaskCall:
    assert call.op is Op.TASK
    return unpack(call.payload, TaskCall)


def predictions(call: Call, answer: TaskAnswer, task: str = "text-classification") -> Any:
    reply = Reply(memoryview(pack(answer)), Stats(), "m", 1, look(task))
    told = json.loads(call.encode(reply).body)
    assert (told["deployment"], told["model"], told["version"]) == ("moods", "m", 1)
    return told["predictions"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/plain; charset=utf-8", "", "TEXT/plain"]
)
def test_a_text_comes_as_it_is(content_type: str) -> None:
    assert asked(enter("grüße".encode(), content_type)).inputs == "grüße"


@pytest.mark.parametrize(
    ("sent", "inputs", "rows"),
    [
        ({"input": "a"}, "a", 1),
        ({"inputs": ["a", "b"]}, ["a", "b"], 2),
        ({"inputs": [{"question": "q", "context": "c"}]}, {"question": "q", "context": "c"}, 1),
        ({"input": {"text": "a", "text_pair": "b"}}, {"text": "a", "text_pair": "b"}, 1),
    ],
)
def test_texts_come_as_json(sent: Any, inputs: Any, rows: int) -> None:
    call = enter(sent)
    assert asked(call).inputs == inputs
    assert call.rows == rows


def test_the_query_says_how_many_labels() -> None:
    assert asked(enter({"input": "a"}, query="top_k=2&version=3")).parameters == {"top_k": 2}
    assert enter({"input": "a"}, query="version=3").version == 3
    assert asked(enter({"input": "a"})).parameters == {}


def test_tensors_still_go_the_way_of_tensors() -> None:
    for sent in ({"inputs": [[1, 2, 3]]}, {"inputs": [{"ids": [1, 2, 3]}]}):
        call = enter(sent)
        assert call.op is Op.PREDICT
        assert decode_payload(call.payload).tensors["ids"].tolist() == [[1, 2, 3]]


def test_labels_are_told_with_the_best_in_front() -> None:
    scores = [{"label": "glad", "score": 0.75}, {"label": "sad", "score": 0.25}]
    expected = {"label": "glad", "score": 0.75, "scores": scores}
    assert predictions(enter({"input": "a"}), TaskAnswer(value=[scores])) == [expected]
    both = predictions(enter({"inputs": ["a", "b"]}), TaskAnswer(value=[scores, scores]))
    assert both == [expected, expected]


def test_vectors_and_other_values_are_told_as_they_are() -> None:
    array = np.array([[0.5, 2.0]], "<f4")
    task = "feature-extraction"
    call = enter({"input": "a"}, task=task)
    answer = TaskAnswer(array=array.tobytes(), shape=[1, 2])
    assert predictions(call, answer, task) == [{"values": [0.5, 2.0]}]
    task = "question-answering"
    value = {"answer": "Paris", "score": 0.5, "start": 1, "end": 6}
    call = enter({"input": {"question": "q", "context": "c"}}, task=task)
    assert predictions(call, TaskAnswer(value=value), task) == [{"value": value}]
    task = "token-classification"
    call = enter({"inputs": ["a"]}, task=task)
    assert predictions(call, TaskAnswer(value=[[]]), task) == [{"value": []}]


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"\xff", "text/plain", InvalidRequest),
        (b"", "application/json", InvalidRequest),
        ({"texts": ["a"]}, "application/json", InvalidRequest),
        ({"inputs": []}, "application/json", InvalidRequest),
        ({"inputs": [{"a": 1}, {"b": 2}]}, "application/json", InvalidRequest),
        (b"\x89PNG\r\n\x1a\n", "image/png", UnsupportedMedia),
    ],
)
def test_what_is_no_text_is_refused(body: Any, content_type: str, error: type[BadInput]) -> None:
    with pytest.raises(error):
        enter(body, content_type)


@given(st.binary(max_size=40), st.sampled_from(["", "text/plain", "application/json"]))
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str) -> None:
    try:
        enter(body, content_type)
    except BadInput:
        return


def test_raw_outputs_become_scores_as_the_model_says() -> None:
    soft = msgspec.structs.replace(manifest(), activation="softmax")
    head = Head(Target("m"), "", {"content-type": "application/json"})
    body = json.dumps({"input": np.zeros((2, 3, 1)).tolist()}).encode()
    call = DOOR.decode(head, body, lambda name, version: soft)
    logits = np.array([[1000.0, 1001.0, 0.0]], np.float32)
    payload = encode_payload({"probabilities": logits})
    told = json.loads(call.encode(Reply(memoryview(payload), Stats(), "m", 1, soft)).body)
    assert told["predictions"][0]["label"] == "one"
    assert told["predictions"][0]["score"] == pytest.approx(0.7311, abs=1e-4)
