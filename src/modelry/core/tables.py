"""A table's rows, written with their columns' names, as the numbers that a model takes: for doors and workers alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from modelry.core.cells import MISSING_NAMES, MISSING_NUMBERS
from modelry.core.errors import InvalidInput
from modelry.core.manifests import Column, TableInput
from modelry.core.tensors import Array

#: A float rather than numpy's own, whose comparison would cast the other side.
_LARGEST = float(np.finfo(np.float32).max)


def encode_rows(rows: Sequence[Any], media: TableInput) -> Array:
    """float32, rows × columns: a category's number, NaN for a missing value; raises `InvalidInput`.

    Every row names every column; None is a missing value, and a name that the model never saw counts as unknown.
    Where one input is several rows, each of `rows` is a list of them, and the result is inputs × steps × columns.
    """
    if media.steps is not None:
        return np.stack([_encode_window(one, index, media) for index, one in enumerate(rows)])
    return _encode_rows(rows, media)


def _encode_window(rows: Any, index: int, media: TableInput) -> Array:
    if not isinstance(rows, list) or len(rows) != media.steps:
        held = f"has {len(rows)} rows" if isinstance(rows, list) else "is no list of rows"
        raise InvalidInput(reason=f"input {index} {held}", expected=_expected(media))
    return _encode_rows(rows, media)


def _encode_rows(rows: Sequence[Any], media: TableInput) -> Array:
    found = np.empty((len(rows), len(media.columns)), np.float32)
    names = {column.name for column in media.columns}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidInput(
                reason=f"row {index} is no object with columns", expected=_expected(media)
            )
        if set(row) != names:
            raise _wrong_columns(index, set(row), names, media)
        for place, column in enumerate(media.columns):
            found[index, place] = _encode(row[column.name], column, index)
    return found


def encode_columns(table: Any, media: TableInput) -> Array:
    """The same for columns of equal length: `{"age": [39, 50], …}`; raises `InvalidInput`.

    Where one input is several rows, the columns are those of a single one.
    """
    if not isinstance(table, Mapping) or not all(isinstance(one, list) for one in table.values()):
        raise InvalidInput(reason="the table is no object of lists", expected=_expected(media))
    lengths = {len(values) for values in table.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise InvalidInput(
            reason="the table's columns differ in length or are empty", expected=_expected(media)
        )
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    return encode_rows([rows] if media.steps is not None else rows, media)


def unknown_number(column: Column) -> int:
    """What stands for a name that is not among the column's categories."""
    return len(column.categories or ()) + 1


@lru_cache(maxsize=1024)
def _places(categories: tuple[str, ...]) -> dict[str, int]:
    """Name → number; a thousand names are not to be walked through for each cell."""
    return {name: place for place, name in enumerate(categories)}


def _encode(value: Any, column: Column, row: int) -> float:
    if value is None:
        return math.nan
    if column.categories is not None:
        places = _places(tuple(column.categories))
        name = value.strip() if isinstance(value, str) else _plain(value, places)
        if name is None:
            raise _wrong_value(value, column, row, "a text")
        if name in MISSING_NAMES:
            return math.nan
        return float(places.get(name, unknown_number(column)))
    if isinstance(value, str):
        value = value.strip()
        if value in MISSING_NUMBERS:
            return math.nan
    try:
        # Python itself reads 1_000 as a thousand; no table does.
        number = float("" if isinstance(value, str) and "_" in value else value)
    except (TypeError, ValueError, OverflowError):
        raise _wrong_value(value, column, row, "a number or null") from None
    if math.isinf(number) or math.isnan(number) or abs(number) > _LARGEST:
        raise _wrong_value(value, column, row, "a finite number or null")
    return number


def _plain(value: Any, places: Mapping[str, int]) -> str | None:
    """A whole number or a truth as the text that the table held: Python's True or JSON's true."""
    if isinstance(value, bool):
        return str(value) if str(value) in places else str(value).lower()
    return str(value) if isinstance(value, int) else None


def _wrong_columns(row: int, given: set[str], names: set[str], media: TableInput) -> InvalidInput:
    missing, strange = sorted(names - given), sorted(map(str, given - names))
    reason = (
        f"row {row} lacks the column '{missing[0]}'"
        if missing
        else f"row {row} has a column '{strange[0]}' that the model does not know"
    )
    return InvalidInput(reason=reason, expected=_expected(media))


def _wrong_value(value: Any, column: Column, row: int, wanted: str) -> InvalidInput:
    shown = repr(value)[:50]
    return InvalidInput(
        reason=f"row {row} has {shown} in the column '{column.name}'",
        expected=f"{wanted} there",
    )


def _expected(media: TableInput) -> str:
    names = ", ".join(f"'{column.name}'" for column in media.columns[:50])
    steps = "" if media.steps is None else f"inputs of {media.steps} rows each, in order of time: "
    return f"{steps}rows with the columns {names}; null where a value is missing"
