"""Layers that look at neighbourhoods: convolutions, pooling, padding, cropping, enlarging.

Keras keeps channels last, ONNX's operators want them second: each layer turns its input and turns its output back.
ONNX Runtime moves and removes most of these turns when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelry.core.tensors import Array
from modelry.worker.models.importing.keras.activations import activate
from modelry.worker.models.importing.keras.graph import Graph, Value, numbers
from modelry.worker.models.importing.keras.layers import Convert, Inputs


def convolution(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """1 or 2 dimensions, with groups, strides and dilation."""
    kernel = numbers(layer.kernel)
    weights = kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
    return _convolved(
        graph, layer, inputs[0], weights, int(layer.groups), layer.bias if layer.use_bias else None
    )


def depthwise(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """Each channel by itself."""
    weights = _depthwise_weights(numbers(layer.kernel))
    groups = int(inputs[0].shape[-1] or 0)
    return _convolved(
        graph, layer, inputs[0], weights, groups, layer.bias if layer.use_bias else None
    )


def separable(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """Each channel by itself, then all of them at every place."""
    channels = int(inputs[0].shape[-1] or 0)
    value = _first(graph, layer, inputs[0])
    value = _convolve(
        graph, layer, value, _depthwise_weights(numbers(layer.depthwise_kernel)), channels
    )
    kernel = numbers(layer.pointwise_kernel)
    weights = kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
    given = [value, graph.weight(weights)]
    if layer.use_bias:
        given.append(graph.weight(numbers(layer.bias)))
    return [
        activate(graph, _last(graph, graph.add("Conv", given), inputs[0].rank), layer.activation)
    ]


def transposed(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    """What is padded in a convolution is cut off here."""
    if layer.output_padding is not None or any(each != 1 for each in layer.dilation_rate):
        raise graph.refuse("has an output_padding or a dilation, which is not known here")
    kernel = numbers(layer.kernel)
    weights = kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
    sizes, strides = list(layer.kernel_size), list(layer.strides)
    over = [size - stride for size, stride in zip(sizes, strides, strict=True)]
    cut = [max(each, 0) if layer.padding == "same" else 0 for each in over]
    # Where the stride is longer than the kernel, places between the windows are left at the end.
    more = [max(-each, 0) for each in over]
    given = [_first(graph, layer, inputs[0]), graph.weight(weights)]
    if layer.use_bias:
        given.append(graph.weight(numbers(layer.bias)))
    value = graph.add(
        "ConvTranspose",
        given,
        strides=strides,
        pads=[*(each // 2 for each in cut), *(each - each // 2 for each in cut)],
        output_padding=more,
    )
    return [activate(graph, _last(graph, value, inputs[0].rank), layer.activation)]


def _pooling(operator: str) -> Convert:
    def convert(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
        if operator == "AveragePool" and layer.padding == "same" and not _is_even(layer, inputs[0]):
            raise graph.refuse(
                "averages over uneven padding, for which Keras gives other numbers on torch than on TensorFlow"
            )
        value = graph.add(
            operator,
            [_first(graph, layer, inputs[0])],
            kernel_shape=_list(layer.pool_size),
            strides=_list(layer.strides),
            auto_pad="SAME_UPPER" if layer.padding == "same" else "VALID",
        )
        return [_last(graph, value, inputs[0].rank)]

    return convert


def _is_even(layer: Any, value: Value) -> bool:
    """Whether the padding is as wide before as after, in every dimension."""
    sizes = zip(value.shape[1:-1], _list(layer.pool_size), _list(layer.strides), strict=True)
    for length, window, stride in sizes:
        if length is None or max(0, (-(-length // stride) - 1) * stride + window - length) % 2:
            return False
    return True


def _global(operator: str) -> Convert:
    def convert(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
        _check_format(graph, layer)
        axes = graph.integers(range(1, inputs[0].rank - 1))
        return [graph.add(operator, [inputs[0].name, axes], keepdims=int(layer.keepdims))]

    return convert


def zero_padding(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    _check_format(graph, layer)
    sides = _sides(layer.padding)
    before, after = [0, *(each[0] for each in sides), 0], [0, *(each[1] for each in sides), 0]
    return [graph.add("Pad", [inputs[0].name, graph.integers([*before, *after])])]


def cropping(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    _check_format(graph, layer)
    sides = _sides(layer.cropping)
    # Counted from the end; where nothing is cut there, as far as there is anything.
    ends = [-after if after else np.iinfo(np.int64).max for _, after in sides]
    starts = [before for before, _ in sides]
    axes = list(range(1, len(sides) + 1))
    given = [inputs[0].name, *(graph.integers(each) for each in (starts, ends, axes))]
    return [graph.add("Slice", given)]


def up_sampling(graph: Graph, layer: Any, inputs: Inputs) -> list[str]:
    kind = getattr(layer, "interpolation", "nearest")
    if kind not in ("nearest", "bilinear"):
        raise graph.refuse(f"enlarges by {kind}, which is not known here")
    scales = graph.weight([1.0, 1.0, *(float(each) for each in _list(layer.size))])
    given = [_first(graph, layer, inputs[0]), "", scales]
    if kind == "nearest":
        value = graph.add(
            "Resize",
            given,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    else:
        value = graph.add(
            "Resize", given, mode="linear", coordinate_transformation_mode="half_pixel"
        )
    return [_last(graph, value, inputs[0].rank)]


def _convolved(
    graph: Graph, layer: Any, value: Value, weights: Array, groups: int, bias: Any
) -> list[str]:
    """Turned, convolved, turned back, activated."""
    given = _convolve(graph, layer, _first(graph, layer, value), weights, groups, bias)
    return [activate(graph, _last(graph, given, value.rank), layer.activation)]


def _convolve(
    graph: Graph, layer: Any, name: str, weights: Array, groups: int, bias: Any = None
) -> str:
    given = [name, graph.weight(weights)]
    if bias is not None:
        given.append(graph.weight(numbers(bias)))
    sizes, dilation = list(weights.shape[2:]), _list(layer.dilation_rate)
    attributes: dict[str, Any] = {"auto_pad": "SAME_UPPER" if layer.padding == "same" else "VALID"}
    reach = [(size - 1) * step for size, step in zip(sizes, dilation, strict=True)]
    if layer.padding == "causal":
        attributes = {"pads": [reach[0], 0]}
    elif layer.padding == "same" and max(dilation) > 1:
        # ONNX Runtime does not pad by itself here; such layers have no strides.
        attributes = {
            "pads": [*(each // 2 for each in reach), *(each - each // 2 for each in reach)]
        }
    value: str = graph.add(
        "Conv",
        given,
        kernel_shape=sizes,
        strides=_list(layer.strides),
        dilations=dilation,
        group=groups,
        **attributes,
    )
    return value


def _depthwise_weights(kernel: Array) -> Array:
    """places × channels × multiplier → (channels · multiplier) × 1 × places."""
    places = kernel.shape[:-2]
    moved = kernel.transpose(kernel.ndim - 2, kernel.ndim - 1, *range(kernel.ndim - 2))
    return moved.reshape(-1, 1, *places)


def _first(graph: Graph, layer: Any, value: Value) -> str:
    """Channels second."""
    _check_format(graph, layer)
    return graph.transpose(value.name, [0, value.rank - 1, *range(1, value.rank - 1)])


def _last(graph: Graph, name: str, rank: int) -> str:
    """Channels last again."""
    return graph.transpose(name, [0, *range(2, rank), 1])


def _check_format(graph: Graph, layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise graph.refuse("has its channels first; channels last is known here")


def _list(value: Any) -> list[int]:
    return [int(value)] if isinstance(value, int) else [int(each) for each in value]


def _sides(value: Any) -> list[tuple[int, int]]:
    """(before, after) of each dimension; a layer of one dimension has only its own two numbers."""
    values: Sequence[Any] = list(value)
    if all(isinstance(each, int) for each in values):
        return [(int(values[0]), int(values[1]))]
    return [(int(before), int(after)) for before, after in values]


CONVOLUTIONS: dict[str, Convert] = {
    "Conv1D": convolution,
    "Conv2D": convolution,
    "DepthwiseConv1D": depthwise,
    "DepthwiseConv2D": depthwise,
    "SeparableConv1D": separable,
    "SeparableConv2D": separable,
    "Conv2DTranspose": transposed,
    **{f"MaxPooling{n}D": _pooling("MaxPool") for n in (1, 2)},
    **{f"AveragePooling{n}D": _pooling("AveragePool") for n in (1, 2)},
    **{f"GlobalMaxPooling{n}D": _global("ReduceMax") for n in (1, 2)},
    **{f"GlobalAveragePooling{n}D": _global("ReduceMean") for n in (1, 2)},
    **{f"ZeroPadding{n}D": zero_padding for n in (1, 2)},
    **{f"Cropping{n}D": cropping for n in (1, 2)},
    **{f"UpSampling{n}D": up_sampling for n in (1, 2)},
}
