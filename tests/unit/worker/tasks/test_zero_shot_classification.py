"""Labels the model never saw: the answers are those of transformers' own pipeline."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from modelry.core.errors import BadInput
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS

HEAD = "ForSequenceClassification"
CANDIDATES = ["travel", "science", "the weather of last year"]


@pytest.mark.parametrize(
    "judgements", [["contradiction", "neutral", "entailment"], ["entailment", "not"]]
)
@pytest.mark.parametrize(
    "parameters",
    [
        {"candidate_labels": CANDIDATES},
        {"candidate_labels": CANDIDATES, "multi_label": True},
        {"candidate_labels": CANDIDATES[:1]},
        {"candidate_labels": CANDIDATES, "hypothesis_template": "It is about {}, surely."},
    ],
    ids=["one of them", "each by itself", "only one", "another template"],
)
def test_scores_are_those_of_the_pipeline(
    make: Make, judgements: list[str], parameters: dict[str, Any]
) -> None:
    model = make(HEAD, labels=judgements)
    assert model.manifest.task == "zero-shot-classification"
    pipeline = transformers.pipeline("zero-shot-classification", str(model.source))
    for text in (TEXTS[0], " ".join(TEXTS * 4)):
        expected = pipeline(text, **parameters)
        found = model.value(text, **parameters)
        assert [each["label"] for each in found] == expected["labels"]
        assert [each["score"] for each in found] == pytest.approx(expected["scores"], abs=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"candidate_labels": []},
        {"candidate_labels": "a, b"},
        {"candidate_labels": ["a"], "hypothesis_template": "no place for it"},
        {"candidate_labels": ["a"], "top_k": 1},
        {"candidate_labels": ["a" * 10_000] * 300},
    ],
)
def test_labels_and_a_template_with_a_place_for_them_are_needed(
    make: Make, parameters: dict[str, Any]
) -> None:
    model = make(HEAD, labels=["contradiction", "neutral", "entailment"])
    with pytest.raises(BadInput):
        model.value(TEXTS[0], **parameters)
