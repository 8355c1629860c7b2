"""Whether the rows of a data set can be given to a model, and which columns become its inputs. Reads no row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modelry.core.errors import WrongDataKind
from modelry.core.manifests import (
    AudioInput,
    DatasetManifest,
    Feature,
    ImageInput,
    ModelManifest,
    TableInput,
    TensorSpec,
    TextInput,
)


@dataclass(frozen=True, slots=True)
class Feed:
    """How one row of the data becomes one row of the model's input."""

    #: `values`: stored numbers times the feature's scale, in the input's shape. `picture`: stored numbers as pixels,
    #: fitted as the model fits pictures. `encoded`: encoded images, fitted. `pixels`: encoded images, decoded in their
    #: own size. `columns`: one number from each column. `text`: texts, through the model's tokenizer.
    #: `table`: categories and numbers by the columns' names. `steps`: rows of different length. `recordings`: encoded
    #: recordings.
    way: Literal[
        "values",
        "picture",
        "encoded",
        "pixels",
        "columns",
        "text",
        "table",
        "steps",
        "recordings",
    ]
    #: The columns that are read, in the order of the input.
    columns: tuple[str, ...]


def plan_feed(data: DatasetManifest, model: ModelManifest, names: str = "The data") -> Feed:
    """Raises `WrongDataKind` where the two do not fit; `names` is what the data are called in that sentence."""
    if isinstance(model.media, TextInput):
        return Feed("text", (_text_column(data, model, names),))
    if isinstance(model.media, TableInput):
        if model.media.steps is not None:
            raise _needs_window(names, model.media.steps)
        return Feed("table", _table_columns(data, model.media, names))
    if len(model.inputs) != 1:
        raise _refuse(names, f"the model takes {len(model.inputs)} inputs", "one input")
    spec, media = model.inputs[0], model.media
    if isinstance(media, AudioInput):
        return Feed("recordings", (_recordings(data, media, names),))
    inputs = {name: one for name, one in data.features.items() if name != data.target}
    for name, feature in inputs.items():
        if feature.kind == "sequence":
            if spec.shape[1:] != [None, *feature.shape] or spec.dtype != "float32":
                found = f"its rows are {_size([None, *feature.shape])}"
                raise _refuse(names, found, _size(spec.shape[1:]))
            return Feed("steps", (name,))
        if feature.kind == "image":
            return Feed(_way_of_image(feature, spec, media, names), (name,))
        if feature.kind == "tensor":
            return Feed(_way_of_tensor(feature, spec, media, names), (name,))
    return Feed("columns", _columns(inputs, spec, names))


def is_as_stored(feature: Feature, media: ImageInput) -> bool:
    """Whether stored pixels times the scale are what the model makes of such a picture."""
    return (
        feature.shape in ([media.height, media.width, media.channels], media.shape)
        and feature.scale == media.scale
        and media.layout == "channels_last"
        and media.order == "rgb"
        and not (media.mean or media.std)
    )


def is_classifier(model: ModelManifest, shape: Sequence[int]) -> bool:
    """Whether an output with rows of this shape has one score for each label."""
    return bool(model.labels) and math.prod(shape) == len(model.labels) == max(shape, default=0)


def _table_columns(data: DatasetManifest, media: TableInput, names: str) -> tuple[str, ...]:
    for column in media.columns:
        kind = "number" if column.categories is None else "category"
        feature = data.features.get(column.name)
        if feature is None or feature.kind != kind:
            raise _refuse(
                names, f"it has no {kind} called '{column.name}'", f"a {kind} '{column.name}'"
            )
    return tuple(column.name for column in media.columns)


def _text_column(data: DatasetManifest, model: ModelManifest, names: str) -> str:
    if model.task != "text-classification":
        raise _refuse(names, f"the model does {model.task}", "texts for text-classification")
    texts = [
        name
        for name, one in data.features.items()
        if one.kind in ("text", "category") and name != data.target
    ]
    columns = [name for name in texts if data.features[name].kind == "text"] or texts
    if len(columns) != 1:
        found = f"it has {len(columns)} columns of text" + "".join(
            f" '{one}'" for one in columns[:5]
        )
        raise _refuse(names, found, "one column of text")
    return columns[0]


def _recordings(data: DatasetManifest, media: AudioInput, names: str) -> str:
    columns = [name for name, one in data.features.items() if one.kind == "audio"]
    if len(columns) != 1:
        raise _refuse(names, f"it has {len(columns)} columns of recordings", "one such column")
    if media.features == "waveform" and not media.options.get("pad"):
        found = "its recordings may differ in length"
        raise _refuse(names, found, "one recording at a time, through its deployment")
    return columns[0]


def _way_of_image(
    feature: Feature, spec: TensorSpec, media: ImageInput | None, names: str
) -> Literal["encoded", "pixels"]:
    if media is not None:
        return "encoded"
    if not _fits(feature, spec):
        raise _refuse(names, f"its images are {_size(feature.shape)}", _size(spec.shape[1:]))
    return "pixels"


def _way_of_tensor(
    feature: Feature, spec: TensorSpec, media: ImageInput | None, names: str
) -> Literal["values", "picture"]:
    is_picture = feature.dtype == "uint8" and len(feature.shape) == 3 and feature.shape[2] in (1, 3)
    if media is not None and is_picture and not is_as_stored(feature, media):
        return "picture"
    if not _fits(feature, spec):
        raise _refuse(names, f"its rows are {_size(feature.shape)}", _size(spec.shape[1:]))
    return "values"


def _columns(inputs: dict[str, Feature], spec: TensorSpec, names: str) -> tuple[str, ...]:
    if len(spec.shape) != 2:
        raise _refuse(names, "it is a table", f"rows of {_size(spec.shape[1:])}")
    numbers = [name for name, feature in inputs.items() if feature.kind == "number"]
    wanted = spec.columns or numbers
    missing = [name for name in wanted if name not in numbers]
    if missing:
        raise _refuse(
            names, f"it has no column of numbers called '{missing[0]}'", f"'{missing[0]}'"
        )
    if spec.shape[1] not in (len(wanted), None) or not wanted:
        raise _refuse(names, f"it has {len(wanted)} columns of numbers", f"{spec.shape[1]} columns")
    return tuple(wanted)


def _fits(feature: Feature, spec: TensorSpec) -> bool:
    """Equal shapes, or as many numbers in another arrangement (28×28×1 for 28×28)."""
    wanted = spec.shape[1:]
    if None in wanted:
        return len(wanted) == len(feature.shape) and all(
            length in (None, found) for length, found in zip(wanted, feature.shape, strict=True)
        )
    return math.prod(length or 0 for length in wanted) == math.prod(feature.shape)


def _size(shape: list[int] | list[int | None]) -> str:
    return "×".join("N" if length is None else str(length) for length in shape) or "one number"


def _needs_window(names: str, steps: int) -> WrongDataKind:
    return WrongDataKind(
        f"{names} cannot be given to the model: it takes {steps} rows in the order of time as one input, and here "
        "each row is one.",
        remedy="Deploy the model and send it the rows that came before what is to be forecast.",
    )


def _refuse(names: str, what: str, wanted: str) -> WrongDataKind:
    return WrongDataKind(
        f"{names} cannot be given to the model: {what}.",
        remedy=f"The model takes {wanted}; choose data that have that.",
    )
