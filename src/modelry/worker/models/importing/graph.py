"""An ONNX graph's allow-list: operators, sizes, nesting, functions and external files, before any runtime sees it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from modelry.core.errors import InvalidData, UnsafeFile
from modelry.core.files import safe_path
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.operators import is_known

MAX_NODES = 200_000
#: Graphs inside nodes (`If`, `Loop`, `Scan`) inside graphs.
MAX_DEPTH = 16
#: Numbers of one tensor, and of one declared input or output without its free dimensions.
MAX_ELEMENTS = 1 << 31
MAX_INPUT_ELEMENTS = 1 << 28
#: Weights of one model, bytes.
MAX_WEIGHTS = 16 << 30
MAX_NAME = 512

_DAMAGED = "Export it again, or get an undamaged copy."
_SIMPLIFY = "Export the model anew with fixed, smaller sizes, or simplify it (`onnxsim`)."
_OPERATORS = (
    "Export it with standard ONNX operators only (ai.onnx, ai.onnx.ml, or those of com.microsoft that ONNX Runtime "
    "brings along)."
)
#: The fields that hold a tensor's values where they are not raw bytes: type → (field, values per element).
_TYPED = {
    **dict.fromkeys(
        ("INT32", "INT16", "INT8", "UINT16", "UINT8", "BOOL", "FLOAT16", "BFLOAT16"), "int32_data"
    ),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E5M2"), "int32_data"),
    "FLOAT": "float_data",
    "DOUBLE": "double_data",
    "INT64": "int64_data",
    "UINT64": "uint64_data",
    "UINT32": "uint64_data",
    "STRING": "string_data",
}
#: Bits of an element.
_BITS = {
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8E4M3FN", "FLOAT8E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT"), 32),
    **dict.fromkeys(("INT64", "UINT64", "DOUBLE"), 64),
}


@dataclass
class GraphFacts:
    """What a graph was found to be made of."""

    #: `domain:operator` (no domain for ONNX's own) → how often.
    operators: Counter[str] = field(default_factory=Counter)
    #: Files beside the graph that hold weights.
    external: set[str] = field(default_factory=set)
    weight_bytes: int = 0


def read_graph(name: str, file: Path) -> ModelProto:
    """The parsed file without its external data; raises `UnsafeFile`."""
    try:
        return onnx.load(str(file), load_external_data=False)
    except Exception as error:  # The parser's errors have no class of their own.
        reason = " ".join(str(error).split())[:200]
        raise refuse(name, f"it is no ONNX model that can be parsed ({reason})", _DAMAGED) from None


def check_graph(name: str, model: ModelProto, folder: Path) -> GraphFacts:
    """What it is made of; raises `UnsafeFile` where something is not on the list."""
    if model.ir_version < 3 or not model.HasField("graph"):
        raise refuse(name, "it has no graph of a known version", _DAMAGED)
    if model.training_info:
        raise refuse(name, "it holds training steps", "Export it for inference.")
    return _Check(name, model, folder).run()


class _Check:
    def __init__(self, name: str, model: ModelProto, folder: Path) -> None:
        self._name = name
        self._model = model
        self._folder = folder
        self._facts = GraphFacts()
        self._functions = {(_plain(f.domain), f.name): f for f in model.functions}

    def run(self) -> GraphFacts:
        if len(self._functions) != len(self._model.functions):
            raise self._refuse("two of its functions have one name", _DAMAGED)
        self._check_interface(self._model.graph)
        self._check_expansion()
        self._walk_graph(self._model.graph, 0)
        for function in self._model.functions:
            self._walk_nodes(function.node, 0)
        return self._facts

    def _refuse(self, reason: str, remedy: str = _SIMPLIFY) -> UnsafeFile:
        return refuse(self._name, reason, remedy)

    def _check_interface(self, graph: GraphProto) -> None:
        """Names and sizes that the graph claims for what goes in and out."""
        weights = [tensor.name for tensor in graph.initializer]
        if len(set(weights)) != len(weights):
            raise self._refuse("two of its weights have one name", _DAMAGED)
        for values in (graph.input, graph.output):
            names = [value.name for value in values]
            if len(set(names)) != len(names):
                raise self._refuse("two of its inputs or outputs have one name", _DAMAGED)
            for value in values:
                self._check_name(value.name)
                self._check_size(value)

    def _check_name(self, name: str) -> None:
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise self._refuse(f"it has an input or output called {name[:40]!r}", _DAMAGED)

    def _check_size(self, value: onnx.ValueInfoProto) -> None:
        shape = value.type.tensor_type.shape
        sizes = [size.dim_value for size in shape.dim if size.HasField("dim_value")]
        if any(size < 0 for size in sizes) or math.prod(sizes) > MAX_INPUT_ELEMENTS:
            shown = "×".join(map(str, sizes))[:60]
            raise self._refuse(f"its '{value.name[:60]}' claims {shown} numbers")
        if len(shape.dim) > 16:
            raise self._refuse(f"its '{value.name[:60]}' has {len(shape.dim)} dimensions")

    def _check_expansion(self) -> None:
        """Functions are pasted in where they are called; a chain of doublings must not become a million nodes."""
        sizes: dict[tuple[str, str], int] = {}
        for key in self._functions:
            self._size_of(key, sizes, ())
        total = sum(sizes.get(_key(node), 1) for node in self._all_nodes(self._model.graph.node))
        if total > MAX_NODES:
            raise self._refuse(f"it is made of more than {MAX_NODES} steps")

    def _size_of(
        self, key: tuple[str, str], sizes: dict[tuple[str, str], int], above: tuple[object, ...]
    ) -> int:
        if key in sizes:
            return sizes[key]
        if key in above or len(above) > 64:
            raise self._refuse(
                f"its function '{key[1][:60]}' calls itself, or is nested too deeply"
            )
        total = 0
        for node in self._all_nodes(self._functions[key].node):
            inner = _key(node)
            total += self._size_of(inner, sizes, (*above, key)) if inner in self._functions else 1
        sizes[key] = max(1, total)
        if total > MAX_NODES:
            raise self._refuse(f"it is made of more than {MAX_NODES} steps")
        return sizes[key]

    def _all_nodes(self, nodes: object) -> Iterator[NodeProto]:
        """Nodes at every depth, without recursion."""
        todo = [(nodes, 0)]
        seen = 0
        while todo:
            level, depth = todo.pop()
            if depth > MAX_DEPTH:
                raise self._refuse(f"its graphs are nested more than {MAX_DEPTH} deep")
            for node in level:  # type: ignore[attr-defined]
                seen += 1
                if seen > MAX_NODES:
                    raise self._refuse(f"it is made of more than {MAX_NODES} steps")
                yield node
                todo += [(graph.node, depth + 1) for graph in _graphs(node)]

    def _walk_graph(self, graph: GraphProto, depth: int) -> None:
        for tensor in graph.initializer:
            self._check_tensor(tensor)
        for sparse in graph.sparse_initializer:
            self._check_tensor(sparse.values)
            self._check_tensor(sparse.indices)
            self._check_dims(sparse.values.name, sparse.dims)
        self._walk_nodes(graph.node, depth)

    def _walk_nodes(self, nodes: object, depth: int) -> None:
        for node in nodes:  # type: ignore[attr-defined]
            self._check_operator(node)
            for attribute in node.attribute:
                self._check_attribute(attribute, depth)

    def _check_operator(self, node: NodeProto) -> None:
        domain, operator = _key(node)
        shown = f"{domain}:{operator}" if domain else operator
        if (domain, operator) not in self._functions and not is_known(domain, operator):
            where = f"the domain '{domain[:60]}'" if domain else "ONNX"
            raise self._refuse(
                f"it uses the operator '{operator[:60]}' of {where}, which is not on the list of those that may run",
                _OPERATORS,
            )
        self._facts.operators[shown] += 1

    def _check_attribute(self, attribute: AttributeProto, depth: int) -> None:
        tensors = (
            [attribute.t, *attribute.tensors] if attribute.HasField("t") else attribute.tensors
        )
        for tensor in tensors:
            self._check_tensor(tensor)
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in [*sparse, *attribute.sparse_tensors]:
            self._check_tensor(each.values)
            self._check_tensor(each.indices)
            self._check_dims(each.values.name, each.dims)
        graphs = [attribute.g] if attribute.HasField("g") else []
        for graph in [*graphs, *attribute.graphs]:
            self._walk_graph(graph, depth + 1)

    def _check_dims(self, name: str, dims: object) -> int:
        sizes = list(dims)  # type: ignore[call-overload]
        if any(size < 0 for size in sizes) or math.prod(sizes) > MAX_ELEMENTS:
            shown = "×".join(map(str, sizes))[:60]
            raise self._refuse(f"its weight '{name[:60]}' claims {shown} numbers", _DAMAGED)
        return math.prod(sizes)

    def _check_tensor(self, tensor: TensorProto) -> None:
        """What a weight claims must be what it holds."""
        elements = self._check_dims(tensor.name, tensor.dims)
        try:
            kind = TensorProto.DataType.Name(tensor.data_type)
        except ValueError:
            kind = str(tensor.data_type)
        if kind not in _BITS and kind not in _TYPED:
            raise self._refuse(f"its weight '{tensor.name[:60]}' is of the unknown type {kind}")
        size = (elements * _BITS.get(kind, 0) + 7) // 8
        self._facts.weight_bytes += size
        if self._facts.weight_bytes > MAX_WEIGHTS:
            raise self._refuse(f"its weights take more than {MAX_WEIGHTS >> 30} GiB")
        if tensor.data_location == TensorProto.EXTERNAL:
            self._check_external(tensor, size)
            return
        if tensor.HasField("raw_data"):
            held, wanted = len(tensor.raw_data), size
        elif kind in _TYPED:
            held, wanted = len(getattr(tensor, _TYPED[kind])), elements
        else:
            held, wanted = len(tensor.int32_data), (elements + 1) // 2
        if held != wanted:
            raise self._refuse(
                f"its weight '{tensor.name[:60]}' claims {wanted} values and holds {held}", _DAMAGED
            )

    def _check_external(self, tensor: TensorProto, size: int) -> None:
        """The file must be one of the source's, an ordinary one below the graph's folder, and long enough."""
        told = {entry.key: entry.value for entry in tensor.external_data}
        location, name = told.get("location", ""), tensor.name[:60]
        remedy = "Bring the graph and its data files in one folder, as the export wrote them."
        try:
            inside = safe_path(location)
        except InvalidData:
            raise self._refuse(
                f"its weight '{name}' lies in {location[:100]!r}, outside the model's folder",
                remedy,
            ) from None
        place = self._folder / inside
        if inside in (self._name, "model.json", "model.onnx"):
            raise self._refuse(
                f"its weight '{name}' lies in '{inside[:100]}', which is no data file", remedy
            )
        if place.is_symlink() or not place.is_file() or not self._is_below(place):
            raise self._refuse(
                f"its weight '{name}' lies in '{inside[:100]}', which is not there", remedy
            )
        offset, length = _number(told.get("offset", "0")), _number(told.get("length", str(size)))
        if length != size or offset + length > place.stat().st_size:
            raise self._refuse(
                f"its weight '{name}' needs {size} bytes of '{inside[:100]}', which does not have them",
                _DAMAGED,
            )
        self._facts.external.add(inside)

    def _is_below(self, place: Path) -> bool:
        return place.parent.resolve().is_relative_to(self._folder.resolve())


def _key(node: NodeProto) -> tuple[str, str]:
    return _plain(node.domain), node.op_type


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else -1
