"""Columns with several numbers a row: all rows of one length are tensors, others sequences of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelry.core.manifests import Feature
from modelry.worker.data.cells import is_plain_number
from modelry.worker.data.picturing import Array
from modelry.worker.data.whole import Whole

#: Arrow counts the numbers of a column of lists in 32 bits.
_MAX_VALUES = (1 << 31) - 1


def is_list(type_: Any) -> bool:
    """Whether Arrow holds several values a row in this type."""
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def settle_lists(whole: Whole, name: str) -> tuple[Feature, Any]:
    """The feature and the column; raises `InvalidData` for empty rows, missing values, NaN, infinity, uneven steps."""
    column = _as_list(whole.table.column(name).combine_chunks())
    _check_rows(whole, name, column)
    if is_list(column.type.value_type):
        return _steps(whole, name, column)
    lengths = pc.list_value_length(column).to_numpy()
    is_even = bool((lengths == lengths[0]).all())
    values = _numbers(whole, name, column, np.arange(len(column)), as_float32=not is_even)
    if is_even:
        width = int(lengths[0])
        dtype = str(values.dtype)
        scale = 1 / 255 if dtype == "uint8" else 1.0
        feature = Feature(kind="tensor", dtype=dtype, shape=[width], scale=scale)
        return feature, pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    return sequences(values, lengths, 1)


def sequences(values: Array, lengths: Array, width: int) -> tuple[Feature, Any]:
    """Rows of `lengths` numbers each (steps × width, one after the other) as a feature and its Arrow column."""
    ends = np.cumsum(lengths, dtype=np.int64)
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    column = pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.float32)))
    return Feature(kind="sequence", dtype="float32", shape=[width]), column


def _steps(whole: Whole, name: str, column: Any) -> tuple[Feature, Any]:
    """Lists of lists: the inner ones are steps, all of one width."""
    steps = _as_list(column.flatten())
    owners = np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy())
    if is_list(steps.type.value_type):
        raise whole.refusal(
            0, name, "holds lists within lists within lists, and steps are one deep"
        )
    if steps.null_count:
        row = int(owners[np.argmax(steps.is_null().to_numpy(zero_copy_only=False))])
        raise whole.refusal(row, name, "has a step that is missing")
    widths = pc.list_value_length(steps).to_numpy()
    uneven = widths != widths[0]
    if uneven.any() or not widths[0]:
        at = int(np.argmax(uneven))
        what = f"has a step of {widths[at]} numbers, and others have {widths[0]}"
        raise whole.refusal(int(owners[at]), name, what)
    values = _numbers(whole, name, steps, owners, as_float32=True)
    width = int(widths[0])
    lengths = pc.list_value_length(column).to_numpy() * width
    return sequences(values, lengths, width)


def _as_list(column: Any) -> Any:
    type_ = column.type
    return column if pa.types.is_list(type_) else column.cast(pa.list_(type_.value_type))


def _check_rows(whole: Whole, name: str, column: Any) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise whole.refusal(row, name, "is empty, but the column holds lists")
    lengths = pc.list_value_length(column).to_numpy()
    if not lengths.all():
        raise whole.refusal(
            int(np.argmin(lengths)), name, "is an empty list; one number is the least"
        )


def _numbers(whole: Whole, name: str, column: Any, owners: Array, *, as_float32: bool) -> Array:
    """The numbers of all lists, one after the other; `owners` are the lists' rows."""
    flat = column.flatten()
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.uint8())
    if not is_plain_number(flat.type):
        raise whole.refusal(0, name, f"is a list of {flat.type}, and lists of numbers are known")
    if len(flat) > _MAX_VALUES:
        raise whole.refusal(0, name, "begins a column of over 2 thousand million numbers")
    bad = flat.is_null().to_numpy(zero_copy_only=False)
    values: Array = flat.to_numpy(zero_copy_only=False)
    if pa.types.is_decimal(flat.type):
        values = values.astype(np.float64)
    if as_float32 or values.dtype == np.float16:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            values = values.astype(np.float32)
    if values.dtype.kind == "f":
        bad = bad | ~np.isfinite(values)
    if bad.any():
        lists = np.repeat(owners, pc.list_value_length(column).to_numpy())
        row = int(lists[np.argmax(bad)])
        raise whole.refusal(row, name, "holds a missing value, NaN or infinity")
    return values
