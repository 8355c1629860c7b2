"""How many rows go through the network at once, so that a step of any size fits into memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelry.worker.training import buffers
from modelry.worker.training.objectives import Objective
from modelry.worker.training.samples import Samples

#: For what the rows of one pass need, where the job has no memory limit.
_UNLIMITED_BUDGET_BYTES = 1 << 30
#: Python and torch themselves, before any data.
_PROCESS_BYTES = 450 << 20
#: The weights, their gradients, two moments of an optimiser, the best weights, a checkpoint's copy.
_WEIGHT_COPIES = 6
#: Kept activations, their gradients and the operators' own room.
_ACTIVATION_COPIES = 3


def micro_batch_rows(
    network: nn.Module, samples: Samples, objective: Objective, limit_bytes: int | None
) -> int:
    """Rows per pass; larger steps add up the gradients of several passes.

    Depends on the network, the data and the limit alone, so that a resumed job cuts its steps the same way.
    """
    budget = _UNLIMITED_BUDGET_BYTES
    if limit_bytes is not None:
        weights = sum(parameter.nbytes for parameter in network.parameters())
        taken = _PROCESS_BYTES + samples.size_bytes + _WEIGHT_COPIES * weights
        budget = min(budget, limit_bytes - taken)
    per_row = _ACTIVATION_COPIES * _kept_bytes_per_row(network, samples, objective)
    return max(1, budget // max(1, per_row))


def _kept_bytes_per_row(network: nn.Module, samples: Samples, objective: Objective) -> int:
    """What one more row makes autograd keep until the backward pass."""
    one, two = (_kept_bytes(network, samples, objective, rows) for rows in (1, 2))
    row, _ = samples.batch(torch.tensor([samples.largest]))
    return max(two - one, 0) + row.numel() * 4


def _kept_bytes(network: nn.Module, samples: Samples, objective: Objective, rows: int) -> int:
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    index = torch.full((rows,), samples.largest)
    # The trial must move neither the random numbers of the training nor the means of its normalisation.
    before = buffers.capture(network)
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, _same):
        inputs, labels = samples.batch(index)
        objective.loss(network(inputs), labels)
    buffers.restore(network, before)
    return kept


def _same(tensor: Tensor) -> Tensor:
    return tensor
