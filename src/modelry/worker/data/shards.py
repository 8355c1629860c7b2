"""Parquet files that are written straight into the artifacts."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelry.artifacts import ArtifactWriter

#: zstd's quickest level: on MNIST half the time of the default for the same size.
_COMPRESSION_LEVEL = 1


class Sink(io.RawIOBase):
    """An artifact being written, as the kind of file pyarrow writes to."""

    def __init__(self, writer: ArtifactWriter) -> None:
        self._writer = writer
        #: Closing a Parquet writer writes its footer, into an artifact that may be gone: then it goes nowhere.
        self.is_abandoned = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if self.is_abandoned else self._writer.write(data)

    def tell(self) -> int:
        return self._writer.size_bytes


def open_parquet(sink: Sink, schema: Any) -> Any:
    """A pyarrow `ParquetWriter` into the sink."""
    return pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        schema,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
    )
