"""Sets of arrays (npz, npy, IDX): which are inputs, which labels, and of which split, told by their names.

`x_train, y_train, x_test, y_test`; `x, y`; `images, labels`; `train_images, train_labels`; MNIST's own file names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelry.core.errors import InvalidData
from modelry.core.importing import target_of
from modelry.core.jobs import ImportParams
from modelry.worker.data.kinds import Kind
from modelry.worker.data.labelling import whole_labels
from modelry.worker.data.parts import SPLIT_NAMES, Draft, Part, settle_splits
from modelry.worker.data.picturing import Array
from modelry.worker.data.readers.idx import open_idx
from modelry.worker.data.readers.npy import open_npy
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.tensors import TensorContent

_INPUT_WORDS = {"x", "image", "images", "input", "inputs", "data", "features", "samples"}
_LABEL_WORDS = {"y", "label", "labels", "target", "targets", "classes"}


@dataclass(frozen=True)
class _NamedArray:
    file: str
    #: The file's own name without its ending.
    name: str
    split: str | None
    #: `inputs`, `labels`, or None where the name says neither.
    role: str | None
    array: Array


def read_arrays(files: list[tuple[SourceFile, Kind]], params: ImportParams) -> Draft:
    """The parts that the arrays make up; raises `InvalidData`."""
    target = target_of(params)
    arrays = [_name(file, kind, target) for file, kind in files]
    if target is not None and not any(array.role == "labels" for array in arrays):
        known = ", ".join(array.name for array in arrays)
        reason = f"no array is called '{target}'; there are: {known}"
        raise InvalidData(file=files[0][0].name, reason=reason)
    by_split: dict[str | None, list[_NamedArray]] = {}
    for array in arrays:
        by_split.setdefault(array.split, []).append(array)
    parts: dict[str | None, Part] = {}
    left_out: list[str] = []
    for split, members in by_split.items():
        inputs, labels, others = _pair(members)
        if inputs is None:
            left_out += [array.file for array in others]
            continue
        left_out += [array.file for array in others]
        parts[split] = _part(inputs, labels)
    if not parts:
        names = ", ".join(array.name for array in arrays)
        reason = f"no array is called x, images, data or the like; there are: {names}"
        raise InvalidData(file=files[0][0].name, reason=reason)
    kinds = {kind for _, kind in files}
    reader = "idx" if kinds == {Kind.IDX} else "npz"
    return Draft(reader, settle_splits(parts), left_out=left_out)


def _name(file: SourceFile, kind: Kind, target: str | None) -> _NamedArray:
    array = open_idx(file) if kind is Kind.IDX else open_npy(file)
    name = file.base.removesuffix(".npy")
    words = _words(name)
    folders = file.name.split("/")[:-1]
    split = _split(words)
    for folder in reversed(folders):
        split = split or _split(_words(folder))
    if target is not None:
        role = "labels" if name == target else "inputs" if words & _INPUT_WORDS else None
    elif words & _LABEL_WORDS:
        role = "labels"
    elif words & _INPUT_WORDS:
        role = "inputs"
    elif kind is Kind.IDX:
        role = "labels" if array.ndim == 1 else "inputs"
    else:
        role = None
    return _NamedArray(file.name, name, split, role, array)


def _words(name: str) -> set[str]:
    return set(re.split(r"[-_. ]+", name.lower()))


def _split(words: set[str]) -> str | None:
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _pair(
    members: list[_NamedArray],
) -> tuple[_NamedArray | None, _NamedArray | None, list[_NamedArray]]:
    inputs = [array for array in members if array.role == "inputs"]
    labels = [array for array in members if array.role == "labels"]
    others = [array for array in members if array.role is None]
    if not inputs and len(others) == 1:
        inputs, others = others, []
    for found in (inputs, labels):
        if len(found) > 1:
            reason = f"it and {found[0].file} both claim to be the {found[0].role or 'inputs'}"
            raise InvalidData(file=found[1].file, reason=reason)
    if labels and not inputs:
        raise InvalidData(file=labels[0].file, reason="there are labels, but no inputs beside them")
    return inputs[0] if inputs else None, labels[0] if labels else None, others


def _part(inputs: _NamedArray, labels: _NamedArray | None) -> Part:
    content = TensorContent(inputs.array, inputs.file)
    if labels is None:
        return Part(inputs.file, content)
    return Part(inputs.file, content, whole_labels(labels.array, labels.file), labels.file)
