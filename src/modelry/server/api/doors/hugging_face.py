"""Hugging Face's inference call: one URL for a model, whose task decides what goes in and what comes out. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack, unpack
from modelry.core.errors import InvalidRequest, ModelryError, UnsupportedTask
from modelry.core.frames import Op
from modelry.core.inputs import describe
from modelry.core.manifests import ModelManifest, TableInput, TextInput
from modelry.core.tables import encode_columns, encode_rows
from modelry.core.tensors import decode_payload, encode_payload
from modelry.server.api.doors.door import Answer, Call, Find, Head, Refusal, Target
from modelry.server.api.doors.names import is_name, read_reference
from modelry.server.api.doors.numbers import write_json, write_numbers
from modelry.server.gateway import Reply

PREFIX = "/hf/models/"
_PIPELINE = "/pipeline/"
#: Tasks of one and the same model; the call itself tells which.
_EMBEDDING = ("feature-extraction", "sentence-similarity")
#: What these have beside `inputs`, where other tasks have `parameters`.
_AT_ROOT = ("normalize", "truncate", "truncation_direction", "prompt_name", "dimensions")


class HuggingFaceDoor:
    """`POST /hf/models/{name}`, also with `@alias` or `:3` behind the name, and with `/pipeline/{task}` at the end."""

    paths = ("/hf/models/{name}", "/hf/models/{name}/pipeline/{task}")
    compresses = True

    def match(self, path: str) -> Target | None:
        if not path.startswith(PREFIX):
            return None
        text, mark, task = path[len(PREFIX) :].removesuffix("/").partition(_PIPELINE)
        if not is_name(text) or (mark and (not task or "/" in task)):
            return None
        target = read_reference(text)
        return Target(target.name, target.version, task)

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        if head.query:
            raise InvalidRequest(reason="this call takes no query parameters")
        target = head.target
        manifest = find(target.name, target.version)
        _check_task(target, manifest)
        if isinstance(manifest.media, TableInput):
            return _table_call(target, body, manifest.media)
        if isinstance(manifest.media, TextInput):
            call = _read_text(body, manifest.task)
        else:
            call = _read_media(body, head.headers.get("content-type", ""))
        is_one = isinstance(call.inputs, str)

        def encode(reply: Reply) -> Answer:
            return Answer(_write(reply, is_one))

        return Call(target.name, target.version, pack(call), _count(call), encode, Op.TASK)

    def encode_error(self, error: ModelryError) -> Refusal:
        return refusal(error)


def _table_call(target: Target, body: bytes, media: TableInput) -> Call:
    """`{"table": {column: [values]}}`, as the official client sends it, or `{"inputs": [rows]}`: a value a row.

    A forecast has the values of all steps ahead; the table is then one input, and `inputs` are lists of rows.
    """
    call = _read_object(body)
    call = {name: value for name, value in call.items() if value not in (None, {})}
    if len(call) != 1 or not {"table", "inputs"} & set(call):
        raise InvalidRequest(
            reason='it must be {"table": {…}} or {"inputs": [ … ]} and nothing else'
        )
    if "table" in call:
        rows = encode_columns(call["table"], media)
    else:
        given = call["inputs"]
        rows = encode_rows(given if isinstance(given, list) else [given], media)

    def encode(reply: Reply) -> Answer:
        output = next(iter(decode_payload(reply.payload).tensors.values()))
        labels = reply.manifest.labels
        if labels:
            return Answer(write_numbers([labels[best] for best in output.argmax(axis=1)]))
        return Answer(write_numbers((output[:, 0] if media.steps is None else output).tolist()))

    return Call(target.name, target.version, encode_payload({media.input: rows}), len(rows), encode)


def refusal(error: ModelryError) -> Refusal:
    """Hugging Face's shape of an error."""
    body = write_json({"error": str(error)}, is_finite=True)
    return Refusal(body, headers=(("x-modelry-error", error.code),))


def _check_task(target: Target, manifest: ModelManifest) -> None:
    if manifest.media is None:
        raise UnsupportedTask(
            f"The deployment '{target.name}' takes tensors; this call is for pictures, sound and text.",
            remedy=f"Send {describe(manifest.inputs)} to /predict/{target.name}.",
        )
    same = (manifest.task, *(_EMBEDDING if manifest.task in _EMBEDDING else ()))
    if target.task and target.task not in same:
        raise UnsupportedTask(name=target.name, task=manifest.task, expected=target.task)


def _read_text(body: bytes, task: str) -> TaskCall:
    call = _read_object(body)
    is_embedding = task in _EMBEDDING
    unknown = sorted(set(call) - {"inputs", "parameters", *(_AT_ROOT if is_embedding else ())})
    if unknown:
        raise InvalidRequest(reason=f"the field '{unknown[0]}' is not supported")
    if call.get("inputs") is None:
        raise InvalidRequest(reason="it has no 'inputs'")
    at_root = {name: call[name] for name in _AT_ROOT if is_embedding and name in call}
    return TaskCall(inputs=call["inputs"], parameters=_read_parameters(call) | at_root)


def _read_media(body: bytes, content_type: str) -> TaskCall:
    """Bytes as they are, or (with parameters) JSON with base64; the content type is often missing or wrong."""
    if body.lstrip()[:1] != b"{":
        media_type = content_type.partition(";")[0].strip().lower()
        return TaskCall(media=body, media_type=media_type)
    call = _read_object(body)
    unknown = sorted(set(call) - {"inputs", "parameters"})
    if unknown:
        raise InvalidRequest(reason=f"the field '{unknown[0]}' is not supported")
    try:
        media = base64.b64decode(call.get("inputs", 0), validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidRequest(reason="'inputs' must be the file in base64") from None
    return TaskCall(media=media, parameters=_read_parameters(call))


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = str(error).replace("`", "'").rstrip(".")
        raise InvalidRequest(
            reason=reason, remedy='Send {"inputs": …, "parameters": {…}}.'
        ) from None


def _read_parameters(call: dict[str, Any]) -> dict[str, Any]:
    given = call.get("parameters")
    if not isinstance(given, dict | None):
        raise InvalidRequest(reason="'parameters' must be an object")
    return given or {}


def _count(call: TaskCall) -> int:
    """The rows it counts as: texts, candidate labels for each, sentences that are compared."""
    inputs = call.inputs
    if isinstance(inputs, dict) and isinstance(inputs.get("sentences"), list):
        return 1 + len(inputs["sentences"])
    rows = len(inputs) if isinstance(inputs, list) else 1
    labels = call.parameters.get("candidate_labels")
    return max(1, rows) * (len(labels) if isinstance(labels, list) and labels else 1)


def _write(reply: Reply, is_one: bool) -> bytes:
    """A value is in Hugging Face's shape already; of embeddings, a single text's is not in a list."""
    answer = unpack(reply.payload, TaskAnswer)
    if answer.shape:
        array = np.frombuffer(answer.array, "<f4").reshape(answer.shape)
        return write_numbers((array[0] if is_one else array).tolist())
    return write_numbers(answer.value)
