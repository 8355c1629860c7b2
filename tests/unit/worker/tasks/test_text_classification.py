"""Texts to labels: the answers are those of transformers' own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import transformers

from modelry.core.errors import InvalidInput, InvalidParameter, UnknownParameter
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS

HEAD, LABELS = "ForSequenceClassification", ["bad", "fine", "good"]


def scores(row: list[dict[str, object]]) -> dict[object, object]:
    return {each["label"]: each["score"] for each in row}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet"])
def test_scores_are_those_of_the_pipeline(make: Make, family: str) -> None:
    model = make(HEAD, family=family, labels=LABELS)
    pipeline = transformers.pipeline("text-classification", str(model.source))
    for row, text in zip(model.value(TEXTS), TEXTS, strict=True):
        expected = pipeline(text, top_k=None)
        assert [each["label"] for each in row] == [each["label"] for each in expected]
        assert scores(row) == pytest.approx(scores(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("problem", "activation"),
    [("multi_label_classification", "sigmoid"), ("regression", "none")],
)
def test_the_activation_is_that_of_the_problem(make: Make, problem: str, activation: str) -> None:
    model = make(HEAD, labels=LABELS, problem_type=problem)
    assert model.manifest.activation == activation
    pipeline = transformers.pipeline("text-classification", str(model.source))
    expected = pipeline(TEXTS[0], top_k=None)
    assert scores(model.value(TEXTS[0])[0]) == pytest.approx(scores(expected), abs=1e-5)


@pytest.mark.parametrize("function", ["none", "softmax", "sigmoid"])
def test_another_function_can_be_asked_for(make: Make, function: str) -> None:
    model = make(HEAD, labels=LABELS)
    pipeline = transformers.pipeline("text-classification", str(model.source))
    expected = pipeline(TEXTS[0], top_k=2, function_to_apply=function)
    found = model.value(TEXTS[0], top_k=2, function_to_apply=function)
    assert scores(found[0]) == pytest.approx(scores(expected), abs=1e-5)


def test_a_function_on_finished_scores_is_refused(make: Make) -> None:
    model = make(HEAD, labels=LABELS, problem_type="regression")
    with pytest.raises(InvalidParameter, match="function_to_apply"):
        model.value(TEXTS[0], function_to_apply="softmax")


def test_texts_in_one_batch_answer_as_texts_alone(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    texts = [*TEXTS, "ok", " ".join(TEXTS)]
    for text, row in zip(texts, model.value(texts), strict=True):
        assert scores(row) == pytest.approx(scores(model.value(text)[0]), abs=1e-5)


def test_a_pair_is_two_segments(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    pipeline = transformers.pipeline("text-classification", str(model.source))
    pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}
    expected = pipeline(pair, top_k=None)
    assert scores(model.value(pair)[0]) == pytest.approx(scores(expected), abs=1e-5)


def test_a_long_text_is_cut_at_its_end_and_the_answer_says_how_much_was_read(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    answer = model.answer(" ".join(TEXTS * 20))
    assert answer.tokens == 64
    again = model.answer(" ".join(TEXTS * 40))
    assert np.allclose(
        [each["score"] for each in again.value[0]], [each["score"] for each in answer.value[0]]
    )


def test_more_than_a_call_may_have_read_is_refused_before_it_is_read(make: Make) -> None:
    with pytest.raises(InvalidInput, match="characters"):
        make(HEAD, labels=LABELS).value(["a " * 90_000] * 12)


@pytest.mark.parametrize("inputs", [None, 7, [], ["a", 3], {"text": 1}, {"words": "a"}, [["a"]]])
def test_what_is_no_text_is_refused(make: Make, inputs: object) -> None:
    with pytest.raises(InvalidInput):
        make(HEAD, labels=LABELS).value(inputs)


def test_unknown_and_malformed_parameters_are_refused_by_name(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    with pytest.raises(UnknownParameter, match="temperature"):
        model.value("a", temperature=1.0)
    with pytest.raises(InvalidParameter, match="top_k"):
        model.value("a", top_k=0)
    with pytest.raises(InvalidParameter, match="function_to_apply"):
        model.value("a", function_to_apply="relu")
    assert model.value("a", top_k=None)
