"""TensorFlow Serving's predict call: `{"instances": …}` by rows or `{"inputs": …}` by columns. Pure translation."""

from __future__ import annotations

import base64
import re
from typing import Any

from modelry.core.errors import InvalidInput, InvalidRequest, ModelryError
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import Array, decode_payload, encode_payload
from modelry.core.texts import STRING
from modelry.server.api.doors.door import Answer, Call, Find, Head, Refusal, Target
from modelry.server.api.doors.names import is_name
from modelry.server.api.doors.numbers import (
    read_count,
    read_json,
    read_regular,
    to_tensor,
    write_json,
    write_numbers,
)
from modelry.server.gateway import Reply

_FIELDS = {"instances", "inputs", "signature_name"}
_SIGNATURE = "serving_default"
#: A body with one of the two keys and nothing else; what follows is its value and the closing brace.
_ONLY_KEY = re.compile(rb'\s*\{\s*"(instances|inputs)"\s*:\s*(?=\[)')


_PREFIX, _SUFFIX = "/v1/models/", ":predict"
_VERSIONS, _LABELS = "/versions/", "/labels/"


class TfServingDoor:
    """`POST /v1/models/{name}:predict`; a version's number or one of its labels may follow the name."""

    paths = (
        "/v1/models/{name}:predict",
        "/v1/models/{name}/versions/{version}:predict",
        "/v1/models/{name}/labels/{label}:predict",
    )
    compresses = False

    def match(self, path: str) -> Target | None:
        if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
            return None
        rest = path[len(_PREFIX) : -len(_SUFFIX)]
        name, mark, sent = rest.rpartition(_VERSIONS)
        if mark:
            return Target(name, read_count("version", sent)) if is_name(name) else None
        name, mark, label = rest.rpartition(_LABELS)
        if mark:
            return Target(name, label) if is_name(name) and is_name(label) else None
        return Target(rest) if is_name(rest) else None

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        if head.query:
            raise InvalidRequest(reason="this call takes no query parameters")
        target = head.target
        payload, rows, by_rows = _decode(body, find(target.name, target.version))
        encode = _by_rows if by_rows else _by_columns
        return Call(target.name, target.version, payload, rows, encode)

    def encode_error(self, error: ModelryError) -> Refusal:
        return refusal(error)


def refusal(error: ModelryError) -> Refusal:
    """TensorFlow Serving's one shape of an error; ours has its code in a header."""
    body = write_json({"error": str(error)}, is_finite=True)
    return Refusal(body, headers=(("x-modelry-error", error.code),))


def _decode(body: bytes, manifest: ModelManifest) -> tuple[bytes, int, bool]:
    """The payload, its rows, and whether the answer is by rows; raises `InvalidRequest` and `InvalidInput`."""
    quick = _decode_regular(body, manifest)
    if quick is not None:
        return quick
    call = read_json(body)
    _check_form(call)
    by_rows = "instances" in call
    read = _from_rows if by_rows else _from_columns
    tensors = read(call["instances" if by_rows else "inputs"], manifest)
    rows = check_inputs(tensors, manifest.inputs)
    return encode_payload(tensors), rows, by_rows


def _by_rows(reply: Reply) -> Answer:
    return Answer(_encode(reply.payload, by_rows=True))


def _by_columns(reply: Reply) -> Answer:
    return Answer(_encode(reply.payload, by_rows=False))


def _encode(payload: bytes | memoryview, *, by_rows: bool) -> bytes:
    outputs = decode_payload(payload).tensors
    values = {name: _to_values(name, array) for name, array in outputs.items()}
    content: Any = values
    if len(values) == 1:
        content = next(iter(values.values()))
    elif by_rows:
        content = [
            dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
        ]
    return write_numbers({"predictions" if by_rows else "outputs": content})


def _decode_regular(body: bytes, manifest: ModelManifest) -> tuple[bytes, int, bool] | None:
    start = _ONLY_KEY.match(body)
    end = body.rfind(b"}")
    if len(manifest.inputs) != 1 or start is None or body[end + 1 :].strip():
        return None
    spec = manifest.inputs[0]
    tensor = read_regular(body[start.end() : end], spec, is_batch=True)
    if tensor is None:
        return None
    return encode_payload({spec.name: tensor}), tensor.shape[0], start[1] == b"instances"


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
    if not isinstance(instances[0], dict) or _is_bytes(instances[0], manifest):
        spec = _only_input(manifest)
        return {spec.name: _read(instances, spec)}
    names = set(instances[0])
    if any(not isinstance(row, dict) or set(row) != names for row in instances):
        raise _misfit("the rows do not all name the same inputs", manifest)
    return {
        name: _read([row[name] for row in instances], _spec(name, manifest))
        for name in instances[0]
    }


def _from_columns(inputs: Any, manifest: ModelManifest) -> dict[str, Array]:
    if not isinstance(inputs, dict) or _is_bytes(inputs, manifest):
        spec = _only_input(manifest)
        return {spec.name: _read(inputs, spec)}
    return {name: _read(value, _spec(name, manifest)) for name, value in inputs.items()}


def _is_bytes(value: dict[str, Any], manifest: ModelManifest) -> bool:
    """Whether it is `{"b64": …}`; raises `InvalidInput` where the model takes numbers alone."""
    if set(value) != {"b64"}:
        return False
    if all(spec.dtype != STRING for spec in manifest.inputs):
        raise InvalidInput(
            reason="it holds encoded bytes",
            expected=f"{describe(manifest.inputs)} here; send images to /predict/ and the name",
        )
    return True


def _read(value: Any, spec: TensorSpec) -> Array:
    if spec.dtype != STRING:
        return to_tensor(value, spec)
    try:
        return to_tensor(_undo_base64(value, spec), spec)
    except RecursionError:
        raise InvalidRequest(reason="the body is nested too deeply") from None


def _undo_base64(value: Any, spec: TensorSpec) -> Any:
    """The texts with `{"b64": …}` among them decoded; raises `InvalidInput` for what is no UTF-8."""
    if isinstance(value, list):
        return [_undo_base64(item, spec) for item in value]
    if not isinstance(value, dict) or set(value) != {"b64"}:
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (ValueError, TypeError):
        raise InvalidInput(
            reason=f"'{spec.name}' holds a 'b64' that is not base64 of UTF-8 text",
            expected=describe([spec]),
        ) from None


def _to_values(name: str, array: Array) -> Any:
    """Numbers and texts as lists; texts of an output called `…_bytes` in base64, as the protocol has it."""
    values = array.tolist()
    is_bytes = name.endswith("_bytes") and array.dtype.kind == "O"
    return _in_base64(values) if is_bytes else values


def _in_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_base64(item) for item in value]
    return {"b64": base64.b64encode(value.encode()).decode()}


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
