"""Optimisers and learning rates: from the recipe's parameters to steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

#: One-cycle rises over this share of all steps where `warmup` is not given.
_ONE_CYCLE_RISE = 0.3
#: It begins at peak/25 and ends at peak/250,000.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 4e-6


def make_optimizer(
    params: Mapping[str, Any], weights: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser, one fused operation per step."""
    rate, decay = params["learning_rate"], params["weight_decay"]
    if params["optimizer"] == "sgd":
        return torch.optim.SGD(
            weights, lr=rate, momentum=params["momentum"], weight_decay=decay, fused=True
        )
    rule = torch.optim.AdamW if params["optimizer"] == "adamw" else torch.optim.Adam
    return rule(weights, lr=rate, weight_decay=decay, fused=True)


def learning_rate(params: Mapping[str, Any], step: int, total_steps: int) -> float:
    """The learning rate of a step (from 0), a pure function: the schedule's whole state is the step."""
    peak = float(params["learning_rate"])
    schedule, warmup = params["schedule"], float(params["warmup"])
    if schedule == "one-cycle":
        return peak * _one_cycle(step, total_steps, warmup or _ONE_CYCLE_RISE)
    rising = math.ceil(warmup * total_steps)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / max(1, total_steps - rising)
    falls = {"constant": 1.0, "linear": 1.0 - done, "cosine": _cosine(1.0, 0.0, done)}
    return peak * falls[schedule]


def _one_cycle(step: int, total_steps: int, rise: float) -> float:
    done = step / max(1, total_steps - 1)
    if done < rise:
        return _cosine(_ONE_CYCLE_START, 1.0, done / rise)
    return _cosine(1.0, _ONE_CYCLE_END, (done - rise) / (1 - rise))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
