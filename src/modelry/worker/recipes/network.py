"""What every recipe's network is: rows in, logits out, and the tensor it takes.

A row arrives as its data set stores it (channels last, already scaled); `input_shape` is the tensor that the
network, and so the served model, takes for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Network(nn.Sequential):
    """Layers in order; their names are the names of the weights in the package."""

    #: One row of the model's tensor input, without the batch: `(28, 28, 1)` or `(28, 28)`.
    input_shape: tuple[int, ...]
    #: The layer that answers, by its name: it depends on the labels, all before it on the rows alone.
    head = "classes"

    def forward(self, rows: Tensor) -> Tensor:
        """batch × `input_shape` → batch × classes (logits, before softmax)."""
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """How many numbers the training changes."""
        return sum(parameter.numel() for parameter in self.parameters())


class Build(Protocol):
    """A recipe's implementation: makes the untrained network from checked parameters."""

    def __call__(
        self, params: Mapping[str, Any], shape: tuple[int, ...], classes: int
    ) -> Network: ...


class Probabilities(nn.Module):
    """The network as it is published: softmax at the end."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).softmax(dim=-1)  # type: ignore[no-any-return]


def init_dense(layer: nn.Linear | nn.Conv2d) -> None:
    """Glorot's uniform weights and a zero bias: variance is kept in both directions."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
