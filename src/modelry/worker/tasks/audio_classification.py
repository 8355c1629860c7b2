"""`audio-classification`: one recording → `[{"label", "score"}]`, the best first."""

from __future__ import annotations

from modelry.core.calls import TaskCall
from modelry.core.manifests import AudioInput
from modelry.worker.tasks.media import classify, medium_of
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.recordings import audio_tensor


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """Reads `top_k` and `function_to_apply`; raises `BadInput`."""
    media = model.manifest.media
    assert isinstance(media, AudioInput)
    row = audio_tensor(medium_of(call, "audio"), media)
    return classify(call, model, "audio classification", {media.input: row[None]})
