"""`text-classification`: a text, or a pair → `[[{"label", "score"}]]`, the best first; a list for each text.

Texts longer than the model takes are cut at their end.
"""

from __future__ import annotations

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import read_parameters
from modelry.worker.tasks.scores import (
    ClassificationParameters,
    check_function,
    first_output,
    ranked,
    scores_of,
)
from modelry.worker.tasks.texts import one_or_many, read_pair
from modelry.worker.tasks.tokens import tokenizer_of


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """Reads `top_k` (all labels without it) and `function_to_apply`; raises `BadInput`."""
    manifest = model.manifest
    given = read_parameters(ClassificationParameters, call.parameters, "text classification")
    check_function(manifest, given.function_to_apply)
    pairs, _ = one_or_many(call.inputs, read_pair)
    tokens = tokenizer_of(model)
    encodings = [tokens.encode(text, pair)[0] for text, pair in pairs]
    read = sum(len(encoding.ids) for encoding in encodings)

    def finish(outputs: dict[str, Array]) -> bytes:
        scores = scores_of(first_output(outputs, manifest), manifest, given.function_to_apply)
        return pack(
            TaskAnswer(value=[ranked(row, manifest, given.top_k) for row in scores], tokens=read)
        )

    return Opened(tokens.rows(encodings), finish)
