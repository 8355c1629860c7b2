"""Keras' activation functions as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from modelry.worker.models.importing.keras.graph import Graph

Add = Callable[[Graph, str], str]


def _plain(operator: str, **attributes: Any) -> Add:
    return lambda graph, name: str(graph.add(operator, [name], **attributes))


def _relu6(graph: Graph, name: str) -> str:
    return str(graph.add("Clip", [name, graph.weight(0.0), graph.weight(6.0)]))


def _gelu(graph: Graph, name: str) -> str:
    """x · Φ(x), exactly (Hendrycks and Gimpel 2016)."""
    scaled = graph.add("Mul", [name, graph.weight(math.sqrt(0.5))])
    share = graph.add("Add", [graph.add("Erf", [scaled]), graph.weight(1.0)])
    half = graph.add("Mul", [name, graph.weight(0.5)])
    return str(graph.add("Mul", [half, share]))


def _silu(graph: Graph, name: str) -> str:
    return str(graph.add("Mul", [name, graph.add("Sigmoid", [name])]))


def _hard_silu(graph: Graph, name: str) -> str:
    return str(graph.add("Mul", [name, _hard_sigmoid(graph, name)]))


_hard_sigmoid = _plain("HardSigmoid", alpha=1 / 6, beta=0.5)

#: Keras' name → nodes.
ACTIVATIONS: dict[str, Add] = {
    "linear": lambda graph, name: name,
    "relu": _plain("Relu"),
    "relu6": _relu6,
    "leaky_relu": _plain("LeakyRelu", alpha=0.2),
    "sigmoid": _plain("Sigmoid"),
    "hard_sigmoid": _hard_sigmoid,
    "tanh": _plain("Tanh"),
    "softmax": _plain("Softmax", axis=-1),
    "log_softmax": _plain("LogSoftmax", axis=-1),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "elu": _plain("Elu"),
    "selu": _plain("Selu"),
    "celu": _plain("Celu"),
    "mish": _plain("Mish"),
    "exponential": _plain("Exp"),
    "gelu": _gelu,
    "silu": _silu,
    "hard_silu": _hard_silu,
}


def activate(graph: Graph, name: str, function: Any) -> str:
    """The value after a layer's activation; raises `NotConvertible` for one that is not known."""
    called = "linear" if function is None else getattr(function, "__name__", str(function))
    if called not in ACTIVATIONS:
        raise graph.refuse(f"has the activation '{called}', which is not known here")
    return ACTIVATIONS[called](graph, name)
