"""The rows of an explanation, made when the batcher takes them: a large picture is not held a thousand times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelry.core.explaining import Subject
from modelry.core.tensors import Array
from modelry.worker.explain.absence import without
from modelry.worker.explain.kernel_shap import Bools

#: Which perturbed rows → what is hidden in each.
Hidden = Callable[[Array], Bools]


class Perturbed:
    """Reads like an array of rows: the input itself, the input with everything absent, then the others in order.

    Behind them the last row is repeated until `rows` are full, for models with a fixed batch.
    """

    def __init__(
        self, row: Array, absent: Array, subject: Subject, hidden: Hidden, *, others: int, rows: int
    ) -> None:
        self._row, self._absent, self._subject = row, absent, subject
        self._hidden = hidden
        self._last = others + 1
        self.shape: tuple[int, ...] = (rows, *row.shape)
        self.dtype = row.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice) -> Array:
        """Some of the rows, as an array of its own."""
        index = np.arange(len(self))[which].clip(max=self._last)
        perturbed = self._hidden(np.maximum(index - 2, 0))
        ends = index.reshape(-1, *[1] * (perturbed.ndim - 1))
        hidden = np.where(ends < 2, ends == 1, perturbed)
        return without(self._row, self._absent, hidden, self._subject)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)
