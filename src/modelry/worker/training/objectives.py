"""What a training makes small, and the figure people watch beside it: by what is predicted, labels or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from modelry.core.learning import Goal
from modelry.worker.recipes.network import Network
from modelry.worker.training.samples import Samples


class Objective(Protocol):
    """A loss over batches, and a score whose mean over rows is shown."""

    #: What the score is called: `accuracy`, `mae`.
    score: str

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A mean over the rows; the means of parts, weighed by their rows, are the mean of the whole."""

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over the rows of what the score is the mean of."""

    def describe(self, score: float) -> str:
        """The score for people: `accuracy 98.10%`."""


class Classification:
    """Cross-entropy."""

    score = "accuracy"

    def __init__(self, weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        self._weights, self._smoothing = weights, smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._weights is None:
            return functional.cross_entropy(outputs, targets, label_smoothing=self._smoothing)
        # torch's own mean divides by the weights of the batch, so that parts would not add up to the whole.
        each = functional.cross_entropy(
            outputs, targets, self._weights, reduction="none", label_smoothing=self._smoothing
        )
        return each.mean()

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=1) == targets).sum()

    def describe(self, score: float) -> str:
        return f"accuracy {score:.2%}"


class Regression:
    """The squared error, in units of the target's spread; the score is the mean absolute error in its own units."""

    score = "mae"

    def __init__(self, mean: float, spread: float) -> None:
        self._mean, self._spread = mean, spread

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs[:, 0], self._scaled(targets))

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - self._scaled(targets)).abs().sum() * self._spread

    def describe(self, score: float) -> str:
        return f"mean absolute error {score:.4g}"

    def _scaled(self, targets: Tensor) -> Tensor:
        return (targets - self._mean) / self._spread


class Forecasting:
    """The absolute error over all steps ahead, in units of the target's spread; the score is the same in its own units.

    Few hours of very high values would decide what a squared error learns.
    """

    score = "mae"

    def __init__(self, mean: float, spread: float) -> None:
        self._mean, self._spread = mean, spread

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.l1_loss(outputs, (targets - self._mean) / self._spread)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets) * len(targets) * self._spread

    def describe(self, score: float) -> str:
        return f"mean absolute error {score:.4g}"


def make_objective(
    goal: Goal, params: Mapping[str, Any], network: Network, samples: Samples
) -> Objective:
    """For a network whose buffers are settled."""
    if goal == "regression":
        mean, spread = (network.get_buffer(f"target_{name}").item() for name in ("mean", "spread"))
        return Regression(mean, spread)
    if goal == "forecasting":
        mean, spread = (network.get_buffer(name)[0].item() for name in ("mean", "spread"))
        return Forecasting(mean, spread)
    weights = None
    if params.get("class_weights") == "balanced":
        counts = torch.bincount(samples.labels).clamp(min=1)
        # Their mean over the rows is 1, so that the learning rate keeps its meaning.
        weights = len(samples) / (len(counts) * counts.to(torch.float32))
    return Classification(weights, params.get("label_smoothing", 0.0))
