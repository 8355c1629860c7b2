"""One shard of answers at a time, straight into the artifacts; only a finished one is ever named."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from modelry.artifacts import Artifacts
from modelry.core.files import FileRef
from modelry.worker.data.shards import Sink, open_parquet

#: Rows wait in memory until they are worth a row group.
_GROUP_BYTES = 4 << 20


class Shard:
    """A Parquet file that grows by tables of the same columns."""

    def __init__(self, artifacts: Artifacts, path: str) -> None:
        self._writer = artifacts.writer(path)
        self._sink = Sink(self._writer)
        self._parquet: Any = None
        self._held: list[Any] = []
        self._held_bytes = 0
        #: Unpacked bytes so far.
        self.size_bytes = 0

    def add(self, table: Any) -> None:
        """More rows, in order."""
        self._held.append(table)
        self._held_bytes += table.nbytes
        self.size_bytes += table.nbytes
        if self._held_bytes >= _GROUP_BYTES:
            self._write()

    def finish(self) -> FileRef:
        """Makes the shard durable; nothing can be added any more."""
        self._write()
        self._parquet.close()
        return self._writer.commit()

    def abandon(self) -> None:
        """Forgets it; does nothing after `finish`."""
        self._sink.is_abandoned = True
        if self._parquet is not None:
            self._parquet.close()
        self._writer.abort()

    def _write(self) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held)
        if self._parquet is None:
            self._parquet = open_parquet(self._sink, table.schema)
        self._parquet.write_table(table, row_group_size=table.num_rows)
        self._held, self._held_bytes = [], 0
