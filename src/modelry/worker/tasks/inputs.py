"""A request's payload → the tensors a model takes, checked against its manifest. One request at a time."""

from __future__ import annotations

import numpy as np

from modelry.core.errors import InvalidInput, UnsupportedMedia
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array, Media, Payload
from modelry.worker.tasks.images import image_tensor


def prepare(payload: Payload, manifest: ModelManifest) -> dict[str, Array]:
    """The model's inputs, all with the same number of rows; raises `InvalidInput` or what decoding raises."""
    tensors = payload.tensors
    if payload.media:
        if tensors:
            raise InvalidInput(reason="it has both tensors and media", expected="one of the two")
        tensors = _decode_media(payload.media, manifest)
    check_inputs(tensors, manifest.inputs)
    return tensors


def _decode_media(media: tuple[Media, ...], manifest: ModelManifest) -> dict[str, Array]:
    known = manifest.media
    if known is None:
        raise UnsupportedMedia(
            content_type=media[0].content_type, expected=f"tensors: {describe(manifest.inputs)}"
        )
    for medium in media:
        if not medium.content_type.startswith("image/"):
            raise UnsupportedMedia(content_type=medium.content_type, expected="an image")
    return {known.input: np.stack([image_tensor(medium.data, known) for medium in media])}
