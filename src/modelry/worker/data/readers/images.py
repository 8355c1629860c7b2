"""Folders and archives of pictures: stored as the bytes they are, all of one size, labelled by folder or file name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from modelry.core.errors import InvalidData, InvalidMedia
from modelry.core.jobs import ImportParams
from modelry.core.manifests import Feature
from modelry.worker.data.parts import Draft, Part, settle_splits
from modelry.worker.data.picturing import Array, read_image, small_png_url
from modelry.worker.data.readers.naming import label_files
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.statistics import Statistics

#: One encoded picture at most.
MAX_IMAGE_BYTES = 64 << 20


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
    parts = {
        split: Part(members[0].name, ImageContent(members), labels, members[0].name)
        for split, (members, labels) in label_files(files, params, "pictures").items()
    }
    return Draft("images", settle_splits(parts))


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
