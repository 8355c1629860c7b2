"""Windows over a series in memory: cut from one array when a batch is asked for, so that overlapping ones take no room.

The rows of a split are taken as equally far apart in time. No window leaves its split.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from modelry.worker.models.forecasts import ForecastEvaluation
from modelry.worker.training.samples import Samples


class WindowSamples(Samples):
    """`window` rows each, and the first column's `horizon` values after them, all of them known."""

    def __init__(self, rows: Tensor, window: int, horizon: int, season: int) -> None:
        #: rows × columns, in the order of time, the target first; NaN is a missing value.
        self.rows = rows
        self._window, self._horizon, self._season = window, horizon, season
        last = len(rows) - window - horizon
        is_known = rows[window:, 0].isfinite().unfold(0, horizon, 1) if last >= 0 else None
        #: The first row of each window, rising.
        self.starts = (
            torch.zeros(0, dtype=torch.int64)
            if is_known is None
            else is_known.all(dim=1).nonzero()[:, 0]
        )

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        starts = self.starts[index]
        rows = self.rows[starts[:, None] + torch.arange(self._window)]
        return rows, self.rows[self._ahead(starts), 0]

    @property
    def labels(self) -> Tensor:  # type: ignore[override]
        """windows × horizon."""
        return self.rows[self._ahead(self.starts), 0]

    def hold_out(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """The last share of the windows, whatever the seed; those that share a row with them are left out.

        Windows overlap: with rows held out at random a network would be judged on what it has seen.
        """
        count = round(share * len(self))
        if not count:
            return torch.arange(len(self)), torch.arange(0)
        held = torch.arange(len(self) - count, len(self))
        ends = self.starts + self._window + self._horizon
        kept = (ends <= self.starts[held[0]]).nonzero()[:, 0]
        return (kept, held) if len(kept) else (torch.arange(len(self)), torch.arange(0))

    def evaluation(self, labels: list[str]) -> ForecastEvaluation:
        return ForecastEvaluation(self)

    def first_ahead(self, index: Tensor) -> Tensor:
        """The split's row of the first forecast value of the windows at these positions."""
        return self.starts[index] + self._window

    def naive(self, index: Tensor) -> Tensor:
        """windows × horizon: the last value that was known before, repeated."""
        last = self._carried[self.first_ahead(index) - 1]
        return last[:, None].expand(-1, self._horizon)

    def seasonal(self, index: Tensor) -> Tensor:
        """windows × horizon: the value one season before (as many seasons as it takes to be in the past); as `naive`
        where that lies before the split."""
        seasons = torch.arange(self._horizon) // self._season + 1
        rows = self._ahead(self.starts[index]) - seasons * self._season
        return torch.where(rows >= 0, self._carried[rows.clamp(min=0)], self.naive(index))

    @property
    def size_bytes(self) -> int:
        return self.rows.nbytes + self.starts.nbytes

    @cached_property
    def _carried(self) -> Tensor:
        """The target with each missing value as the last known one; the first ones as the first known one, which can
        only make the simple forecasts better."""
        target = self.rows[:, 0].numpy()
        is_known = np.isfinite(target)
        last = np.maximum.accumulate(np.where(is_known, np.arange(len(target)), 0))
        last[: is_known.argmax()] = is_known.argmax()
        return torch.from_numpy(target[last])

    def _ahead(self, starts: Tensor) -> Tensor:
        """The rows that are forecast: windows × horizon."""
        return starts[:, None] + self._window + torch.arange(self._horizon)
