"""A request's payload → the tensors a model takes, checked against its manifest. One request at a time."""

from __future__ import annotations

import numpy as np

from modelry.core.errors import InvalidInput, UnsupportedMedia
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import AudioInput, ImageInput, ModelManifest
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
    match manifest.media:
        case ImageInput() as known:
            _check_kind(media, "image/", "an image")
            rows = np.stack([image_tensor(medium.data, known) for medium in media])
        case AudioInput() as known:
            from modelry.worker.tasks.recordings import audio_tensors

            _check_kind(media, "audio/", "a recording")
            rows = audio_tensors([medium.data for medium in media], known)
        case _:
            raise UnsupportedMedia(
                content_type=media[0].content_type, expected=f"tensors: {describe(manifest.inputs)}"
            )
    return {known.input: rows}


def _check_kind(media: tuple[Media, ...], kind: str, expected: str) -> None:
    for medium in media:
        if not medium.content_type.startswith(kind):
            raise UnsupportedMedia(content_type=medium.content_type, expected=expected)
