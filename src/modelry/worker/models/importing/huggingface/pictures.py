"""Pictures before a network: the library's image processor as an `ImageInput`.

Believed when both make equal tensors of a few pictures.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from modelry.core.errors import NotConvertible
from modelry.core.manifests import ImageInput, TensorSpec
from modelry.core.tensors import Array
from modelry.worker.models.importing.comparing import sliced
from modelry.worker.models.importing.huggingface.front import Front
from modelry.worker.models.importing.huggingface.loading import not_convertible
from modelry.worker.models.importing.huggingface.settings import Settings, read_optional
from modelry.worker.tasks.images import image_tensor

_INPUT = "pixel_values"
#: Pillow's numbers of its filters.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
#: Widths and heights of the pictures both are tried on.
_SIZES = ((300, 200), (150, 260), (64, 64), (640, 480))
_TOLERANCE = 1e-4
_REMEDY = (
    "Export the model to ONNX, import that and say how pictures are prepared with --preprocess."
)


def picture_front(settings: Settings, model: Any) -> Front:
    """Raises `NotConvertible` for a processor that does what an `ImageInput` cannot say."""
    processor = _load_processor(settings)
    try:
        media = _describe(processor, model.config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_convertible(error, "its image processor is not understood") from None
    pictures = [_picture(*size, media.channels) for size in _SIZES]
    rows = np.stack([image_tensor(data, media) for data in pictures])
    _compare(processor, pictures, rows)
    inputs = [TensorSpec(name=_INPUT, dtype="float32", shape=[None, *media.shape])]
    cases = [sliced({_INPUT: rows[:size]}) for size in (2, 1, len(rows))]
    return Front(media, inputs, cases)


def _load_processor(settings: Settings) -> Any:
    """The library's processor that works with Pillow."""
    import transformers

    config = read_optional(settings.weights_folder / "preprocessor_config.json")
    if config is None:
        raise NotConvertible(reason="it has no preprocessor_config.json", remedy=_REMEDY)
    named = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    name = named.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    for known in (f"{name}Pil", name):
        kind = getattr(transformers, known, None) if name.endswith("ImageProcessor") else None
        if kind is not None and "Dummy" not in type(kind).__name__:
            try:
                return kind.from_pretrained(str(settings.weights_folder), local_files_only=True)
            except Exception as error:  # Processors raise whatever their settings lead them to.
                raise not_convertible(
                    error, f"its image processor {name} cannot be loaded"
                ) from None
    raise NotConvertible(
        reason=f"its image processor {named or 'without a name'} is not known", remedy=_REMEDY
    )


def _describe(processor: Any, config: Any) -> ImageInput:
    channels = int(getattr(config, "num_channels", 3))
    height, width, fit = _sizes(processor)
    scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    is_normal = processor.do_normalize
    mean = [float(each) for each in processor.image_mean] if is_normal else []
    std = [float(each) for each in processor.image_std] if is_normal else []
    if getattr(processor, "rescale_offset", False) and processor.do_rescale:
        mean = [1.0 + each for each in mean] or [1.0] * channels
    return ImageInput(
        height=height,
        width=width,
        channels=channels,
        scale=scale,
        input=_INPUT,
        shape=[channels, height, width],
        **fit,
        layout="channels_first",
        order="bgr" if getattr(processor, "do_flip_channel_order", False) else "rgb",
        mean=mean,
        std=std,
        resample=_FILTERS[int(processor.resample)],  # type: ignore[arg-type]
    )


def _sizes(processor: Any) -> tuple[int, int, dict[str, Any]]:
    """Height and width of the tensor, and how pictures come to be so: `resize` and `resize_to`."""
    if not processor.do_resize:
        raise ValueError("it takes pictures of any size")
    size, exact = dict(processor.size), {"resize": "exact"}
    shortest, share = size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if shortest is not None and share is not None:
        # Small networks see the middle of a larger picture, large ones all of it.
        larger = {"resize": "crop", "resize_to": int(shortest / share)}
        return shortest, shortest, exact if shortest >= 384 else larger
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    if shortest is not None:
        if crop is None:
            raise ValueError("it keeps the proportions of pictures")
        return crop["height"], crop["width"], {"resize": "crop", "resize_to": shortest}
    if crop is None or crop == size:
        return size["height"], size["width"], exact
    if size["height"] != size["width"]:
        raise ValueError("it cuts the middle out of what is no square")
    return crop["height"], crop["width"], {**exact, "resize_to": size["height"]}


def _picture(width: int, height: int, channels: int) -> bytes:
    """A PNG of smooth colours with some noise."""
    down, across = np.mgrid[0:height, 0:width]
    waves = [np.sin(down / 17 + at) + np.cos(across / 23 - at) for at in range(channels)]
    noise = np.random.default_rng(width).uniform(-20, 20, (height, width, channels))
    pixels = (127 + 50 * np.stack(waves, axis=-1) + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(file, format="PNG")
    return file.getvalue()


def _compare(processor: Any, pictures: list[bytes], rows: Array) -> None:
    try:
        theirs = [_prepared(processor, data) for data in pictures]
    except Exception as error:
        raise not_convertible(error, "its image processor fails") from None
    for ours, expected in zip(rows, theirs, strict=True):
        difference = (
            np.inf if ours.shape != expected.shape else float(np.abs(ours - expected).max())
        )
        if not difference <= _TOLERANCE:
            raise NotConvertible(
                reason=f"its image processor does more than resize, cut, scale and normalise ({difference:.2g} apart)",
                remedy=_REMEDY,
            )


def _prepared(processor: Any, data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as picture:
        prepared: Array = np.asarray(processor(picture, return_tensors="np")[_INPUT])[0]
    return prepared
