"""What a reader hands over: the parts of a source (its splits, or one whole), with contents that can be walked twice.

A content is examined once from beginning to end (checked, counted, digested) and then asked for chosen rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelry.core.errors import InvalidData
from modelry.core.manifests import Feature
from modelry.worker.data.picturing import Array
from modelry.worker.data.statistics import Statistics

#: Names people give to splits → the names used here.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
#: The name of a part that is no split yet.
WHOLE = "train"


class Content(Protocol):
    """The inputs of one part, row by row; labels lie beside it."""

    #: Whether the order of rows means something; files in a folder have none, so their names cannot matter.
    is_ordered: bool

    @property
    def features(self) -> dict[str, Feature]:
        """The input features."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    @property
    def row_bytes(self) -> int:
        """About how many bytes a row takes, to size shards and batches."""

    def examine(self, start: int, stop: int, statistics: Statistics) -> list[bytes]:
        """Checks rows, adds them to the statistics, and returns the SHA-256 of each; raises `InvalidData`."""

    def columns(self, indices: Array) -> dict[str, Any]:
        """Arrow arrays with the chosen rows."""

    def show(self, index: int) -> dict[str, Any]:
        """One row for people, as JSON."""


@dataclass(frozen=True)
class Part:
    """One part of the source."""

    #: For messages.
    file: str
    content: Content
    #: One value a row, whole numbers or texts; None for data without labels.
    labels: Array | None = None
    #: Where the labels came from, for messages.
    label_file: str = ""
    #: SHA-256 for each row from start to stop: rows with equal ones stay on one side of a drawn split. None: the rows'
    #: own digests, so that equal rows do.
    keys: Callable[[int, int], list[bytes]] | None = None


@dataclass(frozen=True)
class TimeColumn:
    """The column that the rows were sorted by."""

    name: str
    #: The first and the last time, numbers or texts as they came.
    minimum: int | float | str
    maximum: int | float | str


@dataclass(frozen=True)
class Draft:
    """Everything a reader understood."""

    reader: str
    #: By split; a source without splits has the single part `train`.
    parts: dict[str, Part]
    #: What the label column is called, or which feature is to be predicted.
    target: str = "label"
    #: What the reader knows the data to be for, where that is more than features and target tell.
    task: str | None = None
    time: TimeColumn | None = None
    #: Whether the order of rows is an order in time, so that the last ones become the test split.
    is_in_time: bool = False
    #: Files and arrays that were no data.
    left_out: list[str] = field(default_factory=list)


def settle_splits(parts: dict[str | None, Part]) -> dict[str, Part]:
    """Parts with the names used here; `None` is a part that names no split. A lone part is the whole."""
    if len(parts) == 1:
        return {WHOLE: next(iter(parts.values()))}
    for split, part in parts.items():
        if split is None:
            reason = "it belongs to no split, while other files are named after train or test"
            raise InvalidData(file=part.file, reason=reason)
    if "train" not in parts:
        part = next(iter(parts.values()))
        raise InvalidData(file=part.file, reason="no part of the source is called train")
    order = ("train", "validation", "test")
    return {split: parts[split] for split in order if split in parts}


def check_alike(parts: dict[str, Part]) -> None:
    """Refuses parts with different features."""
    (first_name, first), *others = parts.items()
    for name, part in others:
        if part.content.features != first.content.features:
            mine, its = (_shown(each.content.features) for each in (part, first))
            reason = f"the part '{name}' holds {mine}, but '{first_name}' holds {its}"
            raise InvalidData(file=part.file, reason=reason)


def _shown(features: dict[str, Feature]) -> str:
    return ", ".join(
        f"{name} ({feature.dtype}{' ' + '×'.join(map(str, feature.shape)) if feature.shape else ''})"
        for name, feature in features.items()
    )
