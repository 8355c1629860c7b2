"""The recipe `cnn`: its parameters by hand, its shapes for any combination, its refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelry.core.errors import InvalidParameter, WrongDataKind
from modelry.core.recipes import get_recipe
from modelry.worker.recipes.cnn import cnn


def params(**given: Any) -> dict[str, Any]:
    return get_recipe("cnn").check(given)


def test_the_default_network_is_the_one_of_the_reference() -> None:
    network = cnn(params(), (28, 28, 1), 10)
    by_hand = (9 * 1 + 1) * 32 + (9 * 32 + 1) * 64 + (5 * 5 * 64 + 1) * 64 + (64 + 1) * 10
    assert network.parameter_count == by_hand == 121_930
    kinds = [type(layer) for layer in network]
    block = [nn.Conv2d, nn.ReLU, nn.MaxPool2d]
    assert kinds == [*block, *block, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]


def count_by_hand(
    channels: list[int], kernel: int, hidden: list[int], side: int, depth: int, classes: int
) -> int | None:
    """Parameters of the network, or None where no pixel is left."""
    count = 0
    for filters in channels:
        side = (side - kernel + 1) // 2
        if side < 1:
            return None
        count += (kernel * kernel * depth + 1) * filters
        depth = filters
    width = side * side * depth
    for following in [*hidden, classes]:
        count += (width + 1) * following
        width = following
    return count


@given(
    channels=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kernel=st.integers(1, 7),
    pooling=st.sampled_from(["max", "average"]),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    side=st.integers(1, 24),
    depth=st.sampled_from([1, 3]),
)
def test_every_combination_has_the_counted_parameters_or_is_refused_before_training(
    channels: list[int], kernel: int, pooling: str, hidden: list[int], side: int, depth: int
) -> None:
    given = params(channels=channels, kernel=kernel, pooling=pooling, hidden=hidden)
    expected = count_by_hand(channels, kernel, hidden, side, depth, classes=4)
    if expected is None:
        with pytest.raises(InvalidParameter, match="leaves no pixels"):
            cnn(given, (side, side, depth), 4)
        return
    network = cnn(given, (side, side, depth), 4)
    assert network.parameter_count == expected
    assert network.input_shape == (side, side, depth)
    assert network(torch.zeros(2, side, side, depth)).shape == (2, 4)


def test_a_refusal_tells_what_to_change() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        cnn(params(channels=[8, 8, 8, 8]), (28, 28, 1), 10)
    assert "Block 4 of 4 leaves no pixels: 1×1 pixels reach it" in refusal.value.message
    assert "smaller kernel" in refusal.value.remedy


def test_the_pooling_parameter_chooses_the_layer() -> None:
    network = cnn(params(pooling="average"), (28, 28, 1), 10)
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in network) == 2


def test_dropout_stands_before_every_dense_layer() -> None:
    network = cnn(params(dropout=0.25, hidden=[8, 8]), (28, 28, 1), 10)
    layers = list(network)
    before = [layers[n - 1] for n, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    assert [getattr(layer, "p", None) for layer in before] == [0.25] * 3


def test_a_picture_without_a_channel_dimension_has_one_channel() -> None:
    assert cnn(params(), (28, 28), 10).input_shape == (28, 28, 1)


def test_rows_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(WrongDataKind, match="learns from pictures"):
        cnn(params(), (30,), 2)


def test_weights_begin_glorot_uniform_and_biases_at_zero() -> None:
    network = cnn(params(), (28, 28, 1), 10)
    weight = network.get_parameter("conv2.weight")
    limit = math.sqrt(6 / (9 * 32 + 9 * 64))
    assert weight.abs().max() <= limit
    assert weight.abs().max() > 0.99 * limit
    assert not network.get_parameter("conv2.bias").any()


def test_the_last_dimension_of_a_row_is_its_channels() -> None:
    network = cnn(params(channels=[1], kernel=1, hidden=[1]), (2, 4, 3), 2)
    with torch.no_grad():
        network.get_parameter("conv1.weight").copy_(torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1))
    rows = torch.rand(1, 2, 4, 3)
    seen = next(iter(network))(rows.permute(0, 3, 1, 2))
    assert torch.equal(seen[0, 0], rows[0, :, :, 2])
    assert torch.equal(network(rows), network(rows * torch.tensor([5.0, 5.0, 1.0])))
