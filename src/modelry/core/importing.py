"""The options of an import that can be judged before any file is read. Reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modelry.core.errors import InvalidParameter
from modelry.core.jobs import ImportParams

#: What a data set may be for, by Hugging Face's names.
TASKS = (
    "image-classification",
    "text-classification",
    "tabular-classification",
    "tabular-regression",
    "time-series-forecasting",
    "translation",
    "text-generation",
    "audio-classification",
    "sequence-classification",
)
#: What a column may be said to be: inputs are the first three, the target is not a category.
COLUMN_KINDS = ("number", "category", "text", "label")
#: Tasks whose target is of one kind.
TARGET_KINDS = {
    "tabular-regression": "number",
    "time-series-forecasting": "number",
    "translation": "text",
    "image-classification": "label",
    "text-classification": "label",
    "tabular-classification": "label",
    "audio-classification": "label",
    "sequence-classification": "label",
}


def check_import(params: ImportParams) -> None:
    """Raises `InvalidParameter` for options that cannot be, or that contradict each other."""
    if not 0 <= params.test_share < 1:
        raise _refuse("test_share", params.test_share, "a number from 0 to below 1")
    if params.task is not None and params.task not in TASKS:
        raise _refuse("task", params.task, f"one of {', '.join(TASKS)}")
    if params.target is not None and params.label is not None:
        raise _refuse("label", params.label, "either target or label: both name what is predicted")
    for name in ("features", "columns"):
        _check_names(name, getattr(params, name))
    for column, kind in params.kinds.items():
        _check_kind(params, column, kind)
    _check_columns(params)
    if params.task == "text-generation":
        _check_generation(params)
    if params.label is not None and TARGET_KINDS.get(params.task or "", "label") != "label":
        raise _refuse("label", params.label, f"target, because {params.task} predicts no label")


def target_of(params: ImportParams) -> str | None:
    """The column or array to predict, by whichever option it was named."""
    return params.label if params.target is None else params.target


def target_kind(params: ImportParams) -> str | None:
    """What the target was said to be: `label`, `number` or `text`; None where its content decides."""
    target = target_of(params)
    if params.label is not None:
        return "label"
    if target is not None and target in params.kinds:
        return params.kinds[target]
    return TARGET_KINDS.get(params.task or "")


def table_options(params: ImportParams) -> list[str]:
    """The given options that only tables have."""
    names = ("features", "text", "time", "kinds", "columns")
    return [name for name in names if getattr(params, name)]


def _check_names(option: str, names: Sequence[str] | None) -> None:
    if names is None:
        return
    if not names or not all(name.strip() for name in names):
        raise _refuse(option, ",".join(names), "one name or more, none of them empty")
    ((first, count),) = Counter(names).most_common(1)
    if count > 1:
        raise _refuse(option, ",".join(names), f"each name once; '{first}' is there {count} times")


def _check_kind(params: ImportParams, column: str, kind: str) -> None:
    if kind not in COLUMN_KINDS:
        raise _refuse("kinds", {column: kind}, f"a kind of {', '.join(COLUMN_KINDS)}")
    if column == target_of(params):
        if kind == "category":
            raise _refuse("kinds", {column: kind}, "label, number or text for the target")
        wanted = "label" if params.label is not None else TARGET_KINDS.get(params.task or "", kind)
        if wanted != kind:
            why = f"the task {params.task}" if params.label is None else "the option label"
            raise _refuse("kinds", {column: kind}, f"'{wanted}', as {why} says")
    elif kind == "label":
        raise _refuse("kinds", {column: kind}, "category: only the target is a label")


def _check_columns(params: ImportParams) -> None:
    target = target_of(params)
    if target is not None and target in (params.time, params.text):
        option = "time" if target == params.time else "text"
        raise _refuse(option, target, "another column than the target")
    if params.time is not None and (
        params.time in (params.features or ()) or params.time in params.kinds
    ):
        raise _refuse("time", params.time, "a column that is no feature and has no kind")
    if params.features is not None:
        _check_features(params, params.features, target)
    is_said = params.kinds.get(params.text or "", "text") != "text" or params.text == params.time
    if params.text is not None and is_said:
        raise _refuse("text", params.text, "a column that nothing else is said of")


def _check_features(params: ImportParams, features: list[str], target: str | None) -> None:
    """Refuses a target among the inputs, where it is not its own past, and what is said of columns that are dropped."""
    if target in features and params.task != "time-series-forecasting":
        raise _refuse("features", ",".join(features), f"input columns; '{target}' is the target")
    if params.text is not None and params.text not in features:
        raise _refuse("text", params.text, "a column that is among the features")
    for column, kind in params.kinds.items():
        if column != target and column not in features:
            raise _refuse("kinds", {column: kind}, "kinds of the target and of the features alone")


def _check_generation(params: ImportParams) -> None:
    if target_of(params) is not None:
        raise _refuse("target", target_of(params), "nothing: text-generation has no target")
    for option in ("features", "time", "kinds"):
        if given := getattr(params, option):
            raise _refuse(option, given, "nothing: text-generation reads one column of text")


def _refuse(name: str, value: object, expected: str) -> InvalidParameter:
    return InvalidParameter(name=name, value=value, expected=expected)
