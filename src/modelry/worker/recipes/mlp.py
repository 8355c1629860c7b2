"""The recipe `mlp`: dense layers over a table's columns, with everything the columns need inside the network.

A number is scaled by its mean and spread over the training split and, beside that, cut into bins of equal size, along
which it is piecewise linear (Gorishniy and others, 2022). A category becomes a vector; a missing value and a name that
was never seen are values of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelry.worker.recipes.network import Network, init_dense

#: Numbers further from the mean than so many spreads count as this far.
_FARTHEST = 10.0
#: Share of the cells that are taken for missing while training, and as many for unknown: what these mean is learned
#: also where the training split has none.
_HIDDEN = 0.02
#: Of the numbers of a category's vector at first.
_SPREAD = 0.3


class TableNetwork(Network):
    """Takes the numbers, then the categories' numbers; NaN is a missing value."""

    units = ("target_mean", "target_spread")
    numbers: NumberColumns
    categories: CategoryColumns
    layers: nn.Sequential
    target_mean: Tensor
    target_spread: Tensor

    def __init__(
        self, params: Mapping[str, Any], numbers: int, categories: Sequence[int], classes: int
    ) -> None:
        super().__init__()
        self.input_shape = (numbers + len(categories),)
        self._count = numbers
        self._predicts_numbers = classes == 0
        if self._predicts_numbers:
            self.output_name = "values"
            self.register_buffer("target_mean", torch.zeros(1))
            self.register_buffer("target_spread", torch.ones(1))
        self.add_module("numbers", NumberColumns(numbers, params["bins"]))
        self.add_module("categories", CategoryColumns(categories, params["embedding"]))
        width = self.numbers.width + self.categories.width
        layers: dict[str, nn.Module] = {}
        for number, hidden in enumerate(params["hidden"], start=1):
            layers[f"dense{number}"] = nn.Linear(width, hidden)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"dropout{number}"] = nn.Dropout(params["dropout"])
            width = hidden
        self.add_module("layers", nn.Sequential())
        for name, layer in layers.items():
            self.layers.add_module(name, layer)
        self.add_module("classes", nn.Linear(width, max(1, classes)))
        for layer in (*self.layers, self.classes):
            if isinstance(layer, nn.Linear):
                init_dense(layer)

    def forward(self, rows: Tensor) -> Tensor:
        numbers = self.numbers(rows[:, : self._count])
        categories = self.categories(rows[:, self._count :])
        return self.classes(self.layers(torch.cat((numbers, categories), dim=1)))  # type: ignore[operator,no-any-return]

    def answer(self, outputs: Tensor) -> Tensor:
        if self._predicts_numbers:
            return outputs * self.target_spread + self.target_mean
        return super().answer(outputs)


class NumberColumns(nn.Module):
    """batch × columns → batch × columns × (2 + bins), flat: scaled, whether it is missing, its place in the bins."""

    mean: Tensor
    spread: Tensor
    edges: Tensor

    def __init__(self, columns: int, bins: int) -> None:
        super().__init__()
        self.width = columns * (2 + bins)
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("spread", torch.ones(columns))
        #: columns × (bins + 1), rising; equal edges make an empty bin.
        self.register_buffer("edges", torch.zeros(columns, bins + 1))

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            values = values.masked_fill(torch.rand(values.shape) < _HIDDEN, torch.nan)
        is_missing = values.isnan()
        known = torch.where(is_missing, self.mean, values)
        scaled = ((known - self.mean) / self.spread).clamp(-_FARTHEST, _FARTHEST)
        parts = [scaled[..., None], is_missing[..., None].to(scaled.dtype)]
        if self.edges.shape[1] > 1:
            lower, upper = self.edges[:, :-1], self.edges[:, 1:]
            # 0 before the bin, 1 after it, the share of it that lies below the value in between.
            place = (known[..., None] - lower) / (upper - lower).clamp(min=1e-12)
            parts.append(place.clamp(0.0, 1.0) * (upper > lower))
        return torch.cat(parts, dim=2).flatten(1)


class CategoryColumns(nn.Module):
    """batch × columns of category numbers → vectors side by side."""

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], embedding: int) -> None:
        super().__init__()
        # The last two are a missing value and a name that is not known.
        self._sizes = [size + 2 for size in sizes]
        widths = [min(embedding, (size + 1) // 2) for size in self._sizes]
        self.width = sum(widths)
        self.vectors = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(self._sizes, widths, strict=True)
        )
        for vectors in self.vectors:
            assert isinstance(vectors, nn.Embedding)
            nn.init.normal_(vectors.weight, std=_SPREAD)

    def forward(self, values: Tensor) -> Tensor:
        found = []
        for index, (size, vectors) in enumerate(zip(self._sizes, self.vectors, strict=True)):
            column = values[:, index]
            if self.training:
                draw = torch.rand(column.shape)
                column = column.masked_fill(draw < _HIDDEN, torch.nan)
                column = column.masked_fill(draw > 1 - _HIDDEN, float(size - 1))
            number = torch.where(column.isnan(), float(size - 2), column)
            is_known = (number >= 0) & (number < size)
            number = torch.where(is_known, number, float(size - 1)).to(torch.int64)
            found.append(vectors(number))
        return torch.cat(found, dim=1) if found else values[:, :0]


def mlp(
    params: Mapping[str, Any], numbers: int, categories: Sequence[int], classes: int
) -> TableNetwork:
    """The untrained network for so many number columns and categories of these sizes; 0 classes predicts a number."""
    return TableNetwork(params, numbers, categories, classes)
