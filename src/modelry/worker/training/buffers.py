"""What a pass in training mode moves beside random numbers: the running means and spreads of batch normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def capture(network: nn.Module) -> list[Tensor]:
    """Copies of all buffers."""
    return [buffer.clone() for buffer in network.buffers()]


@torch.no_grad()
def restore(network: nn.Module, captured: list[Tensor]) -> None:
    """Goes back to captured buffers."""
    for buffer, value in zip(network.buffers(), captured, strict=True):
        buffer.copy_(value)
