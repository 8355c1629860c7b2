"""How good forecasts are, beside those that need no learning: the last value repeated (naive), and the value of one
season ago (seasonal naive; Hyndman and Athanasopoulos, 2021).
"""

from __future__ import annotations

import heapq
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelry.worker.models.verify import Floats

#: Windows that are kept.
_WORST = 32


class Windows(Protocol):
    """What is known of each window beside the truth, by its position."""

    def first_ahead(self, index: Tensor) -> Tensor:
        """The row of the first forecast value."""

    def naive(self, index: Tensor) -> Tensor:
        """windows × horizon."""

    def seasonal(self, index: Tensor) -> Tensor:
        """windows × horizon."""


class ForecastEvaluation:
    """Sums over batches of windows, in the target's own units; see `Scored`."""

    score = "mae"

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._count = 0
        #: For each step ahead: absolute errors, squared errors, absolute errors of naive and seasonal.
        self._sums: NDArray[np.float64] | None = None
        #: A heap of (mean error, −position, row, truth, said).
        self._worst: list[tuple[float, int, int, list[float], list[float]]] = []

    def add(self, answers: Floats, truth: NDArray[Any]) -> None:
        """The next windows: both windows × horizon."""
        index = torch.arange(self._count, self._count + len(truth))
        wanted = truth.astype(np.float64)
        errors, naive, seasonal = (
            np.abs(said.astype(np.float64) - wanted)
            for said in (
                answers,
                self._windows.naive(index).numpy(),
                self._windows.seasonal(index).numpy(),
            )
        )
        sums = np.stack([one.sum(axis=0) for one in (errors, errors**2, naive, seasonal)])
        self._sums = sums if self._sums is None else self._sums + sums
        self._keep_worst(errors.mean(axis=1), index, truth, answers)
        self._count += len(truth)

    def metrics(self) -> dict[str, Any]:
        """`gain` is the share of the better simple forecast's error that is saved; below 0 it is the better one."""
        mae, rmse, naive, seasonal = self._means()
        return {
            "split": "test",
            #: Windows, that is, forecasts.
            "rows": self._count,
            "mae": mae,
            "rmse": rmse**0.5,
            "naive_mae": naive,
            "seasonal_mae": seasonal,
            "gain": _gain(mae, naive, seasonal),
            #: For one row ahead, two rows ahead, …
            "mae_ahead": [] if self._sums is None else (self._sums[0] / self._count).tolist(),
            #: `row` is the first forecast one, in the split's order.
            "worst": [
                {"row": row, "truth": truth, "said": said, "error": error}
                for error, _, row, truth, said in sorted(self._worst, reverse=True)
            ],
        }

    def describe(self) -> str:
        mae, _, naive, seasonal = self._means()
        better = "the last value repeated" if naive <= seasonal else "the value of a season ago"
        gain = _gain(mae, naive, seasonal)
        word = "below" if gain >= 0 else "above"
        return f"mean absolute error {mae:.4g}, {abs(gain):.1%} {word} {better}"

    def _means(self) -> list[float]:
        if self._sums is None:
            return [0.0, 0.0, 0.0, 0.0]
        means: list[float] = (self._sums.mean(axis=1) / self._count).tolist()
        return means

    def _keep_worst(
        self, errors: NDArray[np.float64], index: Tensor, truth: NDArray[Any], said: Floats
    ) -> None:
        rows = self._windows.first_ahead(index)
        for place in np.argsort(-errors)[:_WORST]:
            position, row = int(index[place]), int(rows[place])
            window = (
                float(errors[place]),
                -position,
                row,
                truth[place].tolist(),
                said[place].tolist(),
            )
            if len(self._worst) < _WORST:
                heapq.heappush(self._worst, window)
            else:
                heapq.heappushpop(self._worst, window)


def _gain(mae: float, naive: float, seasonal: float) -> float:
    """0 where a simple forecast is never wrong."""
    best = min(naive, seasonal)
    return 1 - mae / best if best else 0.0
