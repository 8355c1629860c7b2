"""What a checkpoint holds, how it is written beside the training and read again: safetensors and JSON only.

state.json            counters, early stopping, random states of Python and numpy, what it belongs to
tensors.safetensors   network.*, optimizer.<n>.*, best.*, sums, random
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from modelry.core.errors import FormatTooNew

CHECKPOINT_FORMAT = 1
_STATE, _TENSORS = "state.json", "tensors.safetensors"

#: Puts a checkpoint's files where they survive: `JobContext.checkpoint`.
Keep = Callable[[int, dict[str, Path | bytes]], None]


class CheckpointState(msgspec.Struct, frozen=True, kw_only=True):
    """`state.json`."""

    format_version: int = CHECKPOINT_FORMAT
    #: Optimiser steps done.
    step: int
    #: Epochs done, and rows of the current epoch's permutation done.
    epoch: int
    position: int
    #: True once nothing is left but to publish.
    is_done: bool
    #: Seconds of training in all attempts so far.
    elapsed_s: float
    #: Early stopping's best validation loss (None before the first) and its epoch.
    best_loss: float | None
    best_epoch: int
    #: States of Python's and numpy's random numbers.
    random: dict[str, Any]


class Checkpoint(msgspec.Struct, frozen=True):
    """A copied state of a training; the training may go on while this is written."""

    state: CheckpointState
    tensors: dict[str, Tensor]

    def to_files(self) -> dict[str, Path | bytes]:
        """The checkpoint's files by name."""
        return {_STATE: msgspec.json.encode(self.state), _TENSORS: save(self.tensors)}

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix.`, without it."""
        start = prefix + "."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads what `to_files` wrote; raises `FormatTooNew`."""
    state = msgspec.json.decode((folder / _STATE).read_bytes(), type=CheckpointState)
    if state.format_version > CHECKPOINT_FORMAT:
        raise FormatTooNew(file=_STATE, version=state.format_version, known=CHECKPOINT_FORMAT)
    return Checkpoint(state, load_file(folder / _TENSORS))


def copied(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors in plain order, their names under `prefix.`."""
    return {
        f"{prefix}.{name}": tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory as `<number of the weight>.<name>`."""
    return {
        f"{number}.{name}": value
        for number, weight in enumerate(_weights(optimizer))
        for name, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives the optimiser its memory back, each tensor in the memory order of its weight."""
    weights = _weights(optimizer)
    for key, saved in tensors.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        if saved.shape == weight.shape:
            saved = torch.empty_like(weight, dtype=saved.dtype, requires_grad=False).copy_(saved)
        optimizer.state[weight][name] = saved


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


class CheckpointWriter:
    """Writes checkpoints in a thread of its own, one at a time, in order."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def start(self, checkpoint: Checkpoint) -> Exception | None:
        """Begins to write; returns why the one before could not be written, if so."""
        failure = self.wait()
        self._pending = self._thread.submit(self._write, checkpoint)
        return failure

    def write(self, checkpoint: Checkpoint) -> None:
        """Writes and returns when it is safe; raises where that fails."""
        self.wait()
        self._write(checkpoint)

    def wait(self) -> Exception | None:
        """Waits for the checkpoint being written; returns why it could not be written, if so."""
        pending, self._pending = self._pending, None
        error = pending.exception() if pending is not None else None
        if error is not None and not isinstance(error, Exception):
            raise error
        return error

    def close(self) -> None:
        """Waits and ends the thread."""
        self._thread.shutdown(wait=True)

    def _write(self, checkpoint: Checkpoint) -> None:
        self._keep(checkpoint.state.step, checkpoint.to_files())
