"""The rows of a split in memory, and the batches cut from them by index.

Bytes stay bytes until a batch is cut, so MNIST takes 47 MB and not 188. Nothing here works row by row.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Streams of random numbers that never meet.
_HOLDING_OUT, _ORDER = 0, 1


@dataclass(frozen=True)
class Samples:
    """Inputs (rows × the network's input shape) and their classes."""

    inputs: Tensor
    labels: Tensor
    #: Multiply stored inputs by this to get what the network sees.
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at these positions, as the network sees them, and their classes."""
        return self._scaled(self.inputs.index_select(0, index)), self.labels.index_select(0, index)

    def batches(self, index: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows at these positions in order, at most so many at a time."""
        for part in torch.split(index, rows):
            yield self.batch(part)

    @property
    def size_bytes(self) -> int:
        return self.inputs.nbytes + self.labels.nbytes

    def _scaled(self, stored: Tensor) -> Tensor:
        if stored.dtype.is_floating_point:
            return stored if self.scale == 1.0 else stored * self.scale
        return stored.float().mul_(self.scale)


def to_samples(
    inputs: NDArray[np.generic],
    labels: NDArray[np.int64],
    *,
    input_shape: tuple[int, ...],
    scale: float,
) -> Samples:
    """Samples over the arrays' own memory; only numbers that are neither bytes nor float32 are converted."""
    if inputs.dtype not in (np.uint8, np.float32):
        inputs = inputs.astype(np.float32)
    shaped = inputs.reshape(len(inputs), *input_shape)
    return Samples(_as_tensor(shaped), _as_tensor(labels.astype(np.int64, copy=False)), scale)


def hold_out(samples: Samples, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions for training and for validation: the same share of every class, the same rows for the same seed."""
    labels = samples.labels.numpy()
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
    """The permutation of an epoch: it derives from seed and epoch alone, so a resume needs no more."""
    return torch.from_numpy(_random(seed, _ORDER, epoch).permutation(rows))


def _random(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def _as_tensor(array: NDArray[np.generic]) -> Tensor:
    with warnings.catch_warnings():
        # Arrays over Arrow's memory are read-only; samples are only ever read.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
