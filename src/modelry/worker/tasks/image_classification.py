"""`image-classification`: one picture → `[{"label", "score"}]`, the best first."""

from __future__ import annotations

from modelry.core.calls import TaskCall
from modelry.core.manifests import ImageInput
from modelry.worker.tasks.images import image_tensor
from modelry.worker.tasks.media import classify, medium_of
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """Reads `top_k` and `function_to_apply`; raises `BadInput`."""
    media = model.manifest.media
    assert isinstance(media, ImageInput)
    row = image_tensor(medium_of(call, "image"), media)
    return classify(call, model, "image classification", {media.input: row[None]})
