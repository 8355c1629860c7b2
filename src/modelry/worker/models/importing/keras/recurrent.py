"""LSTM, GRU and simple recurrent layers as ONNX's own operators: one node for all steps, one or both ways.

    gates       Keras            ONNX
    LSTM        i f c o          i o f c
    GRU         z r h            z r h
    simple      h                h

Keras walks batch × time × features, ONNX time × batch × features. An ONNX layer that walks backwards still gives its
outputs in the order of time; Keras' `go_backwards` gives them in the order of walking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelry.core.tensors import Array
from modelry.worker.models.importing.keras.graph import Graph, numbers
from modelry.worker.models.importing.keras.layers import Convert, Inputs

_OPERATORS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
#: Positions of Keras' gates in ONNX's order.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "SimpleRNN": (0,)}
_ACTIVATIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu"}
_MERGES = {"sum": "Add", "mul": "Mul"}


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction's numbers, in ONNX's order."""

    kernel: Array
    recurrent: Array
    bias: Array


def recurrent(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """One way; the outputs are the sequence or its end, then the states where they are asked for."""
    _check(graph, layer)
    direction = "reverse" if layer.go_backwards else "forward"
    sequence, states = _run(graph, [layer], inputs[0].name, direction)
    if layer.return_sequences:
        # time × 1 × batch × units → batch × time × units
        value = graph.add("Squeeze", [sequence, graph.integers([1])])
        value = graph.transpose(value, [1, 0, 2])
        value = _turned(graph, value) if layer.go_backwards else value
    else:
        value = _of_way(graph, states[0], 0)
    ends = [_of_way(graph, state, 0) for state in states] if layer.return_state else []
    return [value, *ends]


def bidirectional(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """Both ways in one node; the outputs are merged, then the states of either way where they are asked for."""
    ways = [layer.forward_layer, layer.backward_layer]
    kinds = {type(each).__name__ for each in ways}
    if len(kinds) != 1 or not kinds <= set(_OPERATORS):
        raise graph.refuse(
            f"goes both ways with {' and '.join(sorted(kinds))}, which is not known here"
        )
    for way in ways:
        _check(graph, way)
    if [_settings(way) for way in ways[:1]] != [_settings(way) for way in ways[1:]]:
        raise graph.refuse("differs in its two ways, which is not known here")
    if ways[0].go_backwards or not ways[1].go_backwards:
        raise graph.refuse("does not go forwards and backwards")
    sequence, states = _run(graph, ways, inputs[0].name, "bidirectional")
    if layer.return_sequences:
        # time × 2 × batch × units → one batch × time × units for each way
        both = [graph.transpose(_of_way(graph, sequence, at, axis=1), [1, 0, 2]) for at in (0, 1)]
    else:
        both = [_of_way(graph, states[0], at) for at in (0, 1)]
    ends = [_of_way(graph, state, at) for at in (0, 1) for state in states]
    return [*_merged(graph, both, layer.merge_mode), *(ends if layer.return_state else [])]


def _run(graph: Graph, ways: Sequence[Any], name: str, direction: str) -> tuple[str, list[str]]:
    """The node; its outputs of all steps, and its states at the end."""
    kind = type(ways[0]).__name__
    numbers_of = [_way(each, kind) for each in ways]
    stacked = [
        graph.weight(np.stack([getattr(each, part) for each in numbers_of]))
        for part in ("kernel", "recurrent", "bias")
    ]
    attributes: dict[str, Any] = {
        "hidden_size": int(ways[0].units),
        "direction": direction,
        "activations": [each for way in ways for each in _activations(graph, way, kind)],
    }
    if kind == "GRU":
        attributes["linear_before_reset"] = int(ways[0].reset_after)
    found = graph.add(
        _OPERATORS[kind],
        [graph.transpose(name, [1, 0, 2]), *stacked],
        outputs=3 if kind == "LSTM" else 2,
        **attributes,
    )
    return found[0], list(found[1:])


def _way(layer: Any, kind: str) -> _Way:
    cell, units = layer.cell, int(layer.units)
    order = np.concatenate([np.arange(units) + gate * units for gate in _GATES[kind]])
    kernel = numbers(cell.kernel).T[order]
    recurrent_kernel = numbers(cell.recurrent_kernel).T[order]
    # ONNX adds one bias to the input and one to the state; only a GRU that resets afterwards has both.
    bias = np.zeros((2, len(order)), np.float32)
    if layer.use_bias:
        given = numbers(cell.bias)
        bias[: 1 if given.ndim == 1 else 2] = given
    return _Way(kernel, recurrent_kernel, bias[:, order].reshape(-1))


def _activations(graph: Graph, layer: Any, kind: str) -> list[str]:
    """For the gates, then for the new value, then (LSTM) for the output."""
    main = _activation(graph, layer.activation)
    if kind == "SimpleRNN":
        return [main]
    gates = _activation(graph, layer.recurrent_activation)
    return [gates, main, main] if kind == "LSTM" else [gates, main]


def _activation(graph: Graph, function: Any) -> str:
    called = getattr(function, "__name__", str(function))
    if called not in _ACTIVATIONS:
        raise graph.refuse(f"has the activation '{called}' in its cell, which is not known here")
    return _ACTIVATIONS[called]


def _check(graph: Graph, layer: Any) -> None:
    if layer.stateful:
        raise graph.refuse(
            "keeps its state between requests (stateful); a served model answers each by itself"
        )
    if type(layer).__name__ not in _OPERATORS:
        raise graph.refuse(f"is a {type(layer).__name__}, which is not known here")


def _settings(layer: Any) -> tuple[Any, ...]:
    return (
        type(layer).__name__,
        layer.units,
        layer.return_sequences,
        getattr(layer, "reset_after", None),
    )


def _of_way(graph: Graph, name: str, way: int, axis: int = 0) -> str:
    """One way's part: the index takes its dimension away."""
    part: str = graph.add("Gather", [name, graph.weight(way, "int64")], axis=axis)
    return part


def _turned(graph: Graph, name: str) -> str:
    """The second dimension, time, from its end."""
    first = [graph.integers([each]) for each in (-1, np.iinfo(np.int64).min, 1, -1)]
    turned: str = graph.add("Slice", [name, *first])
    return turned


def _merged(graph: Graph, both: list[str], mode: str | None) -> list[str]:
    if mode is None:
        return both
    if mode == "concat":
        return [graph.add("Concat", both, axis=-1)]
    if mode == "ave":
        return [graph.add("Mean", both)]
    if mode not in _MERGES:
        raise graph.refuse(f"merges its two ways by {mode}, which is not known here")
    return [graph.add(_MERGES[mode], both)]


RECURRENT: dict[str, Convert] = {
    "LSTM": recurrent,
    "GRU": recurrent,
    "SimpleRNN": recurrent,
    "Bidirectional": bidirectional,
}
