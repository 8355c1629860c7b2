"""Parquet files as Arrow tables of plain columns; read in batches, so that a small file cannot fill the memory.

A table is held in memory whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelry.core.errors import InvalidData
from modelry.worker.data.cells import is_plain_number
from modelry.worker.data.lists import is_list
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.unpacking import FREE_BYTES, MAX_RATIO

_BATCH_ROWS = 4096


def read_parquet(file: SourceFile) -> Any:
    """The table; raises `InvalidData` for columns of other than numbers, texts, truths, times and lists of numbers."""
    try:
        with pq.ParquetFile(file.place) as opened:
            schema = opened.schema_arrow
            check_column_names(file.name, schema.names)
            for field in schema:
                _check_type(file, field)
            table = pa.Table.from_batches(list(_batches(file, opened)), schema)
        columns = [_plain(column) for column in table.columns]
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else "it cannot be read"
        raise InvalidData(
            file=file.name, reason=f"it is no sound Parquet file ({reason})"
        ) from error
    return pa.table(columns, names=schema.names)


def check_column_names(file: str, names: list[str]) -> None:
    """Refuses columns without a name or with another's."""
    if not names or len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise InvalidData(file=file, reason="its columns need different names")


def _batches(file: SourceFile, opened: Any) -> Iterator[Any]:
    limit = max(FREE_BYTES, MAX_RATIO * file.size_bytes)
    held = 0
    for batch in opened.iter_batches(_BATCH_ROWS, use_threads=False):
        held += batch.nbytes
        if held > limit:
            reason = (
                f"it unpacks to more than {limit >> 20} MiB, which is out of proportion to its size"
            )
            raise InvalidData(file=file.name, reason=reason)
        yield batch


def _check_type(file: SourceFile, field: Any) -> None:
    type_ = field.type
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if is_plain_number(type_) or is_list(type_) or any(known(type_) for known in _KNOWN):
        return
    what = "bytes" if any(known(type_) for known in _BYTES) else str(type_)
    reason = f"its column '{field.name}' holds {what}, and columns hold numbers, texts, truths, times or lists"
    remedy = "Bring pictures and recordings as files in folders, and other columns as plain ones; nothing was imported."
    raise InvalidData(file=file.name, reason=reason, remedy=remedy)


def _plain(column: Any) -> Any:
    """Texts, names and times as Arrow's plain strings; the rest as it is."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        column = pc.cast(column, type_.value_type)
        type_ = column.type
    if pa.types.is_string(type_) or not any(known(type_) for known in _SPELLED):
        return column
    return pc.cast(column, pa.string())


_SPELLED = (
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_time,
)
_KNOWN = (*_SPELLED, pa.types.is_string, pa.types.is_boolean, pa.types.is_null)
_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)
