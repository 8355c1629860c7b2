"""`--preprocess`: how a picture becomes a foreign model's input, as a preset's name, or values, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelry.core.errors import InvalidParameter, UnknownParameter
from modelry.core.manifests import ImageInput, TensorSpec

_OWNER = "--preprocess"

#: What the framework's own examples do with pictures; sizes come from the model's input.
PRESETS: dict[str, dict[str, Any]] = {
    #: torchvision's and timm's usual one.
    "imagenet": {
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "resize": "crop",
    },
    #: 0 to 1.
    "unit": {"scale": 1 / 255},
    #: -1 to 1, as MobileNet and Inception of TensorFlow have it.
    "symmetric": {"scale": 1 / 127.5, "mean": [1.0], "std": [1.0]},
    #: 0 to 255.
    "raw": {"scale": 1.0},
    #: Caffe's: 0 to 255, blue first, without the mean colour.
    "caffe-bgr": {
        "scale": 1.0,
        "order": "bgr",
        "mean": [104.0, 117.0, 123.0],
        "std": [1.0, 1.0, 1.0],
        "resize": "crop",
    },
}

_CHOICES = {
    "resize": ("exact", "crop"),
    "layout": ("channels_first", "channels_last"),
    "order": ("rgb", "bgr"),
    "resample": ("nearest", "bilinear", "bicubic", "lanczos"),
}
_SIZES = ("height", "width", "resize_to")
_LISTS = ("mean", "std")
_NAMES = ("preset", "scale", *_SIZES, *_LISTS, *_CHOICES)
#: A cropped picture's shorter side becomes so much longer than the crop, where nothing else is said.
_CROP_MARGIN = 256 / 224
_MAX_SIDE = 8192


def check_preprocess(given: Mapping[str, Any] | str) -> dict[str, Any]:
    """The values with the preset's filled in; raises `UnknownParameter` and `InvalidParameter`."""
    values = {"preset": given} if isinstance(given, str) else dict(given)
    for name in values:
        if name not in _NAMES:
            raise UnknownParameter(owner=_OWNER, name=name, known=", ".join(_NAMES))
    preset = values.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise InvalidParameter(name="preprocess", value=preset, expected=f"one of {_presets()}")
    return {
        **PRESETS.get(preset or "", {}),
        **{name: _read(name, value) for name, value in values.items()},
    }


def picture_layout(spec: TensorSpec) -> str | None:
    """`channels_first` or `channels_last` where a tensor can be one picture a row, else None."""
    shape = spec.shape
    if len(shape) == 4 and shape[1] in (1, 3):
        return "channels_first"
    if len(shape) == 4 and shape[3] in (1, 3):
        return "channels_last"
    return None


def image_input(given: Mapping[str, Any] | str, spec: TensorSpec) -> ImageInput:
    """How pictures fill this tensor; raises `InvalidParameter` where they cannot."""
    values = check_preprocess(given)
    layout: Any = values.pop("layout", None) or picture_layout(spec)
    if layout is None or len(spec.shape) != 4 or spec.dtype != "float32":
        shape = "×".join("N" if size is None else str(size) for size in spec.shape)
        raise InvalidParameter(
            f"'--preprocess' is for pictures; the input '{spec.name}' is {spec.dtype} of {shape}.",
            remedy="Leave it away; the model then takes tensors.",
        )
    channel = 1 if layout == "channels_first" else 3
    sides = [index for index in (1, 2, 3) if index != channel]
    height = _side(spec.shape[sides[0]], values.pop("height", None), "height")
    width = _side(spec.shape[sides[1]], values.pop("width", None), "width")
    channels = spec.shape[channel] or 3
    row = [channels, height, width] if channel == 1 else [height, width, channels]
    if values.get("resize") == "crop" and "resize_to" not in values:
        values["resize_to"] = round(min(height, width) * _CROP_MARGIN)
    _fit_channels(values, channels)
    return ImageInput(
        height=height,
        width=width,
        channels=channels,
        input=spec.name,
        shape=row,
        layout=layout,
        **{"scale": 1.0, **values},
    )


def _presets() -> str:
    return ", ".join(PRESETS)


def _read(name: str, value: Any) -> Any:
    try:
        return _READERS[name](name, value)
    except (TypeError, ValueError, OverflowError):
        expected = {
            **dict.fromkeys(_SIZES, f"a whole number from 1 to {_MAX_SIDE}"),
            **dict.fromkeys(_LISTS, "one number, or one for each channel"),
            **{key: " or ".join(words) for key, words in _CHOICES.items()},
        }.get(name, "a finite number")
        raise InvalidParameter(name=name, value=value, expected=expected) from None


def _size(name: str, value: Any) -> int:
    number = int(value)
    if isinstance(value, bool | float) or not 1 <= number <= _MAX_SIDE:
        raise ValueError
    return number


def _number(name: str, value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not abs(number) < float("inf"):
        raise ValueError
    return number


def _numbers(name: str, value: Any) -> list[float]:
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    numbers = [_number(name, part) for part in parts]
    if len(numbers) not in (1, 3) or (name == "std" and 0.0 in numbers):
        raise ValueError
    return numbers


def _choice(name: str, value: Any) -> str:
    if value not in _CHOICES[name]:
        raise ValueError
    return str(value)


_READERS = {
    "scale": _number,
    **dict.fromkeys(_SIZES, _size),
    **dict.fromkeys(_LISTS, _numbers),
    **dict.fromkeys(_CHOICES, _choice),
}


def _side(declared: int | None, given: int | None, name: str) -> int:
    if declared is not None and given is not None and declared != given:
        raise InvalidParameter(
            name=name, value=given, expected=f"{declared}, which the model itself says"
        )
    side = declared or given
    if side is None:
        raise InvalidParameter(
            f"The model takes pictures of any {name}; say which one.",
            remedy=f"Add --preprocess {name}=224 (or whatever it was trained with).",
        )
    return side


def _fit_channels(values: dict[str, Any], channels: int) -> None:
    """One mean for all channels is repeated; three for a grey picture are refused."""
    for name in _LISTS:
        numbers = values.get(name, [])
        if len(numbers) == 1:
            values[name] = numbers * channels
        elif numbers and len(numbers) != channels:
            raise InvalidParameter(name=name, value=numbers, expected=f"{channels} numbers")
    if bool(values.get("mean")) != bool(values.get("std")):
        values.setdefault("mean", [0.0] * channels)
        values.setdefault("std", [1.0] * channels)
    if values.get("order") == "bgr" and channels != 3:
        raise InvalidParameter(name="order", value="bgr", expected="rgb; the picture is grey")
