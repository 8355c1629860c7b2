"""Tables with a column to predict: one file, or one for each split; the other columns become features.

All rows are held in memory, in Arrow's form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelry.core.errors import InvalidData
from modelry.core.jobs import ImportParams
from modelry.worker.data.kinds import Kind
from modelry.worker.data.labelling import whole_labels
from modelry.worker.data.ordering import sort_keys, time_order
from modelry.worker.data.parts import Draft, Part, settle_splits
from modelry.worker.data.picturing import Array
from modelry.worker.data.readers.delimited import (
    find_delimiter,
    read_with_header,
    read_without_header,
)
from modelry.worker.data.readers.json_rows import read_json
from modelry.worker.data.readers.naming import split_of_name
from modelry.worker.data.readers.parquet import read_parquet
from modelry.worker.data.schema import Schema, settle_schema
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.tables import TableContent
from modelry.worker.data.translating import source_keys
from modelry.worker.data.whole import Piece, Whole, join


def read_tables(files: list[tuple[SourceFile, Kind]], params: ImportParams) -> Draft:
    """One table, or one per split; raises `InvalidData`."""
    whole = join(read_pieces(files, params))
    schema = settle_schema(whole, params)
    time, keys = (None, None) if params.time is None else sort_keys(whole, params.time)
    is_in_time = time is not None or params.task == "time-series-forecasting"
    parts = _parts(whole, schema, keys, is_drawn=not is_in_time)
    kind = files[0][1]
    left_out = [f"{whole.pieces[0].file}: the empty column '{name}'" for name in schema.empty]
    return Draft(
        _READER_NAMES[kind],
        settle_splits(parts),
        target=schema.target,
        left_out=left_out,
        time=time,
        is_in_time=is_in_time,
    )


def choose_tables(
    files: list[tuple[SourceFile, Kind]], columns: list[str]
) -> tuple[list[tuple[SourceFile, Kind]], list[str]]:
    """Files without a line of names that are tables of these columns, and the names of the texts that are not."""
    chosen, left_out = [], []
    for file, kind in files:
        if kind is Kind.CSV or find_delimiter(file, len(columns)) is not None:
            chosen.append((file, Kind.CSV))
        else:
            left_out.append(file.name)
    # Where nothing fits, reading the first file tells why.
    return (chosen, left_out) if chosen else ([(files[0][0], Kind.CSV)], left_out[1:])


def read_pieces(files: list[tuple[SourceFile, Kind]], params: ImportParams) -> list[Piece]:
    """Each file's table with the split that its name tells; raises `InvalidData` for two of the same split."""
    by_split: dict[str | None, SourceFile] = {}
    pieces = []
    for file, kind in files:
        split = split_of_name(file) if len(files) > 1 else None
        if split in by_split and not _are_shards(by_split[split], file, kind):
            reason = f"it and {by_split[split].name} would be the same part of the data"
            remedy = "Name the files after their splits (train, test), or import them one by one."
            raise InvalidData(file=file.name, reason=reason, remedy=remedy)
        by_split[split] = file
        pieces.append(_read(file, kind, split, params))
    return pieces


def _are_shards(first: SourceFile, file: SourceFile, kind: Kind) -> bool:
    """Whether two files are pieces of one table, as programs write them: `train-00000-of-00002.parquet`."""
    mine, its = (re.sub(r"\d+", "0", each.base) for each in (file, first))
    return kind in _TYPED and mine == its


def _read(file: SourceFile, kind: Kind, split: str | None, params: ImportParams) -> Piece:
    if kind is not Kind.CSV:
        if params.columns is not None:
            remedy = "Leave --columns away; nothing was imported."
            raise InvalidData(file=file.name, reason="it names its columns itself", remedy=remedy)
        return Piece(split, file.name, _TYPED[kind](file))
    if params.columns is not None:
        return Piece(split, file.name, read_without_header(file, params.columns), is_spelled=True)
    return Piece(split, file.name, read_with_header(file), is_spelled=True)


def _parts(whole: Whole, schema: Schema, times: Any, *, is_drawn: bool) -> dict[str | None, Part]:
    """The rows of each split, in the order of their times where they have some."""
    tables = _by_split(whole, pa.table(schema.columns))
    labels: dict[str | None, Array] = {}
    if schema.labels is not None:
        found = _by_split(
            whole, schema.labels, lambda piece, part: _labels(part, schema.target, piece)
        )
        labels = {split: np.concatenate(arrays) for split, arrays in found.items()}
        _drop_points(labels)
    orders = {} if times is None else _by_split(whole, times)
    files = {piece.split: piece.file for piece in reversed(whole.pieces)}
    parts: dict[str | None, Part] = {}
    for split, pieces in tables.items():
        table, mine = pa.concat_tables(pieces), labels.get(split)
        if split in orders:
            order = time_order(orders[split])
            table, mine = table.take(order), None if mine is None else mine[order]
        content = TableContent(table, schema.features)
        keys = _keys(table, content, schema) if is_drawn else None
        parts[split] = Part(files[split], content, mine, files[split], keys)
    return parts


def _by_split(
    whole: Whole, rows: Any, read: Callable[[Piece, Any], Any] = lambda _, part: part
) -> dict[str | None, list[Any]]:
    found: dict[str | None, list[Any]] = {}
    for piece, part in whole.divide(rows):
        found.setdefault(piece.split, []).append(read(piece, part))
    return found


def _keys(
    table: Any, content: TableContent, schema: Schema
) -> Callable[[int, int], list[bytes]] | None:
    """What rows on one side of a drawn split share: the inputs alone, where a number or a text is predicted."""
    target = schema.features.get(schema.target)
    if target is None:
        return None
    inputs = [name for name in schema.features if name != schema.target]
    if target.kind == "text" and [schema.features[name].kind for name in inputs] == ["text"]:
        return source_keys(table.column(inputs[0]))
    return partial(content.digest, without=(schema.target,))


def _labels(column: Any, target: str, piece: Piece) -> Array:
    file = piece.file
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise InvalidData(file=file, reason=f"row {row} of the target '{target}' is empty")
    if pa.types.is_string(column.type):
        return whole_labels(np.array(column.to_pylist(), dtype=np.str_), file)
    return whole_labels(column.to_numpy(), file)


def _drop_points(labels: dict[str | None, Array]) -> None:
    """UCI's `adult.test` writes a point behind each label: without it they are the training part's own."""
    known = {str(label) for label in np.unique(labels["train"])} if "train" in labels else set()
    for split, mine in labels.items():
        found = [str(label) for label in np.unique(mine)]
        if known.isdisjoint(found) and known.issuperset(label.removesuffix(".") for label in found):
            labels[split] = np.array([label.removesuffix(".") for label in mine.tolist()])


#: Kinds of files that tell which cells are numbers.
_TYPED: dict[Kind, Callable[[SourceFile], Any]] = {
    Kind.PARQUET: read_parquet,
    Kind.JSON: read_json,
}
_READER_NAMES = {Kind.CSV: "csv", Kind.PARQUET: "parquet", Kind.JSON: "json"}
