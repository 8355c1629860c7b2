"""The parts of a table as one, so that every column gets one kind in all of them; errors still name file and row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from modelry.core.errors import InvalidData


@dataclass(frozen=True)
class Piece:
    """One file's rows, with the columns as the file has them."""

    #: `train`, `test`, …; None where the name tells none.
    split: str | None
    file: str
    table: Any
    #: Whether cells are spelled, as in CSV, so that a text may be a number.
    is_spelled: bool = False


@dataclass(frozen=True)
class Whole:
    """All rows of all pieces, one after the other."""

    pieces: list[Piece]
    table: Any

    @property
    def names(self) -> list[str]:
        """The columns, in the order of the first piece."""
        names: list[str] = self.table.column_names
        return names

    @property
    def is_spelled(self) -> bool:
        return self.pieces[0].is_spelled

    def divide(self, table: Any) -> Iterator[tuple[Piece, Any]]:
        """The pieces' own rows of a table (or an array) with the rows of the whole."""
        start = 0
        for piece in self.pieces:
            yield piece, table[start : start + piece.table.num_rows]
            start += piece.table.num_rows

    def refusal(self, row: int, column: str, what: str, remedy: str = "") -> InvalidData:
        """`what` is wrong with a cell; its row is counted from 0 in its own file."""
        for piece in self.pieces:
            if row < piece.table.num_rows:
                break
            row -= piece.table.num_rows
        reason = f"row {row} of the column '{column}' {what}"
        return InvalidData(file=piece.file, reason=reason, remedy=remedy or None)


def join(pieces: list[Piece]) -> Whole:
    """The pieces as one; raises `InvalidData` for other columns than the first one's, and for types that disagree."""
    first = pieces[0]
    tables = []
    for piece in pieces:
        if set(piece.table.column_names) != set(first.table.column_names):
            reason = f"its columns are not those of {first.file}"
            raise InvalidData(file=piece.file, reason=reason)
        if piece.table.num_rows == 0:
            raise InvalidData(file=piece.file, reason="it holds no rows")
        tables.append(piece.table.select(first.table.column_names))
    for piece, table in zip(pieces, tables, strict=True):
        _check_types(first, piece, table)
    return Whole(pieces, pa.concat_tables(tables, promote_options="permissive"))


def _check_types(first: Piece, piece: Piece, table: Any) -> None:
    for mine, its in zip(table.schema, first.table.schema, strict=True):
        try:
            pa.unify_schemas([pa.schema([its]), pa.schema([mine])], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            reason = (
                f"its column '{mine.name}' holds {mine.type}, but in {first.file} it is {its.type}"
            )
            raise InvalidData(file=piece.file, reason=reason) from None
