"""TensorFlow Serving's predict call: `{"instances": …}` by rows or `{"inputs": …}` by columns. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelry.core.errors import InvalidInput, InvalidRequest, ModelryError
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import Array, decode_payload, encode_payload
from modelry.server.api.doors.numbers import read_json, read_regular, to_tensor, write_json

_FIELDS = {"instances", "inputs", "signature_name"}
_SIGNATURE = "serving_default"
#: A body with one of the two keys and nothing else; what follows is its value and the closing brace.
_ONLY_KEY = re.compile(rb'\s*\{\s*"(instances|inputs)"\s*:\s*(?=\[)')


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded call."""

    payload: bytes
    #: Whether the answer is by rows (`predictions`) or by columns (`outputs`).
    by_rows: bool


def decode(body: bytes, manifest: ModelManifest) -> Request:
    """The call; raises `InvalidRequest` for its form and `InvalidInput` for its values."""
    quick = _decode_regular(body, manifest)
    if quick is not None:
        return quick
    call = read_json(body)
    _check_form(call)
    by_rows = "instances" in call
    read = _from_rows if by_rows else _from_columns
    tensors = read(call["instances" if by_rows else "inputs"], manifest)
    check_inputs(tensors, manifest.inputs)
    return Request(encode_payload(tensors), by_rows)


def encode(payload: bytes | memoryview, by_rows: bool) -> bytes:
    """The answer's body."""
    outputs = decode_payload(payload).tensors
    is_finite = all(bool(np.isfinite(array).all()) for array in outputs.values())
    values = {name: array.tolist() for name, array in outputs.items()}
    content: Any = values
    if len(values) == 1:
        content = next(iter(values.values()))
    elif by_rows:
        content = [
            dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
        ]
    return write_json({"predictions" if by_rows else "outputs": content}, is_finite=is_finite)


def encode_error(error: ModelryError) -> bytes:
    """TensorFlow Serving's one shape of an error."""
    return write_json({"error": str(error)}, is_finite=True)


def _decode_regular(body: bytes, manifest: ModelManifest) -> Request | None:
    start = _ONLY_KEY.match(body)
    end = body.rfind(b"}")
    if len(manifest.inputs) != 1 or start is None or body[end + 1 :].strip():
        return None
    spec = manifest.inputs[0]
    tensor = read_regular(body[start.end() : end], spec, is_batch=True)
    if tensor is None:
        return None
    return Request(encode_payload({spec.name: tensor}), start[1] == b"instances")


def _check_form(call: Any) -> None:
    if not isinstance(call, dict):
        raise InvalidRequest(reason="the body is not a JSON object")
    unknown = sorted(set(call) - _FIELDS)
    if unknown:
        raise InvalidRequest(reason=f"the field '{unknown[0]}' is not supported")
    if ("instances" in call) == ("inputs" in call):
        raise InvalidRequest(reason="it must have either 'instances' or 'inputs'")
    if call.get("signature_name", _SIGNATURE) != _SIGNATURE:
        raise InvalidRequest(reason=f"the only signature is '{_SIGNATURE}'")


def _from_rows(instances: Any, manifest: ModelManifest) -> dict[str, Array]:
    if not isinstance(instances, list) or not instances:
        raise _misfit("'instances' must be a list of at least one row", manifest)
    if not isinstance(instances[0], dict):
        spec = _only_input(manifest)
        return {spec.name: to_tensor(instances, spec)}
    _refuse_bytes(instances[0], manifest)
    names = set(instances[0])
    if any(not isinstance(row, dict) or set(row) != names for row in instances):
        raise _misfit("the rows do not all name the same inputs", manifest)
    return {
        name: to_tensor([row[name] for row in instances], _spec(name, manifest))
        for name in instances[0]
    }


def _from_columns(inputs: Any, manifest: ModelManifest) -> dict[str, Array]:
    if not isinstance(inputs, dict):
        spec = _only_input(manifest)
        return {spec.name: to_tensor(inputs, spec)}
    _refuse_bytes(inputs, manifest)
    return {name: to_tensor(value, _spec(name, manifest)) for name, value in inputs.items()}


def _refuse_bytes(value: dict[str, Any], manifest: ModelManifest) -> None:
    if set(value) == {"b64"}:
        raise InvalidInput(
            reason="it holds encoded bytes",
            expected=f"{describe(manifest.inputs)} here; send images to /predict/ and the name",
        )


def _only_input(manifest: ModelManifest) -> TensorSpec:
    if len(manifest.inputs) != 1:
        raise _misfit("the values must be given by input name", manifest)
    return manifest.inputs[0]


def _spec(name: str, manifest: ModelManifest) -> TensorSpec:
    for spec in manifest.inputs:
        if spec.name == name:
            return spec
    raise _misfit(f"it has no input '{name}'", manifest)


def _misfit(reason: str, manifest: ModelManifest) -> InvalidInput:
    return InvalidInput(reason=reason, expected=describe(manifest.inputs))
