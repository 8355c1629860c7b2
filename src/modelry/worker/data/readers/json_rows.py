"""JSON as Arrow tables: an object a line, or one list of objects; the keys are columns, a key that lacks is missing.

A table is held in memory whole; lines are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from modelry.core.errors import InvalidData
from modelry.worker.data.readers.parquet import check_column_names
from modelry.worker.data.sources import SourceFile

_MAX_LINE_BYTES = 64 << 20
_MAX_LIST_BYTES = 1 << 30
_BOM = b"\xef\xbb\xbf"
_WORDS = {bool: "a truth", int: "a number", float: "a number", str: "a text", list: "a list"}


def read_json(file: SourceFile) -> Any:
    """The table; raises `InvalidData` with the line, or the place in the list, and the column."""
    columns: dict[str, list[Any]] = {}
    first: dict[str, tuple[str, str]] = {}
    rows = 0
    for place, row in _rows(file):
        for name, value in row.items():
            cells = columns.setdefault(name, [])
            _check_value(file, place, name, value, first)
            cells.extend([None] * (rows - len(cells)))
            cells.append(value)
        rows += 1
    if not rows:
        raise InvalidData(file=file.name, reason="it holds no rows")
    check_column_names(file.name, list(columns))
    for cells in columns.values():
        cells.extend([None] * (rows - len(cells)))
    arrays = [_array(file, name, cells) for name, cells in columns.items()]
    return pa.table(arrays, names=list(columns))


def _rows(file: SourceFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with the words for its place."""
    with file.place.open("rb") as opened:
        is_list = opened.read(1 << 16).removeprefix(_BOM).lstrip().startswith(b"[")
    values = _list(file) if is_list else _lines(file)
    for place, value in values:
        if not isinstance(value, dict):
            raise InvalidData(file=file.name, reason=f"{place} is no JSON object")
        yield place, value


def _lines(file: SourceFile) -> Iterator[tuple[str, Any]]:
    with file.place.open("rb") as opened:
        number = 0
        while line := opened.readline(_MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > _MAX_LINE_BYTES:
                reason = f"line {number} is longer than {_MAX_LINE_BYTES >> 20} MiB"
                raise InvalidData(file=file.name, reason=reason)
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.strip():
                yield f"line {number}", _parse(file, f"line {number}", line)


def _list(file: SourceFile) -> Iterator[tuple[str, Any]]:
    if file.size_bytes > _MAX_LIST_BYTES:
        reason = f"a list of over {_MAX_LIST_BYTES >> 30} GiB is not read at once"
        remedy = "Write one object a line (.jsonl) instead; nothing was imported."
        raise InvalidData(file=file.name, reason=reason, remedy=remedy)
    values = _parse(file, "it", file.place.read_bytes().removeprefix(_BOM))
    for number, value in enumerate(values):
        yield f"row {number}", value


def _parse(file: SourceFile, place: str, data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = f"{place} is no sound JSON ({str(error).rstrip('.')})"
        raise InvalidData(file=file.name, reason=reason) from None


def _check_value(
    file: SourceFile, place: str, name: str, value: Any, first: dict[str, tuple[str, str]]
) -> None:
    """Refuses objects within objects, and a value of another kind than the column's first."""
    if value is None:
        return
    word = _WORDS.get(type(value))
    if word is None:
        reason = (
            f"{place} has an object in '{name}', and a cell holds one value or a list of numbers"
        )
        remedy = "Bring its fields as columns of their own; nothing was imported."
        raise InvalidData(file=file.name, reason=reason, remedy=remedy)
    known, where = first.setdefault(name, (word, place))
    if word != known:
        reason = f"{place} has {word} in '{name}', but {where} has {known}"
        raise InvalidData(file=file.name, reason=reason)


def _array(file: SourceFile, name: str, cells: list[Any]) -> Any:
    try:
        return pa.array(cells)
    except (OverflowError, pa.ArrowException, UnicodeEncodeError) as error:
        if isinstance(next((cell for cell in cells if cell is not None), None), int | float):
            return _floats(file, name, cells)
        reason = f"its column '{name}' cannot be read ({str(error).splitlines()[0].rstrip('.')})"
        raise InvalidData(file=file.name, reason=reason) from None


def _floats(file: SourceFile, name: str, cells: list[Any]) -> Any:
    """Whole numbers beyond 64 bits, or beside fractions beyond 53, as the nearest float64."""
    try:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    except OverflowError:
        reason = f"its column '{name}' holds a number that is too large"
        raise InvalidData(file=file.name, reason=reason) from None
