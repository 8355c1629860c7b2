"""The columns of a row with names: numbers first, then categories with the names that they may have."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from modelry.core.errors import WrongDataKind
from modelry.core.learning import Lesson
from modelry.core.manifests import Column, TableInput
from modelry.worker.data.reading import OpenDataset
from modelry.worker.training.processors import Start

#: A category's names beyond these, the rarest ones, count as unknown.
_MOST_NAMES = 1000


def learn_columns(lesson: Lesson, data: OpenDataset, start: Start | None) -> list[Column]:
    """In the lesson's order, with the names of the training split or of the start; raises `WrongDataKind` where the
    start takes other columns."""
    features = data.manifest.features
    known = _known(start)
    columns = [Column(name=name) for name in lesson.columns if features[name].kind == "number"]
    columns += [
        Column(name=name, categories=known.get(name) or _names(data, name))
        for name in lesson.columns
        if features[name].kind == "category"
    ]
    if start is not None and [column.name for column in columns] != list(known):
        raise WrongDataKind(
            f"The model to start from takes the columns {', '.join(known) or 'of no table'}.",
            remedy="Start from a model of such rows, or from none.",
        )
    return columns


def column_sizes(columns: list[Column]) -> dict[str, Any]:
    """`numbers`: how many; `categories`: how many names each of the others has."""
    sizes = [len(column.categories) for column in columns if column.categories is not None]
    return {"numbers": len(columns) - len(sizes), "categories": sizes}


def _names(data: OpenDataset, column: str) -> list[str]:
    """The most frequent names of the training split; equally frequent ones by letters."""
    counts = pc.value_counts(data.table("train", [column]).column(0).drop_null())
    pairs = [(entry["counts"].as_py(), entry["values"].as_py()) for entry in counts]
    pairs.sort(key=lambda pair: (-pair[0], pair[1]))
    return sorted(name for _, name in pairs[:_MOST_NAMES])


def _known(start: Start | None) -> dict[str, list[str] | None]:
    if start is None or not isinstance(start.manifest.media, TableInput):
        return {}
    return {column.name: column.categories for column in start.manifest.media.columns}
