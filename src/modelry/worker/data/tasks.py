"""What a data set is for, judged by its features and its target alone. Reads no row."""

from __future__ import annotations

from collections.abc import Mapping

from modelry.core.errors import InvalidData
from modelry.core.importing import TARGET_KINDS
from modelry.core.manifests import Feature

#: The kinds of columns that tables for numbers and categories are made of.
_CELLS = {"number", "category"}
#: What each task reads, and how that is called.
_INPUTS = {
    "image-classification": ({"image"}, "pictures"),
    "text-classification": ({"text", "category"}, "a column of text"),
    "translation": ({"text"}, "one column of text beside the target"),
    "text-generation": ({"text"}, "text"),
    "audio-classification": ({"audio"}, "recordings"),
    "sequence-classification": ({"sequence", "tensor"}, "sequences"),
}


def infer_task(
    features: Mapping[str, Feature], target: str | None, *, in_time: bool = False
) -> str | None:
    """The task, or None where it is not sure."""
    if target is None:
        return None
    kinds = {_kind(one) for name, one in features.items() if name != target}
    wanted = features[target].kind
    if wanted == "label":
        return _classification(kinds)
    if wanted == "number" and in_time:
        return "time-series-forecasting"
    if wanted == "number" and kinds <= _CELLS:
        return "tabular-regression"
    if wanted == "text" and kinds == {"text"} and len(features) == 2:
        return "translation"
    return None


def check_task(task: str, features: Mapping[str, Feature], target: str | None, file: str) -> None:
    """Raises `InvalidData` where the data cannot be for this task."""
    inputs = [_kind(one) for name, one in features.items() if name != target]
    known, called = _INPUTS.get(task, (_CELLS | {"text"}, "columns of a table"))
    fitting = [kind for kind in inputs if kind in known]
    is_alone = task not in ("translation", "text-generation") or len(inputs) == 1
    needs_inputs = task != "time-series-forecasting"
    if (needs_inputs and not fitting) or not is_alone:
        held = ", ".join(name for name in features if name != target) or "nothing else"
        reason = f"{task} reads {called}; the inputs are: {held}"
        raise InvalidData(file=file, reason=reason, remedy=_REMEDY)
    wanted = TARGET_KINDS.get(task)
    found = None if target is None else features[target].kind
    if wanted is not None and found != wanted:
        what = "there is no target" if found is None else f"'{target}' is a {found}"
        reason = f"{task} predicts a {wanted}, and {what}"
        raise InvalidData(file=file, reason=reason, remedy=_REMEDY)


_REMEDY = "Choose another task, or say with --features, --text and --kind what the columns are."


def _classification(kinds: set[str]) -> str | None:
    if len(kinds) == 1:
        (kind,) = kinds
        found = {
            "image": "image-classification",
            "audio": "audio-classification",
            "sequence": "sequence-classification",
            "text": "text-classification",
        }
        if kind in found:
            return found[kind]
    return "tabular-classification" if kinds and kinds <= _CELLS else None


def _kind(feature: Feature) -> str:
    """The feature's kind; numbers that are the pixels of a picture are an image."""
    is_picture = (
        feature.kind == "tensor"
        and feature.dtype == "uint8"
        and len(feature.shape) == 3
        and feature.shape[2] in (1, 3)
    )
    return "image" if is_picture else feature.kind
