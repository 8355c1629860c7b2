"""What `dataset.json` and `model.json` say: the formats both sides and other people's programs read.

Every format carries `format_version`; `read_dataset` and `read_model` refuse a newer major version.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelry.core.errors import FormatTooNew

DATASET_FORMAT = 1
MODEL_FORMAT = 1


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a data set.

    `kind`: `tensor` (fixed-shape numbers), `sequence` (steps of a fixed width, as many as the row has, one after the
    other), `image` (encoded bytes of one fixed size), `audio` (encoded bytes of one recording), `label` (an index into
    `labels`), `number` (null where it is missing), `category` (null where it is missing) or `text` (never null).
    """

    kind: str
    #: numpy's name of the element type: `uint8`, `float32`, `int64`, `string`, `bytes`; a number that is missing in
    #: some row is `float64`.
    dtype: str
    #: Without the row dimension; `[28, 28, 1]` for a grey image, the width of a step for a `sequence`.
    shape: list[int] = []
    #: The names of the classes, for `label` only.
    labels: list[str] | None = None
    #: Multiply stored values by this to get what a network sees (1/255 for bytes).
    scale: float = 1.0
    #: For `audio`: samples a second, where all recordings agree.
    sample_rate: int | None = None


def fingerprinted(feature: Feature) -> dict[str, Any]:
    """The fields that a fingerprint covers: those that came to the format later only where they say something, so that
    known data keep theirs.
    """
    fields: dict[str, Any] = msgspec.to_builtins(feature)
    if feature.sample_rate is None:
        del fields["sample_rate"]
    return fields


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a data set: its rows and the Parquet shards that hold them, in order."""

    rows: int
    files: list[str]


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`dataset.json`."""

    format_version: int = DATASET_FORMAT
    features: dict[str, Feature]
    #: The feature to be predicted, if the data set has one: a `label`, a `number` or a `text`.
    target: str | None
    #: What it is for, by Hugging Face's name (`core.importing.TASKS`); None where nobody said and it is not sure.
    task: str | None = None
    #: The column whose order the rows stand in; it is no feature, its first and last value are in the statistics.
    time: str | None = None
    splits: dict[str, Split]
    #: Per feature: minimum, maximum, mean, std, or counts per label or category; how many are `missing`; the `lengths`
    #: of sequences (steps), the `letters` of texts and the `seconds` of recordings.
    statistics: dict[str, dict[str, Any]]
    #: A few rows a person can read; images as small PNG data URLs.
    preview: list[dict[str, Any]]
    #: SHA-256 over features and content, independent of shard sizes and file names.
    fingerprint: str
    #: Where it came from: reader, file names, options.
    source: dict[str, Any]
    licence: str | None = None


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model's input or output; a `None` dimension is free, the first is the batch."""

    name: str
    #: numpy's name: `float32`.
    dtype: str
    shape: list[int | None]
    #: What the columns of a table's row are called, in their order; None for everything else.
    columns: list[str] | None = None
    #: For an input with free dimensions beside the batch: lengths of one row that are known to run.
    example: list[int] | None = None


class ImageInput(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """How encoded image bytes become the model's tensor input."""

    height: int
    width: int
    #: 1 (grey) or 3 (red, green, blue); the last dimension of the picture.
    channels: int
    scale: float
    #: The tensor input this fills.
    input: str
    #: The tensor's shape without the batch: `[28, 28, 1]` or, for a sequence of rows, `[28, 28]`.
    shape: list[int]
    #: `exact`: a picture of another size is resized as it is, with `resize_to` to a square of that side; `crop`: its
    #: shorter side is resized to `resize_to`. Then the middle is cut out.
    resize: Literal["exact", "crop"] = "exact"
    resize_to: int | None = None
    #: Where the channels stand in `shape`.
    layout: Literal["channels_last", "channels_first"] = "channels_last"
    order: Literal["rgb", "bgr"] = "rgb"
    #: Per channel, after `scale`: (value - mean) / std; empty means as it is.
    mean: list[float] = []
    std: list[float] = []
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"


class TextInput(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """How text becomes the model's tensor inputs: a tokenizer in the package, then padding."""

    #: The tokenizer's file in the package, in the format of the `tokenizers` library.
    tokenizer: str
    #: Tokens at most, special ones among them.
    max_length: int
    #: Role → tensor input: `ids`, and `mask` and `types` where the model has them.
    inputs: dict[str, str]
    pad_id: int = 0
    #: What the task needs of the model's own settings: `mask_token_id`, `entailment_id`, pooling, …
    options: dict[str, Any] = {}


class AudioInput(msgspec.Struct, frozen=True, kw_only=True, tag="audio"):
    """How an encoded recording becomes the model's tensor input: decoded, one channel, resampled."""

    sample_rate: int
    #: The tensor input this fills.
    input: str
    #: `waveform`: samples from -1 to 1; `log-mel`: a spectrogram, by `options`.
    features: Literal["waveform", "log-mel"] = "waveform"
    #: Longer recordings are refused.
    max_seconds: float = 30.0
    #: `normalize`, the spectrogram's settings, …
    options: dict[str, Any] = {}


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table's row."""

    name: str
    #: The names a category may have, in the order of their numbers (0, 1, …); None for a number.
    categories: list[str] | None = None


class TableInput(msgspec.Struct, frozen=True, kw_only=True, tag="table"):
    """How a row with named columns becomes one row of the tensor input: a category its number, a missing value NaN.

    With `steps`, one input is so many rows, and the tensor's shape is batch × steps × columns.
    """

    columns: list[Column]
    #: The tensor input this fills.
    input: str
    #: Rows of one input, in the order of time; None where each row stands alone.
    steps: int | None = None


MediaInput = ImageInput | TextInput | AudioInput | TableInput


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The trainable family a model came from, and every parameter it was built with."""

    name: str
    params: dict[str, Any]
    #: What of the data decided the layers: `{"shape": [28, 28, 1], "classes": 10}`; empty in older packages, where
    #: the input's shape and the labels say it.
    sizes: dict[str, Any] = {}


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """How a converted form was compared with the original, on real samples."""

    #: Largest absolute difference of any output value.
    max_difference: float
    tolerance: float
    samples: int
    batch_sizes: list[int]
    #: Rows whose best class differs where the two best are further apart than the tolerance: 0 or refused.
    disagreements: int
    #: Rows a second of this form at the largest batch, and of the original beside it.
    rows_per_s: float
    original_rows_per_s: float


class RuntimeForm(msgspec.Struct, frozen=True, kw_only=True):
    """One servable form of the model."""

    #: The form's main file in the package.
    file: str
    #: None for a form that came as it is: there was no other original to compare it with.
    verification: Verification | None = None
    #: How the runtime is to load it, as it was found fastest: `{"graph_optimization": "all"}`, …
    options: dict[str, Any] = {}


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the model, tried on real samples on the machine that published it."""

    runtime: str
    options: dict[str, Any]
    threads: int
    #: Rows a second, and the median time of one row alone in milliseconds.
    rows_per_s: float
    single_ms: float
    max_difference: float
    #: Whether it stays within the tolerance; one that does not is never kept.
    is_faithful: bool
    #: The one that serves.
    is_kept: bool = False


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`model.json`."""

    format_version: int = MODEL_FORMAT
    #: Hugging Face's task names: `image-classification`, `sequence-classification`.
    task: str
    framework: str = "pytorch"
    recipe: Recipe | None
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    labels: list[str]
    #: How media (images, text, sound) reach the tensor inputs; None where only tensors are taken.
    media: MediaInput | None
    #: What turns the first output into scores between 0 and 1; `none` where it has them already.
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    #: On the test split: accuracy, per class precision and recall, the confusion matrix.
    metrics: dict[str, Any]
    #: Job, code, data version, environment, seed, threads.
    lineage: dict[str, Any]
    privacy: dict[str, Any] | None = None
    #: Where an imported model came from: kind, repository, revision, licence, what was checked; None for our own.
    source: dict[str, Any] | None = None
    #: Runtime name → form: `onnxruntime`. The first that can be loaded serves.
    runtimes: dict[str, RuntimeForm]
    #: The ways to run it that were tried, the fastest first.
    measurements: list[Measurement] = []
    #: Every other file of the package: path → SHA-256.
    files: dict[str, str]


def read_dataset(data: bytes) -> DatasetManifest:
    """Parses `dataset.json`; raises `FormatTooNew` for a later format."""
    _check_version("dataset.json", data, DATASET_FORMAT)
    return msgspec.json.decode(data, type=DatasetManifest)


def read_model(data: bytes) -> ModelManifest:
    """Parses `model.json`; raises `FormatTooNew` for a later format."""
    _check_version("model.json", data, MODEL_FORMAT)
    return msgspec.json.decode(data, type=ModelManifest)


class _Version(msgspec.Struct):
    format_version: int


def _check_version(file: str, data: bytes, known: int) -> None:
    version = msgspec.json.decode(data, type=_Version).format_version
    if version > known:
        raise FormatTooNew(file=file, version=version, known=known)
