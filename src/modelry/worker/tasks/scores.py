"""From a classifier's output to labels with scores: one way for images, sound and text."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from modelry.core.errors import InvalidParameter, WorkFailed
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array
from modelry.worker.tasks.parameters import Count, Function


class ClassificationParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What every classification takes."""

    #: So many labels, the best first; None: the task's own number.
    top_k: Count | None = None
    #: Instead of what the model was made for.
    function_to_apply: Function | None = None


def softmax(values: Array) -> Array:
    """float64 scores that sum to one over the last dimension."""
    exponents = np.exp(np.asarray(values, np.float64) - np.max(values, axis=-1, keepdims=True))
    scores: Array = exponents / exponents.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(values: Array) -> Array:
    """float64 scores, each by itself between 0 and 1."""
    # tanh saturates where exp would overflow.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, np.float64))))


def scores_of(outputs: Array, manifest: ModelManifest, function: Function | None) -> Array:
    """A batch of outputs as scores; raises `InvalidParameter` where the model gives no raw values to apply it to."""
    check_function(manifest, function)
    match function or manifest.activation:
        case "softmax":
            return softmax(outputs)
        case "sigmoid":
            return sigmoid(outputs)
    return np.asarray(outputs, np.float64)


def check_function(manifest: ModelManifest, function: Function | None) -> None:
    """Raises `InvalidParameter` for a function that would be applied to finished scores."""
    if manifest.activation == "none" and function not in (None, "none"):
        raise InvalidParameter(
            name="function_to_apply",
            value=function,
            expected="'none', or leave it out: the model's output is finished already",
        )


def label_of(manifest: ModelManifest, index: int) -> str:
    """The name of a class, or `LABEL_3` where it has none."""
    return manifest.labels[index] if index < len(manifest.labels) else f"LABEL_{index}"


def ranked(scores: Array, manifest: ModelManifest, top_k: int | None) -> list[dict[str, Any]]:
    """One row's `{"label", "score"}`, the best first; equal scores in the order of the classes."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": label_of(manifest, int(at)), "score": float(scores[at])} for at in order]


def first_output(outputs: dict[str, Array], manifest: ModelManifest) -> Array:
    """The output with a row of class values for each row of input; raises `WorkFailed` for another shape."""
    values = outputs[manifest.outputs[0].name]
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    if values.ndim != 2:
        raise WorkFailed(
            f"The model gave {values.ndim} dimensions where a task of classes needs rows of scores.",
            remedy="Import the model again with another task.",
        )
    return values
