"""`models import`, `models catalogue`: what they send and print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from modelry.cli.model_imports import parse_preprocess
from modelry.core.catalogue import PRETRAINED
from tests.unit.cli.conftest import Run
from tests.unit.client.answering import answering
from tests.unit.client.test_model_imports import DONE
from tests.unit.client.test_models import version

ENTRY = {
    "kind": "pretrained",
    "name": PRETRAINED[0].repository,
    "task": PRETRAINED[0].task,
    "summary": "It sees.",
    "command": "modelry models import …",
    "state": "untried",
    "licence": "apache-2.0",
}
MADE = {**ENTRY, "kind": "trainable", "name": "cnn fast", "state": "can be made", "licence": None}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], None),
        (["imagenet"], "imagenet"),
        (["scale=1", "mean=104, 117,123"], {"scale": "1", "mean": ["104", "117", "123"]}),
        (["caffe-bgr", "resize_to=256"], {"preset": "caffe-bgr", "resize_to": "256"}),
    ],
)
def test_preprocessing_is_a_preset_or_values_or_both(given: list[str], sent: Any) -> None:
    assert parse_preprocess(given) == sent


def test_two_presets_are_wrong_use() -> None:
    with pytest.raises(typer.BadParameter):
        parse_preprocess(["imagenet", "unit"])


def test_an_import_says_what_it_made_and_what_to_do_next(modelry: Run) -> None:
    status, value = version()
    made = {**value, "model": "m", "manifest": {"task": "fill-mask", "source": {"licence": "mit"}}}  # type: ignore[dict-item]
    with answering((202, DONE), (200, DONE), (status, made)) as server:
        ended = modelry("models", "import", "hf://org/name", "--name", "m", url=server.url)
    assert ended.status == 0
    assert "m:2 is ready: fill-mask, licence mit." in ended.err
    assert "modelry deploy m" in ended.err


def test_detached_it_prints_the_job_alone(modelry: Run) -> None:
    with answering((202, DONE)) as server:
        ended = modelry("models", "import", "hf://o/n", "--name", "m", "--detach", url=server.url)
    assert ended.out.strip() == DONE["id"]


def test_a_source_is_said_once(modelry: Run, tmp_path: Path) -> None:
    assert modelry("models", "import", "--name", "m").status == 2
    assert modelry("models", "import", "x", "--server-path", "/y", "--name", "m").status == 2
    assert modelry("models", "export", "m").status == 2
    assert modelry("models", "export", "m", "--to", "x", "--bundle", "y").status == 2


def test_the_catalogue_tells_what_is_untried_and_what_can_be_made(modelry: Run) -> None:
    with answering((200, [ENTRY, MADE])) as server:
        shown = modelry("models", "catalogue", url=server.url)
        told = modelry("models", "catalogue", "--json", url=server.url)
    assert "apache-2.0 (expected)" in shown.out
    assert "untried" in shown.out
    assert json.loads(told.out)[0]["revision"] is None
