"""The recipe `rnn`: stacked recurrent layers over sequences and texts, the last state (or all steps) to classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelry.core.errors import InternalError, WrongDataKind
from modelry.worker.recipes.network import Network, init_dense
from modelry.worker.recipes.recurrence import lengths_of, pooled, recurrent_layers
from modelry.worker.recipes.tokens import PADDING, TokenVectors

#: Of a token's numbers at first: with 1 (torch's own) banking77 ends 2 points lower.
_SPREAD = 0.3


class RecurrentNetwork(Network):
    """Takes steps × features."""

    recurrent: nn.RNNBase
    dropout: nn.Dropout
    classes: nn.Linear

    def __init__(
        self,
        params: Mapping[str, Any],
        features: int,
        classes: int,
        input_shape: tuple[int | None, ...],
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self._pooling = params.get("pooling", "last")
        recurrent = recurrent_layers(params, features)
        self.add_module("recurrent", recurrent)
        self.add_module("dropout", nn.Dropout(params["dropout"]))
        width = recurrent.hidden_size * (2 if recurrent.bidirectional else 1)
        width *= 2 if self._pooling == "max-mean" else 1
        self.add_module("classes", nn.Linear(width, classes))
        init_dense(self.classes)

    def forward(self, rows: Tensor) -> Tensor:
        return self._classify(rows, None)

    def _classify(self, rows: Tensor, lengths: Tensor | None) -> Tensor:
        values = pooled(self.recurrent, rows, lengths, self._pooling)
        return self.classes(self.dropout(values))  # type: ignore[no-any-return]


class SequenceNetwork(RecurrentNetwork):
    """Takes steps × numbers of any length; a shorter row of a batch ends with steps of NaN."""

    mean: Tensor
    spread: Tensor

    def __init__(self, params: Mapping[str, Any], step: int, classes: int) -> None:
        super().__init__(params, step, classes, (None, step))
        #: Of each number over the steps of the training split.
        self.register_buffer("mean", torch.zeros(step))
        self.register_buffer("spread", torch.ones(step))

    def forward(self, rows: Tensor) -> Tensor:
        is_missing = rows.isnan()
        scaled = (rows - self.mean) / self.spread
        # A missing number inside a row is the mean one; a row without a single step is one mean step.
        known = torch.where(is_missing, 0.0, scaled)
        return self._classify(known, lengths_of(~is_missing.all(dim=2)))


class TextNetwork(RecurrentNetwork):
    """Takes the numbers of a text's tokens; a shorter row of a batch ends with zeros."""

    input_name, input_dtype = "ids", "int64"
    tokens: TokenVectors

    def __init__(self, params: Mapping[str, Any], tokens: int, classes: int) -> None:
        super().__init__(params, params["embedding"], classes, (None,))
        vectors = TokenVectors(tokens, params["embedding"], _SPREAD, params["word_dropout"])
        self.add_module("tokens", vectors)

    def forward(self, rows: Tensor) -> Tensor:
        return self._classify(self.dropout(self.tokens(rows)), lengths_of(rows != PADDING))


def rnn(
    params: Mapping[str, Any],
    shape: Sequence[int] | None = None,
    classes: int = 2,
    step: int | None = None,
    tokens: int | None = None,
) -> RecurrentNetwork:
    """The untrained network for rows of `shape` (steps × features, or a picture read row by row), for sequences of
    any length with `step` numbers a step, or for texts of so many different tokens."""
    if tokens is not None:
        return TextNetwork(params, tokens, classes)
    if step is not None:
        return SequenceNetwork(params, step, classes)
    if shape is None:
        raise InternalError(reason="a recurrent network needs rows of some kind")
    steps, features = _sequence_shape(shape)
    return RecurrentNetwork(params, features, classes, (steps, features))


def _sequence_shape(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3:
        return shape[0], shape[1] * shape[2]
    text = "×".join(map(str, shape)) or "one number"
    raise WrongDataKind(
        f"The recipe 'rnn' learns from sequences (steps × features) and pictures; a row of this data is {text}.",
        remedy="Choose another recipe, or give every row two dimensions: steps and features.",
    )
