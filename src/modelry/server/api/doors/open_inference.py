"""The Open Inference Protocol's infer call over HTTP, with its binary tensors. Pure translation.

A client that sends the same head again and again, with other bytes behind it, has it read once: what it meant is
remembered, and its tensors are put into the frame as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelry.core.errors import InvalidInput, InvalidRequest, ModelryError
from modelry.core.frames import Op
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import encode_payload, wrap_payload
from modelry.core.texts import STRING
from modelry.server.api.doors.door import Call, Find, Head, Refusal, Target
from modelry.server.api.doors.names import is_name, read_version
from modelry.server.api.doors.numbers import write_json
from modelry.server.api.doors.open_outputs import LENGTH_HEADER, Wanted, Writer
from modelry.server.api.doors.open_tensors import (
    Request,
    check_truth,
    numpy_name,
    read_raw,
    read_request,
    read_tensors,
)

_PREFIX, _SUFFIX, _VERSIONS = "/v2/models/", "/infer", "/versions/"
#: Heads are remembered up to this length, and so many of them.
_REMEMBERED_BYTES, _REMEMBERED = 1024, 512


class _Place(NamedTuple):
    """A binary input: where its bytes lie behind the head."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class _Plan(NamedTuple):
    """What a head means for a model, whatever bytes follow it."""

    manifest: ModelManifest
    places: tuple[_Place, ...]
    size: int
    rows: int
    writer: Writer


class OpenInferenceDoor:
    """`POST /v2/models/{name}[/versions/{version}]/infer`; a version is a number or an alias."""

    paths = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")
    compresses = True

    def __init__(self) -> None:
        self._plans: dict[tuple[str, bytes], _Plan] = {}

    def match(self, path: str) -> Target | None:
        if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
            return None
        rest = path[len(_PREFIX) : -len(_SUFFIX)]
        name, mark, version = rest.rpartition(_VERSIONS)
        if not mark:
            return Target(rest) if is_name(rest) else None
        pinned = read_version(version)
        if not is_name(name) or pinned is None or "/" in version:
            return None
        return Target(name, pinned)

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        if head.query:
            raise InvalidRequest(reason="this call takes no query parameters")
        target = head.target
        manifest = find(target.name, target.version)
        length = _read_length(head.headers.get(LENGTH_HEADER), len(body))
        if length == 0:
            return _decode_bare(target, body, manifest)
        text = body if length is None else body[:length]
        raw = memoryview(body)[len(text) :]
        key = (target.name, text)
        plan = self._plans.get(key) if length is not None else None
        if plan is None or plan.manifest is not manifest or plan.size != len(raw):
            request = read_request(text)
            writer = Writer(target.name, request.id, _read_outputs(request, manifest))
            tensors = read_tensors(request, raw)
            rows = check_inputs(tensors, manifest.inputs)
            self._remember(key, request, _Plan(manifest, (), len(raw), rows, writer))
            payload = encode_payload(tensors)
            return Call(target.name, target.version, payload, rows, writer.write)
        payload = wrap_payload(
            [
                (name, dtype, shape, _checked(name, dtype, raw[start:end]))
                for name, dtype, shape, start, end in plan.places
            ]
        )
        return Call(target.name, target.version, payload, plan.rows, plan.writer.write)

    def encode_error(self, error: ModelryError) -> Refusal:
        """The protocol's one shape of an error; ours has its code in a header."""
        return refusal(error)

    def _remember(self, key: tuple[str, bytes], request: Request, plan: _Plan) -> None:
        """Keeps what a head means if all its inputs are plain numbers in the bytes behind it."""
        if len(key[1]) > _REMEMBERED_BYTES or request.id:
            return
        places, at = [], 0
        for tensor in request.inputs:
            size, dtype = tensor.parameters.binary_data_size, numpy_name(tensor)
            if size is None or dtype == STRING:
                return
            places.append(_Place(tensor.name, dtype, tuple(tensor.shape), at, at + size))
            at += size
        if len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        self._plans[key] = plan._replace(places=tuple(places))


def refusal(error: ModelryError) -> Refusal:
    """`{"error": "what happened, and what to do"}`."""
    body = write_json({"error": str(error)}, is_finite=True)
    return Refusal(body, headers=(("x-modelry-error", error.code),))


def _read_length(text: str | None, size: int) -> int | None:
    """How long the JSON is; None: all of the body is JSON."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= size):
        raise InvalidRequest(
            reason=f"Inference-Header-Content-Length is '{text}', the body has {size} bytes"
        )
    return int(text)


def _checked(name: str, dtype: str, data: memoryview) -> memoryview:
    if dtype == "bool":
        check_truth(name, data)
    return data


def _decode_bare(target: Target, body: bytes, manifest: ModelManifest) -> Call:
    """A body without JSON is the only input: its rows are counted, a BYTES input gets it as its one element."""
    if len(manifest.inputs) != 1:
        raise InvalidInput(
            reason="a body without a head is one input", expected=describe(manifest.inputs)
        )
    spec = manifest.inputs[0]
    if spec.dtype == STRING:
        shape = [1 if length is None else length for length in spec.shape]
        raw = len(body).to_bytes(4, "little") + body
        tensor = read_raw(spec.name, STRING, shape, memoryview(raw))
    else:
        shape = _guess_shape(spec.shape, len(body) // np.dtype(spec.dtype).itemsize)
        tensor = read_raw(spec.name, spec.dtype, shape, memoryview(body))
    rows = check_inputs({spec.name: tensor}, manifest.inputs)
    wanted = tuple(Wanted(output.name, True, 0) for output in manifest.outputs)
    writer = Writer(target.name, "", wanted)
    payload = encode_payload({spec.name: tensor})
    return Call(target.name, target.version, payload, rows, writer.write, Op.PREDICT)


def _guess_shape(shape: Sequence[int | None], elements: int) -> list[int]:
    """The first free dimension takes what there is, further ones are 1."""
    sizes = [1 if length is None else length for length in shape]
    if None in shape:
        at = list(shape).index(None)
        others = int(np.prod([size for index, size in enumerate(sizes) if index != at]))
        sizes[at] = elements // max(1, others)
    return sizes


def _read_outputs(request: Request, manifest: ModelManifest) -> tuple[Wanted, ...]:
    """The outputs that are wanted, in their order; all where none is named. Raises `InvalidRequest`."""
    dtypes = {spec.name: spec.dtype for spec in manifest.outputs}
    default = request.parameters.binary_data_output
    if not request.outputs:
        wanted = [Wanted(name, default, 0) for name in dtypes]
    else:
        wanted = []
        for output in request.outputs:
            given = output.parameters
            is_binary = default if given.binary_data is None else given.binary_data
            wanted.append(Wanted(output.name, is_binary, given.classification or 0))
    for one in wanted:
        if one.name not in dtypes or sum(one.name == other.name for other in wanted) > 1:
            raise InvalidRequest(
                reason=f"the output '{one.name}' is not known, or asked for twice",
                remedy=f"The model gives: {', '.join(dtypes)}.",
            )
        if dtypes[one.name] == "float16" and not (one.is_binary or one.classes):
            raise InvalidRequest(
                reason=f"the output '{one.name}' is FP16, which JSON does not carry",
                remedy="Ask for its bytes: binary_data or binary_data_output true.",
            )
    return tuple(wanted)
