"""The Open Inference Protocol's answers over HTTP: outputs as JSON or as bytes, in the form the client asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from modelry.core.errors import InvalidInput
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array, decode_payload
from modelry.core.texts import STRING, pack_texts, type_name
from modelry.server.api.doors.datatypes import BYTES, DATATYPE_OF
from modelry.server.api.doors.door import Answer
from modelry.server.api.doors.numbers import write_numbers
from modelry.server.gateway import Reply

LENGTH_HEADER = "inference-header-content-length"

_BINARY = "application/octet-stream"


class Wanted(NamedTuple):
    """An output that the client asks for."""

    name: str
    is_binary: bool
    #: The best so many classes as texts; 0: the tensor itself.
    classes: int


class _Form(NamedTuple):
    """An answer of plain numbers alone, all but the numbers."""

    version: int
    #: Output, element type and shape, in their order.
    outputs: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]
    head: bytes
    headers: tuple[tuple[str, str], ...]


class Writer:
    """A reply in the form the client asked for."""

    __slots__ = ("_id", "_last", "_model", "_wanted")

    def __init__(self, model: str, id: str, wanted: tuple[Wanted, ...]) -> None:
        self._model = model
        self._id = id
        self._wanted = wanted
        #: Of the last answer: the next one mostly begins with the same bytes.
        self._last: _Form | None = None

    def write(self, reply: Reply) -> Answer:
        """Raises `InvalidInput` where the model that answered gave no such output."""
        tensors = decode_payload(reply.payload).tensors
        form = self._last
        if form is not None and form.version == reply.version:
            pieces: list[bytes | memoryview] = [form.head]
            for name, dtype, shape in form.outputs:
                array = tensors.get(name)
                if array is None or array.dtype != dtype or array.shape != shape:
                    break
                pieces.append(array.data)
            else:
                return Answer(b"".join(pieces), _BINARY, form.headers)
        return self._write_anew(reply, tensors)

    def _write_anew(self, reply: Reply, tensors: dict[str, Array]) -> Answer:
        heads: list[tuple[str, str, tuple[int, ...], int]] = []
        pieces: list[bytes | memoryview] = [b""]
        values: list[Any] = []
        for wanted in self._wanted:
            array = take_output(tensors, wanted, reply.manifest)
            dtype = type_name(array)
            datatype = BYTES if dtype == STRING else DATATYPE_OF[dtype]
            size = -1
            if wanted.is_binary:
                piece = pack_texts(wanted.name, array) if dtype == STRING else _bytes_of(array)
                size = len(piece)
                pieces.append(piece)
            else:
                values.append(array.ravel().tolist())
            heads.append((wanted.name, datatype, array.shape, size))
        head = _write_head(self._model, reply.version, self._id, heads, values)
        if len(pieces) == 1:
            return Answer(head)
        pieces[0] = head
        headers = ((LENGTH_HEADER, str(len(head))),)
        if not values and all(_is_plain(tensors[one.name], one) for one in self._wanted):
            arrays = ((one.name, tensors[one.name]) for one in self._wanted)
            outputs = tuple((name, array.dtype, array.shape) for name, array in arrays)
            self._last = _Form(reply.version, outputs, head, headers)
        return Answer(b"".join(pieces), _BINARY, headers)


def take_output(tensors: dict[str, Array], wanted: Wanted, manifest: ModelManifest) -> Array:
    """What the client asked for of the model's outputs; raises `InvalidInput` where there is no such."""
    array = tensors.get(wanted.name)
    if array is None:
        # The version that answered may be another than the one the call was read by.
        raise InvalidInput(
            reason=f"the version that answered gives no '{wanted.name}'",
            expected="an output of: " + ", ".join(tensors),
        )
    return _classify(array, wanted, manifest.labels) if wanted.classes else array


def _classify(array: Array, wanted: Wanted, labels: Sequence[str]) -> Array:
    """`score:index:label` of each row's best classes, as Triton writes them."""
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InvalidInput(
            reason=f"'{wanted.name}' has no score for each class",
            expected="classification for an output of shape (N, classes) only",
        )
    best = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, : wanted.classes]
    said = np.empty(best.shape, object)
    for row, indices in enumerate(best.tolist()):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            said[row, place] = f"{float(array[row, index]):f}:{index}{label}"
    return said


def _is_plain(array: Array, wanted: Wanted) -> bool:
    """Whether its bytes are sent as they lie in the reply."""
    return bool(array.size) and array.dtype.kind != "O" and not wanted.classes


def _bytes_of(array: Array) -> bytes | memoryview:
    """The reply's own bytes where they lie as they should."""
    if array.size and array.flags.c_contiguous:
        return array.data.cast("B")
    return array.tobytes()


_Heads = Sequence[tuple[str, str, tuple[int, ...], int]]


def _write_head(model: str, version: int, id: str, heads: _Heads, values: list[Any]) -> bytes:
    rest = iter(values)
    outputs = [
        _describe_output(*head) if head[3] >= 0 else {**_describe_output(*head), "data": next(rest)}
        for head in heads
    ]
    return write_numbers(_response(model, version, id, outputs))


def _response(model: str, version: int, id: str, outputs: list[Any]) -> dict[str, Any]:
    named = {"model_name": model, "model_version": str(version)}
    return {**named, "id": id, "outputs": outputs} if id else {**named, "outputs": outputs}


def _describe_output(name: str, datatype: str, shape: tuple[int, ...], size: int) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return {**described, "parameters": {"binary_data_size": size}} if size >= 0 else described
