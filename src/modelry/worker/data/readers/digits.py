"""The built-in `digits`: 1,797 real handwritten digits that come with scikit-learn, scaled from 8×8 to 28×28."""

from __future__ import annotations

import numpy as np
from PIL import Image

from modelry.worker.data.labelling import whole_labels
from modelry.worker.data.parts import WHOLE, Draft, Part
from modelry.worker.data.picturing import Array
from modelry.worker.data.tensors import TensorContent

_SIDE = 28
_STEPS = 16


def read_digits() -> Draft:
    """The digits as one part with labels 0…9."""
    from sklearn.datasets import load_digits  # heavy, and needed here only

    found = load_digits()
    small = np.rint(found.images * (255 / _STEPS)).astype(np.uint8)
    images = np.stack([_enlarge(image) for image in small])[:, :, :, np.newaxis]
    labels = whole_labels(found.target, "digits")
    part = Part("digits", TensorContent(images, "digits"), labels, "digits")
    return Draft("digits", {WHOLE: part})


def _enlarge(image: Array) -> Array:
    return np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
