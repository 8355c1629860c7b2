"""What each operator of a graph did when it ran: the shapes it met and the time it took, from ONNX Runtime's profile.

The graph runs as it is written, without the runtime's rewriting, so that each call belongs to one operator of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from modelry.core.manifests import TensorSpec

#: A free length that nobody has named.
ANY_LENGTH = 128
_ENDING = "_kernel_time"
_END_OF_RUN = "model_run"
#: Bytes of an element, by the profile's name of its type.
_ELEMENT_BYTES = {
    "float16": 2,
    "bfloat16": 2,
    "float": 4,
    "double": 8,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
}
_FLOATS = ("float16", "bfloat16", "float", "double")


@dataclass(frozen=True, slots=True)
class Shaped:
    """One tensor as a call met it."""

    type: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        return self.size * _ELEMENT_BYTES.get(self.type, 0)

    @property
    def is_float(self) -> bool:
        return self.type in _FLOATS


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one operator."""

    node: str
    inputs: list[Shaped]
    outputs: list[Shaped]
    took_us: float


def name_nodes(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Gives every operator, those of inner graphs too, a name of its own; returns them by it, with the old names."""
    found: dict[str, onnx.NodeProto] = {}
    for node in walk(graph):
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        node.name = f"operator{len(found)}"
        found[node.name] = kept
    return found


def walk(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    """The operators in the order they are written, an inner graph's after the one that holds it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from walk(attribute.g)
            for inner in attribute.graphs:
                yield from walk(inner)


def run(
    file: Path, feeds: Mapping[str, NDArray[Any]], threads: int, times: int
) -> list[list[Call]]:
    """The calls of each of so many runs; the profile is written beside the file and removed."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(file.with_suffix(""))
    if times == 1:
        # Weights in an arrangement of the runtime's own are not told as inputs; they are what makes it fast, too.
        options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(
        str(file), sess_options=options, providers=["CPUExecutionProvider"]
    )
    for _ in range(times):
        session.run(None, dict(feeds))
    profile = Path(session.end_profiling())
    try:
        events = json.loads(profile.read_bytes())
    finally:
        profile.unlink()
    runs: list[list[Call]] = []
    calls: list[Call] = []
    for event in events:
        if _is_call(event):
            calls.append(_call(event))
        elif event.get("name") == _END_OF_RUN:
            # Told when it is over, after its calls.
            runs.append(calls)
            calls = []
    return runs


def make_feeds(inputs: Iterable[TensorSpec], rows: int) -> dict[str, NDArray[Any]]:
    """Numbers for a run: random ones for floats, ones for whole numbers (a token that every vocabulary has)."""
    random = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        shape = (spec.shape[0] or rows, *row_shape(spec))
        dtype = np.dtype(spec.dtype)
        feeds[spec.name] = (
            random.random(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
        )
    return feeds


def row_shape(spec: TensorSpec) -> list[int]:
    """One row, with free lengths as the model's importer found them to run, or of `ANY_LENGTH`."""
    known = spec.example or []
    free = spec.shape[1:]
    if len(known) != len(free):
        known = [ANY_LENGTH] * len(free)
    return [found if length is None else length for length, found in zip(free, known, strict=True)]


def _is_call(event: Any) -> bool:
    return event.get("cat") == "Node" and str(event.get("name", "")).endswith(_ENDING)


def _call(event: Any) -> Call:
    said = event["args"]
    return Call(
        node=str(event["name"]).removesuffix(_ENDING),
        inputs=_shaped(said.get("input_type_shape", [])),
        outputs=_shaped(said.get("output_type_shape", [])),
        took_us=float(event["dur"]),
    )


def _shaped(told: Iterable[Mapping[str, list[int]]]) -> list[Shaped]:
    return [Shaped(name, tuple(shape)) for one in told for name, shape in one.items()]
