"""Occlusion: cover a picture window by window and see how far the score falls.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", 2014. Each window's fall is spread
evenly over its pixels, and a pixel gets the mean over the windows that cover it.

*Completeness* (the attributions sum to score − base) holds where windows tile the picture (the stride is the
window, and both sides are multiples of it) and the score is a sum of functions of one window each. Elsewhere the
residual says what is missing: what parts of the picture do only together.
"""

from __future__ import annotations

import numpy as np

from modelry.core.explaining import Picture, starts
from modelry.worker.explain.kernel_shap import Bools, Floats


def windows(picture: Picture, window: int, stride: int) -> Bools:
    """What is covered each time: windows × height × width."""
    tops = starts(picture.height, window, stride)
    lefts = starts(picture.width, window, stride)
    covered = np.zeros((len(tops) * len(lefts), picture.height, picture.width), np.bool_)
    for index, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        covered[index, top : top + window, left : left + window] = True
    return covered


def attribute(covered: Bools, score: float, scores: Floats) -> Floats:
    """height × width; `scores` has one for each window, `score` is the picture's own."""
    areas = covered.sum(axis=(1, 2))
    falls = np.tensordot((score - scores) / areas, covered, axes=1)
    shares: Floats = falls / covered.sum(axis=0)
    return shares
