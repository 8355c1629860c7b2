"""Words for masked places: the answers are those of transformers' own pipeline."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from modelry.core.errors import InvalidInput
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS

HEAD = "ForMaskedLM"
MASKS = {"bert": "[MASK]", "roberta": "<mask>"}


def assert_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [each["token"] for each in found] == [each["token"] for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
        assert {**ours, "score": 0} == {**theirs, "score": 0}


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize(
    "parameters", [{}, {"top_k": 2}, {"targets": ["paris", "river", "rain"]}], ids=str
)
def test_words_are_those_of_the_pipeline(
    make: Make, family: str, parameters: dict[str, Any]
) -> None:
    model = make(HEAD, family=family)
    pipeline = transformers.pipeline("fill-mask", str(model.source))
    text = f"Marie Curie worked in {MASKS[family]}, near the river."
    assert_equal(model.value(text, **parameters), pipeline(text, **parameters))


def test_several_masks_have_a_list_each(make: Make) -> None:
    model = make(HEAD)
    pipeline = transformers.pipeline("fill-mask", str(model.source))
    text = "Marie [MASK] worked in [MASK]."
    for found, expected in zip(model.value(text), pipeline(text), strict=True):
        assert_equal(found, expected)


def test_a_text_without_a_mask_or_too_long_is_refused(make: Make) -> None:
    model = make(HEAD)
    with pytest.raises(InvalidInput, match="no masked token") as refusal:
        model.value(TEXTS[0])
    assert "[MASK]" in refusal.value.remedy
    with pytest.raises(InvalidInput, match="tokens"):
        model.value("[MASK] " + " ".join(TEXTS * 5))
