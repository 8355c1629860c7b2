"""OpenAI's embeddings call: texts become a task's call, its array becomes vectors, errors have OpenAI's shape."""

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
from modelry.core.errors import (
    BadInput,
    InvalidParameter,
    ModelCrashed,
    ModelryError,
    NoKey,
    NotFound,
    Overloaded,
    UnsupportedTask,
)
from modelry.core.frames import Op, Stats
from modelry.core.manifests import ModelManifest, TextInput
from modelry.server.api.doors.door import Call, Head, Target
from modelry.server.api.doors.openai import EmbeddingsDoor
from modelry.server.gateway import Reply
from tests.unit.server.api.doors.looks import manifest

DOOR = EmbeddingsDoor()
TEXT = TextInput(tokenizer="tokenizer.json", max_length=16, inputs={"ids": "ids"})


def look(task: str = "feature-extraction") -> ModelManifest:
    return msgspec.structs.replace(manifest(), task=task, media=TEXT)


def enter(call: Any, task: str = "feature-extraction") -> Call:
    body = call if isinstance(call, bytes) else json.dumps(call).encode()
    asked: list[Any] = []

    def find(name: str, version: Any) -> ModelManifest:
        asked.append((name, version))
        return look(task)

    found = DOOR.decode(Head(Target(""), "", {}), body, find)
    assert asked == [(found.name, found.version)]
    return found


def answered(call: Call, vectors: Any, tokens: int = 7) -> Any:
    array = np.array(vectors, "<f4")
    answer = TaskAnswer(array=array.tobytes(), shape=list(array.shape), tokens=tokens)
    reply = Reply(memoryview(pack(answer)), Stats(), "m", 1, look())
    return json.loads(call.encode(reply).body)


@pytest.mark.parametrize(
    ("sent", "texts"), [("a", ["a"]), (["a", "字"], ["a", "字"]), ("", [""]), (["a"], ["a"])]
)
def test_one_text_or_several_become_a_task_call(sent: Any, texts: list[str]) -> None:
    call = enter({"model": "minilm", "input": sent})
    asked = unpack(call.payload, TaskCall)
    assert (asked.inputs, asked.parameters) == (texts, {"truncate": False})
    assert (call.op, call.rows, call.name, call.version) == (Op.TASK, len(texts), "minilm", None)


def test_the_model_may_be_pinned_to_a_version() -> None:
    assert enter({"model": "team/minilm:3", "input": "a"}).version == 3
    assert enter({"model": "minilm@production", "input": "a"}).version == "production"


def test_vectors_come_as_numbers_or_packed() -> None:
    vectors = [[0.5, -1.0], [2.0, 3.25]]
    for form in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        told = answered(enter({"model": "m", "input": ["a", "b"], **form}), vectors)
        got = [entry["embedding"] for entry in told["data"]]
        if "base64" in form.values():
            got = [np.frombuffer(base64.b64decode(text), "<f4").tolist() for text in got]
        assert got == vectors
        assert [entry["index"] for entry in told["data"]] == [0, 1]
        assert told["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
        assert told["model"] == "m"


def test_dimensions_are_the_tasks_to_judge() -> None:
    asked = unpack(enter({"model": "m", "input": "a", "dimensions": 2}).payload, TaskCall)
    assert asked.parameters["dimensions"] == 2


def test_vectors_of_tokens_are_refused() -> None:
    with pytest.raises(BadInput, match="no single vector"):
        answered(enter({"model": "m", "input": "a"}), [[[1.0], [2.0]]])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (b"", ""),
        ({"model": "m"}, "input"),
        ({"input": "a"}, "model"),
        ({"model": "m", "input": "a", "user": "me"}, "user"),
        ({"model": "m", "input": "a", "encoding_format": "int8"}, "int8"),
        ({"model": "m", "input": [1, 2]}, "tokens"),
        ({"model": "m", "input": [[1, 2]]}, "tokens"),
        ({"model": "m", "input": []}, "at least one"),
        ({"model": "m", "input": ["a", None]}, "no text"),
        ({"model": "m", "input": {"a": 1}}, "a list"),
        ({"model": "a/b/c", "input": "a"}, "a/b/c"),
    ],
)
def test_what_is_not_supported_is_refused(call: Any, word: str) -> None:
    with pytest.raises(BadInput) as caught:
        DOOR.decode(
            Head(Target(""), "", {}),
            call if isinstance(call, bytes) else json.dumps(call).encode(),
            lambda name, version: look(),
        )
    assert word in caught.value.message


def test_a_model_of_another_task_has_no_embeddings() -> None:
    with pytest.raises(UnsupportedTask, match="text-classification"):
        enter({"model": "m", "input": "a"}, "text-classification")


@pytest.mark.parametrize(
    ("error", "kind", "param", "retry"),
    [
        (NoKey(), "authentication_error", None, "false"),
        (NotFound(noun="deployment", name="x"), "not_found_error", None, "false"),
        (
            InvalidParameter(name="dimensions", value=3, expected="2"),
            *("invalid_request_error", "dimensions", "false"),
        ),
        (Overloaded(name="m", queued=3), "rate_limit_error", None, "true"),
        (ModelCrashed(name="m"), "server_error", None, "false"),
    ],
)
def test_errors_have_openais_shape(
    error: ModelryError, kind: str, param: str | None, retry: str
) -> None:
    refusal = DOOR.encode_error(error)
    told = json.loads(refusal.body)["error"]
    assert (told["type"], told["param"], told["code"]) == (kind, param, error.code)
    assert error.message in told["message"]
    assert dict(refusal.headers)["x-should-retry"] == retry


@given(
    st.binary(max_size=60)
    | st.text(max_size=30).map(lambda t: json.dumps({"model": t, "input": t}).encode())
)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        DOOR.decode(Head(Target(""), "", {}), body, lambda name, version: look())
    except BadInput:
        return


def test_half_a_character_breaks_nothing() -> None:
    body = b'{"model":"m","input":"\\ud800"}'
    with pytest.raises(BadInput):
        DOOR.decode(Head(Target(""), "", {}), body, lambda name, version: look())


def test_only_its_own_path_is_its() -> None:
    assert DOOR.match("/v1/embeddings") == Target("")
    assert DOOR.match("/v1/embeddings/") is None
