"""Modelry's own predict call: numbers, rows of tables, media or an upload in; labels and scores out. A pure door."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from modelry.core.activations import activate
from modelry.core.calls import TaskCall, pack
from modelry.core.errors import (
    InvalidInput,
    InvalidMedia,
    InvalidRequest,
    ModelryError,
    UnsupportedMedia,
    to_wire,
)
from modelry.core.frames import Op
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import ModelManifest, TableInput, TensorSpec, TextInput
from modelry.core.tables import encode_rows
from modelry.core.tensors import Array, Media, decode_payload, encode_payload
from modelry.server.api.doors.door import Answer, Call, Find, Head, Refusal, Target
from modelry.server.api.doors.native_text import read_predictions, read_text_call
from modelry.server.api.doors.numbers import (
    read_count,
    read_json,
    read_regular,
    to_tensor,
    write_json,
    write_numbers,
)
from modelry.server.gateway import Reply

#: Best labels of a prediction, where the call does not say how many.
DEFAULT_TOP_K = 10

#: A body with one of the two keys and nothing else; what follows is its value and the closing brace.
_ONLY_KEY = re.compile(rb'\s*\{\s*"(inputs?)"\s*:\s*')
_EXPECTED = "application/json, an image, a recording, or multipart/form-data with the field 'file'"
#: What image and sound files begin with; curl and browsers often do not tell the type.
_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"RIFF", "image/webp"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
)
#: The whole body is in memory already and has kept its limit.
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf")}
_VAGUE = {"", "application/octet-stream", "application/x-www-form-urlencoded"}
_PREFIX = "/predict/"


@dataclass(frozen=True, slots=True)
class Options:
    """What the query may say."""

    top_k: int = DEFAULT_TOP_K
    version: int | None = None


_DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went, seconds."""

    queue_s: float
    inference_s: float
    total_s: float


class NativeDoor:
    """`POST /predict/{name}`, and `/predict/{project}/{name}` for a key that belongs to no project."""

    paths = ("/predict/{name}",)
    compresses = False

    def match(self, path: str) -> Target | None:
        if not path.startswith(_PREFIX):
            return None
        name = path[len(_PREFIX) :]
        parts = name.split("/")
        return Target(name) if all(parts) and len(parts) <= 2 else None

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        began = time.perf_counter()
        options = read_options(head.query)
        name = head.target.name
        manifest = find(name, options.version)
        content_type = head.headers.get("content-type", "")
        if isinstance(manifest.media, TextInput):
            said = _decode_text(body, content_type, head.query, manifest)
            if said is not None:
                return _text_call(name, options, said, began)
        payload, rows = _decode(body, content_type, manifest)

        def answer(reply: Reply) -> Answer:
            timing = _timing(reply, began)
            about = {"deployment": name, "model": reply.model, "version": reply.version}
            return Answer(encode(reply.payload, reply.manifest, options.top_k, about, timing))

        return Call(name, options.version, payload, rows, answer)

    def encode_error(self, error: ModelryError) -> Refusal:
        return Refusal(write_json({"error": to_wire(error)}, is_finite=True))


def _text_call(name: str, options: Options, said: TaskCall, began: float) -> Call:
    def answer(reply: Reply) -> Answer:
        predictions = read_predictions(reply.payload, said, reply.manifest.task)
        about = {"deployment": name, "model": reply.model, "version": reply.version}
        return Answer(write_numbers(_answer(about, predictions, _timing(reply, began))))

    rows = len(said.inputs) if isinstance(said.inputs, list) else 1
    return Call(name, options.version, pack(said), rows, answer, Op.TASK)


def _decode_text(
    body: bytes, content_type: str, query: str, manifest: ModelManifest
) -> TaskCall | None:
    kind, _ = parse_options_header(content_type)
    media_type = kind.decode("latin-1").lower()
    if media_type in _VAGUE:
        media_type = _recognise(body) or "text/plain"
    given = dict(parse_qsl(query))
    parameters = {"top_k": read_count("top_k", given["top_k"])} if "top_k" in given else {}
    return read_text_call(body, media_type, parameters, manifest)


def _timing(reply: Reply, began: float) -> Timing:
    stats = reply.stats
    return Timing(stats.queue_us / 1e6, stats.inference_us / 1e6, time.perf_counter() - began)


def read_options(query: str) -> Options:
    """The query's options; raises `InvalidRequest` for any other and for values that are none."""
    if not query:
        return _DEFAULTS
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given) - {"top_k", "version"})
    if unknown:
        raise InvalidRequest(reason=f"the query parameter '{unknown[0]}' is not supported")
    version = read_count("version", given["version"]) if "version" in given else None
    top_k = read_count("top_k", given["top_k"]) if "top_k" in given else DEFAULT_TOP_K
    return Options(top_k, version)


def decode(body: bytes, content_type: str, manifest: ModelManifest) -> bytes:
    """The call as a payload; raises `InvalidRequest`, `InvalidInput`, `InvalidMedia` or `UnsupportedMedia`."""
    return _decode(body, content_type, manifest)[0]


def _decode(body: bytes, content_type: str, manifest: ModelManifest) -> tuple[bytes, int]:
    """The payload, and how many rows it has."""
    if content_type == "application/json":
        return _decode_json(body, manifest)
    kind, options = parse_options_header(content_type)
    media_type = kind.decode("latin-1").lower()
    if media_type in _VAGUE:
        media_type = _recognise(body) or media_type
    if media_type == "application/json" or media_type.endswith("+json"):
        return _decode_json(body, manifest)
    if media_type.startswith(("image/", "audio/")):
        return _encode_media([Media(body, media_type)], manifest)
    if media_type == "multipart/form-data":
        return _encode_media(_read_upload(body, options.get(b"boundary", b"")), manifest)
    raise UnsupportedMedia(content_type=content_type, expected=_EXPECTED)


def encode(
    payload: bytes | memoryview,
    manifest: ModelManifest,
    top_k: int,
    about: Mapping[str, Any],
    timing: Timing,
) -> bytes:
    """The answer's body; `about` names what answered. Raises `InvalidInput` where the scores are no numbers."""
    output = next(iter(decode_payload(payload).tensors.values()))
    if output.dtype.kind != "O" and not np.isfinite(output).all():
        # The best of such scores would be an answer that the model never gave.
        raise InvalidInput(
            reason="the model's answer to it is no number",
            expected=f"{describe(manifest.inputs)}, finite and of the size it learned from",
        )
    predictions = [_describe(row, manifest, top_k) for row in output]
    return write_json(_answer(about, predictions, timing), is_finite=True)


def _answer(about: Mapping[str, Any], predictions: list[Any], timing: Timing) -> dict[str, Any]:
    return {
        **about,
        "predictions": predictions,
        "timing": {
            "queue_ms": round(timing.queue_s * 1000, 3),
            "inference_ms": round(timing.inference_s * 1000, 3),
            "total_ms": round(timing.total_s * 1000, 3),
        },
    }


def _describe(row: Array, manifest: ModelManifest, top_k: int) -> dict[str, Any]:
    labels = manifest.labels
    if row.ndim != 1 or row.shape[0] != len(labels) or row.dtype.kind == "O":
        return {"values": row.tolist()}
    row = activate(row, manifest.activation)
    best = np.argsort(-row, kind="stable")[:top_k]
    scores = [{"label": labels[index], "score": float(row[index])} for index in best]
    return {**scores[0], "scores": scores}


def _recognise(body: bytes) -> str | None:
    if body[:4] == b"RIFF" and body[8:12] == b"WAVE":
        return "audio/wav"
    for mark, media_type in _MARKS:
        if body.startswith(mark):
            return media_type
    return "application/json" if body.lstrip()[:1] == b"{" else None


def _encode_media(media: list[Media], manifest: ModelManifest) -> tuple[bytes, int]:
    if manifest.media is None:
        raise UnsupportedMedia(
            content_type=media[0].content_type, expected=f"JSON: {describe(manifest.inputs)}"
        )
    return encode_payload({}, media), len(media)


def _decode_json(body: bytes, manifest: ModelManifest) -> tuple[bytes, int]:
    quick = _decode_regular(body, manifest)
    if quick is not None:
        return quick
    call = read_json(body)
    if not isinstance(call, dict) or len(call) != 1 or not {"input", "inputs"} & set(call):
        raise InvalidRequest(reason='the body must be {"input": …} or {"inputs": [ … ]}')
    samples = [call["input"]] if "input" in call else call["inputs"]
    if not isinstance(samples, list) or not samples:
        raise InvalidRequest(reason="'inputs' must be a list of at least one input")
    is_table = isinstance(manifest.media, TableInput)
    encoded = [isinstance(sample, dict) and "b64" in sample and not is_table for sample in samples]
    if all(encoded):
        return _encode_media([_read_base64(sample) for sample in samples], manifest)
    if any(encoded):
        raise InvalidRequest(reason="'inputs' mixes encoded bytes and numbers")
    tensors = _to_tensors(samples, manifest)
    rows = check_inputs(tensors, manifest.inputs)
    return encode_payload(tensors), rows


def _decode_regular(body: bytes, manifest: ModelManifest) -> tuple[bytes, int] | None:
    start = _ONLY_KEY.match(body)
    end = body.rfind(b"}")
    if len(manifest.inputs) != 1 or start is None or body[end + 1 :].strip():
        return None
    spec = manifest.inputs[0]
    tensor = read_regular(body[start.end() : end], spec, is_batch=start[1] == b"inputs")
    return None if tensor is None else (encode_payload({spec.name: tensor}), tensor.shape[0])


def _read_base64(sample: dict[str, Any]) -> Media:
    if set(sample) != {"b64"} or not isinstance(sample["b64"], str):
        raise InvalidRequest(reason='encoded bytes must be {"b64": "…"} and nothing else')
    try:
        data = base64.b64decode(sample["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidMedia(media="image", reason="'b64' is not base64") from None
    return Media(data, _recognise(data) or "image/*")


def _to_tensors(samples: list[Any], manifest: ModelManifest) -> dict[str, Array]:
    specs, media = manifest.inputs, manifest.media
    if isinstance(media, TableInput) and _is_named(samples[0], media):
        return {media.input: encode_rows(samples, media)}
    if len(specs) == 1 and not isinstance(samples[0], dict):
        return {specs[0].name: to_tensor(samples, specs[0])}
    return {spec.name: to_tensor([_value(s, spec, specs) for s in samples], spec) for spec in specs}


def _is_named(sample: Any, media: TableInput) -> bool:
    """Whether it is a row with columns' names, or several of them, and not the tensor by its name."""
    if isinstance(sample, list) and sample:
        return isinstance(sample[0], dict)
    if not isinstance(sample, dict):
        return False
    return set(sample) != {media.input} or not isinstance(sample[media.input], list)


def _value(sample: Any, spec: TensorSpec, specs: list[TensorSpec]) -> Any:
    if not isinstance(sample, dict) or set(sample) != {spec.name for spec in specs}:
        raise InvalidInput(
            reason="each input must be an object with the model's inputs by name",
            expected=describe(specs),
        )
    return sample[spec.name]


def _read_upload(body: bytes, boundary: bytes) -> list[Media]:
    media: list[Media] = []
    unknown: list[str] = []

    def on_file(file: File) -> None:
        if file.field_name != b"file":
            unknown.append((file.field_name or b"").decode("utf-8", "replace"))
            return
        content = file.file_object
        content.seek(0)
        data = content.read()
        media.append(Media(data, _recognise(data) or "image/*"))

    def on_field(field: Field) -> None:
        unknown.append((field.field_name or b"").decode("utf-8", "replace"))

    try:
        parser = FormParser(
            "multipart/form-data", on_field, on_file, boundary=boundary, config=_IN_MEMORY
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(reason=f"the upload is malformed ({error})") from None
    if unknown:
        raise InvalidRequest(reason=f"the upload's field '{unknown[0]}' is not supported")
    if not media:
        raise InvalidRequest(reason="the upload has no file in a field named 'file'")
    return media
