"""What every recipe's network is: a batch of rows in, outputs out, and the tensor it takes.

A row arrives as its data set stores it (channels last, already scaled); `input_shape` is the tensor that the
network, and so the served model, takes for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

#: A free length of an example, where any will do.
_EXAMPLE_LENGTH = 5


class Network(nn.Sequential):
    """Layers in order; their names are the names of the weights in the package."""

    #: One row of the model's tensor input, without the batch: `(28, 28, 1)`; None for a length that is free.
    input_shape: tuple[int | None, ...]
    #: The input's name and its elements, as numpy names them.
    input_name = "x"
    input_dtype = "float32"
    #: What the published model's output is called: `probabilities`, or `values` for numbers.
    output_name = "probabilities"
    #: The layer that answers, by its name: it depends on the labels, all before it on the rows alone.
    head = "classes"
    #: Buffers that belong to the target's own units: a training that starts from other weights keeps those of its data.
    units: tuple[str, ...] = ()

    def forward(self, rows: Tensor) -> Tensor:
        """batch × `input_shape` → batch × outputs (logits, or numbers in units of their spread)."""
        raise NotImplementedError

    def answer(self, outputs: Tensor) -> Tensor:
        """What is published for these outputs."""
        return outputs.softmax(dim=-1)

    def example(self, rows: int) -> Tensor:
        """Rows that run, to follow a graph along."""
        shape = [_EXAMPLE_LENGTH if length is None else length for length in self.input_shape]
        dtype = torch.float32 if self.input_dtype == "float32" else torch.int64
        return torch.ones(rows, *shape, dtype=dtype)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """One row of what is published, without the batch: a score for each label, or the numbers predicted."""
        head = self.get_submodule(self.head)
        assert isinstance(head, nn.Linear)
        return (head.out_features,)

    @property
    def parameter_count(self) -> int:
        """How many numbers the training changes."""
        return sum(parameter.numel() for parameter in self.parameters())


class Build(Protocol):
    """A recipe's implementation: makes the untrained network from checked parameters.

    `sizes` are what the data decide, by the kind of rows: `shape` (numbers in a fixed shape), `step` (of a sequence),
    `tokens` (of texts), `numbers` and `categories` (of a table); and `classes`, or 0 where a number is predicted.
    """

    def __call__(self, params: Mapping[str, Any], **sizes: Any) -> Network: ...


class Published(nn.Module):
    """The network as it is published: probabilities, or numbers in the target's own units."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.answer(self.network(x))


def init_dense(layer: nn.Linear | nn.Conv2d) -> None:
    """Glorot's uniform weights and a zero bias: variance is kept in both directions."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
