"""What an input looks like where parts of it are absent: the baseline stands in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelry.core.explaining import Baseline, Picture, Subject
from modelry.core.tensors import Array
from modelry.worker.explain.kernel_shap import Bools

#: A blurred picture keeps no detail smaller than this share of its shorter side.
_BLUR_SHARE = 1 / 8


def baseline_of(row: Array, subject: Subject, baseline: Baseline) -> Array:
    """The row with everything absent: its shape, its element type."""
    if baseline == "missing":
        absent = np.full(row.shape, np.nan)
    elif isinstance(baseline, str):
        assert isinstance(subject, Picture)
        picture = _as_picture(row, subject).astype(np.float64)
        axes = _plane(subject)
        if baseline == "mean":
            absent = np.broadcast_to(picture.mean(axis=axes, keepdims=True), picture.shape)
        else:
            absent = _blur(picture, axes)
    else:
        absent = np.broadcast_to(np.asarray(baseline, np.float64), row.shape)
    return _cast(absent.reshape(row.shape), row.dtype)


def without(row: Array, absent: Array, hidden: Bools, subject: Subject) -> Array:
    """Copies of the row with the hidden parts from `absent`: copies × the row's shape.

    `hidden` is copies × height × width for pictures and copies × columns for tables.
    """
    if isinstance(subject, Picture):
        mask = hidden[..., None] if subject.is_channels_last else hidden[:, None]
        here, there = _as_picture(row, subject), _as_picture(absent, subject)
    else:
        mask, here, there = hidden, row, absent
    return np.where(mask, there, here).reshape(len(hidden), *row.shape)


def patches(subject: Picture, side: int) -> NDArray[np.int64]:
    """height × width: which square patch each pixel belongs to, row by row."""
    across = -(-subject.width // side)
    down = np.arange(subject.height)[:, None] // side
    return down * across + np.arange(subject.width)[None] // side


def _as_picture(row: Array, subject: Picture) -> Array:
    sides = (subject.height, subject.width)
    if subject.is_channels_last:
        return row.reshape(*sides, subject.channels)
    return row.reshape(subject.channels, *sides)


def _plane(subject: Picture) -> tuple[int, int]:
    return (0, 1) if subject.is_channels_last else (1, 2)


def _blur(picture: NDArray[np.float64], axes: tuple[int, int]) -> NDArray[np.float64]:
    """By a Gaussian whose weights beyond the edges go to the pixels inside."""
    width = _BLUR_SHARE * min(picture.shape[axis] for axis in axes)
    for axis in axes:
        places = np.arange(picture.shape[axis])
        weights = np.exp(-0.5 * np.square((places[:, None] - places) / max(width, 0.5)))
        weights /= weights.sum(axis=1, keepdims=True)
        picture = np.moveaxis(np.tensordot(weights, picture, axes=(1, axis)), 0, axis)
    return picture


def _cast(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        values = np.clip(np.rint(values), bounds.min, bounds.max)
    return values.astype(dtype)
