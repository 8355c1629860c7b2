"""The page shows whatever names people give without becoming another page, and large matrices as a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelry.cli.reports import Report, write_page
from modelry.core.records import ModelVersion
from modelry.worker.models.evaluate import Evaluation


def version_of(labels: list[str], metrics: dict[str, Any]) -> ModelVersion:
    return ModelVersion(
        id="mdv_1",
        model="<b>m</b>",
        version=1,
        manifest={
            "task": "image-classification",
            "labels": labels,
            "metrics": metrics,
            "recipe": {"name": "cnn", "params": {"note": "<i>x</i>"}},
            "lineage": {"data": {"name": "d", "version": 1, "fingerprint": "f"}},
        },
        files=(),
        size_bytes=0,
        job_id=None,
        dataset_version_id=None,
        created_at=0.0,
    )


def metrics_of(labels: list[str], said: list[int], truth: list[int]) -> dict[str, Any]:
    import numpy as np

    evaluation = Evaluation(labels)
    evaluation.add(np.eye(len(labels))[said], np.array(truth))
    return evaluation.metrics()


def test_names_stay_names(tmp_path: Path) -> None:
    labels = ["<script>alert(1)</script>", '" onload="x', "数字"]
    found = metrics_of(labels, [0, 1, 2, 0], [0, 1, 2, 1])
    write_page(tmp_path / "page.html", Report(version_of(labels, found), {}, None))
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<b>m</b>" not in page
    assert "<i>x</i>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "数字" in page


def test_a_matrix_of_many_classes_is_a_list_of_its_worst_pairs(tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(77)]
    found = metrics_of(labels, [3, 3, 3, 5, *range(77)], [4, 4, 4, 6, *range(77)])
    write_page(tmp_path / "page.html", Report(version_of(labels, found), {}, 12.0))
    page = (tmp_path / "page.html").read_text()
    assert "77 classes" in page
    assert page.index("<td>class 4</td><td>class 3</td><td>3</td>") < page.index(
        "<td>class 6</td><td>class 5</td><td>1</td>"
    )


def test_an_imported_version_without_measures_has_a_page(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", Report(version_of(["a", "b"], {}), {}, None))
    assert "How it was made" in (tmp_path / "page.html").read_text()
