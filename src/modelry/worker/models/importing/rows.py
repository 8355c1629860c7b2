"""Gives a graph rows: whatever it takes and gives, its published form takes N of it and gives N of it.

Three ways, tried in this order by `trying`: the graph has a free batch already; its fixed batch of one can be freed;
or it is called once a row by ONNX's own `Loop`, which is right for every graph, also for one without any batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

#: Names of what is added, and of the graph's own inputs and outputs inside the loop.
_INSIDE, _OWN = "modelry.row/", "modelry.own/"
_DEFAULT_OPSET = 13


class Rows(StrEnum):
    """How the published graph gets its rows."""

    #: It has them: its first dimensions are free.
    OWN = "its own free batch"
    #: Its first dimensions were 1 (or another number) and are free now.
    FREED = "its batch, freed"
    #: Its first dimensions are one number larger than 1, and every call has exactly so many rows.
    FIXED = "its fixed batch"
    #: One call of the graph for each row; its first dimensions of 1 are the row.
    ONE_BY_ONE = "one call a row"
    #: One call of the graph for each row; the row stands before the graph's own dimensions.
    WHOLE = "one whole call a row"

    @property
    def keeps_first(self) -> bool:
        """Whether the first dimension of the graph's own tensors is the row."""
        return self is not Rows.WHOLE


def graph_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """The inputs that somebody must give; old graphs list their weights among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def free_batch(model: ModelProto) -> ModelProto:
    """The graph with a free first dimension of every input and output; inner shapes are forgotten."""
    freed = ModelProto()
    freed.CopyFrom(model)
    for value in [*graph_inputs(freed.graph), *freed.graph.output]:
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_param = "N"
    _forget_shapes(freed.graph)
    return freed


def call_by_row(model: ModelProto, outputs: Sequence[str], rows: Rows) -> ModelProto:
    """A graph that calls this one once a row, with the same names outside.

    `outputs` are those to be published. The body picks row i of every input (`Gather`), runs the graph, and `Loop`
    stacks what comes out.
    """
    inside = ModelProto()
    inside.CopyFrom(model)
    graph = inside.graph
    inputs = graph_inputs(graph)
    _forget_shapes(graph)
    renamed = {value.name: _OWN + value.name for value in [*inputs, *graph.output]}
    _rename(graph.node, renamed)
    one = rows.keeps_first
    published = [value for value in graph.output if value.name in outputs]
    body = helper.make_graph(
        [
            helper.make_node("Identity", [f"{_INSIDE}on"], [f"{_INSIDE}still"]),
            # The first version of Loop insists on carrying something from one turn to the next.
            helper.make_node("Identity", [f"{_INSIDE}carried"], [f"{_INSIDE}passed"]),
            helper.make_node(
                "Reshape", [f"{_INSIDE}number", f"{_INSIDE}single"], [f"{_INSIDE}index"]
            ),
            *(_pick(value.name, renamed[value.name], one) for value in inputs),
            *graph.node,
            *(_drop_batch(renamed[value.name], one) for value in published),
        ],
        "row",
        [
            _scalar(f"{_INSIDE}number", TensorProto.INT64),
            _scalar(f"{_INSIDE}on", TensorProto.BOOL),
            _scalar(f"{_INSIDE}carried", TensorProto.INT64),
        ],
        [
            _scalar(f"{_INSIDE}still", TensorProto.BOOL),
            _scalar(f"{_INSIDE}passed", TensorProto.INT64),
            *(_typed(value, f"{_INSIDE}done/{value.name}") for value in published),
        ],
    )
    weights = list(graph.initializer)
    outer = helper.make_graph(
        [
            helper.make_node("Shape", [inputs[0].name], [f"{_INSIDE}shape"]),
            helper.make_node(
                "Gather", [f"{_INSIDE}shape", f"{_INSIDE}zero"], [f"{_INSIDE}rows"], axis=0
            ),
            helper.make_node(
                "Loop",
                [f"{_INSIDE}rows", f"{_INSIDE}true", f"{_INSIDE}zero"],
                [f"{_INSIDE}last", *(value.name for value in published)],
                body=body,
            ),
        ],
        model.graph.name or "rows",
        [_with_rows(value, one) for value in inputs],
        [_with_rows(value, one) for value in published],
        initializer=[
            *weights,
            helper.make_tensor(f"{_INSIDE}zero", TensorProto.INT64, [], [0]),
            helper.make_tensor(f"{_INSIDE}single", TensorProto.INT64, [1], [1]),
            helper.make_tensor(f"{_INSIDE}true", TensorProto.BOOL, [], [True]),
        ],
    )
    outer.sparse_initializer.extend(graph.sparse_initializer)
    inside.graph.CopyFrom(outer)
    inside.ir_version = max(inside.ir_version, 4)
    _ensure_opset(inside)
    return inside


def _pick(name: str, inner: str, keeps_first: bool) -> onnx.NodeProto:
    """Row i: as a batch of one (an index of one number keeps the dimension), or without the row's dimension."""
    if not keeps_first:
        return helper.make_node("Gather", [name, f"{_INSIDE}number"], [inner], axis=0)
    return helper.make_node("Gather", [name, f"{_INSIDE}index"], [inner], axis=0)


def _drop_batch(inner: str, keeps_first: bool) -> onnx.NodeProto:
    outer = f"{_INSIDE}done/{inner.removeprefix(_OWN)}"
    if not keeps_first:
        return helper.make_node("Identity", [inner], [outer])
    return helper.make_node("Gather", [inner, f"{_INSIDE}zero"], [outer], axis=0)


def _rename(nodes: Sequence[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Gives values other names, also where inner graphs use them."""
    for node in nodes:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
        for attribute in node.attribute:
            for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _rename(graph.node, names)
                for value in graph.output:
                    value.name = names.get(value.name, value.name)


def _forget_shapes(graph: GraphProto) -> None:
    """Drops what the exporter noted of inner values: it may name the old batch."""
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _forget_shapes(inner)


def _with_rows(value: ValueInfoProto, keeps_first: bool) -> ValueInfoProto:
    """The value with N rows in front, or in the place of its batch of one."""
    changed = ValueInfoProto()
    changed.CopyFrom(value)
    tensor = changed.type.tensor_type
    if not tensor.HasField("shape"):
        return changed
    own = [_size(size) for size in tensor.shape.dim]
    return helper.make_tensor_value_info(
        value.name, tensor.elem_type, ["N", *(own[1:] if keeps_first else own)]
    )


def _size(size: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if size.HasField("dim_value"):
        return int(size.dim_value)
    return str(size.dim_param) or None


def _typed(value: ValueInfoProto, name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, None)


def _scalar(name: str, kind: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [])


def _ensure_opset(model: ModelProto) -> None:
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _DEFAULT_OPSET))
