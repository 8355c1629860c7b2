"""The recipe `rnn`: its parameters by hand, its reading of pictures, its beginnings."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from modelry.core.errors import WrongDataKind
from modelry.core.recipes import get_recipe
from modelry.worker.recipes.rnn import rnn

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def params(**given: Any) -> dict[str, Any]:
    return get_recipe("rnn").check(given)


def count_by_hand(
    cell: str, hidden: int, layers: int, directions: int, inputs: int, classes: int
) -> int:
    """torch keeps two biases per gate (Keras adds them up beforehand, except in its GRU)."""
    count = 0
    for _ in range(layers):
        count += directions * GATES[cell] * hidden * (inputs + hidden + 2)
        inputs = directions * hidden
    return count + (inputs + 1) * classes


@pytest.mark.parametrize(
    ("cell", "is_bidirectional"), list(itertools.product(GATES, (False, True))), ids=str
)
def test_the_parameters_are_those_counted_by_hand(cell: str, is_bidirectional: bool) -> None:
    network = rnn(params(cell=cell, bidirectional=is_bidirectional), (28, 28, 1), 10)
    directions = 2 if is_bidirectional else 1
    assert network.parameter_count == count_by_hand(cell, 128, 3, directions, 28, 10)
    assert network(torch.zeros(2, 28, 28)).shape == (2, 10)


def test_the_default_has_the_published_count_of_an_lstm_of_three_layers() -> None:
    network = rnn(params(), (28, 28, 1), 10)
    second_biases = 3 * 4 * 128
    classes = (128 + 1) * 10
    assert network.parameter_count - second_biases - classes == 343_552


def test_a_picture_is_read_row_by_row() -> None:
    assert rnn(params(), (12, 20, 3), 2).input_shape == (12, 60)


def test_a_sequence_keeps_its_steps_and_features() -> None:
    assert rnn(params(), (29, 12), 9).input_shape == (29, 12)


def test_rows_of_one_dimension_are_refused() -> None:
    with pytest.raises(WrongDataKind, match="learns from sequences"):
        rnn(params(), (30,), 2)


def test_the_last_state_of_each_direction_reaches_the_classes() -> None:
    """The forward half has read the last step last, the backward half the first."""
    network = rnn(params(hidden=4, layers=2, bidirectional=True), (6, 2), 3).eval()
    rows = torch.rand(2, 6, 2)
    outputs, _ = network.recurrent(rows)
    last = torch.cat((outputs[:, -1, :4], outputs[:, 0, 4:]), dim=1)
    assert torch.equal(network(rows), network.classes(last))


def test_an_lstm_remembers_everything_at_first() -> None:
    network = rnn(params(hidden=4), (5, 3), 2)
    for name, value in network.recurrent.named_parameters():
        if name.startswith("bias_ih"):
            assert value.tolist() == [0] * 4 + [1] * 4 + [0] * 8
        if name.startswith("bias_hh"):
            assert not value.any()


def test_the_recurrence_begins_orthogonal() -> None:
    weight = rnn(params(cell="rnn", hidden=8), (5, 3), 2).recurrent.get_parameter("weight_hh_l0")
    assert torch.allclose(weight @ weight.T, torch.eye(8), atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_follows_every_recurrent_layer(layers: int) -> None:
    network = rnn(params(hidden=4, layers=layers, dropout=0.5), (5, 3), 2)
    assert network.dropout.p == 0.5
    assert network.recurrent.dropout == (0.5 if layers > 1 else 0.0)
