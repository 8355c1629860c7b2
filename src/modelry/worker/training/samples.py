"""The rows of a split in memory, and the batches cut from them by index.

Bytes stay bytes until a batch is cut, so MNIST takes 47 MB and not 188. Nothing here works row by row.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelry.worker.models.evaluate import Scored, evaluation_of

#: Streams of random numbers that never meet.
_HOLDING_OUT, _ORDER = 0, 1
#: Rows are sorted by length among so many batches of them.
_SORTED_BATCHES = 32


class Samples(ABC):
    """Inputs and what is to be predicted of them: classes (int64) or numbers (float32)."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at these positions, as the network takes them, and their labels."""

    def batches(self, index: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows at these positions in order, at most so many at a time."""
        for part in torch.split(index, rows):
            yield self.batch(part)

    def order(self, index: Tensor, batch_rows: int, seed: int, epoch: int) -> Tensor:
        """An epoch's order of the rows at these positions; it derives from both, so a resume needs no more."""
        return index[epoch_order(len(index), seed, epoch)]

    def hold_out(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """Positions for training and for validation; none for validation where there are too few."""
        return hold_out(self, share, seed)

    def evaluation(self, labels: list[str]) -> Scored:
        """What judges a model's answers to all rows, given in their order."""
        return evaluation_of(labels)

    @property
    def largest(self) -> int:
        """The position of a row that takes as much room as any."""
        return 0

    @property
    @abstractmethod
    def size_bytes(self) -> int: ...


@dataclass(frozen=True)
class TensorSamples(Samples):
    """Rows of one shape."""

    inputs: Tensor
    labels: Tensor
    #: Multiply stored inputs by this to get what the network sees.
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self._scaled(self.inputs.index_select(0, index)), self.labels.index_select(0, index)

    @property
    def size_bytes(self) -> int:
        return self.inputs.nbytes + self.labels.nbytes

    def _scaled(self, stored: Tensor) -> Tensor:
        if stored.dtype.is_floating_point:
            return stored if self.scale == 1.0 else stored * self.scale
        return stored.float().mul_(self.scale)


@dataclass(frozen=True)
class RaggedSamples(Samples):
    """Rows of different length, end to end in one tensor; a batch is as long as its longest row."""

    #: steps of all rows × the shape of a step.
    values: Tensor
    #: Where rows end and the next begin: rows + 1 positions, from 0.
    ends: Tensor
    labels: Tensor
    #: What stands beyond the end of a shorter row.
    fill: float

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        starts, lengths = self.ends[index], self.lengths[index]
        steps = torch.arange(max(1, int(lengths.max())))
        is_there = steps[None] < lengths[:, None]
        shape = (len(index), len(steps), *self.values.shape[1:])
        rows = self.values.new_full(shape, self.fill)
        rows[is_there] = self.values[(starts[:, None] + steps)[is_there]]
        return rows, self.labels.index_select(0, index)

    def order(self, index: Tensor, batch_rows: int, seed: int, epoch: int) -> Tensor:
        """Rows of like length meet in a batch, so that little is padded; batches come in any order."""
        random = _random(seed, _ORDER, epoch)
        shuffled = index[torch.from_numpy(random.permutation(len(index)))]
        batches: list[Tensor] = []
        for window in torch.split(shuffled, batch_rows * _SORTED_BATCHES):
            by_length = window[torch.argsort(self.lengths[window], stable=True)]
            batches += torch.split(by_length, batch_rows)
        # Only the very last batch can be a smaller one: it stays there.
        order = [*random.permutation(len(batches) - 1).tolist(), len(batches) - 1]
        return torch.cat([batches[place] for place in order])

    @property
    def lengths(self) -> Tensor:
        """Steps of each row."""
        return self.ends[1:] - self.ends[:-1]

    @property
    def largest(self) -> int:
        return int(self.lengths.argmax())

    @property
    def size_bytes(self) -> int:
        return self.values.nbytes + self.ends.nbytes + self.labels.nbytes


def to_samples(
    inputs: NDArray[np.generic],
    labels: NDArray[np.int64],
    *,
    input_shape: tuple[int | None, ...],
    scale: float,
) -> TensorSamples:
    """Samples over the arrays' own memory; only numbers that are neither bytes nor float32 are converted."""
    if inputs.dtype not in (np.uint8, np.float32):
        inputs = inputs.astype(np.float32)
    shaped = inputs.reshape(len(inputs), *(length or -1 for length in input_shape))
    return TensorSamples(_as_tensor(shaped), _as_tensor(labels.astype(np.int64, copy=False)), scale)


def hold_out(samples: Samples, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions for training and for validation: the same share of every class, the same rows for the same seed."""
    labels = samples.labels.numpy()
    if samples.labels.dtype.is_floating_point:
        # Numbers are no classes.
        labels = np.zeros(len(labels), np.int64)
    held = np.zeros(len(labels), dtype=bool)
    if share:
        shuffled = _random(seed, _HOLDING_OUT).permutation(len(labels))
        for label in np.unique(labels):
            rows = shuffled[labels[shuffled] == label]
            # A class of one row is worth more in training.
            wanted = min(max(1, round(share * len(rows))), len(rows) - 1)
            held[rows[:wanted]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def epoch_order(rows: int, seed: int, epoch: int) -> Tensor:
    """The permutation of an epoch: it derives from seed and epoch alone."""
    return torch.from_numpy(_random(seed, _ORDER, epoch).permutation(rows))


def _random(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def _as_tensor(array: NDArray[np.generic]) -> Tensor:
    with warnings.catch_warnings():
        # Arrays over Arrow's memory are read-only; samples are only ever read.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
