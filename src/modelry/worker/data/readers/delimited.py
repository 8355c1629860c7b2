"""CSV and its relatives as Arrow tables of texts: with a first line of names, or with names that were given.

A table is held in memory whole. Which cells are numbers is for the schema to judge.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from modelry.core.errors import InvalidData
from modelry.worker.data.sources import SourceFile

_DELIMITERS = ",;\t|"
_HEAD_BYTES = 64 << 10
_MAX_BLOCK_BYTES = 1 << 30


def read_with_header(file: SourceFile) -> Any:
    """The table of a file whose first line names the columns; raises `InvalidData`."""
    with file.place.open("rb") as opened:
        line = opened.readline(_HEAD_BYTES)
    text = _decoded(file, line).rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=text.count)
    names = next(csv.reader([text], delimiter=delimiter), [])
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        reason = "its columns need different names in the first line"
        raise InvalidData(
            file=file.name,
            reason=reason,
            remedy="If the first line is data already, name the columns with --columns.",
        )
    return _parse(file, names, pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True), 1)


def read_without_header(file: SourceFile, names: Sequence[str]) -> Any:
    """The table of a file whose first line is data already; raises `InvalidData`."""
    delimiter = find_delimiter(file, len(names))
    if delimiter is None:
        reason = f"its lines do not have the {len(names)} columns that were named"
        remedy = "Name as many columns as a line has, divided by tabs, ',', ';' or '|'; nothing was imported."
        raise InvalidData(file=file.name, reason=reason, remedy=remedy)
    if _first_rows(file, delimiter)[0] == list(names):
        reason = "its first line names the columns already"
        remedy = "Leave --columns away (and let the file's name end in .csv); nothing was imported."
        raise InvalidData(file=file.name, reason=reason, remedy=remedy)
    # Texts between tabs are written as they are: a quotation mark in them is one.
    options = (
        pacsv.ParseOptions(delimiter=delimiter, quote_char=False)
        if delimiter == "\t"
        else pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    )
    return _parse(file, names, options, 0)


def find_delimiter(file: SourceFile, columns: int) -> str | None:
    """What divides each row of the file's beginning into so many columns; None where nothing does."""
    for delimiter in "\t,;|":
        rows = _first_rows(file, delimiter)
        if rows and all(len(row) == columns for row in rows):
            return delimiter
    return None


def _first_rows(file: SourceFile, delimiter: str) -> list[list[str]]:
    """The rows at the beginning that are whole and not empty."""
    with file.place.open("rb") as opened:
        data = opened.read(_HEAD_BYTES)
    is_cut = len(data) == _HEAD_BYTES
    if is_cut:
        data = data[: data.rfind(b"\n") + 1]
    lines = [line + "\n" for line in _decoded(file, data).split("\n")]
    if delimiter == "\t":
        return [line.rstrip("\r\n").split("\t") for line in lines if line.strip()]
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    except csv.Error:
        return []
    # A cell of several lines may be cut within.
    return rows[:-1] if is_cut else rows


def _decoded(file: SourceFile, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidData(file=file.name, reason="it is not UTF-8") from None


def _parse(file: SourceFile, names: Sequence[str], options: Any, skip_rows: int) -> Any:
    try:
        return pacsv.read_csv(
            file.place,
            read_options=pacsv.ReadOptions(
                use_threads=False,
                # One block where that can be: a cell may be as long as the file.
                block_size=min(max(file.size_bytes, 1 << 20), _MAX_BLOCK_BYTES),
                column_names=list(names),
                skip_rows=skip_rows,
            ),
            parse_options=options,
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        raise InvalidData(file=file.name, reason=f"it is no sound CSV ({reason})") from error
