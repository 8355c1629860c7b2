"""Modelry's explain call: one input in; what each of its parts gave to the score out. Pure translation.

`POST /explain/{name}?method=…&label=…` takes what `/predict/{name}` takes, one input at a time. Every further query
parameter is a setting of the method.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from modelry.core.calls import ExplainAnswer, ExplainCall, pack, unpack
from modelry.core.errors import InvalidInput, InvalidRequest, ModelryError, to_wire
from modelry.core.explaining import check_cost, choose, subject_of
from modelry.core.frames import Op
from modelry.core.inputs import describe
from modelry.core.manifests import ImageInput, ModelManifest
from modelry.core.tensors import decode_payload
from modelry.server.api.doors import native
from modelry.server.api.doors.door import Answer, Call, Find, Head, Refusal, Target
from modelry.server.api.doors.numbers import read_count
from modelry.server.gateway import Reply

_PREFIX = "/explain/"


@dataclass(frozen=True, slots=True)
class Options:
    """What the query says."""

    method: str
    label: str | None
    version: int | None
    #: The method's own, as texts.
    settings: dict[str, str]


class ExplainDoor:
    """`POST /explain/{name}`, and `/explain/{project}/{name}` for a key that belongs to no project."""

    paths = ("/explain/{name}",)
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
        version = head.target.version if options.version is None else options.version
        manifest = find(head.target.name, version)
        content_type = head.headers.get("content-type", "")
        payload = native.decode(body, content_type, manifest)
        rows = _count_rows(payload, options, manifest)
        call = ExplainCall(
            method=options.method,
            parameters=dict(options.settings),
            label=options.label,
            payload=payload,
        )

        def encode(reply: Reply) -> Answer:
            about = {"deployment": head.target.name, "model": reply.model, "version": reply.version}
            timing = _timing(reply, time.perf_counter() - began)
            return Answer(encode_answer(reply.payload, about, reply.manifest, timing))

        return Call(head.target.name, version, pack(call), rows, encode, Op.EXPLAIN)

    def encode_error(self, error: ModelryError) -> Refusal:
        return Refusal(msgspec.json.encode({"error": to_wire(error)}))


def read_options(query: str) -> Options:
    """The query's options; raises `InvalidRequest` for one that is there twice or is none."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise InvalidRequest(reason=f"the query '{query}' cannot be read") from None
    given = dict(pairs)
    if len(given) != len(pairs):
        raise InvalidRequest(reason="the query has a parameter more than once")
    version = given.pop("version", None)
    return Options(
        method=given.pop("method", ""),
        label=given.pop("label", None),
        version=None if version is None else read_count("version", version),
        settings=given,
    )


def encode_answer(
    payload: bytes | memoryview,
    about: dict[str, Any],
    manifest: ModelManifest,
    timing: dict[str, float],
) -> bytes:
    """The answer's body: nested attributions for pictures, columns by weight for tables."""
    answer = unpack(payload, ExplainAnswer)
    values = np.frombuffer(answer.attributions, "<f4").reshape(answer.shape)
    said: dict[str, Any] = {
        **about,
        "method": answer.method,
        "parameters": answer.parameters,
        "label": answer.label,
        "score": answer.score,
        "base": answer.base,
        "residual": answer.residual,
        "evaluations": answer.evaluations,
    }
    if answer.columns:
        order = np.argsort(-np.abs(values), kind="stable")
        said["columns"] = [
            {"column": answer.columns[index], "attribution": float(values[index])}
            for index in order
        ]
    else:
        said["attributions"] = values.tolist()
        said["seen"] = _seen(manifest)
    return msgspec.json.encode({**said, "timing": timing})


def _count_rows(payload: bytes, options: Options, manifest: ModelManifest) -> int:
    """How many rows the explanation will run; refuses here what the replica would refuse."""
    opened = decode_payload(payload)
    if isinstance(manifest.media, ImageInput) and opened.media:
        shape, count = tuple(manifest.media.shape), len(opened.media)
        size = math.prod(shape) * np.dtype(manifest.inputs[0].dtype).itemsize
    else:
        tensors = list(opened.tensors.values())
        shape, count = (tensors[0].shape[1:], len(tensors[0])) if tensors else ((), 1)
        size = tensors[0][:1].nbytes if tensors else 0
    subject = subject_of(manifest, shape)
    if count != 1:
        expected = f"{describe(manifest.inputs)}, one at a time"
        raise InvalidInput(reason=f"it has {count} inputs", expected=expected)
    return check_cost(choose(options.method, options.settings, subject), subject, size)


def _seen(manifest: ModelManifest) -> dict[str, Any] | None:
    """Which part of a picture the attributions lie over; None where the model has no way to take pictures."""
    media = manifest.media
    if not isinstance(media, ImageInput):
        return None
    return {
        "height": media.height,
        "width": media.width,
        "resize": media.resize,
        "resize_to": media.resize_to,
    }


def _timing(reply: Reply, total_s: float) -> dict[str, float]:
    return {
        "queue_ms": round(reply.stats.queue_us / 1000, 3),
        "inference_ms": round(reply.stats.inference_us / 1000, 3),
        "total_ms": round(total_s * 1000, 3),
    }
