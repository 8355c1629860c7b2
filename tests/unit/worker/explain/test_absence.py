"""What stands where parts are absent, in every layout and element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelry.core.explaining import Picture, Table
from modelry.worker.explain.absence import baseline_of, patches, without

RANDOM = np.random.default_rng(0)
LAST = RANDOM.random((6, 8, 3), dtype=np.float32)


def views() -> list[tuple[Any, Picture]]:
    """The same picture, its channels last, first, and inside its rows."""
    return [
        (LAST, Picture(6, 8, 3)),
        (np.ascontiguousarray(np.moveaxis(LAST, 2, 0)), Picture(6, 8, 3, is_channels_last=False)),
        (LAST.reshape(6, 24), Picture(6, 8, 3)),
    ]


def as_last(row: Any, picture: Picture) -> Any:
    if picture.is_channels_last:
        return row.reshape(6, 8, 3)
    return np.moveaxis(row, 0, 2)


@pytest.mark.parametrize(("row", "picture"), views(), ids=["last", "first", "rows"])
@pytest.mark.parametrize("baseline", ["mean", "blur", 0.25])
def test_every_layout_loses_the_same_pixels(row: Any, picture: Picture, baseline: Any) -> None:
    hidden = np.zeros((2, 6, 8), bool)
    hidden[0, 1:3, 2:5] = True
    absent = baseline_of(row, picture, baseline)
    found = without(row, absent, hidden, picture)
    assert found.shape == (2, *row.shape)
    assert found.dtype == row.dtype
    seen = as_last(found[0], picture)
    assert np.array_equal(seen[~hidden[0]], LAST[~hidden[0]])
    assert np.array_equal(seen[hidden[0]], as_last(absent, picture)[hidden[0]])
    assert np.array_equal(found[1], row)
    assert as_last(absent, picture) == pytest.approx(
        baseline_of(LAST, Picture(6, 8, 3), baseline), abs=1e-6
    )


def test_the_mean_is_one_colour_and_the_blur_keeps_the_light() -> None:
    picture = Picture(32, 32, 3)
    row = RANDOM.random((32, 32, 3), dtype=np.float32)
    mean = baseline_of(row, picture, "mean")
    assert np.ptp(mean, axis=(0, 1)) == pytest.approx(0)
    assert mean[0, 0] == pytest.approx(row.mean(axis=(0, 1)), abs=1e-6)
    blurred = baseline_of(row, picture, "blur")
    assert blurred.std() < row.std() / 4
    assert blurred.mean() == pytest.approx(row.mean(), abs=0.02)


def test_bytes_stay_bytes() -> None:
    row = RANDOM.integers(0, 256, (5, 5, 1), dtype=np.uint8)
    for baseline in ("mean", "blur", 300.0):
        absent = baseline_of(row, Picture(5, 5, 1), baseline)  # type: ignore[arg-type]
        assert absent.dtype == np.uint8
    assert baseline_of(row, Picture(5, 5, 1), 300.0).max() == 255


def test_a_table_takes_one_number_or_one_for_each_column() -> None:
    row, table = np.float32([1, 2, 3]), Table(("a", "b", "c"))
    assert baseline_of(row, table, 0.0).tolist() == [0, 0, 0]
    absent = baseline_of(row, table, (7.0, 8.0, 9.0))
    hidden = np.array([[True, False, False], [False, False, True]])
    assert without(row, absent, hidden, table).tolist() == [[7, 2, 3], [1, 2, 9]]


def test_patches_are_numbered_row_by_row_and_cover_the_edges() -> None:
    assert patches(Picture(3, 5, 1), 2).tolist() == [
        [0, 0, 1, 1, 2],
        [0, 0, 1, 1, 2],
        [3, 3, 4, 4, 5],
    ]
