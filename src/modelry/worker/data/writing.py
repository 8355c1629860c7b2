"""Writes an examined source as Parquet shards and `dataset.json`, straight into the artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from modelry.artifacts import Artifacts, ArtifactWriter
from modelry.core.files import FileRef
from modelry.core.manifests import DatasetManifest, Split
from modelry.core.results import MadeDataset
from modelry.worker.data.examining import Examined, Selection, batch_rows
from modelry.worker.data.picturing import Array
from modelry.worker.data.shards import Sink, open_parquet

#: Unpacked bytes of a shard, about.
SHARD_BYTES = 64 << 20

_PREVIEW_ROWS = 8

#: Called with the rows written since the last call; raises to end the work.
Wrote = Callable[[int], None]


def write_dataset(
    examined: Examined,
    source: dict[str, Any],
    artifacts: Artifacts,
    wrote: Wrote,
) -> MadeDataset:
    """The finished version; its files are in the artifacts, but nothing names them yet."""
    files: list[FileRef] = []
    splits: dict[str, Split] = {}
    for name, selection in examined.splits.items():
        shards = list(_write_split(name, selection, examined.target, artifacts, wrote))
        splits[name] = Split(rows=len(selection.indices), files=[shard.path for shard in shards])
        files += shards
    manifest = DatasetManifest(
        features=examined.features,
        target=examined.target,
        task=examined.task,
        time=examined.time,
        splits=splits,
        statistics=examined.statistics,
        preview=_preview(examined),
        fingerprint=examined.fingerprint,
        source=source,
    )
    described = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    files.append(artifacts.put_bytes(described, "dataset.json"))
    return MadeDataset(manifest=manifest, files=files)


def _write_split(
    name: str,
    selection: Selection,
    target: str | None,
    artifacts: Artifacts,
    wrote: Wrote,
) -> Iterator[FileRef]:
    row_bytes = selection.part.content.row_bytes
    rows = max(1, SHARD_BYTES // max(1, row_bytes))
    for number, start in enumerate(range(0, len(selection.indices), rows)):
        chosen = slice(start, start + rows)
        with artifacts.writer(f"{name}-{number:05}.parquet") as writer:
            _write_shard(selection, chosen, target, writer, wrote)
            yield writer.commit()


def _write_shard(
    selection: Selection, chosen: slice, target: str | None, writer: ArtifactWriter, wrote: Wrote
) -> None:
    indices = selection.indices[chosen]
    labels = None if selection.labels is None else selection.labels[chosen]
    step = batch_rows(selection.part.content.row_bytes)
    sink = Sink(writer)
    parquet: Any = None
    try:
        for start in range(0, len(indices), step):
            batch = slice(start, start + step)
            table = _table(selection, indices[batch], target, labels, batch)
            if parquet is None:
                parquet = open_parquet(sink, table.schema)
            parquet.write_table(table, row_group_size=step)
            wrote(table.num_rows)
    except BaseException:
        sink.is_abandoned = True
        raise
    finally:
        if parquet is not None:
            parquet.close()


def _table(
    selection: Selection, indices: Array, target: str | None, labels: Array | None, batch: slice
) -> Any:
    columns = selection.part.content.columns(indices)
    if target is not None and labels is not None:
        columns[target] = pa.array(labels[batch])
    return pa.table(columns)


def _preview(examined: Examined) -> list[dict[str, Any]]:
    """A few training rows for people, of as many different labels as there are."""
    selection = examined.splits["train"]
    names = examined.features[examined.target].labels if examined.target else None
    rows: list[dict[str, Any]] = []
    for row in _shown_rows(selection):
        shown = selection.part.content.show(int(selection.indices[row]))
        if selection.labels is not None and examined.target and names:
            shown[examined.target] = names[selection.labels[row]]
        rows.append(shown)
    return rows


def _shown_rows(selection: Selection) -> list[int]:
    if selection.labels is None:
        return list(range(min(_PREVIEW_ROWS, len(selection.indices))))
    _, firsts = np.unique(selection.labels, return_index=True)
    others = np.setdiff1d(np.arange(min(len(selection.labels), 2 * _PREVIEW_ROWS)), firsts)
    return [int(row) for row in np.concatenate([firsts, others])[:_PREVIEW_ROWS]]
