"""Modelry's own predict call: numbers, images or an upload in; labels and scores out. Pure functions."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from modelry.core.errors import InvalidInput, InvalidMedia, InvalidRequest, UnsupportedMedia
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import Array, Media, decode_payload, encode_payload
from modelry.server.api.doors.numbers import (
    read_count,
    read_json,
    read_regular,
    to_tensor,
    write_json,
)

#: Best labels of a prediction, where the call does not say how many.
DEFAULT_TOP_K = 10

#: A body with one of the two keys and nothing else; what follows is its value and the closing brace.
_ONLY_KEY = re.compile(rb'\s*\{\s*"(inputs?)"\s*:\s*')
_EXPECTED = "application/json, an image, or multipart/form-data with the field 'file'"
#: What image files begin with; curl and browsers often do not tell the type.
_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"RIFF", "image/webp"),
)
#: The whole body is in memory already and has kept its limit.
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf")}
_VAGUE = {"", "application/octet-stream", "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the query may say."""

    top_k: int = DEFAULT_TOP_K
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went, seconds."""

    queue_s: float
    inference_s: float
    total_s: float


def read_options(query: Mapping[str, str]) -> Options:
    """The query's options; raises `InvalidRequest` for any other and for values that are none."""
    unknown = sorted(set(query) - {"top_k", "version"})
    if unknown:
        raise InvalidRequest(reason=f"the query parameter '{unknown[0]}' is not supported")
    version = read_count("version", query["version"]) if "version" in query else None
    top_k = read_count("top_k", query["top_k"]) if "top_k" in query else DEFAULT_TOP_K
    return Options(top_k, version)


def decode(body: bytes, content_type: str, manifest: ModelManifest) -> bytes:
    """The call as a payload; raises `InvalidRequest`, `InvalidInput`, `InvalidMedia` or `UnsupportedMedia`."""
    kind, options = parse_options_header(content_type)
    media_type = kind.decode("latin-1").lower()
    if media_type in _VAGUE:
        media_type = _recognise(body) or media_type
    if media_type == "application/json" or media_type.endswith("+json"):
        return _decode_json(body, manifest)
    if media_type.startswith("image/"):
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
    if not np.isfinite(output).all():
        # The best of such scores would be an answer that the model never gave.
        raise InvalidInput(
            reason="the model's answer to it is no number",
            expected=f"{describe(manifest.inputs)}, finite and of the size it learned from",
        )
    answer = {
        **about,
        "predictions": [_describe(row, manifest.labels, top_k) for row in output],
        "timing": {
            "queue_ms": round(timing.queue_s * 1000, 3),
            "inference_ms": round(timing.inference_s * 1000, 3),
            "total_ms": round(timing.total_s * 1000, 3),
        },
    }
    return write_json(answer, is_finite=True)


def _describe(row: Array, labels: list[str], top_k: int) -> dict[str, Any]:
    if row.ndim != 1 or row.shape[0] != len(labels):
        return {"values": row.tolist()}
    best = np.argsort(-row, kind="stable")[:top_k]
    scores = [{"label": labels[index], "score": float(row[index])} for index in best]
    return {**scores[0], "scores": scores}


def _recognise(body: bytes) -> str | None:
    for mark, media_type in _MARKS:
        if body.startswith(mark):
            return media_type
    return "application/json" if body.lstrip()[:1] == b"{" else None


def _encode_media(media: list[Media], manifest: ModelManifest) -> bytes:
    if manifest.media is None:
        raise UnsupportedMedia(
            content_type=media[0].content_type, expected=f"JSON: {describe(manifest.inputs)}"
        )
    return encode_payload({}, media)


def _decode_json(body: bytes, manifest: ModelManifest) -> bytes:
    quick = _decode_regular(body, manifest)
    if quick is not None:
        return quick
    call = read_json(body)
    if not isinstance(call, dict) or len(call) != 1 or not {"input", "inputs"} & set(call):
        raise InvalidRequest(reason='the body must be {"input": …} or {"inputs": [ … ]}')
    samples = [call["input"]] if "input" in call else call["inputs"]
    if not isinstance(samples, list) or not samples:
        raise InvalidRequest(reason="'inputs' must be a list of at least one input")
    encoded = [isinstance(sample, dict) and "b64" in sample for sample in samples]
    if all(encoded):
        return _encode_media([_read_base64(sample) for sample in samples], manifest)
    if any(encoded):
        raise InvalidRequest(reason="'inputs' mixes encoded bytes and numbers")
    tensors = _to_tensors(samples, manifest)
    check_inputs(tensors, manifest.inputs)
    return encode_payload(tensors)


def _decode_regular(body: bytes, manifest: ModelManifest) -> bytes | None:
    start = _ONLY_KEY.match(body)
    end = body.rfind(b"}")
    if len(manifest.inputs) != 1 or start is None or body[end + 1 :].strip():
        return None
    spec = manifest.inputs[0]
    tensor = read_regular(body[start.end() : end], spec, is_batch=start[1] == b"inputs")
    return None if tensor is None else encode_payload({spec.name: tensor})


def _read_base64(sample: dict[str, Any]) -> Media:
    if set(sample) != {"b64"} or not isinstance(sample["b64"], str):
        raise InvalidRequest(reason='encoded bytes must be {"b64": "…"} and nothing else')
    try:
        data = base64.b64decode(sample["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidMedia(media="image", reason="'b64' is not base64") from None
    return Media(data, _recognise(data) or "image/*")


def _to_tensors(samples: list[Any], manifest: ModelManifest) -> dict[str, Array]:
    specs = manifest.inputs
    if len(specs) == 1 and not isinstance(samples[0], dict):
        return {specs[0].name: to_tensor(samples, specs[0])}
    return {spec.name: to_tensor([_value(s, spec, specs) for s in samples], spec) for spec in specs}


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
