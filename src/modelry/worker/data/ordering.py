"""The column that tells the rows' order in time: numbers, dates and times as ISO 8601 writes them, or texts that sort.

Rows of the same time keep the order they came in.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelry.worker.data import cells
from modelry.worker.data.parts import TimeColumn
from modelry.worker.data.picturing import Array
from modelry.worker.data.whole import Whole

_ISO = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
#: 31/12/2026 and its like: sorted as texts, the days would come before the years.
_DAY_FIRST = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}")
_REMEDY = "Write times as numbers or as 2026-12-31 23:59:00; nothing was imported."


def sort_keys(whole: Whole, name: str) -> tuple[TimeColumn, Any]:
    """The first and last time, and a column by which the rows sort; raises `InvalidData` for cells without a time."""
    column = whole.table.column(name)
    if cells.is_text(column.type):
        column = pc.utf8_trim_whitespace(column)
    elif not cells.is_plain_number(column.type):
        raise whole.refusal(0, name, f"is a {column.type}, and that tells no time", _REMEDY)
    keys = _as_times(whole, name, column)
    _check_present(whole, name, keys)
    ends = pc.min_max(keys)
    first, last = (_told(column, keys, ends[key]) for key in ("min", "max"))
    return TimeColumn(name, first, last), keys


def time_order(keys: list[Any]) -> Array:
    """The indices that sort the rows of one part, in pieces, by their times; equal times stay in order."""
    whole = pa.chunked_array([chunk for piece in keys for chunk in piece.chunks])
    return np.asarray(pc.array_sort_indices(whole.combine_chunks()).to_numpy())


def _as_times(whole: Whole, name: str, column: Any) -> Any:
    if not cells.is_text(column.type):
        return column
    found = cells.find_numbers(column)
    if found is not None:
        return found
    for type_ in _ISO:
        try:
            return pc.cast(column, type_)
        except pa.ArrowInvalid:
            continue
    _check_sortable(whole, name, column)
    return column


def _check_sortable(whole: Whole, name: str, column: Any) -> None:
    """Refuses texts whose order is not that of the time: days before years, numbers without leading zeros."""
    shapes = pc.replace_substring_regex(column, r"\d", "0")
    differ = pc.not_equal(shapes, shapes[0])
    if pc.any(differ).as_py():
        row = pc.index(differ, True).as_py()
        what = (
            f"is '{column[row]}', written otherwise than '{column[0]}', so that texts do not sort"
        )
        raise whole.refusal(row, name, what, _REMEDY)
    if _DAY_FIRST.match(column[0].as_py()):
        raise whole.refusal(0, name, f"is '{column[0]}', which does not sort as a text", _REMEDY)


def _check_present(whole: Whole, name: str, keys: Any) -> None:
    if pa.types.is_floating(keys.type):
        keys = pc.if_else(pc.is_finite(keys), keys, pa.scalar(None, keys.type))
    missing = pc.is_null(keys)
    if pa.types.is_string(keys.type):
        missing = pc.equal(keys, "")
    if pc.any(missing).as_py():
        row = pc.index(missing, True).as_py()
        raise whole.refusal(row, name, "tells no time", _REMEDY)


def _told(column: Any, keys: Any, time: Any) -> Any:
    """A time as it came: a number, or the text of the cell."""
    if pa.types.is_integer(keys.type) or pa.types.is_floating(keys.type):
        return time.as_py()
    return str(cells.spelled(column)[pc.index(keys, time).as_py()])
