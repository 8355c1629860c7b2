"""The recipe `rnn`: stacked recurrent layers, the last state to classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelry.core.errors import WrongDataKind
from modelry.worker.recipes.network import Network, init_dense

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
#: Where an LSTM's stacked gates (input, forget, cell, output) keep the forget gate.
_FORGET_GATE = 1


class RecurrentNetwork(Network):
    """Takes steps × features."""

    recurrent: nn.RNNBase
    dropout: nn.Dropout
    classes: nn.Linear

    def __init__(
        self, recurrent: nn.RNNBase, dropout: float, classes: int, input_shape: tuple[int, int]
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.add_module("recurrent", recurrent)
        self.add_module("dropout", nn.Dropout(dropout))
        directions = 2 if recurrent.bidirectional else 1
        self.add_module("classes", nn.Linear(recurrent.hidden_size * directions, classes))

    def forward(self, rows: Tensor) -> Tensor:
        _, state = self.recurrent(rows)
        # An LSTM's state is (hidden, cell); layers and directions lie along the first dimension.
        hidden = state[0] if isinstance(state, tuple) else state
        values = hidden[-1]
        if self.recurrent.bidirectional:
            values = torch.cat((hidden[-2], hidden[-1]), dim=1)
        return self.classes(self.dropout(values))  # type: ignore[no-any-return]


def rnn(params: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> RecurrentNetwork:
    """The untrained network for rows of `shape`: steps × features, or a picture read row by row."""
    steps, features = _sequence_shape(shape)
    layers, dropout = params["layers"], params["dropout"]
    recurrent = _CELLS[params["cell"]](
        input_size=features,
        hidden_size=params["hidden"],
        num_layers=layers,
        batch_first=True,
        # Between layers; what follows the last layer is dropped by the network itself.
        dropout=dropout if layers > 1 else 0.0,
        bidirectional=params["bidirectional"],
    )
    _init_recurrent(recurrent)
    network = RecurrentNetwork(recurrent, dropout, classes, (steps, features))
    init_dense(network.classes)
    return network


def _sequence_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3:
        return shape[0], shape[1] * shape[2]
    text = "×".join(map(str, shape)) or "one number"
    raise WrongDataKind(
        f"The recipe 'rnn' learns from sequences (steps × features) and pictures; a row of this data is {text}.",
        remedy="Choose another recipe, or give every row two dimensions: steps and features.",
    )


def _init_recurrent(recurrent: nn.RNNBase) -> None:
    """Glorot for inputs, orthogonal for the recurrence, zero biases; an LSTM forgets nothing at first."""
    with torch.no_grad():
        for name, weight in recurrent.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(weight)
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(weight)
            else:
                weight.zero_()
                if isinstance(recurrent, nn.LSTM) and name.startswith("bias_ih"):
                    weight.chunk(4)[_FORGET_GATE].fill_(1.0)
