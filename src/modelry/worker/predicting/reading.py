"""Rows of a split in portions that always begin at the same rows, wherever the reading begins and the shards end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def portions(
    files: Sequence[Path], columns: Sequence[str], *, start: int, size: int
) -> Iterator[Any]:
    """Arrow tables of `size` rows each (the last may be shorter), from row `start` on, which is a multiple of it."""
    held: list[Any] = []
    rows = 0
    for batch in _batches(files, list(columns), start, size):
        held.append(batch)
        rows += batch.num_rows
        while rows >= size:
            table = pa.Table.from_batches(held)
            yield table.slice(0, size)
            rest = table.slice(size)
            held, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield pa.Table.from_batches(held)


def _batches(files: Sequence[Path], columns: list[str], start: int, size: int) -> Iterator[Any]:
    to_skip = start
    for file in files:
        with pq.ParquetFile(file) as shard:
            if to_skip >= shard.metadata.num_rows:
                to_skip -= shard.metadata.num_rows
                continue
            for batch in shard.iter_batches(size, columns=columns):
                skipped = min(to_skip, batch.num_rows)
                to_skip -= skipped
                if skipped < batch.num_rows:
                    yield batch.slice(skipped)
