"""A Keras network's layers in the order of its graph, each turned into ONNX nodes; networks inside networks too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelry.core.errors import ModelryError, NotConvertible
from modelry.worker.models.importing.keras.allowed import REMEDY
from modelry.worker.models.importing.keras.convolutions import CONVOLUTIONS
from modelry.worker.models.importing.keras.graph import Graph, Value
from modelry.worker.models.importing.keras.layers import LAYERS, Convert
from modelry.worker.models.importing.keras.recurrent import RECURRENT

KNOWN: dict[str, Convert] = {**LAYERS, **CONVOLUTIONS, **RECURRENT}
#: Of all classes of layers a file may name.
LAYER_NAMES = frozenset({*KNOWN, "InputLayer"})
#: `x + y` and the like between layers.
_OPERATIONS = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "TrueDivide": "Div"}
_MOST_INPUTS = {"Concatenate", "Add", "Multiply", "Maximum", "Minimum", "Subtract", "Average"}


def functional(network: Any) -> Any:
    """The network as a graph of layers; raises `NotConvertible` where it has none."""
    inner = getattr(network, "_functional", network)
    if inner is None or not hasattr(inner, "_nodes_by_depth"):
        raise NotConvertible(
            reason=f"it is a {type(network).__name__} whose inputs were never said",
            remedy=f"Begin it with `keras.Input(shape)`, or build it, and save it anew. {REMEDY}",
        )
    return inner


def walk(graph: Graph, network: Any, inputs: Sequence[str]) -> list[str]:
    """Adds all nodes; returns the names of the network's outputs. Raises `NotConvertible` with the layer's name."""
    inner = functional(network)
    values = {id(tensor): name for tensor, name in zip(inner.inputs, inputs, strict=True)}
    for depth in sorted(inner._nodes_by_depth, reverse=True):
        for node in inner._nodes_by_depth[depth]:
            if type(node.operation).__name__ != "InputLayer":
                _add_node(graph, node, values)
    return [values[id(tensor)] for tensor in inner.outputs]


def _add_node(graph: Graph, node: Any, values: dict[int, str]) -> None:
    layer, tensors = node.operation, node.arguments.keras_tensors
    graph.layer = str(layer.name)
    given = [Value(values[id(tensor)], tuple(tensor.shape)) for tensor in tensors]
    try:
        found = _convert(graph, node, layer, given, values)
    except ModelryError:
        raise
    except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise graph.refuse(f"has settings that are not known here ({error})") from None
    for tensor, name in zip(node.outputs, found, strict=True):
        values[id(tensor)] = name


def _convert(
    graph: Graph, node: Any, layer: Any, given: list[Value], values: dict[int, str]
) -> list[str]:
    kind = type(layer).__name__
    if type(layer).__module__.startswith("keras.src.ops"):
        return [_operation(graph, node, kind, values)]
    if kind in ("Functional", "Sequential", "Model"):
        return walk(graph, layer, [each.name for each in given])
    if kind not in KNOWN:
        raise graph.refuse(f"is a {kind}, which is not known here")
    if layer.compute_dtype != "float32":
        raise graph.refuse(f"computes in {layer.compute_dtype}; float32 is known here")
    if len(given) > 1 and kind not in _MOST_INPUTS:
        raise graph.refuse(
            "is given more than one tensor (a state or a mask), which is not known here"
        )
    return KNOWN[kind](graph, layer, given)


def _operation(graph: Graph, node: Any, kind: str, values: dict[int, str]) -> str:
    """Two tensors, or a tensor and a number, in either order."""
    arguments = [*node.arguments.args, *node.arguments.kwargs.values()]
    if kind not in _OPERATIONS or len(arguments) != 2:
        raise graph.refuse(f"is the operation {kind}, which is not known here")
    names = [
        graph.weight(float(each)) if isinstance(each, int | float) else values[id(each)]
        for each in arguments
    ]
    return str(graph.add(_OPERATIONS[kind], names))
