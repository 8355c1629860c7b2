"""Folders and archives of pictures: stored as the bytes they are, all of one size, labelled by folder or file name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from modelry.core.errors import InvalidData, InvalidMedia
from modelry.core.importing import target_of
from modelry.core.jobs import ImportParams
from modelry.core.manifests import Feature
from modelry.worker.data.parts import SPLIT_NAMES, Draft, Part, settle_splits
from modelry.worker.data.picturing import Array, read_image, small_png_url
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.statistics import Statistics

#: One encoded picture at most.
MAX_IMAGE_BYTES = 64 << 20

_ARCHIVE_ENDING = re.compile(r"\.(zip|tar|tgz|tar\.gz)$", re.IGNORECASE)

LabelsFrom = Literal["auto", "folder", "file"]


class ImageContent:
    """Encoded pictures, one file a row."""

    is_ordered = False

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self._files = files
        self._bytes = sum(file.size_bytes for file in files)
        self._shape = list(_pixels(files[0]).shape)

    @property
    def features(self) -> dict[str, Feature]:
        """The one input feature."""
        return {"image": Feature(kind="image", dtype="bytes", shape=self._shape, scale=1 / 255)}

    @property
    def rows(self) -> int:
        return len(self._files)

    @property
    def row_bytes(self) -> int:
        return self._bytes // len(self._files) + 1

    def examine(self, start: int, stop: int, statistics: Statistics) -> list[bytes]:
        """Decodes each picture; refuses another size or another number of channels than the first one's."""
        digests: list[bytes] = []
        for file in self._files[start:stop]:
            data = _read(file)
            pixels = _decode(file, data)
            if list(pixels.shape) != self._shape:
                first = self._files[0].name
                reason = f"it is {_size(pixels.shape)}, but {first} is {_size(self._shape)}"
                raise InvalidData(
                    file=file.name,
                    reason=reason,
                    remedy="Scale all pictures to one size and colour mode first; nothing was imported.",
                )
            statistics.add_numbers("image", pixels)
            digests.append(hashlib.sha256(data).digest())
        return digests

    def columns(self, indices: Array) -> dict[str, Any]:
        data = [_read(self._files[index]) for index in indices.tolist()]
        return {"image": pa.array(data, pa.binary())}

    def show(self, index: int) -> dict[str, Any]:
        return {"image": small_png_url(_pixels(self._files[index]))}


def read_images(files: list[SourceFile], params: ImportParams) -> Draft:
    """The parts and labels that folders and names tell; raises `InvalidData`."""
    if target_of(params) is not None:
        reason = "pictures are labelled by folder or file name; a target cannot be chosen"
        raise InvalidData(file=files[0].name, reason=reason, remedy="Leave the target away.")
    by_split: dict[str | None, list[SourceFile]] = {}
    common = _common_folders(files)
    for file in files:
        by_split.setdefault(_split(file, common), []).append(file)
    labels_from = _settle(params.labels_from, by_split, common)
    parts: dict[str | None, Part] = {}
    for split, members in by_split.items():
        labels = np.array([_label(file, labels_from) for file in members])
        parts[split] = Part(members[0].name, ImageContent(members), labels, members[0].name)
    return Draft("images", settle_splits(parts))


def _folders(file: SourceFile) -> list[str]:
    return [_ARCHIVE_ENDING.sub("", part) for part in file.name.split("/")[:-1]]


def _common_folders(files: list[SourceFile]) -> int:
    """How many folders all files have in common at the beginning of their names."""
    first, *others = [_folders(file) for file in files]
    count = len(first)
    for folders in others:
        count = min(count, len(folders))
        while folders[:count] != first[:count]:
            count -= 1
    return count


def _split(file: SourceFile, common: int) -> str | None:
    below = _folders(file)[common:]
    return SPLIT_NAMES.get(below[0].lower()) if below else None


def _settle(
    wanted: LabelsFrom, by_split: dict[str | None, list[SourceFile]], common: int
) -> Literal["folder", "file"]:
    """Whether labels are folders' or files' names."""
    if wanted != "auto":
        return wanted
    flat = foldered = None
    for split, files in by_split.items():
        for file in files:
            depth = len(_folders(file)) - common - (split is not None)
            flat, foldered = (file, foldered) if depth <= 0 else (flat, file)
    if flat is not None and foldered is not None:
        reason = f"it lies outside the class folders that {foldered.name} suggests"
        raise InvalidData(
            file=flat.name,
            reason=reason,
            remedy="Move it, or choose labels_from 'folder' or 'file'; nothing was imported.",
        )
    return "folder" if flat is None else "file"


def _label(file: SourceFile, labels_from: Literal["folder", "file"]) -> str:
    if labels_from == "folder":
        folders = _folders(file)
        if not folders:
            raise InvalidData(file=file.name, reason="it lies in no folder that could be its label")
        return folders[-1]
    label, separator, _ = re.sub(r"[_-]", "\0", file.base, count=1).partition("\0")
    if not separator or not label.strip():
        raise InvalidData(
            file=file.name, reason="its name has no label before a '_' or '-', and no class folder"
        )
    return label


def _pixels(file: SourceFile) -> Array:
    return _decode(file, _read(file))


def _read(file: SourceFile) -> bytes:
    if file.size_bytes > MAX_IMAGE_BYTES:
        reason = f"it is larger than {MAX_IMAGE_BYTES >> 20} MiB"
        raise InvalidData(file=file.name, reason=reason)
    return file.place.read_bytes()


def _decode(file: SourceFile, data: bytes) -> Array:
    try:
        return read_image(data)
    except InvalidMedia as error:
        reason = f"it is no readable image ({error.facts['reason']})"
        raise InvalidData(file=file.name, reason=reason) from error


def _size(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{width}×{height} {'grey' if channels == 1 else 'colour'}"
