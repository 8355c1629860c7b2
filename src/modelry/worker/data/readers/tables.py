"""CSV tables with a column to predict; the other columns become numbers, categories or texts.

A table is held in memory whole, in Arrow's form.
"""

from __future__ import annotations

import csv
import hashlib
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from modelry.core.errors import InvalidData
from modelry.core.jobs import ImportParams
from modelry.core.manifests import Feature
from modelry.worker.data.labelling import whole_labels
from modelry.worker.data.parts import SPLIT_NAMES, Draft, Part, settle_splits
from modelry.worker.data.picturing import Array
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.statistics import Statistics

#: A column of texts with at most this many different ones, each used twice on average, is a category.
_MAX_CATEGORIES = 100
_SHOWN_LETTERS = 200
_DELIMITERS = ",;\t|"
_HEADER_BYTES = 64 << 10
_MAX_BLOCK_BYTES = 1 << 30
_MAX_LABEL_LETTERS = 256


class TableContent:
    """The input columns of one table."""

    is_ordered = True

    def __init__(self, table: Any, features: dict[str, Feature], file: str) -> None:
        self._table = table
        self._features = features
        self._file = file

    @property
    def features(self) -> dict[str, Feature]:
        """The input columns."""
        return self._features

    @property
    def rows(self) -> int:
        return int(self._table.num_rows)

    @property
    def row_bytes(self) -> int:
        return int(self._table.nbytes) // max(1, self.rows) + 1

    def examine(self, start: int, stop: int, statistics: Statistics) -> list[bytes]:
        """Refuses empty cells among numbers, NaN and infinity, with column and row."""
        batch = self._table.slice(start, stop - start)
        for name, feature in self._features.items():
            column = batch.column(name)
            if feature.kind == "number":
                statistics.add_numbers(name, self._numbers(name, column, start))
            elif feature.kind == "category":
                statistics.add_names(name, column.to_pylist())
        rows = zip(*(batch.column(name).to_pylist() for name in self._features), strict=True)
        return [hashlib.sha256(msgspec.json.encode(row)).digest() for row in rows]

    def columns(self, indices: Array) -> dict[str, Any]:
        chosen = self._table.take(pa.array(indices)).combine_chunks()
        return {name: chosen.column(name) for name in self._features}

    def show(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self._table.slice(index, 1).to_pylist()[0]
        return {
            name: value[:_SHOWN_LETTERS] if isinstance(value, str) else value
            for name, value in row.items()
        }

    def _numbers(self, name: str, column: Any, start: int) -> Array:
        if column.null_count:
            row = start + int(np.argmax(column.is_null().to_numpy()))
            reason = f"row {row} of the column '{name}' is empty or no number, but the column holds numbers"
            raise InvalidData(file=self._file, reason=reason)
        values: Array = column.to_numpy()
        finite = np.isfinite(values)
        if not finite.all():
            row = start + int(np.argmin(finite))
            reason = f"row {row} of the column '{name}' is NaN or infinite"
            raise InvalidData(file=self._file, reason=reason)
        return values


def read_tables(files: list[SourceFile], params: ImportParams) -> Draft:
    """One table, or one per split; raises `InvalidData`."""
    by_split: dict[str | None, SourceFile] = {}
    for file in files:
        split = _split(file) if len(files) > 1 else None
        if split in by_split:
            reason = f"it and {by_split[split].name} would be the same part of the data"
            remedy = "Name the files after their splits (train, test), or import them one by one."
            raise InvalidData(file=file.name, reason=reason, remedy=remedy)
        by_split[split] = file
    headers = {split: _header(file, params.target) for split, file in by_split.items()}
    first = next(iter(by_split))
    for split, file in by_split.items():
        if headers[split][0] != headers[first][0]:
            reason = f"its columns are not those of {by_split[first].name}"
            raise InvalidData(file=file.name, reason=reason)
    tables = _same_types(by_split, {split: header[1] for split, header in headers.items()})
    assert params.target is not None  # _header refuses a missing one
    features = _features(tables, params.target)
    parts: dict[str | None, Part] = {}
    for split, table in tables.items():
        name = by_split[split].name
        if table.num_rows == 0:
            raise InvalidData(file=name, reason="it holds no rows")
        labels = _labels(table.column(params.target), params.target, name)
        content = TableContent(table.drop_columns([params.target]), features, name)
        parts[split] = Part(name, content, labels, name)
    return Draft("csv", settle_splits(parts), target=params.target)


def _split(file: SourceFile) -> str | None:
    words = file.base.lower().replace("-", "_").replace(".", "_").split("_")
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _header(file: SourceFile, target: str | None) -> tuple[list[str], str]:
    """The columns' names and the delimiter."""
    with file.place.open("rb") as opened:
        line = opened.readline(_HEADER_BYTES)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidData(file=file.name, reason="it is not UTF-8") from None
    delimiter = max(_DELIMITERS, key=text.count)
    names = next(csv.reader([text], delimiter=delimiter), [])
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise InvalidData(
            file=file.name, reason="its columns need different names in the first line"
        )
    known = ", ".join(names[:50])
    if target is None:
        raise InvalidData(
            file=file.name,
            reason=f"it was not said which column is to be predicted; it has: {known}",
            remedy="Name it with --target; nothing was imported.",
        )
    if target not in names:
        raise InvalidData(file=file.name, reason=f"it has no column '{target}'; it has: {known}")
    if len(names) == 1:
        raise InvalidData(file=file.name, reason="it has no column beside the target")
    return names, delimiter


def _same_types(
    files: dict[str | None, SourceFile], delimiters: dict[str | None, str]
) -> dict[str | None, Any]:
    """The tables, every column of one type in all of them."""
    tables = {split: _parse(file, delimiters[split], {}) for split, file in files.items()}
    schemas = [table.schema for table in tables.values()]
    types = {
        name: _join([schema.field(name).type for schema in schemas]) for name in schemas[0].names
    }
    return {
        split: table
        if all(table.schema.field(name).type == type_ for name, type_ in types.items())
        else _parse(files[split], delimiters[split], types)
        for split, table in tables.items()
    }


def _join(types: list[Any]) -> Any:
    """One type that holds all values: whole numbers, numbers or texts; dates and truths stay the texts they are."""
    if all(pa.types.is_int64(type_) for type_ in types):
        return pa.int64()
    if all(pa.types.is_int64(type_) or pa.types.is_float64(type_) for type_ in types):
        return pa.float64()
    return pa.string()


def _parse(file: SourceFile, delimiter: str, types: dict[str, Any]) -> Any:
    try:
        return pacsv.read_csv(
            file.place,
            # Types are inferred from the first block: one block, so that all rows have a say.
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=min(max(file.size_bytes, 1 << 20), _MAX_BLOCK_BYTES)
            ),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        raise InvalidData(file=file.name, reason=f"it is no sound CSV ({reason})") from error


def _features(tables: dict[str | None, Any], target: str) -> dict[str, Feature]:
    whole = pa.concat_tables(tables.values())
    return {name: _feature(whole.column(name)) for name in whole.column_names if name != target}


def _feature(column: Any) -> Feature:
    if not pa.types.is_string(column.type):
        return Feature(kind="number", dtype=str(column.type).replace("double", "float64"))
    distinct = pc.count_distinct(column).as_py()
    is_category = distinct <= _MAX_CATEGORIES and 2 * distinct <= len(column)
    return Feature(kind="category" if is_category else "text", dtype="string")


def _labels(column: Any, target: str, file: str) -> Array:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise InvalidData(file=file, reason=f"row {row} of the target '{target}' is empty")
    if pa.types.is_string(column.type):
        if pc.max(pc.utf8_length(column)).as_py() > _MAX_LABEL_LETTERS:
            reason = f"the target '{target}' holds texts of over {_MAX_LABEL_LETTERS} letters"
            raise InvalidData(file=file, reason=reason)
        return whole_labels(np.array(column.to_pylist(), dtype=np.str_), file)
    return whole_labels(column.to_numpy(), file)
