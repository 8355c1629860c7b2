"""Parquet and JSON: columns that say themselves what they hold, and lists of numbers."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelry.core.errors import InvalidData
from modelry.core.manifests import Feature
from tests.conftest import Importer

_ROWS = 20


def _parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _lines(columns: dict[str, Any]) -> bytes:
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    return b"\n".join(json.dumps(dict(zip(names, row, strict=True))).encode() for row in rows)


def _list(columns: dict[str, Any]) -> bytes:
    return b"[" + b",\n".join(_lines(columns).split(b"\n")) + b"]"


_MAKERS = {"t.parquet": _parquet, "t.jsonl": _lines, "t.json": _list}
_PLAIN: dict[str, Any] = {
    "whole": list(range(_ROWS)),
    "part": [None if n == 3 else n / 4 for n in range(_ROWS)],
    "is_new": [n % 3 == 0 for n in range(_ROWS)],
    "colour": [None if n == 5 else ["red", "blue"][n % 2] for n in range(_ROWS)],
    "code": [["01", "02"][n % 2] for n in range(_ROWS)],
    "remark": [f"number {n} of many" for n in range(_ROWS)],
    "point": [[n, 0.5, -n] for n in range(_ROWS)],
    "path": [[float(step) for step in range(n + 1)] for n in range(_ROWS)],
    "track": [[[step, -step] for step in range(n % 3 + 1)] for n in range(_ROWS)],
    "y": [n % 2 for n in range(_ROWS)],
}


@pytest.mark.parametrize("name", _MAKERS)
def test_columns_keep_what_they_hold(importer: Importer, name: str) -> None:
    made = importer.upload({name: _MAKERS[name](_PLAIN)}, target="y", test_share=0)
    features = made.manifest.features
    assert {key: (one.kind, one.dtype, one.shape) for key, one in features.items()} == {
        "whole": ("number", "int64", []),
        "part": ("number", "float64", []),
        "is_new": ("category", "string", []),
        "colour": ("category", "string", []),
        "code": ("category", "string", []),
        "remark": ("text", "string", []),
        "point": ("tensor", "float64", [3]),
        "path": ("sequence", "float32", [1]),
        "track": ("sequence", "float32", [2]),
        "y": ("label", "int64", []),
    }
    table = importer.open(made).table("train", list(features))
    assert table["part"].to_pylist() == _PLAIN["part"]
    assert table["colour"].to_pylist() == _PLAIN["colour"]
    assert table["is_new"].to_pylist() == [str(one).lower() for one in _PLAIN["is_new"]]
    assert table["path"].type == pa.list_(pa.float32())
    assert table["path"].to_pylist() == _PLAIN["path"]
    flat = [[number for step in row for number in step] for row in _PLAIN["track"]]
    assert table["track"].to_pylist() == flat
    assert np.array_equal(importer.open(made).split("train").inputs, np.array(_PLAIN["point"]))
    figures = made.manifest.statistics
    assert figures["path"]["lengths"] == {"minimum": 1, "maximum": 20, "mean": 10.5}
    assert figures["track"]["lengths"]["maximum"] == 3
    assert figures["part"]["missing"] == 1
    assert made.manifest.preview[0]["path"] == [0.0]


def test_all_three_forms_are_one_data_set(importer: Importer) -> None:
    marks = {
        importer.upload({name: make(_PLAIN)}, target="y").manifest.fingerprint
        for name, make in _MAKERS.items()
    }
    assert len(marks) == 1


def test_one_changed_number_in_a_list_changes_the_fingerprint(importer: Importer) -> None:
    other = {**_PLAIN, "path": [[*row[:-1], row[-1] + 1] for row in _PLAIN["path"]]}
    marks = {
        importer.upload({"t.parquet": _parquet(one)}, target="y").manifest.fingerprint
        for one in (_PLAIN, other)
    }
    assert len(marks) == 2


def test_shards_of_a_split_are_one_table_in_order(importer: Importer) -> None:
    files = {
        f"data/{split}-{part:05}-of-00002.parquet": _parquet(
            {"a": [10 * part + n for n in range(5)], "y": ["u", "v", "u", "v", "u"]}
        )
        for split in ("train", "test")
        for part in range(2)
    }
    made = importer.upload(files, target="y")
    assert {name: split.rows for name, split in made.manifest.splits.items()} == {
        "train": 10,
        "test": 10,
    }
    numbers = importer.open(made).table("train", ["a"])["a"].to_pylist()
    assert numbers == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_times_and_names_of_other_programs_are_read(importer: Importer) -> None:
    days = pa.array(range(20), pa.date32())
    columns = {
        "day": days,
        "town": pa.array(["Bath", "Cork"] * 10).dictionary_encode(),
        "cost": pa.array([n / 8 for n in range(20)], pa.float32()),
    }
    made = importer.upload({"t.parquet": _parquet(columns)}, target="cost", time="day")
    assert made.manifest.statistics["day"] == {"minimum": "1970-01-01", "maximum": "1970-01-20"}
    assert made.manifest.features["town"].kind == "category"
    assert made.manifest.features["cost"] == Feature(kind="number", dtype="float64")


def test_a_key_that_lacks_is_missing(importer: Importer) -> None:
    lines = b'{"a": 1, "y": 0}\n\n{"y": 1, "b": 2.5}\n{"a": 3, "b": null, "y": 0}\n{"y": 1}\n'
    made = importer.upload({"t.jsonl": lines}, target="y", test_share=0)
    table = importer.open(made).table("train", ["a", "b"])
    assert table["a"].to_pylist() == [1, None, 3, None]
    assert table["b"].to_pylist() == [None, 2.5, None, None]


def test_json_beside_other_data_is_about_them(importer: Importer) -> None:
    table = b"a,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(10))
    made = importer.upload({"t.csv": table, "names.json": b'["no", "yes"]'}, target="y")
    assert made.manifest.source["left_out"] == ["names.json"]


_REFUSED: dict[str, tuple[str, bytes, str]] = {
    "bytes": ("t.parquet", _parquet({"a": [b"\0\1"], "y": [1]}), "'a' holds bytes"),
    "a struct": ("t.parquet", _parquet({"a": [{"b": 1}], "y": [1]}), "'a' holds struct<b: int64>"),
    "a list of texts": ("t.parquet", _parquet({"a": [["u"]], "y": [1]}), "a list of string"),
    "an empty list": (
        "t.parquet",
        _parquet({"a": [[1.0], []], "y": [1, 2]}),
        "row 1 .* empty list",
    ),
    "a missing list": (
        "t.parquet",
        _parquet({"a": [[1.0], None], "y": [1, 2]}),
        "row 1 .* is empty",
    ),
    "NaN in a list": (
        "t.parquet",
        _parquet({"a": [[1.0], [2.0, float("nan")]], "y": [1, 2]}),
        "row 1 of the column 'a' holds a missing value, NaN",
    ),
    "beyond float32": (
        "t.parquet",
        _parquet({"a": [[1.0], [2.0, 1e99]], "y": [1, 2]}),
        "row 1 of the column 'a' holds .* infinity",
    ),
    "uneven steps": (
        "t.parquet",
        _parquet({"a": [[[1.0, 2.0]], [[1.0, 2.0], [3.0]]], "y": [1, 2]}),
        "row 1 of the column 'a' has a step of 1 numbers",
    ),
    "infinity": (
        "t.parquet",
        _parquet({"a": [1.0, float("inf")], "y": [1, 2]}),
        "row 1 .* infinite",
    ),
    "no rows": ("t.parquet", _parquet({"a": [], "y": []}), "no rows"),
    "by its name only": ("t.parquet", b"hello", "no Parquet table"),
    "cut off": ("t.parquet", _parquet({"a": [1], "y": [1]})[:-9], "no sound Parquet"),
    "no JSON": ("t.jsonl", b'{"a": 1, "y": 1}\n{"a": 2, "y"\n', "line 2 is no sound JSON"),
    "no object": ("t.jsonl", b'{"a": 1, "y": 1}\n[2]\n', "line 2 is no JSON object"),
    "an object in a cell": ("t.jsonl", b'{"a": {"b": 1}, "y": 1}\n', "line 1 has an object in 'a'"),
    "two kinds": (
        "t.jsonl",
        b'{"a": 1, "y": 1}\n{"a": "2", "y": 1}\n',
        "line 2 has a text in 'a', but line 1 has a number",
    ),
    "a list of all sorts": ("t.jsonl", b'{"a": [1, "b"], "y": 1}\n', "'a' cannot be read"),
    "a huge number": ("t.json", b'[{"a": 1%s, "y": 1}]' % (b"0" * 400), "too large|no sound JSON"),
    "a number for rows": ("t.json", b"[1, 2]", "row 0 is no JSON object"),
    "nested without end": ("t.json", b"[" * 100_000, "no sound JSON"),
    "NaN": ("t.jsonl", b'{"a": NaN, "y": 1}\n', "line 1 is no sound JSON"),
    "columns twice named": ("t.jsonl", b'{"": 1, "y": 1}\n', "different names"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_hostile_rows_are_refused(importer: Importer, case: str) -> None:
    name, data, reason = _REFUSED[case]
    with pytest.raises(InvalidData, match=reason) as caught:
        importer.upload({name: data}, target="y")
    assert caught.value.facts["file"] == name
    assert caught.value.remedy


def test_a_target_that_is_a_list_is_refused(importer: Importer) -> None:
    with pytest.raises(InvalidData, match="is a list"):
        importer.upload({"t.jsonl": _lines(_PLAIN)}, target="point")


def test_lists_cannot_be_said_to_be_else(importer: Importer) -> None:
    with pytest.raises(InvalidData, match="cannot be a category"):
        importer.upload({"t.jsonl": _lines(_PLAIN)}, target="y", kinds={"path": "category"})


def test_a_truth_can_be_a_label(importer: Importer) -> None:
    made = importer.upload({"t.jsonl": _lines(_PLAIN)}, target="is_new", features=["whole"])
    assert made.manifest.features["is_new"].labels == ["false", "true"]


def test_previews_are_json(importer: Importer) -> None:
    made = importer.upload({"t.parquet": _parquet(_PLAIN)}, target="y")
    assert msgspec.json.encode(made.manifest.preview)
