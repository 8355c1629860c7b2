"""Columns of an Arrow table as the numbers that a model of tables takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelry.core.manifests import Column
from modelry.core.tables import unknown_number
from modelry.worker.data.picturing import Array


def column_numbers(table: Any, columns: Sequence[Column]) -> Array:
    """float32, rows × columns, as `core/tables.py` makes them of rows: a category's number, NaN where none is."""
    rows = np.empty((table.num_rows, len(columns)), np.float32)
    for index, column in enumerate(columns):
        values = table.column(column.name)
        if column.categories is None:
            with np.errstate(over="ignore"):
                rows[:, index] = values.cast(pa.float64()).to_numpy().astype(np.float32)
            continue
        places = pc.index_in(values, value_set=pa.array(column.categories, pa.string()))
        rows[:, index] = pc.fill_null(places, unknown_number(column)).to_numpy()
        rows[values.is_null().to_numpy(), index] = np.nan
    return rows
