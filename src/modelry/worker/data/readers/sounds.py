"""Folders and archives of recordings: stored as the bytes they are, labelled by folder or file name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelry.core.errors import InvalidData, InvalidMedia
from modelry.core.jobs import ImportParams
from modelry.core.manifests import Feature
from modelry.worker.data.parts import Draft, Part, settle_splits
from modelry.worker.data.picturing import Array
from modelry.worker.data.readers.naming import label_files
from modelry.worker.data.recordings import decode_recording
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.statistics import Statistics

#: One encoded recording at most: a minute of eight channels at 48 kHz in 24 bits.
MAX_RECORDING_BYTES = 64 << 20


class SoundContent:
    """Encoded recordings, one file a row."""

    is_ordered = False

    def __init__(self, files: Sequence[SourceFile], rates: set[int]) -> None:
        self._files = files
        self._bytes = sum(file.size_bytes for file in files)
        #: Samples a second of all recordings that were examined, of every part of the source.
        self._rates = rates

    @property
    def features(self) -> dict[str, Feature]:
        """The one input feature; its rate is known once all were examined."""
        rate = next(iter(self._rates)) if len(self._rates) == 1 else None
        return {"audio": Feature(kind="audio", dtype="bytes", sample_rate=rate)}

    @property
    def rows(self) -> int:
        return len(self._files)

    @property
    def row_bytes(self) -> int:
        return self._bytes // len(self._files) + 1

    def examine(self, start: int, stop: int, statistics: Statistics) -> list[bytes]:
        """Decodes each recording to its end."""
        digests: list[bytes] = []
        for file in self._files[start:stop]:
            data = _read(file)
            samples, rate = _decode(file, data)
            self._rates.add(rate)
            statistics.add_sizes("audio", "seconds", np.array([len(samples) / rate]))
            digests.append(hashlib.sha256(data).digest())
        return digests

    def columns(self, indices: Array) -> dict[str, Any]:
        data = [_read(self._files[index]) for index in indices.tolist()]
        return {"audio": pa.array(data, pa.binary())}

    def show(self, index: int) -> dict[str, Any]:
        samples, rate = _decode(self._files[index], _read(self._files[index]))
        return {"audio": {"seconds": round(len(samples) / rate, 3), "sample_rate": rate}}


def read_sounds(files: list[SourceFile], params: ImportParams) -> Draft:
    """The parts and labels that folders and names tell; raises `InvalidData`."""
    rates: set[int] = set()
    parts = {
        split: Part(members[0].name, SoundContent(members, rates), labels, members[0].name)
        for split, (members, labels) in label_files(files, params, "recordings").items()
    }
    return Draft("audio", settle_splits(parts))


def _read(file: SourceFile) -> bytes:
    if file.size_bytes > MAX_RECORDING_BYTES:
        reason = f"it is larger than {MAX_RECORDING_BYTES >> 20} MiB"
        raise InvalidData(file=file.name, reason=reason)
    return file.place.read_bytes()


def _decode(file: SourceFile, data: bytes) -> tuple[Array, int]:
    try:
        return decode_recording(data)
    except InvalidMedia as error:
        reason = f"it is no recording that can be learned from ({error.facts['reason']})"
        raise InvalidData(file=file.name, reason=reason) from error
