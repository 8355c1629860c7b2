"""The recipe `forecast`: recurrent layers over a window of rows, and the target's next values from their last state.

What is learned is the change against the last known value: untrained, the network answers as the naive forecast does
(Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 2021), like a residual connection (He and others,
2016) whose branch begins at zero. A missing number is carried forward from the row before, with a mark beside it (Che
and others, 2018). Scaling, carrying and the way back to the target's units are part of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelry.worker.recipes.mlp import CategoryColumns
from modelry.worker.recipes.network import Network
from modelry.worker.recipes.recurrence import pooled, recurrent_layers

#: Numbers further from the mean than so many spreads count as this far to the recurrent layers.
_FARTHEST = 8.0
#: Width of a category's vector, at most.
_EMBEDDING = 4


class ForecastNetwork(Network):
    """Takes window × columns: the target, the other numbers, then the categories' numbers; NaN is a missing value."""

    units = ("mean", "spread")
    output_name = "values"
    head = "ahead"
    mean: Tensor
    spread: Tensor
    categories: CategoryColumns
    recurrent: nn.RNNBase
    dropout: nn.Dropout
    ahead: nn.Linear

    def __init__(self, params: Mapping[str, Any], numbers: int, categories: Sequence[int]) -> None:
        super().__init__()
        self.input_shape = (params["window"], numbers + len(categories))
        self._window, self._numbers = params["window"], numbers
        #: Of each number over the training split, the target's first.
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))
        self.add_module("categories", CategoryColumns(categories, _EMBEDDING))
        features = 2 * numbers + self.categories.width
        one_way = {**params, "bidirectional": False}
        self.add_module("recurrent", recurrent_layers(one_way, features))
        self.add_module("dropout", nn.Dropout(params["dropout"]))
        self.add_module("ahead", nn.Linear(params["hidden"], params["horizon"]))
        nn.init.zeros_(self.ahead.weight)
        nn.init.zeros_(self.ahead.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """batch × window × columns → batch × horizon, in units of the target's spread around its mean."""
        numbers = rows[:, :, : self._numbers]
        is_missing = numbers.isnan()
        scaled = torch.where(is_missing, 0.0, (numbers - self.mean) / self.spread)
        known = carried_forward(scaled, ~is_missing)
        parts = [known.clamp(-_FARTHEST, _FARTHEST), is_missing.to(known.dtype)]
        if self.categories.width:
            names = self.categories(rows[:, :, self._numbers :].flatten(0, 1))
            parts.append(names.reshape(-1, self._window, self.categories.width))
        state = pooled(self.recurrent, torch.cat(parts, dim=2), None, "last")
        change: Tensor = self.ahead(self.dropout(state))
        return known[:, -1, :1] + change

    def answer(self, outputs: Tensor) -> Tensor:
        return outputs * self.spread[0] + self.mean[0]


def carried_forward(values: Tensor, is_known: Tensor) -> Tensor:
    """batch × steps × columns: each unknown value becomes the last known one before it.

    Unknown values are all the same number; it stays where nothing known came before. Looks 1, 2, 4, … steps back, so
    that a graph has as many operators as the steps have binary digits, not one a step.
    """
    back = 1
    while back < values.shape[1]:
        earlier = torch.where(is_known[:, back:], values[:, back:], values[:, :-back])
        values = torch.cat((values[:, :back], earlier), dim=1)
        is_known = torch.cat((is_known[:, :back], is_known[:, back:] | is_known[:, :-back]), dim=1)
        back *= 2
    return values


def forecast(
    params: Mapping[str, Any], numbers: int, categories: Sequence[int], classes: int
) -> ForecastNetwork:
    """The untrained network for so many number columns (the target among them) and categories of these sizes."""
    return ForecastNetwork(params, numbers, categories)
