"""How gradient descent behaves on given data: batch, mini-batch and stochastic side by side, and where gradients go.

Plain gradient descent without momentum, from the same weights and over the same rows, so that only the number of rows
in a step differs. `docs/algorithms/descent.md` and `recurrent.md` say what to expect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelry.core.analysis import Behaviour, Descent, GradientNorms, Reach
from modelry.core.learning import Goal
from modelry.worker.context import JobContext
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network
from modelry.worker.training.objectives import Objective, make_objective
from modelry.worker.training.samples import Samples, epoch_order

#: Rows that all descents see; the first of the split's permutation.
ROWS = 1024
EPOCHS = 5
MINI_BATCH = 32
#: Points of each curve.
_POINTS = 40
#: A descent ends early when it took so long.
_PATIENCE_S = 20.0
_LOSS_ROWS = 256
#: Rows whose gradients are followed back through time.
_REACH_ROWS = 64


def behaviour(
    context: JobContext,
    recipe: str,
    params: Mapping[str, Any],
    samples: Samples,
    sizes: Mapping[str, Any],
    goal: Goal = "classification",
) -> Behaviour:
    """Trains three small copies and measures; takes some ten seconds for the reference networks."""
    index = epoch_order(len(samples), params["seed"], 0)[:ROWS]
    inputs, labels = samples.batch(index)

    def fresh(**changes: Any) -> Network:
        torch.manual_seed(params["seed"])
        return build_network(recipe, {**params, "dropout": 0.0, **changes}, **sizes)

    objective = make_objective(goal, params, fresh(), samples)

    descents, norms = [], []
    for name, rows in (("batch", len(index)), ("mini-batch", MINI_BATCH), ("stochastic", 1)):
        context.progress(f"{name} descent")
        descent = _Descent(
            fresh(), objective, inputs, labels, params["learning_rate"], params["seed"]
        )
        descents.append(descent.run(context, name, rows))
        if name == "mini-batch":
            norms = descent.norms()
    reach = []
    if "cell" in params and inputs.is_floating_point():
        context.progress("gradients through time")
        for cell in ("rnn", "lstm", "gru"):
            reach.append(_reach(cell, fresh(cell=cell), inputs[:_REACH_ROWS]))
    return Behaviour(
        rows=len(index),
        learning_rate=params["learning_rate"],
        descents=descents,
        gradients=norms,
        reach=reach,
    )


class _Descent:
    """One of the three."""

    def __init__(
        self,
        network: Network,
        objective: Objective,
        inputs: Tensor,
        labels: Tensor,
        rate: float,
        seed: int,
    ) -> None:
        self._objective = objective
        self._network, self._inputs, self._labels = network, inputs, labels
        self._rate, self._seed = rate, seed
        self._taken: dict[str, list[float]] = {name: [] for name, _ in _layers(network)}
        self._steps: list[int] = []

    def run(self, context: JobContext, name: str, rows: int) -> Descent:
        """Descends for some epochs; what the loss costs to look at is not charged."""
        total = EPOCHS * math.ceil(len(self._labels) / rows)
        every = max(1, total // _POINTS)
        points = [[0.0, 0.0, self._loss()]]
        step, spent_s = 0, 0.0
        for epoch in range(EPOCHS):
            for part in torch.split(epoch_order(len(self._labels), self._seed, epoch), rows):
                context.check_stop()
                began = time.perf_counter()
                self._step(part)
                spent_s += time.perf_counter() - began
                step += 1
                if step % every == 0 or step == total:
                    self._keep_norms(step)
                    seen = min(step * rows, (epoch + 1) * len(self._labels))
                    points.append([float(seen), spent_s, self._loss()])
                    if not math.isfinite(points[-1][2]) or spent_s > _PATIENCE_S:
                        return self._told(name, rows, step, points)
        return self._told(name, rows, step, points)

    def norms(self) -> list[GradientNorms]:
        """Of each layer with weights, in the order of the network."""
        return [
            GradientNorms(layer=name, steps=self._steps, norms=values)
            for name, values in self._taken.items()
        ]

    def _told(self, name: str, rows: int, steps: int, points: list[list[float]]) -> Descent:
        finite = [point for point in points if math.isfinite(point[2])]
        has_diverged = len(finite) < len(points)
        return Descent(
            name=name, batch_rows=rows, steps=steps, points=finite, has_diverged=has_diverged
        )

    def _step(self, part: Tensor) -> None:
        self._network.zero_grad(set_to_none=True)
        answers = self._network(self._inputs[part])
        self._objective.loss(answers, self._labels[part]).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight in self._network.parameters():
                if weight.grad is not None:
                    weight.sub_(weight.grad, alpha=self._rate)

    @torch.no_grad()
    def _loss(self) -> float:
        """The mean over all rows."""
        pairs = zip(
            torch.split(self._inputs, _LOSS_ROWS),
            torch.split(self._labels, _LOSS_ROWS),
            strict=True,
        )
        sums = [
            self._objective.loss(self._network(inputs), labels).item() * len(labels)
            for inputs, labels in pairs
        ]
        return sum(sums) / len(self._labels)

    def _keep_norms(self, step: int) -> None:
        self._steps.append(step)
        for name, layer in _layers(self._network):
            squares = sum(
                float(weight.grad.square().sum())
                for weight in layer.parameters()
                if weight.grad is not None
            )
            self._taken[name].append(math.sqrt(squares))


def _layers(network: Network) -> list[tuple[str, nn.Module]]:
    return [
        (name, layer)
        for name, layer in network.named_children()
        if any(True for _ in layer.parameters())
    ]


def _reach(cell: str, network: Network, inputs: Tensor) -> Reach:
    """The norm of the answer's gradient with respect to each step of the sequence, before any training."""
    rows = inputs.clone().requires_grad_()
    network(rows).square().sum().backward()
    assert rows.grad is not None
    norms = rows.grad.norm(dim=(0, 2))
    # The last step first: how far back it is.
    return Reach(cell=cell, norms=[float(value) for value in norms.flip(0)])
