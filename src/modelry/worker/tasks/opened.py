"""A request that is ready to run: rows for the model, and what makes the answer of their outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelry.core.tensors import Array


@dataclass(frozen=True, slots=True)
class Opened:
    """What every op is inside a replica."""

    #: Rows of tensors, by the names of the model's inputs.
    inputs: dict[str, Array]
    #: The model's outputs for these rows → the bytes of the answer; raises `ModelryError` for this request alone.
    finish: Callable[[dict[str, Array]], bytes]
