"""`sentence-similarity`: one sentence beside others → `[float]`, how near each of them is in meaning."""

from __future__ import annotations

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidInput
from modelry.core.tensors import Array
from modelry.worker.tasks.feature_extraction import embed, normal, pool
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import NoParameters, read_parameters
from modelry.worker.tasks.texts import one_or_many, read_fields, read_text
from modelry.worker.tasks.tokens import tokenizer_of


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """`inputs` is `{"source_sentence", "sentences"}`; raises `BadInput`."""
    read_parameters(NoParameters, call.parameters, "sentence similarity")
    source, sentences = read_fields(call.inputs, ("source_sentence", "sentences"))
    if not isinstance(sentences, list) or not sentences:
        raise InvalidInput(reason="'sentences' is no list", expected="a list with a text at least")
    texts, _ = one_or_many([source, *sentences], read_text)
    tokens = tokenizer_of(model)
    rows, lengths = embed(tokens, texts)
    options = tokens.media.options
    # The cosine is the product of vectors of length 1.
    is_normal = bool(options.get("normalize")) or options.get("similarity", "cosine") == "cosine"

    def finish(outputs: dict[str, Array]) -> bytes:
        states = outputs[model.manifest.outputs[0].name]
        vectors = normal(pool(states, lengths, options.get("pooling", "mean")), is_normal)
        nearness = vectors[1:].astype("f8") @ vectors[0].astype("f8")
        return pack(TaskAnswer(value=[float(each) for each in nearness], tokens=sum(lengths)))

    return Opened(rows, finish)
