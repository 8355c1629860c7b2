"""What each plain layer becomes: dense and lookup, shapes, activations, normalisation, merging.

Every function takes the graph, the Keras layer and its inputs, and returns the names of its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelry.worker.models.importing.keras.activations import activate
from modelry.worker.models.importing.keras.graph import Graph, Value, numbers

Inputs = Sequence[Value]
Convert = Callable[[Graph, Any, Inputs], list[str]]


def identity(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """Layers that only act while a network is trained."""
    return [inputs[0].name]


def dense(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """y = xW + b over the last dimension."""
    value = graph.add("MatMul", [inputs[0].name, graph.weight(numbers(layer.kernel))])
    if layer.use_bias:
        value = graph.add("Add", [value, graph.weight(numbers(layer.bias))])
    return [activate(graph, value, layer.activation)]


def embedding(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """A row of the table for each whole number."""
    if layer.mask_zero:
        raise graph.refuse("masks zeros (mask_zero), which is not known here")
    indices = graph.add("Cast", [inputs[0].name], to=7)
    return [graph.add("Gather", [graph.weight(numbers(layer.embeddings)), indices], axis=0)]


def time_distributed(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """A layer that looks at the last dimension alone does the same with and without time."""
    inner = layer.layer
    if type(inner).__name__ not in _TIMELESS:
        raise graph.refuse(f"repeats a {type(inner).__name__} over time, which is not known here")
    return _TIMELESS[type(inner).__name__](graph, inner, inputs)


def flatten(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    if layer.data_format == "channels_first" and inputs[0].rank > 2:
        raise graph.refuse("has its channels first; channels last is known here")
    return [graph.add("Flatten", [inputs[0].name], axis=1)]


def reshape(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    # A zero keeps the dimension: here the batch.
    return [graph.add("Reshape", [inputs[0].name, graph.integers([0, *layer.target_shape])])]


def permute(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.transpose(inputs[0].name, [0, *layer.dims])]


def repeat_vector(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    value = graph.add("Unsqueeze", [inputs[0].name, graph.integers([1])])
    return [graph.add("Tile", [value, graph.integers([1, layer.n, 1])])]


def activation(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [activate(graph, inputs[0].name, layer.activation)]


def relu(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """Zero below the threshold (or a slope), and never above the maximum."""
    if layer.threshold:
        raise graph.refuse("has a threshold, which is not known here")
    name, slope = inputs[0].name, float(layer.negative_slope or 0.0)
    value = graph.add("LeakyRelu", [name], alpha=slope) if slope else graph.add("Relu", [name])
    if layer.max_value is not None:
        value = graph.add("Min", [value, graph.weight(float(layer.max_value))])
    return [value]


def leaky_relu(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.add("LeakyRelu", [inputs[0].name], alpha=float(layer.negative_slope))]


def prelu(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.add("PRelu", [inputs[0].name, graph.weight(numbers(layer.alpha))])]


def elu(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.add("Elu", [inputs[0].name], alpha=float(layer.alpha))]


def softmax(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    if not isinstance(layer.axis, int):
        raise graph.refuse("is a softmax over several dimensions, which is not known here")
    return [graph.add("Softmax", [inputs[0].name], axis=layer.axis)]


def batch_normalization(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """With its means fixed it is one multiplication and one addition for each channel."""
    mean, variance = numbers(layer.moving_mean), numbers(layer.moving_variance)
    scale = 1.0 / np.sqrt(variance.astype("f8") + layer.epsilon)
    if layer.scale:
        scale = scale * numbers(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + numbers(layer.beta)
    shape = [1] * inputs[0].rank
    shape[layer.axis] = len(mean)
    value = graph.add("Mul", [inputs[0].name, graph.weight(scale.reshape(shape))])
    return [graph.add("Add", [value, graph.weight(shift.reshape(shape))])]


def layer_normalization(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    rank = inputs[0].rank
    if [axis % rank for axis in axes] != [rank - 1] or getattr(layer, "rms_scaling", False):
        raise graph.refuse("normalises something else than the last dimension")
    width = inputs[0].shape[-1]
    gamma = numbers(layer.gamma) if layer.scale else np.ones(width or 1)
    given = [inputs[0].name, graph.weight(gamma)]
    if layer.center:
        given.append(graph.weight(numbers(layer.beta)))
    return [graph.add("LayerNormalization", given, axis=-1, epsilon=float(layer.epsilon))]


def rescaling(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    value = graph.add("Mul", [inputs[0].name, graph.weight(layer.scale)])
    return [graph.add("Add", [value, graph.weight(layer.offset)])]


def normalization(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    if layer.invert:
        raise graph.refuse("undoes a normalisation, which is not known here")
    mean, variance = numbers(layer.mean), numbers(layer.variance)
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    value = graph.add("Sub", [inputs[0].name, graph.weight(mean)])
    return [graph.add("Div", [value, graph.weight(deviation)])]


def concatenate(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.add("Concat", [each.name for each in inputs], axis=layer.axis)]


def subtract(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.add("Sub", [each.name for each in inputs])]


def _merging(operator: str) -> Convert:
    """Any number of inputs, one after the other: some of ONNX's operators take but two."""

    def convert(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
        value = inputs[0].name
        for each in inputs[1:]:
            value = graph.add(operator, [value, each.name])
        return [value]

    return convert


def average(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    return [graph.add("Mean", [each.name for each in inputs])]


_TIMELESS: dict[str, Convert] = {
    "Dense": dense,
    "Activation": activation,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "ELU": elu,
    "Dropout": identity,
    "Identity": identity,
    "Rescaling": rescaling,
}
_TRAINING_ONLY = (
    "Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise "
    "ActivityRegularization RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness"
)

LAYERS: dict[str, Convert] = {
    **_TIMELESS,
    **dict.fromkeys(_TRAINING_ONLY.split(), identity),
    "Embedding": embedding,
    "TimeDistributed": time_distributed,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "PReLU": prelu,
    "Softmax": softmax,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "Normalization": normalization,
    "Concatenate": concatenate,
    "Add": _merging("Add"),
    "Multiply": _merging("Mul"),
    "Maximum": _merging("Max"),
    "Minimum": _merging("Min"),
    "Subtract": subtract,
    "Average": average,
}
