"""What occlusion promises, and where."""

from __future__ import annotations

import numpy as np
import pytest

from modelry.core.explaining import Picture
from modelry.worker.explain.occlusion import attribute, windows


def falls(picture: Picture, window: int, stride: int, seed: int = 0) -> tuple[float, np.ndarray]:
    """A score that is a sum over pixels, each of which gives its own amount."""
    amounts = np.random.default_rng(seed).normal(size=(picture.height, picture.width))
    covered = windows(picture, window, stride)
    scores = np.array([amounts[~hidden].sum() for hidden in covered])
    return float(amounts.sum()), attribute(covered, float(amounts.sum()), scores)


@pytest.mark.parametrize(("height", "width", "window"), [(8, 8, 4), (6, 9, 3), (5, 5, 1)])
def test_tiling_windows_over_an_additive_score_leave_nothing_unexplained(
    height: int, width: int, window: int
) -> None:
    score, found = falls(Picture(height, width, 1), window, window)
    assert found.sum() == pytest.approx(score)


def test_windows_of_one_pixel_find_what_each_pixel_gives() -> None:
    amounts = np.random.default_rng(0).normal(size=(4, 6))
    _, found = falls(Picture(4, 6, 1), 1, 1)
    assert found == pytest.approx(amounts)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (7, 7), (3, 1), (28, 1)])
def test_every_pixel_is_covered_however_the_windows_move(window: int, stride: int) -> None:
    covered = windows(Picture(28, 31, 3), window, stride)
    assert covered.any(axis=0).all()
    assert set(covered.sum(axis=(1, 2)).tolist()) == {window * window}


def test_only_the_place_that_matters_gets_anything() -> None:
    picture = Picture(12, 12, 1)
    covered = windows(picture, 4, 2)
    scores = np.where(covered[:, 5, 6], 0.2, 0.9)
    found = attribute(covered, 0.9, scores)
    assert np.unravel_index(found.argmax(), found.shape) == (5, 6) or found[5, 6] == found.max()
    assert found[0, 0] == 0
    assert found[11, 0] == 0
