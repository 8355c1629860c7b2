"""The number that is explained: the probability of one class, row by row."""

from __future__ import annotations

import numpy as np

from modelry.core.errors import InvalidInput, InvalidParameter, UnsupportedTask
from modelry.core.inputs import describe
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array
from modelry.worker.explain.kernel_shap import Floats
from modelry.worker.tasks.scores import scores_of


def probabilities(output: Array, manifest: ModelManifest) -> Floats:
    """rows × classes, after the manifest's activation; a model with one number a row has one class.

    Raises `UnsupportedTask` for other outputs, and `InvalidInput` where the model answered no number.
    """
    is_flat = output.ndim == 1 or set(output.shape[2:]) <= {1}
    table = output.reshape(len(output), -1) if is_flat else output
    if table.ndim != 2 or table.dtype.kind not in "fiu" or not table.shape[1]:
        raise UnsupportedTask(
            f"The model's output '{manifest.outputs[0].name}' has no score for each class.",
            remedy="Models that answer one row of numbers for each input can be explained.",
        )
    values = table.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidInput(
            reason="the model's answer to it, or to it with parts absent, is no number",
            expected=f"{describe(manifest.inputs)}, finite and of the size it learned from",
        )
    return np.asarray(scores_of(values, manifest, None))


def index_of(label: str | None, first: Floats, labels: list[str]) -> int:
    """The column of a label, or of the best one of the first row; raises `InvalidParameter`."""
    names = names_of(len(first), labels)
    if label is None:
        return int(first.argmax())
    if label not in names:
        shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        raise InvalidParameter(name="label", value=label, expected=f"one of: {shown}")
    return names.index(label)


def names_of(classes: int, labels: list[str]) -> list[str]:
    """The labels, or the columns' numbers where the model has no label for each."""
    return labels if len(labels) == classes else [str(index) for index in range(classes)]
