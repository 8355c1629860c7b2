"""`zero-shot-classification`: a text and labels the model never saw → `[{"label", "score"}]`, the best first.

A model of natural language inference judges, for each label, whether the text entails a sentence with the label
(Yin, Hay and Roth 2019): one row per label.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidParameter
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import read_parameters
from modelry.worker.tasks.scores import first_output, softmax
from modelry.worker.tasks.texts import check_letters, read_text
from modelry.worker.tasks.tokens import tokenizer_of


class ZeroShotParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the task takes."""

    candidate_labels: Annotated[list[str], msgspec.Meta(min_length=1, max_length=512)]
    #: Where `{}` stands comes the label.
    hypothesis_template: str = "This example is {}."
    #: Whether several labels can be right: each score then stands for itself.
    multi_label: bool = False


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """Raises `BadInput`; a text that is too long beside its hypothesis is cut at its end."""
    given = read_parameters(ZeroShotParameters, call.parameters, "zero-shot classification")
    labels = given.candidate_labels
    if given.hypothesis_template.count("{}") != 1:
        raise InvalidParameter(
            name="hypothesis_template",
            value=given.hypothesis_template,
            expected="a sentence with one '{}' in the label's place",
        )
    text, tokens = read_text(call.inputs), tokenizer_of(model)
    check_letters(len(labels) * (len(text) + max(len(label) for label in labels)))
    encodings = [
        tokens.encode(text, given.hypothesis_template.replace("{}", label), cut="only_first")[0]
        for label in labels
    ]
    entailment = int(tokens.media.options["entailment_id"])
    is_apart = given.multi_label or len(labels) == 1

    def finish(outputs: dict[str, Array]) -> bytes:
        logits = first_output(outputs, model.manifest)
        scores = _each(logits, entailment) if is_apart else softmax(logits[:, entailment])
        order = np.argsort(-scores, kind="stable")
        value = [{"label": labels[at], "score": float(scores[at])} for at in order]
        return pack(TaskAnswer(value=value, tokens=sum(len(each.ids) for each in encodings)))

    return Opened(tokens.rows(encodings), finish)


def _each(logits: Array, entailment: int) -> Array:
    """Entailment against contradiction, by convention the first class or, where entailment is that, the last."""
    contradiction = -1 if entailment == 0 else 0
    scores: Array = softmax(logits[:, [contradiction, entailment]])[:, 1]
    return scores
