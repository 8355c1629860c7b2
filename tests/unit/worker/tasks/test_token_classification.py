"""Words to kinds: every strategy answers as transformers' own pipeline does."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import transformers

from modelry.core.errors import InvalidParameter
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS

HEAD = "ForTokenClassification"
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
STRATEGIES = ["none", "simple", "first", "average", "max"]


def pipeline_answer(source: object, text: str, **parameters: Any) -> list[dict[str, Any]]:
    pipeline = transformers.pipeline("token-classification", str(source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[dict[str, Any]] = pipeline(text, **parameters)
    return found


def assert_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["score"] == pytest.approx(float(theirs["score"]), abs=1e-5)
        assert {**ours, "score": 0} == {**theirs, "score": 0}


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_entities_are_those_of_the_pipeline(make: Make, family: str, strategy: str) -> None:
    model = make(HEAD, family=family, labels=LABELS)
    for text in (*TEXTS, "unglaublich 你好 Zürich"):
        expected = pipeline_answer(model.source, text, aggregation_strategy=strategy)
        assert_equal(model.value(text, aggregation_strategy=strategy), expected)


def test_simple_is_what_is_done_without_a_strategy(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    assert model.value(TEXTS[0]) == model.value(TEXTS[0], aggregation_strategy="simple")


def test_labels_can_be_left_out_or_kept(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    expected = pipeline_answer(
        model.source, TEXTS[0], aggregation_strategy="simple", ignore_labels=["PER"]
    )
    assert_equal(model.value(TEXTS[0], ignore_labels=["PER"]), expected)
    assert any(entity["entity_group"] == "O" for entity in model.value(TEXTS[0], ignore_labels=[]))


@pytest.mark.parametrize("strategy", ["simple", "average"])
def test_a_long_text_is_read_in_windows_as_by_the_pipeline(make: Make, strategy: str) -> None:
    model = make(HEAD, labels=LABELS)
    text = " ".join(TEXTS * 3)
    expected = pipeline_answer(model.source, text, aggregation_strategy=strategy, stride=8)
    found = model.value(text, aggregation_strategy=strategy, stride=8)
    assert found[-1]["end"] > 300
    assert_equal(found, expected)


def test_several_texts_have_an_answer_each(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    for found, text in zip(model.value(TEXTS), TEXTS, strict=True):
        assert_equal(found, model.value(text))


@pytest.mark.parametrize(
    "parameters",
    [
        {"stride": 8, "aggregation_strategy": "none"},
        {"stride": 0},
        {"aggregation_strategy": "most"},
    ],
)
def test_what_does_not_fit_together_is_refused(make: Make, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        make(HEAD, labels=LABELS).value(TEXTS[0], **parameters)
