"""Answers from a text: the pieces and scores of a plain search through all windows, done with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from modelry.core.errors import BadInput, InvalidParameter
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS, Served

HEAD, QUESTION, CONTEXT = "ForQuestionAnswering", "Who worked in Paris?", " ".join(TEXTS)


def searched(
    model: Served, *, longest: int, stride: int, answer_len: int
) -> dict[tuple[int, int], float]:
    """Every piece of the context and its best score over all windows, by transformers' tokenizer and torch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.source)
    network = transformers.AutoModelForQuestionAnswering.from_pretrained(model.source).eval()
    windows = tokenizer(
        QUESTION, CONTEXT, truncation="only_second", max_length=longest, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    found: dict[tuple[int, int], float] = {}
    for at, ids in enumerate(windows["input_ids"]):
        given = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in windows:
            given["token_type_ids"] = torch.tensor([windows["token_type_ids"][at]])
        with torch.inference_mode():
            told = network(**given)
        is_context = torch.tensor([each == 1 for each in windows.sequence_ids(at)])
        is_cls = torch.tensor(ids) == tokenizer.cls_token_id
        shares = [
            torch.softmax(torch.where(is_context | is_cls, logits[0], -torch.inf), 0)
            for logits in (told.start_logits, told.end_logits)
        ]
        places = [n for n in range(len(ids)) if is_context[n]]
        for first in places:
            for last in [n for n in places if first <= n < first + answer_len]:
                offsets = windows["offset_mapping"][at]
                span = (offsets[first][0], offsets[last][1])
                score = float(shares[0][first] * shares[1][last])
                found[span] = max(found.get(span, 0.0), score)
    return found


def ask(model: Served, **parameters: Any) -> Any:
    return model.value({"question": QUESTION, "context": CONTEXT}, **parameters)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_best_pieces_over_all_windows_are_found(make: Make, family: str) -> None:
    model = make(HEAD, family=family)
    expected = searched(model, longest=40, stride=10, answer_len=6)
    found = ask(
        model, max_seq_len=40, doc_stride=10, max_answer_len=6, top_k=5, align_to_words=False
    )
    assert len(found) == 5
    best = sorted(expected.values(), reverse=True)[:5]
    assert [each["score"] for each in found] == pytest.approx(best, abs=1e-5)
    for each in found:
        assert each["answer"] == CONTEXT[each["start"] : each["end"]]
        assert expected[each["start"], each["end"]] == pytest.approx(each["score"], abs=1e-5)


def test_one_answer_is_an_object_and_it_is_of_whole_words(make: Make) -> None:
    found = ask(make(HEAD))
    assert set(found) == {"answer", "score", "start", "end"}
    before, after = CONTEXT[: found["start"]], CONTEXT[found["end"] :]
    assert not before or not (before[-1].isalnum() and found["answer"][0].isalnum())
    assert not after or not (after[0].isalnum() and found["answer"][-1].isalnum())


def test_no_answer_may_be_the_answer(make: Make) -> None:
    found = ask(make(HEAD), handle_impossible_answer=True, top_k=9000, align_to_words=False)
    assert {"answer": "", "start": 0, "end": 0}.items() <= next(
        each for each in found if not each["answer"]
    ).items()
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite(scores).all()


def test_a_long_question_is_cut_to_what_is_allowed(make: Make) -> None:
    model = make(HEAD)
    inputs = {"question": QUESTION + " " + " ".join(TEXTS), "context": TEXTS[1]}
    cut = {"question": "Who worked", "context": TEXTS[1]}
    length = len(transformers.AutoTokenizer.from_pretrained(model.source).tokenize("Who worked"))
    assert model.value(inputs, max_question_len=length) == model.value(cut)


def test_windows_that_cannot_overlap_so_far_are_refused(make: Make) -> None:
    with pytest.raises(InvalidParameter, match="doc_stride"):
        ask(make(HEAD), max_seq_len=30, doc_stride=29)
    with pytest.raises(InvalidParameter, match="doc_stride"):
        ask(make(HEAD), max_seq_len=4)


@pytest.mark.parametrize(
    "inputs",
    [
        QUESTION,
        {"question": QUESTION},
        {"question": "", "context": "a"},
        {"question": "a", "context": " "},
    ],
)
def test_a_question_and_a_context_are_needed(make: Make, inputs: Any) -> None:
    with pytest.raises(BadInput):
        make(HEAD).value(inputs)
