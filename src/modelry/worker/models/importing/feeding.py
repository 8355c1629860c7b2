"""Inputs for a graph that nobody knows: plausible random numbers, and lengths for what it leaves free."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from modelry.core.manifests import ImageInput, TensorSpec
from modelry.core.preprocessing import image_input, picture_layout
from modelry.core.tensors import Array
from modelry.core.texts import STRING
from modelry.worker.models.importing.ports import Port

Feeds = dict[str, Array]
#: Input → the shape of one call.
Shapes = dict[str, list[int]]

#: Lengths tried for free dimensions that nothing is known of.
_LENGTHS = (16, 64, 224, 1, 8, 128, 256, 288, 512, 576, 32, 80, 299, 1024, 16000)
_MIXED_LENGTHS = (1, 8, 64, 288, 512, 576, 2)
#: So many free dimensions are tried with lengths of their own.
_MIXED = 4
#: Numbers of one call at most.
_MAX_ELEMENTS = 1 << 26
#: What inputs of text are tried with.
_WORDS = ("one", "two", "three")


class Feeding:
    """Makes calls of a graph's inputs. The same graph gets the same numbers each time."""

    def __init__(self, ports: list[Port], preprocess: dict[str, Any] | str | None) -> None:
        """Raises `InvalidParameter` where preprocessing is given and no input can take a picture."""
        self.ports = ports
        self._pictures = _picture_inputs(ports, preprocess)
        self._random = np.random.default_rng(0)

    def shapes(self) -> Iterator[Shapes]:
        """Shapes of one call that may run, the likeliest first; the batch counts as 1."""
        for lengths in self._candidates():
            shapes = {port.name: _with_lengths(port, lengths) for port in self.ports}
            if sum(prod(shape) for shape in shapes.values()) <= _MAX_ELEMENTS:
                yield shapes

    def feeds(self, shapes: Shapes) -> Feeds:
        """Numbers for one call."""
        return {port.name: self._numbers(port, shapes[port.name]) for port in self.ports}

    def _candidates(self) -> Iterator[dict[str, int]]:
        free = self._free_lengths()
        known = {name: length for name, length in free.items() if length}
        unknown = [name for name, length in free.items() if not length]
        if not unknown:
            yield known
            return
        # What several inputs leave free is seldom one length: a batch of 1 among them is likelier than 224 of each.
        is_mixed_likely = len(self.ports) > 1 and len(unknown) > 1
        for length in _LENGTHS[: 2 if is_mixed_likely else None]:
            yield {**known, **dict.fromkeys(unknown, length)}
        for lengths in itertools.product(_MIXED_LENGTHS, repeat=min(len(unknown), _MIXED)):
            mixed = dict(zip(unknown, lengths, strict=False))
            yield {**known, **dict.fromkeys(unknown, 1), **mixed}
        for length in _LENGTHS:
            yield {**known, **dict.fromkeys(unknown, length)}

    def _free_lengths(self) -> dict[str, int]:
        """Free dimension → its length where that is known (1 for the batch), else 0."""
        found: dict[str, int] = {}
        has_batch = all(port.shape and not isinstance(port.shape[0], int) for port in self.ports)
        for port in self.ports:
            picture = self._pictures.get(port.name)
            hints = [] if picture is None else picture.shape
            for axis, size in enumerate(port.shape):
                if isinstance(size, int):
                    continue
                key = _length_name(port, axis)
                hint = hints[axis - 1] if len(hints) == len(port.shape) - 1 and axis else 0
                found[key] = 1 if has_batch and axis == 0 else max(found.get(key, 0), hint)
        return found

    def _numbers(self, port: Port, shape: list[int]) -> Array:
        """Plausible ones: pictures as preprocessed, 0 to 1 otherwise, whole numbers 0 and 1, bytes, words."""
        if port.dtype == STRING:
            return np.asarray(self._random.choice(_WORDS, shape), dtype=object)
        kind = np.dtype(port.dtype)
        if kind.kind == "f":
            low, high = _range_of(self._pictures.get(port.name))
            return np.asarray(self._random.uniform(low, high, shape)).astype(kind)
        high_int = 256 if port.dtype == "uint8" else 2
        return np.asarray(self._random.integers(0, high_int, shape)).astype(kind)


def _picture_inputs(
    ports: list[Port], preprocess: dict[str, Any] | str | None
) -> dict[str, ImageInput]:
    if preprocess is None:
        return {}
    specs = [TensorSpec(name=port.name, dtype=port.dtype, shape=port.lengths) for port in ports]
    taken = [spec for spec in specs if picture_layout(spec) is not None] or specs[:1]
    return {taken[0].name: image_input(preprocess, taken[0])}


def _range_of(picture: ImageInput | None) -> tuple[float, float]:
    """From black to white, as the network sees them; 0 to 1 where nothing is known."""
    if picture is None:
        return 0.0, 1.0
    ends = [
        (value * picture.scale - mean) / std
        for value in (0.0, 255.0)
        for mean, std in zip(picture.mean or [0.0], picture.std or [1.0], strict=True)
    ]
    return min(ends), max(ends)


def _length_name(port: Port, axis: int) -> str:
    """Dimensions of one name have one length; those without are each their own."""
    size = port.shape[axis]
    return size if isinstance(size, str) and size else f"{port.name}/{axis}"


def _with_lengths(port: Port, lengths: dict[str, int]) -> list[int]:
    return [
        size if isinstance(size, int) else lengths[_length_name(port, axis)]
        for axis, size in enumerate(port.shape)
    ]
