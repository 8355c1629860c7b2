"""What turns a model's raw outputs into scores, by the manifest's word for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def activate(values: NDArray[Any], activation: str) -> NDArray[Any]:
    """float64 scores between 0 and 1 over the last dimension; the values themselves for `none`."""
    if activation == "softmax":
        exponents = np.exp(values.astype(np.float64) - np.max(values, axis=-1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))
    if activation == "sigmoid":
        # tanh saturates where exp would overflow.
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values.astype(np.float64))))
    return values
