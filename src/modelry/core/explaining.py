"""How an answer can be explained: the methods, their settings, and how often each asks the model.

The door refuses by these words what cannot be done and counts what a call will cost; the worker does it by the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelry.core.errors import InvalidParameter, UnknownParameter, UnsupportedTask
from modelry.core.manifests import AudioInput, ImageInput, ModelManifest, TableInput, TextInput

OCCLUSION, KERNEL_SHAP = "occlusion", "kernel-shap"
#: Method → the settings it takes, for pictures and for tables.
SETTINGS: dict[str, tuple[str, ...]] = {
    OCCLUSION: ("window", "stride", "baseline"),
    KERNEL_SHAP: ("patch", "evaluations", "seed", "baseline"),
}
#: Rows that one explanation may send through the model.
MAX_EVALUATIONS = 20_000
#: Bytes of all these rows together: a measure of the work, they are never held at once.
MAX_BYTES = 256 << 20
#: Coalitions times features: what the regression of KernelSHAP holds in memory.
MAX_CELLS = 8 << 20
#: Up to so many features every coalition is asked; with more they are drawn.
EXACT_FEATURES = 11
#: Coalitions that are drawn beside the single features, where the call does not say how many.
_DRAWN = 2048
#: Where the call does not say how large they are, a side is cut into so many pieces: the most that can be afforded.
_PIECES = (7, 5, 4, 3, 2)
#: Of a picture's element, for the choice of defaults; what a call really costs is counted by its own.
_USUAL_ELEMENT_BYTES = 4

Baseline = float | tuple[float, ...] | Literal["mean", "blur", "missing"]


@dataclass(frozen=True, slots=True)
class Picture:
    """The input is a picture, or another grid of numbers such as a sequence of rows."""

    height: int
    width: int
    channels: int
    #: Whether the tensor has height × width × channels, or channels × height × width.
    is_channels_last: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """The input is a row of numbers, each with a meaning of its own."""

    columns: tuple[str, ...]
    #: Whether the model knows what a missing value is.
    knows_missing: bool = False


Subject = Picture | Table


@dataclass(frozen=True, slots=True)
class Occlusion:
    """Cover the picture window by window and see how the score falls (Zeiler and Fergus 2014)."""

    #: Side of the square window, and how far it moves, in pixels.
    window: int
    stride: int
    #: What covers: the picture's mean colour, the picture blurred, or a number.
    baseline: Baseline

    def evaluations(self, subject: Picture) -> int:
        """Rows for the model: the windows, the picture itself, and the picture wholly covered."""
        down = starts(subject.height, self.window, self.stride)
        across = starts(subject.width, self.window, self.stride)
        return len(down) * len(across) + 2


@dataclass(frozen=True, slots=True)
class KernelShap:
    """Shapley values from a weighted regression over coalitions of features (Lundberg and Lee 2017)."""

    #: Side of the square patches of pixels that are the features of a picture; 1 for tables.
    patch: int
    #: Rows for the model, the two ends (nothing present, everything present) among them.
    limit: int
    #: Of the draw.
    seed: int
    #: What stands where a feature is absent: as for `Occlusion`; for tables a number, or one for each column.
    baseline: Baseline

    def features(self, subject: Subject) -> int:
        """How many players share the score."""
        if isinstance(subject, Table):
            return len(subject.columns)
        return -(-subject.height // self.patch) * -(-subject.width // self.patch)

    def is_exact(self, subject: Subject) -> bool:
        """Whether every coalition is asked."""
        return self.limit >= 1 << self.features(subject)

    def evaluations(self, subject: Subject) -> int:
        """Rows for the model; coalitions that are drawn come in pairs."""
        return 1 << self.features(subject) if self.is_exact(subject) else self.limit // 2 * 2


Method = Occlusion | KernelShap


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where the windows begin; the last one always reaches the end."""
    found = list(range(0, length - window + 1, stride))
    if found[-1] != length - window:
        found.append(length - window)
    return found


def subject_of(manifest: ModelManifest, shape: Sequence[int]) -> Subject:
    """What one row of this shape (without the batch) is; raises `UnsupportedTask` where no method here can tell."""
    media = manifest.media
    is_series = isinstance(media, TableInput) and media.steps is not None
    if len(manifest.inputs) != 1 or isinstance(media, TextInput | AudioInput) or is_series:
        raise _unsupported(manifest)
    if isinstance(media, ImageInput):
        is_last = media.layout == "channels_last"
        height, width, channels = _sides(shape, is_last, media.channels)
        return Picture(height, width, channels, is_last)
    if len(shape) == 1 and shape[0] >= 1:
        names = manifest.inputs[0].columns or [str(index) for index in range(shape[0])]
        return Table(tuple(names), isinstance(media, TableInput))
    if len(shape) in (2, 3) and min(shape) >= 1:
        is_last = len(shape) == 2 or shape[2] <= 4 or shape[0] > 4
        channels = 1 if len(shape) == 2 else shape[2 if is_last else 0]
        return Picture(*_sides(shape, is_last, channels), is_last)
    raise _unsupported(manifest)


def choose(method: str, given: Mapping[str, Any], subject: Subject) -> Method:
    """The method with every setting: what is given (numbers, or the texts of a query) and defaults for the rest.

    `method` "" is occlusion for pictures and KernelSHAP for tables. Raises `InvalidParameter` or `UnknownParameter`.
    """
    name = method or (OCCLUSION if isinstance(subject, Picture) else KERNEL_SHAP)
    is_table = isinstance(subject, Table)
    if name not in SETTINGS or (name == OCCLUSION and is_table):
        known = f"'{KERNEL_SHAP}'" if is_table else " or ".join(f"'{one}'" for one in SETTINGS)
        raise InvalidParameter(name="method", value=name, expected=known)
    known_settings = [one for one in SETTINGS[name] if not (is_table and one == "patch")]
    for one in given:
        if one not in known_settings:
            owner = f"The method '{name}'"
            raise UnknownParameter(owner=owner, name=one, known=", ".join(known_settings))
    if isinstance(subject, Picture) and name == OCCLUSION:
        return _occlusion(given, subject)
    return _kernel_shap(given, subject)


def check_cost(method: Method, subject: Subject, row_bytes: int) -> int:
    """How many rows the method sends through the model; raises `InvalidParameter` where they are too many."""
    limit = min(MAX_EVALUATIONS, MAX_BYTES // max(row_bytes, 1))
    if isinstance(method, Occlusion) and isinstance(subject, Picture):
        rows, remedy = method.evaluations(subject), "a larger 'window' or 'stride'"
    else:
        assert isinstance(method, KernelShap)
        rows = method.evaluations(subject)
        remedy = "a larger 'patch'" if isinstance(subject, Picture) else "fewer columns"
        remedy += ", or fewer 'evaluations'"
        limit = min(limit, MAX_CELLS // method.features(subject))
    if rows > limit:
        raise InvalidParameter(
            f"The explanation would ask the model {rows} times; {limit} times are allowed.",
            remedy=f"Give {remedy}.",
            name="evaluations",
            value=rows,
        )
    return rows


def _occlusion(given: Mapping[str, Any], subject: Picture) -> Occlusion:
    side, baseline = min(subject.height, subject.width), _read_baseline(given, subject)
    usual = Occlusion(side, side, baseline)
    for pieces in _PIECES:
        window = max(1, round(side / pieces))
        tries = [Occlusion(window, max(1, window // part), baseline) for part in (2, 1)]
        fitting = [one for one in tries if one.evaluations(subject) <= _affordable(subject)]
        if fitting:
            usual = fitting[0]
            break
    window = _read_whole(given, "window", usual.window, 1, side)
    step = usual.stride if window == usual.window else max(1, window // 2)
    stride = _read_whole(given, "stride", step, 1, window)
    return Occlusion(window, stride, baseline)


def _kernel_shap(given: Mapping[str, Any], subject: Subject) -> KernelShap:
    baseline = _read_baseline(given, subject)
    patch = _read_patch(given, subject) if isinstance(subject, Picture) else 1
    features = KernelShap(patch, 0, 0, baseline).features(subject)
    # Each feature alone and each one missing: fewer do not determine the values.
    least = min(1 << features, 2 * features + 2)
    usual = 1 << features if features <= EXACT_FEATURES else 2 * features + 2 + _DRAWN
    usual = max(least, min(usual, _affordable(subject)))
    limit = _read_whole(given, "evaluations", usual, least, max(MAX_EVALUATIONS, least))
    seed = _read_whole(given, "seed", 0, 0, 2**31 - 1)
    return KernelShap(patch, limit, seed, baseline)


def _read_patch(given: Mapping[str, Any], subject: Picture) -> int:
    size = math.sqrt(subject.height * subject.width)
    pieces = [one for one in _PIECES if 2 * one * one + 2 <= _affordable(subject)] or [1]
    usual = max(1, math.ceil(size / pieces[0]))
    return _read_whole(given, "patch", usual, 1, max(subject.height, subject.width))


def _affordable(subject: Subject) -> int:
    """Rows of such an input that one explanation may have, about."""
    if isinstance(subject, Table):
        return min(MAX_EVALUATIONS, MAX_CELLS // len(subject.columns))
    elements = subject.height * subject.width * subject.channels
    return min(MAX_EVALUATIONS, MAX_BYTES // (elements * _USUAL_ELEMENT_BYTES))


def _read_whole(given: Mapping[str, Any], name: str, usual: int, minimum: int, maximum: int) -> int:
    value = given.get(name)
    if value is None:
        return usual
    is_text = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12
    whole = int(value) if is_text else value
    if type(whole) is not int or not minimum <= whole <= maximum:
        expected = f"a whole number from {minimum} to {maximum}"
        raise InvalidParameter(name=name, value=value, expected=expected)
    return whole


def _read_baseline(given: Mapping[str, Any], subject: Subject) -> Baseline:
    value = given.get("baseline")
    if isinstance(subject, Picture):
        if value is None or value == "mean":
            return "mean"
        if value == "blur":
            return "blur"
        return _read_number(value, "'mean', 'blur' or a number in the range of the model's input")
    if subject.knows_missing and value in (None, "missing"):
        return "missing"
    if value is None:
        return 0.0
    columns = len(subject.columns)
    expected = f"a number, or {columns} numbers, one for each column"
    numbers = value.split(",") if isinstance(value, str) and "," in value else value
    if not isinstance(numbers, list | tuple):
        return _read_number(numbers, expected)
    if len(numbers) != columns:
        raise InvalidParameter(name="baseline", value=value, expected=expected)
    return tuple(_read_number(number, expected) for number in numbers)


def _read_number(value: Any, expected: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidParameter(name="baseline", value=value, expected=expected)
    return number


def _sides(shape: Sequence[int], is_last: bool, channels: int) -> tuple[int, int, int]:
    """Height, width, channels; a sequence of rows may have its channels inside the rows."""
    if len(shape) == 2:
        return shape[0], shape[1] // channels, channels
    height, width, depth = shape if is_last else (shape[1], shape[2], shape[0])
    return height, width, depth


def _unsupported(manifest: ModelManifest) -> UnsupportedTask:
    return UnsupportedTask(
        f"A model for {manifest.task} with such an input cannot be explained here.",
        remedy="Models with one picture or one row of numbers as their input can.",
    )
