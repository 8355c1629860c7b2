"""Rows in the order of time, and time series of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelry.core.errors import InvalidData
from modelry.core.manifests import Feature
from tests.conftest import Importer


def _table(times: list[str], values: list[str] | None = None) -> bytes:
    cells = values or [f"{n}.5" for n in range(len(times))]
    rows = zip(times, cells, strict=True)
    return b"when,load,note\n" + b"".join(
        f"{time},{value},{'ab'[n % 2]}\n".encode() for n, (time, value) in enumerate(rows)
    )


_TIMES = {
    "numbers": (["10", "9", "100", "-1", "10.5"], [3, 1, 0, 4, 2]),
    "days": (
        ["2026-12-31", "2027-01-01", "2026-02-03", "2025-11-11", "2026-12-30"],
        [3, 2, 4, 0, 1],
    ),
    "times of zones": (
        [
            f"2026-01-01T{hour}+0{zone}:00"
            for hour, zone in [("10:00", 1), ("09:30", 0), ("12:00", 4)]
        ],
        [2, 0, 1],
    ),
    "quarters": (["2026-Q2", "2025-Q4", "2026-Q1"], [1, 2, 0]),
    "equal ones": (["7", "7", "3", "7", "3"], [2, 4, 0, 1, 3]),
}


@pytest.mark.parametrize("case", _TIMES)
def test_rows_are_sorted_by_their_time(importer: Importer, case: str) -> None:
    times, order = _TIMES[case]
    made = importer.upload({"t.csv": _table(times)}, target="load", time="when", test_share=0.34)
    data = importer.open(made)
    loads = [data.table(split, ["load"])["load"].to_pylist() for split in ("train", "test")]
    assert loads[0] + loads[1] == [place + 0.5 for place in order]
    assert len(loads[1]) == round(0.34 * len(times))
    assert made.manifest.time == "when"
    assert "when" not in made.manifest.features
    assert made.manifest.task == "time-series-forecasting"


def test_the_first_and_the_last_time_are_told(importer: Importer) -> None:
    days = ["2026-12-31", "2026-01-01", "2026-02-03"]
    made = importer.upload({"t.csv": _table(days)}, target="load", time="when", test_share=0.4)
    assert made.manifest.statistics["when"] == {"minimum": "2026-01-01", "maximum": "2026-12-31"}
    numbers = importer.upload({"t.csv": _table(["1", "2", "9"])}, target="load", time="when")
    assert numbers.manifest.statistics["when"] == {"minimum": 1, "maximum": 9}


def test_a_series_may_miss_what_is_predicted(importer: Importer) -> None:
    table = _table([str(n) for n in range(10)], ["1.5", "", "NA", *["2.5"] * 7])
    made = importer.upload({"t.csv": table}, target="load", time="when")
    assert made.manifest.features["load"] == Feature(kind="number", dtype="float64")
    assert made.manifest.statistics["load"]["missing"] == 2
    with pytest.raises(InvalidData, match="row 1 of the column 'load'") as caught:
        importer.upload({"t.csv": table}, target="load")
    assert "--time" in caught.value.remedy


def test_a_series_may_have_nothing_but_its_past(importer: Importer) -> None:
    table = b"month,passengers\n" + b"".join(b"1949-%02d,%d\n" % (n, 100 + n) for n in range(1, 13))
    options = {"target": "passengers", "task": "time-series-forecasting"}
    made = importer.upload({"t.csv": table}, **options, time="month")
    assert list(made.manifest.features) == ["passengers"]
    assert importer.open(made).table("test", ["passengers"])["passengers"].to_pylist() == [111, 112]
    with pytest.raises(InvalidData, match="no column beside the target"):
        importer.upload({"t.csv": table}, target="passengers", time="month")


def test_forecasting_takes_the_last_rows_also_without_a_column_of_times(importer: Importer) -> None:
    table = b"a,load\n" + b"".join(b"%d,%d\n" % (n % 3, n) for n in range(10))
    made = importer.upload({"t.csv": table}, target="load", task="time-series-forecasting")
    assert importer.open(made).table("test", ["load"])["load"].to_pylist() == [8, 9]
    assert made.manifest.time is None


def test_labels_follow_their_rows(importer: Importer) -> None:
    table = _table(["3", "1", "2", "4"])
    made = importer.upload({"t.csv": table}, label="note", time="when", test_share=0.25)
    data = importer.open(made).table("train", ["load", "note"])
    assert data["load"].to_pylist() == [1.5, 2.5, 0.5]
    assert data["note"].to_pylist() == [1, 0, 0]


@pytest.mark.data
def test_real_hours_stand_in_their_order(importer: Importer, shared_data: Path) -> None:
    made = importer.path(
        shared_data / "beijing-pm25", target="pm2.5", time="No", task="time-series-forecasting"
    )
    assert made.manifest.statistics["pm2.5"]["missing"] == 2_067
    assert made.manifest.features["cbwd"].kind == "category"
    assert made.manifest.splits["test"].rows == round(0.2 * 43_824)
    years = importer.open(made).table("test", ["year"])["year"].to_pylist()
    assert years == sorted(years)


_HEAD = b"# a remark\n@problemName Toy\n@dimensions 2\n@classLabel true u v\n@data\n"


def _series(lengths: list[int]) -> bytes:
    lines = []
    for n, length in enumerate(lengths):
        values = ",".join(f"{n}.{step}" for step in range(length))
        negative = ",".join(f"-{n}.{step}" for step in range(length))
        lines.append(f"{values}:{negative}:{'uv'[n % 2]}\n".encode())
    return _HEAD + b"".join(lines)


def test_series_of_many_lengths_are_sequences_of_steps(importer: Importer) -> None:
    files = {"Toy_TRAIN.ts": _series([3, 1, 2, 4]), "Toy_TEST.ts": _series([2, 2])}
    made = importer.upload(files)
    assert made.manifest.features["x"] == Feature(kind="sequence", dtype="float32", shape=[2])
    assert made.manifest.features["label"].labels == ["u", "v"]
    assert made.manifest.task == "sequence-classification"
    rows = importer.open(made).table("train", ["x"])["x"].to_pylist()
    assert np.allclose(np.array(rows[0]).reshape(-1, 2), [[0.0, -0.0], [0.1, -0.1], [0.2, -0.2]])
    assert [len(row) for row in rows] == [6, 2, 4, 8]
    assert made.manifest.statistics["x"]["lengths"] == {
        "minimum": 1,
        "maximum": 4,
        "mean": pytest.approx(14 / 6),
    }


def test_series_of_one_length_are_tensors(importer: Importer) -> None:
    made = importer.upload({"Toy.ts": _series([3] * 10)}, test_share=0)
    assert made.manifest.features["x"] == Feature(kind="tensor", dtype="float32", shape=[3, 2])
    assert made.manifest.task == "sequence-classification"
    rows = importer.open(made).split("train")
    assert np.allclose(rows.inputs[4], [[4.0, -4.0], [4.1, -4.1], [4.2, -4.2]])


_BROKEN: dict[str, tuple[bytes, str]] = {
    "a text": (_HEAD + b"1,x:2,3:u\n", "line 6 has 'x' in dimension 1"),
    "a missing value": (_HEAD + b"1,2:?,3:u\n", "line 6 has '\\?' in dimension 2"),
    "NaN": (_HEAD + b"1,2:NaN,3:u\n", "line 6 has NaN"),
    "beyond float32": (_HEAD + b"1,2:1e99,3:u\n", "an infinite number, in dimension 2"),
    "an unknown class": (_HEAD + b"1,2:3,4:w\n", "line 6 has the class 'w'"),
    "too few dimensions": (_HEAD + b"1,2:u\n", "line 6 has 1 dimensions.*have 2"),
    "uneven dimensions": (_HEAD + b"1,2:3:u\n", "1 values in dimension 2 and 2 in the first"),
    "an empty dimension": (_HEAD + b":3:u\n", "line 6 has '' in dimension 1"),
    "no series": (_HEAD, "holds no series"),
    "times of their own": (b"@timeStamps true\n@data\n", "line 1 says that values have times"),
    "numbers to predict": (b"@targetLabel true\n@data\n", "line 1 says that series have numbers"),
    "no @data": (b"@problemName x\n1,2:u\n", "line 2 stands before @data"),
    "another encoding": (_HEAD + b"x" * 70_000 + b"\xff\n", "line 6 is not UTF-8"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_broken_series_are_refused_with_their_line(importer: Importer, case: str) -> None:
    data, reason = _BROKEN[case]
    with pytest.raises(InvalidData, match=f"t.ts: .*{reason}"):
        importer.upload({"t.ts": data})


def test_two_files_of_one_split_are_refused(importer: Importer) -> None:
    with pytest.raises(InvalidData, match="the same part"):
        importer.upload({"a.ts": _series([3]), "b.ts": _series([3])})


def test_a_program_that_ends_in_ts_is_no_series(importer: Importer) -> None:
    table = b"a,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(10))
    made = importer.upload({"t.csv": table, "app.ts": b"export const a = 1;\n"}, target="y")
    assert made.manifest.source["left_out"] == ["app.ts"]


@pytest.mark.data
def test_real_vowels_of_nine_speakers(importer: Importer, shared_data: Path) -> None:
    made = importer.path(shared_data / "japanese-vowels")
    assert made.manifest.features["x"].shape == [12]
    assert made.manifest.features["label"].labels == [str(n) for n in range(1, 10)]
    assert {name: split.rows for name, split in made.manifest.splits.items()} == {
        "train": 270,
        "test": 370,
    }
    lengths = made.manifest.statistics["x"]["lengths"]
    assert (lengths["minimum"], lengths["maximum"]) == (7, 29)
