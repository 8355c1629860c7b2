"""`question-answering`: a question and a context → the piece of the context that answers it.

A context longer than the model takes is read in overlapping windows, one row each. A piece's score is the product
of the probabilities of its first and last token, over the context's tokens and the one that stands for "no answer"
(Devlin et al. 2018, section 4.3).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidInput, InvalidParameter
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import Count, read_parameters
from modelry.worker.tasks.scores import softmax
from modelry.worker.tasks.texts import read_fields, read_text
from modelry.worker.tasks.tokens import Tokens, tokenizer_of

_SEQUENCE_TOKENS, _STRIDE_TOKENS, _QUESTION_TOKENS, _ANSWER_TOKENS = 384, 128, 64, 15


class QuestionParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the task takes; lengths in tokens."""

    top_k: Count = 1
    #: How far two windows overlap.
    doc_stride: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_answer_len: Count = _ANSWER_TOKENS
    #: Of one window: question, context and special tokens.
    max_seq_len: Count = _SEQUENCE_TOKENS
    #: A longer question is cut at its end.
    max_question_len: Count = _QUESTION_TOKENS
    #: Whether "no answer", an empty one, may be among the answers.
    handle_impossible_answer: bool = False
    #: Whether an answer that begins or ends inside a word is widened to the whole word.
    align_to_words: bool = True


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """`inputs` is `{"question", "context"}`; raises `BadInput`."""
    given = read_parameters(QuestionParameters, call.parameters, "question answering")
    question, context = (
        read_text(value) for value in read_fields(call.inputs, ("question", "context"))
    )
    if not question.strip() or not context.strip():
        raise InvalidInput(reason="question or context is empty", expected="both with text")
    tokens = tokenizer_of(model)
    windows = _windows(question, context, tokens, given)
    names = [spec.name for spec in model.manifest.outputs[:2]]

    def finish(outputs: dict[str, Array]) -> bytes:
        starts, ends = (outputs[name] for name in names)
        answers = _answers(windows, starts, ends, context, tokens, given)
        value: Any = answers[0] if given.top_k == 1 else answers
        return pack(TaskAnswer(value=value, tokens=sum(len(window.ids) for window in windows)))

    return Opened(tokens.rows(windows), finish)


def _windows(question: str, context: str, tokens: Tokens, given: QuestionParameters) -> list[Any]:
    question, length = _cut_question(question, tokens, given.max_question_len)
    longest = min(given.max_seq_len, tokens.media.max_length)
    # What a pair takes beside its texts, seen on the shortest one.
    special = sum(tokens.encode("", "", cut=None)[0].special_tokens_mask)
    room = longest - special - length
    stride = given.doc_stride
    if stride is None:
        stride = min(_STRIDE_TOKENS, longest // 2, max(room // 2, 0))
    if room <= stride:
        raise InvalidParameter(
            name="doc_stride",
            value=stride,
            expected=f"less than the {max(room, 0)} tokens of context that fit beside the question",
        )
    return tokens.encode(question, context, cut="only_second", limit=longest, stride=stride)


def _cut_question(question: str, tokens: Tokens, longest: int) -> tuple[str, int]:
    """The question's first tokens, and how many they are."""
    encoding = tokens.encode(question, special=False)[0]
    if len(encoding.ids) <= longest:
        return question, len(encoding.ids)
    return question[: encoding.offsets[longest - 1][1]], longest


def _answers(
    windows: list[Any],
    starts: Array,
    ends: Array,
    context: str,
    tokens: Tokens,
    given: QuestionParameters,
) -> list[dict[str, Any]]:
    """The best pieces over all windows; one that several windows show counts with its best score."""
    found: dict[tuple[int, int], float] = {}
    impossible = 1.0
    for window, start, end in zip(windows, starts, ends, strict=True):
        spans, nothing = _spans(window, start, end, tokens.media.options, given)
        impossible = min(impossible, nothing)
        for first, last, score in spans:
            place = _place(window, first, last, given.align_to_words)
            found[place] = max(score, found.get(place, 0.0))
    answers: list[dict[str, Any]] = [
        {"answer": context[start:end], "score": score, "start": start, "end": end}
        for (start, end), score in found.items()
    ]
    if given.handle_impossible_answer or not answers:
        answers.append({"answer": "", "score": impossible, "start": 0, "end": 0})
    return sorted(answers, key=_score, reverse=True)[: given.top_k]


def _score(answer: dict[str, Any]) -> float:
    return float(answer["score"])


def _spans(
    window: Any, start: Array, end: Array, options: dict[str, Any], given: QuestionParameters
) -> tuple[list[tuple[int, int, float]], float]:
    """A window's best pieces as (first token, last token, score), and the score of "no answer"."""
    ids = np.asarray(window.ids)
    in_context = np.array([sequence == 1 for sequence in window.sequence_ids])
    considered = in_context | (ids == options.get("cls_token_id", -1))
    firsts, lasts = (_probabilities(values[: len(ids)], considered) for values in (start, end))
    nothing = float(firsts[0] * lasts[0])
    firsts, lasts = firsts * in_context, lasts * in_context
    longest = min(given.max_answer_len, len(ids))
    scores = np.zeros((longest, len(ids)))
    for more in range(longest):
        scores[more, : len(ids) - more] = firsts[: len(ids) - more] * lasts[more:]
    order = np.argsort(-scores, axis=None, kind="stable")[: given.top_k]
    spans = []
    for at in order:
        more, first = divmod(int(at), len(ids))
        if scores[more, first] > 0:
            spans.append((first, first + more, float(scores[more, first])))
    return spans, nothing


def _probabilities(values: Array, considered: Array) -> Array:
    """Softmax over the tokens that may be chosen; 0 for the others."""
    if not considered.any():
        return np.zeros(len(values))
    return softmax(np.where(considered, values.astype(np.float64), -np.inf))


def _place(window: Any, first: int, last: int, in_words: bool) -> tuple[int, int]:
    """Where the piece stands in the context, in characters."""
    start, end = window.offsets[first][0], window.offsets[last][1]
    if in_words:
        words = (window.token_to_word(first), window.token_to_word(last))
        if None not in words:
            chars = [window.word_to_chars(word, sequence_index=1) for word in words]
            if None not in chars:
                return min(start, chars[0][0]), max(end, chars[1][1])
    return start, end
