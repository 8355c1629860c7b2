"""Whether tensors are what a model takes, and the words that say so; for doors and for workers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelry.core.errors import InvalidInput
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import Array
from modelry.core.texts import type_name


def check_inputs(tensors: Mapping[str, Array], specs: Sequence[TensorSpec]) -> int:
    """How many rows the tensors have; raises `InvalidInput` unless they are exactly what the specs name."""
    expected = describe(specs)
    unknown = sorted(set(tensors) - {spec.name for spec in specs})
    if unknown:
        raise InvalidInput(reason=f"it has no input '{unknown[0]}'", expected=expected)
    for spec in specs:
        if spec.name not in tensors:
            raise InvalidInput(reason=f"the input '{spec.name}' is missing", expected=expected)
        _check(spec, tensors[spec.name], expected)
    rows = {tensors[spec.name].shape[0] for spec in specs}
    if len(rows) != 1:
        raise InvalidInput(reason="its inputs differ in rows", expected=expected)
    if rows == {0}:
        raise InvalidInput(reason="there are no rows", expected=f"{expected}, N at least 1")
    return int(rows.pop())


def describe(specs: Sequence[TensorSpec]) -> str:
    """What a model takes: `'image': float32 of shape (N, 28, 28, 1)`."""
    return " and ".join(
        f"'{spec.name}': {spec.dtype} of shape {shape_text(spec.shape)}" for spec in specs
    )


def shape_text(shape: Sequence[int | None]) -> str:
    """`(N, 28, 28, 1)`; N stands for any number."""
    return "(" + ", ".join("N" if length is None else str(length) for length in shape) + ")"


def _check(spec: TensorSpec, tensor: Array, expected: str) -> None:
    if type_name(tensor) != spec.dtype:
        raise InvalidInput(reason=f"'{spec.name}' is {type_name(tensor)}", expected=expected)
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted is None or wanted == length
        for wanted, length in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        shape = shape_text(tensor.shape)
        raise InvalidInput(reason=f"'{spec.name}' has the shape {shape}", expected=expected)
