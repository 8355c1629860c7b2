"""The encoded picture or recording of a call, and the one classification of both."""

from __future__ import annotations

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidInput, UnsupportedMedia
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

#: Labels in an answer, unless the call says how many.
TOP_K = 5


def medium_of(call: TaskCall, kind: str) -> bytes:
    """The call's encoded `image` or `audio`; raises where it has none or one of another kind."""
    if not call.media:
        raise InvalidInput(reason="the call holds no file", expected=f"an {kind} file's bytes")
    # Clients that do not know the kind say `application/octet-stream` or nothing.
    if call.media_type.partition("/")[0] not in ("", kind, "application"):
        raise UnsupportedMedia(content_type=call.media_type, expected=f"an {kind} file")
    return call.media


def classify(call: TaskCall, model: TaskModel, task: str, inputs: dict[str, Array]) -> Opened:
    """One row → `[{"label", "score"}]`, the best first; reads `top_k` and `function_to_apply`."""
    manifest = model.manifest
    given = read_parameters(ClassificationParameters, call.parameters, task)
    check_function(manifest, given.function_to_apply)

    def finish(outputs: dict[str, Array]) -> bytes:
        scores = scores_of(first_output(outputs, manifest), manifest, given.function_to_apply)[0]
        return pack(TaskAnswer(value=ranked(scores, manifest, given.top_k or TOP_K)))

    return Opened(inputs, finish)
