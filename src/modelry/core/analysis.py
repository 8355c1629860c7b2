"""What one row costs in each layer of a model: the words of `modelry analyze`, shared by the worker and the clients.

A multiply-add is one multiplication and the addition of its product; two floating-point operations (FLOP). Bytes are
those of the tensors themselves, each read or written once: what a machine with a large enough cache has to move.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

#: Numbers that an optimiser keeps for each parameter.
OPTIMIZER_SLOTS = {"sgd": 0, "sgd with momentum": 1, "adam": 2, "adamw": 2}
#: The name of a job's note that holds an `Analysis`.
NOTE = "analysis"
_NUMBER_BYTES = 4


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine reached, measured by the same job."""

    threads: int
    #: In a product of two square matrices of float32.
    flops_per_s: float
    #: Read and written, in a copy larger than any cache.
    bytes_per_s: float

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on the arithmetic and no longer the memory is the limit."""
        return self.flops_per_s / self.bytes_per_s


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One operator of the graph; all but weights and parameters is for one row."""

    name: str
    #: ONNX's name: `Conv`, `LSTM`, …
    operator: str
    #: With the batch's 1, where the operator keeps it.
    output_shape: list[int]
    #: Numbers that a training changes.
    parameters: int
    weight_bytes: int
    #: Multiply-adds.
    macs: int
    #: Multiply-adds of the gradients; 0 where nothing before it or in it learns.
    macs_backward: int
    #: Inputs read and outputs written.
    row_bytes: int
    #: What a training keeps of the forward pass for this operator's gradient.
    kept_bytes: int
    #: Median time of one run with `Analysis.timed_rows` rows.
    time_us: float

    def intensity(self, rows: int) -> float:
        """FLOP per byte moved, in a batch of so many rows."""
        moved = self.weight_bytes + rows * self.row_bytes
        return 2 * rows * self.macs / moved if moved else 0.0

    def bound(self, rows: int, rates: Rates) -> Literal["compute", "memory"]:
        """What limits it on this machine, by the roofline model (Williams, Waterman and Patterson, 2009)."""
        return "compute" if self.intensity(rows) >= rates.ridge else "memory"


class Descent(msgspec.Struct, frozen=True, kw_only=True):
    """One way down: the same network, rows and rate, so many rows in a step."""

    #: `batch`, `mini-batch` or `stochastic`.
    name: str
    batch_rows: int
    steps: int
    #: (rows seen, seconds spent in steps, mean loss over all rows); the first before any step.
    points: list[list[float]]
    #: Whether the loss became infinite or none; the points end before.
    has_diverged: bool = False


class GradientNorms(msgspec.Struct, frozen=True, kw_only=True):
    """How long a layer's gradient was at some steps of the mini-batch descent."""

    layer: str
    steps: list[int]
    norms: list[float]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a recurrent network's gradient comes back to each step of the sequence, before any training."""

    cell: str
    #: The last step first.
    norms: list[float]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How gradient descent behaves on some rows of the data."""

    rows: int
    learning_rate: float
    descents: list[Descent]
    gradients: list[GradientNorms]
    #: Empty for networks without recurrence.
    reach: list[Reach] = []


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """All layers, and the machine they were timed on."""

    #: `digits:1`, or `cnn on mnist:1`.
    name: str
    layers: list[Layer]
    rates: Rates
    #: Rows in each timed call.
    timed_rows: int
    #: Input → the shape of the one row that was counted.
    row_shapes: dict[str, list[int]]
    #: Whose memory training takes; a key of `OPTIMIZER_SLOTS`.
    optimizer: str
    #: Operators whose multiply-adds could not be counted.
    uncounted: list[str] = []
    #: Only where it was asked for.
    behaviour: Behaviour | None = None

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of one row's answer."""
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_backward(self) -> int:
        """Multiply-adds of one row's gradients, beside those of its answer."""
        return sum(layer.macs_backward for layer in self.layers)

    @property
    def time_us(self) -> float:
        """Of one timed call, all layers together."""
        return sum(layer.time_us for layer in self.layers)

    @property
    def optimizer_bytes(self) -> int:
        return _NUMBER_BYTES * OPTIMIZER_SLOTS[self.optimizer] * self.parameters

    @property
    def gradient_bytes(self) -> int:
        return _NUMBER_BYTES * self.parameters

    def kept_bytes(self, rows: int) -> int:
        """Activations that a training step with so many rows keeps for its gradients."""
        return rows * sum(layer.kept_bytes for layer in self.layers)

    def training_bytes(self, rows: int) -> int:
        """Weights, gradients, the optimiser's memory and the kept activations; no buffers of the libraries."""
        fixed = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return fixed + self.kept_bytes(rows)


def analysis_in(notes: dict[str, Any]) -> Analysis:
    """The analysis in the notes of a finished job `analyze`."""
    return msgspec.convert(notes[NOTE], Analysis)
