"""Modelry's own predict call for models of texts: text in, what the task says of it out. Pure translation.

    text/plain                     the text
    {"input": …}                   one input of the task: a text, {"question", "context"}, …
    {"inputs": [ … ]}              several

Tensors by their names are still taken: they are no text, and go the way of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, unpack
from modelry.core.errors import InvalidRequest, UnsupportedMedia
from modelry.core.manifests import ModelManifest
from modelry.server.api.doors.numbers import read_json


def read_text_call(
    body: bytes, media_type: str, parameters: Mapping[str, Any], manifest: ModelManifest
) -> TaskCall | None:
    """The task's call; None for a body of tensors. Raises `InvalidRequest` and `UnsupportedMedia`."""
    if media_type == "text/plain":
        try:
            return TaskCall(inputs=body.decode(), parameters=dict(parameters))
        except UnicodeDecodeError:
            raise InvalidRequest(reason="the body is not UTF-8 text") from None
    if media_type != "application/json":
        raise UnsupportedMedia(content_type=media_type, expected="text/plain or application/json")
    call = read_json(body)
    if not isinstance(call, dict) or len(call) != 1 or not {"input", "inputs"} & set(call):
        raise InvalidRequest(reason='the body must be {"input": …} or {"inputs": [ … ]}')
    samples = [call["input"]] if "input" in call else call["inputs"]
    if not isinstance(samples, list) or not samples:
        raise InvalidRequest(reason="'inputs' must be a list of at least one input")
    names = {spec.name for spec in manifest.inputs}
    if any(not isinstance(one, str | dict) or set(one) == names for one in samples):
        return None
    is_several = "inputs" in call and all(isinstance(one, str) for one in samples)
    inputs = samples if is_several else _only(samples)
    return TaskCall(inputs=inputs, parameters=dict(parameters))


def read_predictions(payload: bytes | memoryview, call: TaskCall, task: str) -> list[Any]:
    """One prediction for each input: the best label with all scores, a vector's values, or the task's own value."""
    answer = unpack(payload, TaskAnswer)
    if answer.shape:
        array = np.frombuffer(answer.array, "<f4").reshape(answer.shape)
        return [{"values": row} for row in array.tolist()]
    is_listed = isinstance(call.inputs, list) or task == "text-classification"
    return [_describe(one) for one in (answer.value if is_listed else [answer.value])]


def _only(samples: list[Any]) -> Any:
    if len(samples) > 1:
        raise InvalidRequest(
            reason="several inputs must all be texts", remedy="Send one object at a time."
        )
    return samples[0]


def _describe(value: Any) -> dict[str, Any]:
    if isinstance(value, list) and value and _is_score(value[0]):
        return {**value[0], "scores": value}
    return {"value": value}


def _is_score(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"label", "score"}
