"""The recipe `cnn`: blocks of convolution and pooling, then dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelry.core.errors import InvalidParameter, WrongDataKind
from modelry.worker.recipes.network import Network, init_dense

_POOLS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


class ConvolutionalNetwork(Network):
    """Takes height × width × channels; inside, the layers see torch's order without a copy."""

    def __init__(self, layers: dict[str, nn.Module], input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.input_shape = input_shape
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, rows: Tensor) -> Tensor:
        # A channels-last batch seen as N×C×H×W has torch's channels_last strides already.
        values = rows.permute(0, 3, 1, 2)
        for layer in self:
            values = layer(values)
        return values


def cnn(params: Mapping[str, Any], shape: Sequence[int], classes: int) -> ConvolutionalNetwork:
    """The untrained network for rows of `shape` (H×W×C, or H×W for one channel)."""
    height, width, depth = _picture_shape(shape)
    sides = _sides_after_blocks(params, height, width)
    layers: dict[str, nn.Module] = {}
    for number, filters in enumerate(params["channels"], start=1):
        layers[f"conv{number}"] = nn.Conv2d(depth, filters, params["kernel"])
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = _POOLS[params["pooling"]](2)
        depth = filters
    layers["flatten"] = nn.Flatten()
    _add_dense(layers, params, inputs=depth * sides[0] * sides[1], classes=classes)
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            init_dense(layer)
    return ConvolutionalNetwork(layers, (height, width, shape[2] if len(shape) == 3 else 1))


def _add_dense(
    layers: dict[str, nn.Module], params: Mapping[str, Any], *, inputs: int, classes: int
) -> None:
    for number, width in enumerate([*params["hidden"], classes], start=1):
        is_last = number > len(params["hidden"])
        if params["dropout"]:
            layers[f"dropout{number}"] = nn.Dropout(params["dropout"])
        layers["classes" if is_last else f"dense{number}"] = nn.Linear(inputs, width)
        if not is_last:
            layers[f"dense{number}_relu"] = nn.ReLU()
        inputs = width


def _picture_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    raise WrongDataKind(
        f"The recipe 'cnn' learns from pictures (height × width × channels); a row of this data is {_text(shape)}.",
        remedy="Choose another recipe, or import the data as pictures.",
    )


def _sides_after_blocks(params: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Height and width that reach the dense layers; raises where no pixel is left."""
    kernel = params["kernel"]
    sides = (height, width)
    for number in range(1, len(params["channels"]) + 1):
        before = sides
        sides = ((sides[0] - kernel + 1) // 2, (sides[1] - kernel + 1) // 2)
        if min(before) < kernel or min(sides) < 1:
            raise InvalidParameter(
                f"Block {number} of {len(params['channels'])} leaves no pixels: {before[0]}×{before[1]} pixels reach "
                f"it, its {kernel}×{kernel} filters and 2×2 pooling need {kernel + 1}×{kernel + 1}.",
                remedy="Use a smaller kernel, fewer numbers in channels, or larger pictures.",
                name="channels",
                value=params["channels"],
            )
    return sides


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "one number"
