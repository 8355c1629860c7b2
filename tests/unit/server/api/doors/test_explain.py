"""The explain door: one input and a query in, attributions out."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelry.core.calls import ExplainAnswer, ExplainCall, pack, unpack
from modelry.core.errors import (
    InvalidInput,
    InvalidParameter,
    InvalidRequest,
    ModelryError,
    NotFound,
    UnknownParameter,
    UnsupportedTask,
)
from modelry.core.frames import Op, Stats
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import decode_payload
from modelry.server.api.doors.door import Call, Head, Target
from modelry.server.api.doors.explain import ExplainDoor
from tests.unit.server.api.doors.looks import manifest

DOOR = ExplainDoor()
SAMPLE = [[[0.5], [1], [0]], [[0], [1], [0.25]]]
BODY = json.dumps({"input": SAMPLE}).encode()


def decode(
    query: str = "",
    body: bytes = BODY,
    content_type: str = "application/json",
    of: ModelManifest | None = None,
) -> Call:
    head = Head(Target("digits"), query, {"content-type": content_type})
    return DOOR.decode(head, body, lambda name, version: of or manifest())


def reply(answer: ExplainAnswer) -> Any:
    stats = Stats(queue_depth=0, queue_us=1500, inference_us=2500, batch_rows=171)
    return SimpleNamespace(
        payload=pack(answer), model="mnist", version=3, stats=stats, manifest=manifest()
    )


def explained(values: Any, **more: Any) -> ExplainAnswer:
    array = np.asarray(values, "<f4")
    given: dict[str, Any] = {"method": "occlusion", "label": "零", "score": 0.9, "base": 0.1}
    return ExplainAnswer(attributions=array.tobytes(), shape=list(array.shape), **{**given, **more})


def test_paths_name_a_deployment_with_or_without_its_project() -> None:
    assert DOOR.match("/explain/digits") == Target("digits")
    assert DOOR.match("/explain/team/数字") == Target("team/数字")
    for other in ("/explain", "/explain/", "/explain/a/b/c", "/explain//a", "/predict/digits"):
        assert DOOR.match(other) is None


def test_a_call_carries_the_input_the_method_and_its_settings() -> None:
    call = decode("method=occlusion&label=%E9%9B%B6&window=1&stride=1&version=2")
    assert (call.name, call.version, call.op) == ("digits", 2, Op.EXPLAIN)
    inside = unpack(call.payload, ExplainCall)
    assert (inside.method, inside.label) == ("occlusion", "零")
    assert inside.parameters == {"window": "1", "stride": "1"}
    assert np.array_equal(decode_payload(inside.payload).tensors["x"], np.float32([SAMPLE]))


def test_a_call_counts_as_every_row_that_it_runs() -> None:
    assert decode("window=1&stride=1").rows == 2 * 3 + 2
    assert decode("method=kernel-shap&patch=1").rows == 2**6
    out = io.BytesIO()
    Image.new("L", (30, 20)).save(out, format="PNG")
    assert decode("window=2&stride=1", out.getvalue(), "image/png").rows == 2 + 2


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("colour=red", UnknownParameter),
        ("method=gradients", InvalidParameter),
        ("method=kernel-shap&window=2", UnknownParameter),
        ("window=0", InvalidParameter),
        ("window=1&window=2", InvalidRequest),
        ("version=x", InvalidRequest),
        ("window", InvalidRequest),
    ],
)
def test_what_the_query_cannot_say_is_refused(query: str, error: type[ModelryError]) -> None:
    with pytest.raises(error):
        decode(query)


def test_one_input_at_a_time() -> None:
    body = json.dumps({"inputs": [SAMPLE, SAMPLE]}).encode()
    with pytest.raises(InvalidInput, match="2 inputs"):
        decode(body=body)


def test_models_that_cannot_be_explained_are_refused_before_a_replica_is_asked() -> None:
    cube = TensorSpec(name="x", dtype="float32", shape=[None, 1, 1, 1, 1])
    body = json.dumps({"input": [[[[1]]]]}).encode()
    with pytest.raises(UnsupportedTask):
        decode(body=body, of=manifest(cube, is_visual=False))


def test_an_answer_tells_what_how_and_from_where() -> None:
    answer = explained([[0.5, 0, 0], [0, 0.25, 0]], residual=0.05, evaluations=8)
    said = json.loads(decode().encode(reply(answer)).body)
    assert said.pop("timing")["queue_ms"] == 1.5
    assert said == {
        "deployment": "digits",
        "model": "mnist",
        "version": 3,
        "method": "occlusion",
        "parameters": {},
        "label": "零",
        "score": 0.9,
        "base": 0.1,
        "residual": 0.05,
        "evaluations": 8,
        "attributions": [[0.5, 0, 0], [0, 0.25, 0]],
        "seen": {"height": 2, "width": 3, "resize": "exact", "resize_to": None},
    }


def test_columns_come_by_their_weight() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[None, 3], columns=["a", "b", "c"])
    of = manifest(spec, is_visual=False)
    call = decode(body=b'{"input": [1, 2, 3]}', of=of)
    said = json.loads(
        call.encode(reply(explained([0.125, -0.5, 0.25], columns=["a", "b", "c"]))).body
    )
    assert said["columns"] == [
        {"column": "b", "attribution": -0.5},
        {"column": "c", "attribution": 0.25},
        {"column": "a", "attribution": 0.125},
    ]
    assert "attributions" not in said


def test_errors_have_modelrys_own_shape() -> None:
    body = json.loads(DOOR.encode_error(NotFound(noun="deployment", name="x")).body)
    assert body["error"]["code"] == "not_found"
