"""What is to be predicted, row by row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modelry.core.errors import InvalidData
from modelry.core.learning import Lesson
from modelry.worker.data.reading import OpenDataset


def read_targets(data: OpenDataset, split: str, lesson: Lesson) -> Tensor:
    """int64 indices of labels, or float32 numbers; raises `InvalidData` for a number that is missing."""
    column = data.table(split, [lesson.target]).column(0)
    if lesson.goal == "classification":
        return torch.from_numpy(column.to_numpy().astype(np.int64))
    values = column.to_numpy().astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise InvalidData(
            file=split, reason=f"row {row} has no number in the target '{lesson.target}'"
        )
    return torch.from_numpy(values.astype(np.float32))
