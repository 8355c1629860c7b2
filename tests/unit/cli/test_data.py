"""`data add` sends what was said, `data show` tells what a version holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelry.core.errors import InvalidData, InvalidParameter, to_wire
from tests.unit.cli.conftest import Run
from tests.unit.client.answering import answering, talking

REFUSED = (400, {"error": to_wire(InvalidData(file="a.csv", reason="it is empty"))})


def _number(**figures: Any) -> dict[str, Any]:
    return {"minimum": -1.5, "maximum": 20.0, "mean": 3.0, "std": 1.0, **figures}


VERSION = {
    "id": "dsv_1", "dataset": "air", "version": 2, "fingerprint": "f", "files": [], "size_bytes": 1,
    "job_id": None, "created_at": 1.0,
    "manifest": {
        "task": "time-series-forecasting",
        "target": "load",
        "time": "hour",
        "splits": {"train": {"rows": 8, "files": []}},
        "source": {"reader": "csv"},
        "features": {
            "load": {"kind": "number", "dtype": "float64"},
            "town": {"kind": "category", "dtype": "string"},
            "note": {"kind": "text", "dtype": "string"},
            "path": {"kind": "sequence", "dtype": "float32", "shape": [2]},
            "voice": {"kind": "audio", "dtype": "bytes", "sample_rate": 8000},
            "kind": {"kind": "label", "dtype": "int64", "labels": ["a", "b"]},
        },
        "statistics": {
            "hour": {"minimum": "2026-01-01", "maximum": "2026-12-31"},
            "load": _number(missing=7),
            "town": {"distinct": 2, "counts": {"Bath": 5, "Cork": 3}, "missing": 0},
            "note": {"letters": {"minimum": 2, "maximum": 90, "mean": 30.25}},
            "path": _number(lengths={"minimum": 1, "maximum": 9, "mean": 4}),
            "voice": {"seconds": {"minimum": 0.5, "maximum": 2, "mean": 1.0}},
        },
    },
}  # fmt: skip


def test_every_option_of_a_table_is_sent(modelry: Run) -> None:
    words = ["--features", "a, b", "--text", "b", "--time", "t", "--task", "tabular-regression"]
    more = [
        "--kind",
        "a=category",
        "--kind",
        "x=y=number",
        "--columns",
        "a,b,t,x=y",
        "--target",
        "y",
    ]
    with answering(REFUSED) as server:
        ended = modelry("data", "add", "n", "--server-path", "/d", *words, *more, url=server.url)
        body = json.loads(server.asked[0].body)
    assert ended.status == 1
    assert "it is empty" in ended.err
    assert body == {
        "name": "n", "source": "path", "location": "/d", "labels_from": "auto", "test_share": 0.2,
        "target": "y", "features": ["a", "b"], "text": "b", "time": "t",
        "task": "tabular-regression", "kinds": {"a": "category", "x=y": "number"},
        "columns": ["a", "b", "t", "x=y"],
    }  # fmt: skip


@pytest.mark.parametrize("kinds", [["category"], ["a=text", "a=number"]])
def test_a_kind_belongs_to_a_column_of_its_own(modelry: Run, kinds: list[str]) -> None:
    words = [word for kind in kinds for word in ("--kind", kind)]
    ended = modelry("data", "add", "n", "--server-path", "/d", *words)
    assert ended.status == 2
    assert "COLUMN=KIND" in ended.err


def test_the_client_wants_names_and_no_text_of_them() -> None:
    with talking(REFUSED) as (server, client):
        with pytest.raises(InvalidParameter, match="features"):
            client.data.add("n", server_path="/d", features="a,b")
        assert server.asked == []


def test_a_version_tells_what_is_missing_how_long_rows_are_and_what_they_are_for(
    modelry: Run,
) -> None:
    with answering((200, VERSION)) as server:
        shown = modelry("data", "show", "air:2", url=server.url).out
    lines = {line.split()[0]: " ".join(line.split()) for line in shown.splitlines() if line.strip()}
    assert lines["task"] == "task time-series-forecasting"
    assert lines["time"] == "time hour, 2026-01-01 … 2026-12-31"
    assert "-1.5 … 20; 7 missing" in shown
    assert "Bath, Cork" in shown
    assert "2 … 90 letters (mean 30.2)" in shown
    assert "-1.5 … 20; 1 … 9 steps (mean 4)" in shown
    assert "0.5 … 2 s (mean 1); 8000 Hz" in shown
    assert "a, b" in shown
