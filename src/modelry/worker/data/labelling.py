"""Labels as they came (whole numbers or texts) to indices into one sorted list of names."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from modelry.core.errors import InvalidData
from modelry.worker.data.parts import Part
from modelry.worker.data.picturing import Array


def whole_labels(array: Array, file: str) -> Array:
    """One whole number or text a row, from an array of labels; raises `InvalidData`."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        shape = "×".join(map(str, array.shape))
        raise InvalidData(file=file, reason=f"labels must be one value a row, these are {shape}")
    if array.dtype.kind in "US":
        return _texts(array, file)
    if array.dtype.kind not in "biuf":
        reason = f"labels must be whole numbers or texts, these are {array.dtype}"
        raise InvalidData(file=file, reason=reason)
    return _whole_numbers(np.asarray(array), file)


def index_labels(parts: dict[str, Part]) -> tuple[list[str], dict[str, Array]] | None:
    """The names in order and, by part, the indices (int64); None where no part has labels.

    Raises `InvalidData` for labels in some parts only, and for a label that the training part does not have.
    """
    labels = {name: part.labels for name, part in parts.items() if part.labels is not None}
    if not labels:
        return None
    for name, part in parts.items():
        if part.labels is None:
            reason = f"the part '{name}' has no labels, but '{next(iter(labels))}' has"
            raise InvalidData(file=part.file, reason=reason)
        if len(part.labels) != part.content.rows:
            reason = f"{len(part.labels)} labels for the {part.content.rows} rows of {part.file}"
            raise InvalidData(file=part.label_file, reason=reason)
    known = _in_order(np.unique(labels["train"]))
    indices = {
        name: _indices(values, known, parts[name].label_file) for name, values in labels.items()
    }
    return [str(value) for value in known], indices


def _in_order(values: Array) -> list[Any]:
    """Numbers, also written ones, by size; texts by letters."""
    plain: list[Any] = values.tolist()
    if all(isinstance(value, str) and value.isdecimal() for value in plain):
        return sorted(plain, key=lambda value: (int(value), value))
    return sorted(plain)


def _indices(labels: Array, known: list[Any], file: str) -> Array:
    values, inverse = np.unique(labels, return_inverse=True)
    places = {value: place for place, value in enumerate(known)}
    found = np.empty(len(values), np.int64)
    for index, value in enumerate(values.tolist()):
        if value not in places:
            row = int(np.argmax(inverse.reshape(-1) == index))
            reason = f"row {row} has the label '{value}', which the training part does not have"
            raise InvalidData(file=file, reason=reason)
        found[index] = places[value]
    return np.asarray(found[inverse.reshape(-1)])


def _texts(array: Array, file: str) -> Array:
    try:
        texts = array if array.dtype.kind == "U" else np.char.decode(array, "utf-8")
        names = [unicodedata.normalize("NFC", text) for text in texts.tolist()]
    except UnicodeDecodeError:
        raise InvalidData(file=file, reason="its labels are not UTF-8") from None
    for row, name in enumerate(names):
        if not name.strip():
            raise InvalidData(file=file, reason=f"row {row} has an empty label")
    return np.array(names)


def _whole_numbers(array: Array, file: str) -> Array:
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (np.floor(array) == array)
        if not whole.all():
            row = int(np.argmin(whole))
            reason = f"row {row} has the label {array[row]}; labels must be whole numbers"
            raise InvalidData(file=file, reason=reason)
    if array.size and array.min() < 0:
        row = int(np.argmax(array < 0))
        reason = f"row {row} has the negative label {array[row]}; labels count from 0"
        raise InvalidData(file=file, reason=reason)
    if array.size and array.max() > np.iinfo(np.int64).max // 2:
        raise InvalidData(file=file, reason="a label is too large a number")
    return array.astype(np.int64)
