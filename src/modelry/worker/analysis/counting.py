"""From a graph and what its operators did to the cost of each layer: counted from the graph, never from a recipe."""

from __future__ import annotations

import math
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import onnx

from modelry.core.analysis import Layer
from modelry.worker.analysis.calls import Call, Shaped, walk
from modelry.worker.analysis.operators import (
    STATE,
    VIEWS,
    Met,
    keeps_besides,
    keeps_inputs,
    keeps_outputs,
    products,
)

#: Weights are of these; whole numbers in a graph are shapes, axes and places.
_WEIGHTS: dict[int, int] = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.DOUBLE: 8,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
}


#: What a graph may do to a weight before it is used: still the same weight.
_REARRANGES = VIEWS | {"Cast", "DequantizeLinear"}


@dataclass(frozen=True, slots=True)
class Weights:
    """One tensor of the graph that a training changes."""

    name: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(slots=True)
class _Sums:
    """What the calls of one operator add up to."""

    macs: int = 0
    macs_backward: int = 0
    row_bytes: int = 0
    kept_bytes: int = 0
    output_shape: list[int] = field(default_factory=list)


class Counter:
    """Counts one graph; `rows` is the number of rows that `calls` worked on."""

    def __init__(self, graph: onnx.GraphProto, nodes: dict[str, onnx.NodeProto], rows: int) -> None:
        self._nodes = nodes
        self._rows = rows
        self._weights = dict(_weights(graph))
        for node in nodes.values():
            if node.op_type in _REARRANGES and node.input[0] in self._weights:
                self._weights[node.output[0]] = self._weights[node.input[0]]
        self._constants = {
            output
            for node in nodes.values()
            if node.op_type == "Constant"
            for output in node.output
        }
        #: Tensors that depend on weights: a gradient flows back through them.
        self._learned = self._find_learned()
        self._charged: set[str] = set()
        self._kept: set[str] = set()
        self._views: dict[str, str] = {}
        self.uncounted: set[str] = set()

    def layers(self, counted: Iterable[Call], timed: Sequence[Sequence[Call]]) -> list[Layer]:
        """In the graph's order; `timed` holds the calls of each timed run."""
        sums: dict[str, _Sums] = defaultdict(_Sums)
        for call in counted:
            if call.node in self._nodes:
                self._add(call, sums[call.node])
        took = _medians(timed)
        labels = _labels(self._nodes)
        return [
            self._layer(labels[name], node, sums[name], took.get(name, 0.0))
            for name, node in self._nodes.items()
            if name in sums
        ]

    def _layer(self, label: str, node: onnx.NodeProto, sums: _Sums, took_us: float) -> Layer:
        mine: dict[str, Weights] = {}
        if not any(name in self._weights for name in node.output):
            used = [self._weights[name] for name in node.input if name in self._weights]
            # Weights that several operators share are the first one's.
            mine = {one.name: one for one in used if one.name not in self._charged}
            self._charged.update(mine)
        return Layer(
            name=label,
            operator=node.op_type,
            output_shape=sums.output_shape,
            parameters=sum(one.size for one in mine.values()),
            weight_bytes=sum(one.bytes for one in mine.values()),
            macs=sums.macs // self._rows,
            macs_backward=sums.macs_backward // self._rows,
            row_bytes=sums.row_bytes // self._rows,
            kept_bytes=sums.kept_bytes // self._rows,
            time_us=took_us,
        )

    def _add(self, call: Call, sums: _Sums) -> None:
        node = self._nodes[call.node]
        inputs, outputs = _by_name(node.input, call.inputs), _by_name(node.output, call.outputs)
        if node.op_type in VIEWS:
            self._views[node.output[0]] = self._source(node.input[0])
        met = Met(
            node,
            [self._shape(name, inputs) for name in node.input],
            call.outputs[0].shape if call.outputs else (),
        )
        sums.output_shape = list(met.output)
        moved = [
            one for name, one in (*inputs.items(), *outputs.items()) if name not in self._weights
        ]
        sums.row_bytes += sum(one.bytes for one in moved)
        found = products(met)
        if found is None:
            self.uncounted.add(node.op_type)
            found = []
        sums.macs += sum(product.macs for product in found)
        if self._learns(node):
            for product in found:
                sums.macs_backward += product.macs * self._gradients(node, product.operands)
            sums.kept_bytes += self._keep(met, inputs, outputs)

    def _gradients(self, node: onnx.NodeProto, operands: tuple[int, int]) -> int:
        return sum(
            place == STATE
            or node.input[place] in self._learned
            or node.input[place] in self._weights
            for place in operands
        )

    def _keep(self, met: Met, inputs: dict[str, Shaped], outputs: dict[str, Shaped]) -> int:
        """Bytes kept for this operator's gradient that no operator before it has kept already."""
        operator = met.node.op_type
        wanted: dict[str, Shaped] = {}
        if keeps_inputs(operator):
            wanted |= {name: one for name, one in inputs.items() if name not in self._weights}
        if keeps_outputs(operator):
            wanted |= outputs
        kept = 0
        for name, one in wanted.items():
            source = self._source(name)
            if one.is_float and source not in self._kept and source not in self._constants:
                self._kept.add(source)
                kept += one.bytes
        try:
            return kept + keeps_besides(met)
        except LookupError:
            return kept

    def _learns(self, node: onnx.NodeProto) -> bool:
        return any(name in self._learned or name in self._weights for name in node.input)

    def _find_learned(self) -> set[str]:
        learned: set[str] = set()
        for node in self._nodes.values():
            if any(name in learned or name in self._weights for name in node.input):
                learned.update(name for name in node.output if name)
        return learned

    def _source(self, name: str) -> str:
        return self._views.get(name, name)

    def _shape(self, name: str, inputs: dict[str, Shaped]) -> tuple[int, ...] | None:
        if name in inputs:
            return inputs[name].shape
        weights = self._weights.get(name)
        return None if weights is None else weights.shape


def _weights(graph: onnx.GraphProto) -> Iterable[tuple[str, Weights]]:
    yield from _initializers(graph)
    for node in walk(graph):
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _initializers(inner)


def _initializers(graph: onnx.GraphProto) -> Iterable[tuple[str, Weights]]:
    for tensor in graph.initializer:
        shape = tuple(tensor.dims)
        # A single number is a constant of a formula.
        if tensor.data_type in _WEIGHTS and shape:
            size_bytes = math.prod(shape) * _WEIGHTS[tensor.data_type]
            yield tensor.name, Weights(tensor.name, shape, size_bytes)


def _medians(timed: Sequence[Sequence[Call]]) -> dict[str, float]:
    """Operator → µs of a run."""
    runs: list[dict[str, float]] = []
    for calls in timed:
        sums: dict[str, float] = defaultdict(float)
        for call in calls:
            sums[call.node] += call.took_us
        runs.append(sums)
    names = {name for sums in runs for name in sums}
    return {name: median(sums.get(name, 0.0) for sums in runs) for name in names}


def _by_name(names: Sequence[str], shaped: Sequence[Shaped]) -> dict[str, Shaped]:
    """The profile leaves out what was not given; where it left out more, nothing is known."""
    given = [name for name in names if name]
    return dict(zip(given, shaped, strict=True)) if len(given) == len(shaped) else {}


def _labels(nodes: dict[str, onnx.NodeProto]) -> dict[str, str]:
    """What people know them by: `/network/conv1/Conv` is `conv1` where that is enough."""
    paths = {
        key: [part for part in node.name.split("/") if part] or [f"{node.op_type} {key[8:]}"]
        for key, node in nodes.items()
    }
    depth = 0
    heads = [path for path in paths.values() if len(path) > 1]
    while heads and all(len(path) > depth + 1 and path[depth] == heads[0][depth] for path in heads):
        depth += 1
    whole = {key: path[depth:] or path[-1:] for key, path in paths.items()}
    short = {
        key: path[:-1] if len(path) > 1 and path[-1] == nodes[key].op_type else path
        for key, path in whole.items()
    }
    seen = Counts("/".join(path) for path in short.values())
    labels: dict[str, str] = {}
    taken = Counts[str]()
    for key, path in short.items():
        label = "/".join(path if seen["/".join(path)] == 1 else whole[key])
        taken[label] += 1
        labels[key] = label if taken[label] == 1 else f"{label} {taken[label]}"
    return labels
