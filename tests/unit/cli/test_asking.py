"""`explain`, `predict --batch` and the table of `models show`, against prepared answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from modelry.cli.pictures import draw_explanation
from modelry.client.explanations import read_explanation
from modelry.client.predictions import Tensor
from tests.unit.cli.conftest import Run
from tests.unit.client.answering import answering
from tests.unit.client.test_explanations import ANSWER, COLUMNS
from tests.unit.client.test_uploading import JOB

TABLE = {**ANSWER, "columns": COLUMNS, "method": "kernel-shap"}


@pytest.fixture
def seven(tmp_path: Path) -> str:
    path = tmp_path / "seven.png"
    Image.new("L", (4, 4), 200).save(path)
    return str(path)


def test_an_explanation_is_told_and_drawn(modelry: Run, seven: str, tmp_path: Path) -> None:
    to = tmp_path / "why.png"
    with answering((200, ANSWER)) as server:
        ended = modelry(
            "explain", "digits", seven, "--label", "七", "--set", "window=2", "--to", str(to),
            url=server.url,
        )  # fmt: skip
    assert ended.status == 0, ended.err
    assert server.asked[0].path == "/explain/digits?label=%E4%B8%83&window=2"
    assert "七  90.00%" in ended.out
    assert "171 times" in ended.out
    with Image.open(to) as picture:
        assert min(picture.size) > 400


@pytest.mark.parametrize("to", ["why.txt", "no/such/folder/why.png"])
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(
    modelry: Run, seven: str, tmp_path: Path, to: str
) -> None:
    with answering((200, ANSWER)) as server:
        ended = modelry("explain", "digits", seven, "--to", str(tmp_path / to), url=server.url)
    assert ended.status == 2
    assert ".png, .svg or .pdf" in " ".join(ended.err.replace("│", " ").split())
    assert server.asked == []


def test_programs_get_every_number(modelry: Run, seven: str) -> None:
    with answering((200, TABLE)) as server:
        said = json.loads(modelry("explain", "people", seven, "--json", url=server.url).out)
    assert said["columns"] == ["年龄", "income"]
    assert said["attributions"] == [-0.5, 0.25]
    assert said["score"] == 0.9


def test_a_table_is_printed_by_weight(modelry: Run, seven: str) -> None:
    with answering((200, TABLE)) as server:
        ended = modelry("explain", "people", seven, url=server.url)
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["年龄", "-0.5000"] in lines
    assert ["income", "+0.2500"] in lines


def test_a_setting_may_have_any_name(modelry: Run, seven: str) -> None:
    with answering((200, ANSWER)) as server:
        assert modelry("explain", "d", seven, "--set", "x=1", url=server.url).status == 0
    assert server.asked[0].path == "/explain/d?x=1"


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (ANSWER, [[0.5, 1.0], [0.0, 0.25]]),
        (TABLE, [1.0, 2.0]),
        ({**TABLE, "columns": [{"column": f"c{n}", "attribution": 1 / (n + 1)} for n in range(40)]}, [0.0]),
    ],
    ids=["picture", "table", "many columns"],
)  # fmt: skip
def test_every_kind_is_drawn_with_letters_of_every_script(
    answer: dict[str, Any], values: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_explanation({**answer, "label": "数字 七"}, Tensor(values))
    for name in ("why.png", "why.svg"):
        draw_explanation(tmp_path / name, found)
        assert (tmp_path / name).stat().st_size > 2000
    pixels = np.asarray(Image.open(tmp_path / "why.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20
    assert capsys.readouterr().err == ""


BATCH_JOB = {
    **JOB,
    "kind": "predict-batch",
    "makes": "out",
    "state": "succeeded",
    "notes": {"dataset": "out", "version": 2, "accuracy": 0.75},
}
MADE = {
    "id": "dsv_1", "dataset": "out", "version": 2, "fingerprint": "f", "files": [],
    "size_bytes": 1, "job_id": "job_1", "created_at": 1.0,
    "manifest": {"splits": {"test": {"rows": 40, "files": []}}},
}  # fmt: skip


def test_a_batch_names_data_and_model_and_tells_what_was_made(modelry: Run) -> None:
    with answering((202, BATCH_JOB), (200, BATCH_JOB), (200, MADE)) as server:
        ended = modelry(
            "predict", "--batch", "mnist:1", "--model", "cnn@best", "--split", "test", "--name", "out",
            url=server.url,
        )  # fmt: skip
    assert ended.status == 0, ended.err
    assert msgspec.json.decode(server.asked[0].body) == {
        "kind": "predict-batch",
        "data": "mnist:1",
        "model": "cnn@best",
        "split": "test",
        "name": "out",
    }
    assert "out:2 holds 40 answers, 75.00%" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict",),
        ("predict", "digits"),
        ("predict", "--batch", "mnist"),
        ("predict", "digits", "x.png", "--batch", "mnist", "--model", "m"),
        ("predict", "digits", "x.png", "--split", "test"),
    ],
    ids=" ".join,
)
def test_half_a_wish_is_refused(modelry: Run, arguments: tuple[str, ...]) -> None:
    assert modelry(*arguments).status == 2


def test_a_model_shows_every_way_to_run_it(modelry: Run) -> None:
    way = {
        "runtime": "onnxruntime", "options": {"graph_optimization": "all"}, "threads": 1,
        "rows_per_s": 23222.4, "single_ms": 0.0412, "max_difference": 7.7e-7, "is_faithful": True,
        "is_kept": True,
    }  # fmt: skip
    slow = {**way, "runtime": "openvino", "options": {}, "is_kept": False, "is_faithful": False}
    manifest = {
        "task": "image-classification", "recipe": None, "inputs": [], "outputs": [], "labels": [],
        "metrics": {}, "measurements": [way, slow],
        "runtimes": {"onnxruntime": {"file": "model.onnx", "verification": None, "options": {}}},
    }  # fmt: skip
    version = {
        "id": "mdv_1", "model": "m", "version": 1, "manifest": manifest, "files": [], "aliases": [],
        "size_bytes": 1, "job_id": None, "dataset_version_id": None, "created_at": 1.0,
    }  # fmt: skip
    with answering((200, version), (200, [version])) as server:
        ended = modelry("models", "show", "m", url=server.url)
    assert ended.status == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    shown = [
        "serves",
        "onnxruntime",
        "graph_optimization",
        "all",
        "1",
        "23,222",
        "0.041",
        "7.7e-07",
    ]
    assert shown in lines
    assert ["too", "far", "off", "openvino", "1", "23,222", "0.041", "7.7e-07"] in lines
    assert "as it came" in ended.out
