"""Whether a recipe can learn from a data set, and which columns it learns from. Reads no row."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from modelry.core.errors import InvalidParameter, WrongDataKind
from modelry.core.manifests import DatasetManifest, Feature
from modelry.core.recipes.card import RecipeCard

Kind = Literal["tensor", "sequence", "audio", "text", "table", "series"]
Goal = Literal["classification", "regression", "forecasting"]

#: What a feature's kind is learned as.
_KINDS: dict[str, Kind] = {
    "image": "tensor",
    "tensor": "tensor",
    "sequence": "sequence",
    "audio": "audio",
    "text": "text",
    "number": "table",
    "category": "table",
}
_GOALS: dict[str, Goal] = {"label": "classification", "number": "regression"}
#: What is predicted, in a refusal.
_PREDICTED: dict[Goal, str] = {
    "classification": "labels",
    "regression": "numbers",
    "forecasting": "the next numbers of a series",
}
_FORECASTING_TASK = "time-series-forecasting"


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from what."""

    kind: Kind
    #: The columns that become the input; several only for a table and a series, whose target comes first among them.
    columns: tuple[str, ...]
    #: The column that is predicted.
    target: str
    goal: Goal
    #: Columns that are neither.
    unused: tuple[str, ...] = ()


def plan_lesson(card: RecipeCard, manifest: DatasetManifest, data: str) -> Lesson:
    """Raises `WrongDataKind`, in which the data set is called `data`, where the two do not fit."""

    def refuse(reason: str) -> WrongDataKind:
        return WrongDataKind(recipe=card.name, data=data, reason=reason)

    goal = _goal(card, manifest, refuse)
    for split in ("train", "test"):
        if split not in manifest.splits or manifest.splits[split].rows == 0:
            raise refuse(f"it has no rows in the split '{split}'")
    assert manifest.target is not None  # _goal refuses a missing one
    inputs = {name: one for name, one in manifest.features.items() if name != manifest.target}
    if goal == "forecasting":
        return _series(inputs, manifest.target)
    found: dict[Kind, list[str]] = {}
    for name, feature in inputs.items():
        if feature.kind in _KINDS:
            found.setdefault(_KINDS[feature.kind], []).append(name)
    for kind in ("tensor", "sequence", "audio", "text", "table"):
        columns = _columns(card, kind, found.get(kind, []), refuse)
        if columns:
            unused = tuple(name for name in inputs if name not in columns)
            return Lesson(kind, columns, manifest.target, goal, unused)
    kinds = ", ".join(sorted({feature.kind for feature in inputs.values()})) or "nothing"
    raise refuse(f"it holds {kinds} and the recipe takes {_wanted(card)}")


def check_scope(card: RecipeCard, lesson: Lesson, given: Collection[str]) -> None:
    """Raises `InvalidParameter` for a parameter that has no meaning for such data or such a target."""
    for name in given:
        param = card.param(name)
        if param.only_for and not {lesson.kind, lesson.goal} & set(param.only_for):
            meant = " or ".join(param.only_for)
            raise InvalidParameter(
                f"'{name}' is for {meant}, and this is {lesson.goal} of the kind {lesson.kind}.",
                remedy="Leave it away.",
                name=name,
            )


def _goal(card: RecipeCard, manifest: DatasetManifest, refuse: Any) -> Goal:
    target: Feature | None = manifest.features.get(manifest.target or "")
    if target is None:
        raise refuse("it names no feature to predict")
    goal = _GOALS.get(target.kind)
    if goal == "regression" and "forecasting" in card.goals:
        goal = _in_time(manifest, refuse)
    if goal not in card.goals:
        predicts = " or ".join(_PREDICTED[one] for one in card.goals)
        raise refuse(
            f"its target '{manifest.target}' is a {target.kind}, and the recipe predicts {predicts}"
        )
    if goal == "classification" and len(target.labels or ()) < 2:
        raise refuse(f"its target '{manifest.target}' has fewer than two labels")
    assert goal is not None
    return goal


def _in_time(manifest: DatasetManifest, refuse: Any) -> Goal:
    if manifest.time is None and manifest.task != _FORECASTING_TASK:
        raise refuse(
            "its rows have no order in time; import it with --time COLUMN, the column that tells each row's time"
        )
    return "forecasting"


def _series(inputs: dict[str, Feature], target: str) -> Lesson:
    """The target's own past is an input, too."""
    columns = [name for name, one in inputs.items() if _KINDS.get(one.kind) == "table"]
    unused = tuple(name for name in inputs if name not in columns)
    return Lesson("series", (target, *columns), target, "forecasting", unused)


def _columns(card: RecipeCard, kind: Kind, names: list[str], refuse: Any) -> tuple[str, ...]:
    if kind not in {_KINDS[taken] for taken in card.takes}:
        return ()
    if len(names) > 1 and kind != "table":
        listed = ", ".join(f"'{name}'" for name in names[:5])
        raise refuse(
            f"it has {len(names)} columns of that kind ({listed}) where one is learned from"
        )
    return tuple(names)


def _wanted(card: RecipeCard) -> str:
    return " or ".join(card.takes)
