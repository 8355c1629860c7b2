"""A column as it came → numbers, names or texts; the first cell that cannot be one is refused with its row.

A cell is missing where nothing was written, or one of the words that people write for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelry.core.cells import MISSING_NAMES, MISSING_NUMBERS
from modelry.worker.data.picturing import Array
from modelry.worker.data.whole import Whole

_BLANKS = " \t"
_SHOWN_LETTERS = 40


def find_numbers(column: Any) -> Any:
    """Texts that are all whole numbers (int64) or numbers (float64), null where missing; None if one is neither."""
    values = _spelled(column)
    for type_ in (pa.int64(), pa.float64()):
        try:
            return pc.cast(values, type_)
        except pa.ArrowInvalid:
            continue
    return None


def numbers(whole: Whole, name: str) -> Any:
    """A column of numbers, float64 with nulls if any is missing; raises `InvalidData` for texts and infinity."""
    column = whole.table.column(name)
    if is_text(column.type):
        found = find_numbers(column)
        if found is None:
            row, cell = _first_text(column)
            raise whole.refusal(row, name, f"is '{cell}', which is no number", _KIND_REMEDY)
        column = found
    column = plain_numbers(column)
    if pa.types.is_floating(column.type):
        infinite = pc.fill_null(pc.is_inf(column), False).to_numpy()
        if infinite.any():
            raise whole.refusal(int(np.argmax(infinite)), name, "is infinite")
    if column.null_count and not pa.types.is_float64(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    return column


def names(whole: Whole, name: str) -> Any:
    """A column of categories: texts without blanks around them, null where missing."""
    column = pc.utf8_trim_whitespace(spelled(whole.table.column(name)))
    is_missing = pc.is_in(column, value_set=pa.array(MISSING_NAMES))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), column)


def texts(whole: Whole, name: str) -> Any:
    """A column of texts as they are; one that is missing is empty."""
    return pc.fill_null(spelled(whole.table.column(name)), "")


def spelled(column: Any) -> Any:
    """Cells of any plain type as texts."""
    return column if pa.types.is_string(column.type) else pc.cast(column, pa.string())


def is_text(type_: Any) -> bool:
    """Whether Arrow holds texts in this type."""
    return bool(pa.types.is_string(type_))


def is_plain_number(type_: Any) -> bool:
    """Whether Arrow holds one number a row in this type."""
    return bool(
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    )


def has_fractions(column: Any) -> bool:
    """Whether a column of numbers holds one that is not whole."""
    if not pa.types.is_floating(column.type):
        return False
    values: Array = column.drop_null().to_numpy()
    return bool((np.floor(values) != values).any())


def plain_numbers(column: Any) -> Any:
    """Bytes for truths, float32 for float16, float64 for decimals, null for NaN; the others as they are."""
    if pa.types.is_boolean(column.type):
        return pc.cast(column, pa.uint8())
    if pa.types.is_float16(column.type):
        column = pc.cast(column, pa.float32())
    if pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        column = pc.cast(column, pa.float64())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _spelled(column: Any) -> Any:
    """Without blanks around the cells, null where one is missing."""
    column = pc.utf8_trim(column, characters=_BLANKS)
    is_missing = pc.is_in(column, value_set=pa.array(MISSING_NUMBERS))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), column)


def _first_text(column: Any) -> tuple[int, str]:
    """The first cell that is no number, and its row."""
    values = _spelled(column)
    for cell in pc.unique(values.drop_null()):
        try:
            pc.cast(cell, pa.float64())
        except pa.ArrowInvalid:
            return pc.index(values, cell).as_py(), cell.as_py()[:_SHOWN_LETTERS]
    raise AssertionError("a column that is no number has a cell that is none; this is a bug")


_KIND_REMEDY = "Mend the cell, or give the column another kind; nothing was imported."
