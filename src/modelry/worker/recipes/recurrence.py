"""Recurrent layers over rows of different length, and what of their outputs the next layer is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
#: Where an LSTM's stacked gates (input, forget, cell, output) keep the forget gate.
_FORGET_GATE = 1
#: Smaller than any output of a cell, which lies between -1 and 1.
_BELOW_ALL = -2.0


def recurrent_layers(params: Mapping[str, Any], features: int) -> nn.RNNBase:
    """Stacked layers (batch first): Glorot for inputs, orthogonal recurrence, zero biases; an LSTM forgets nothing."""
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
    return recurrent


def lengths_of(is_there: Tensor) -> Tensor:
    """batch × steps, true where there is something → where each row's last such step ends; 1 for a row of nothing."""
    places = torch.arange(1, is_there.shape[1] + 1, device=is_there.device)
    return (is_there * places).amax(dim=1).clamp(min=1)


def pooled(recurrent: nn.RNNBase, rows: Tensor, lengths: Tensor | None, pooling: str) -> Tensor:
    """batch × steps × features → batch × width; steps at or beyond a row's length (None: none) leave no trace."""
    if lengths is None:
        outputs, state = recurrent(rows)
    else:
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, state = recurrent(packed)
    if pooling == "last":
        return _last(recurrent, state)
    steps = rows.shape[1]
    if lengths is None:
        mean, largest = outputs.mean(dim=1), outputs.amax(dim=1)
    else:
        outputs = pad_packed_sequence(outputs, batch_first=True, total_length=steps)[0]
        is_beyond = torch.arange(steps, device=rows.device)[None] >= lengths[:, None]
        mean = outputs.sum(dim=1) / lengths[:, None]
        largest = outputs.masked_fill(is_beyond[..., None], _BELOW_ALL).amax(dim=1)
    if pooling == "max-mean":
        return torch.cat((largest, mean), dim=1)
    chosen: Tensor = mean if pooling == "mean" else largest
    return chosen


def _last(recurrent: nn.RNNBase, state: Any) -> Tensor:
    # An LSTM's state is (hidden, cell); layers and directions lie along the first dimension.
    hidden: Tensor = state[0] if isinstance(state, tuple) else state
    if recurrent.bidirectional:
        return torch.cat((hidden[-2], hidden[-1]), dim=1)
    return hidden[-1]
