"""Rows with named columns as numbers: what is taken, and what is refused with the row and the column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelry.core.errors import InvalidInput
from modelry.core.manifests import Column, TableInput
from modelry.core.tables import encode_columns, encode_rows

MEDIA = TableInput(
    columns=[
        Column(name="age"),
        Column(name="town", categories=["Bath", "Cork", "京都"]),
        Column(name="flag", categories=["false", "true"]),
    ],
    input="x",
)
GOOD: dict[str, Any] = {"age": 31, "town": "京都", "flag": True}


def test_numbers_stay_categories_are_counted_and_gaps_are_nan() -> None:
    rows = encode_rows([GOOD, {"age": None, "town": None, "flag": "false"}], MEDIA)
    assert np.array_equal(rows, [[31, 2, 1], [np.nan, np.nan, 0]], equal_nan=True)
    assert rows.dtype == np.float32


def test_a_name_that_was_never_seen_counts_as_unknown() -> None:
    [row] = encode_rows([{**GOOD, "town": "Atlantis"}], MEDIA)
    assert row[1] == 4


@pytest.mark.parametrize("word", ["", "?", "NA", "  ", None])
def test_what_an_import_takes_for_missing_is_missing_in_a_question(word: str | None) -> None:
    [row] = encode_rows([{"age": word, "town": word, "flag": word}], MEDIA)
    assert np.isnan(row).all()


def test_a_name_is_read_as_an_import_reads_it() -> None:
    [row] = encode_rows([{"age": " 31 ", "town": " Cork ", "flag": "true"}], MEDIA)
    assert row.tolist() == [31, 1, 1]
    media = TableInput(columns=[Column(name="flag", categories=["False", "True"])], input="x")
    assert encode_rows([{"flag": True}, {"flag": False}], media).tolist() == [[1], [0]]


def test_columns_of_equal_length_are_the_same_rows() -> None:
    table = {"town": ["Bath", None], "age": ["31", 2.5], "flag": ["true", "maybe"]}
    rows = [
        {"age": 31, "town": "Bath", "flag": "true"},
        {"age": 2.5, "town": None, "flag": "maybe"},
    ]
    assert np.array_equal(encode_columns(table, MEDIA), encode_rows(rows, MEDIA), equal_nan=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([31, 2, 1], "row 1 is no object with columns"),
        ({"age": 31, "town": "Bath"}, "row 1 lacks the column 'flag'"),
        ({**GOOD, "name": "Ann"}, "row 1 has a column 'name' that the model does not know"),
        ({**GOOD, "age": "1_000"}, "row 1 has '1_000' in the column 'age'"),
        ({**GOOD, "age": "old"}, "row 1 has 'old' in the column 'age'"),
        ({**GOOD, "age": float("inf")}, "row 1 has inf in the column 'age'"),
        ({**GOOD, "age": 1e300}, r"row 1 has 1e\+300 in the column 'age'"),
        ({**GOOD, "age": [1]}, r"row 1 has \[1\] in the column 'age'"),
        ({**GOOD, "town": 1.5}, "row 1 has 1.5 in the column 'town'"),
        ({**GOOD, "town": ["Bath"]}, r"row 1 has \['Bath'\] in the column 'town'"),
    ],
)
def test_other_rows_are_refused(row: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        encode_rows([GOOD, row], MEDIA)


@pytest.mark.parametrize(
    "table", [[GOOD], {"age": 31}, {"age": []}, {"age": [1], "town": ["Bath", "Cork"]}, {}]
)
def test_other_tables_are_refused(table: Any) -> None:
    with pytest.raises(InvalidInput, match="table"):
        encode_columns(table, MEDIA)
