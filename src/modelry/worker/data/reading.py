"""A data set version as arrays, for training and evaluation.

Knows the folder that `context.fetch("data")` lays out: `dataset.json` and its Parquet shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelry.core.errors import InvalidData, NotFound, WrongDataKind
from modelry.core.manifests import DatasetManifest, Feature, read_dataset
from modelry.worker.data.picturing import Array, decode_image

_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Rows:
    """The rows of one split; arrays are read when they are first asked for, and kept."""

    split: str
    rows: int
    #: The input's name and meaning; stored values times `feature.scale` are what a network sees.
    feature_name: str
    feature: Feature
    #: The names of the classes; empty for data without labels.
    label_names: list[str]
    #: The column of labels; None where the data have none, also where a number or a text is to be predicted.
    target: str | None
    files: list[Path]

    @cached_property
    def inputs(self) -> Array:
        """rows × shape in the stored type; images come decoded, as uint8 (rows × height × width × channels)."""
        dtype = np.dtype("uint8" if self.feature.kind == "image" else self.feature.dtype)
        inputs = np.empty((self.rows, *self.feature.shape), dtype)
        for start, column in self._columns(self.feature_name):
            rows = inputs[start : start + len(column)]
            if self.feature.kind == "image":
                self._decode_into(rows, column)
            else:
                rows[...] = column.flatten().to_numpy().reshape(rows.shape)
        return inputs

    @cached_property
    def labels(self) -> Array | None:
        """Indices into `label_names`, int64; None for data without labels."""
        if self.target is None:
            return None
        labels = np.empty(self.rows, np.int64)
        for start, column in self._columns(self.target):
            labels[start : start + len(column)] = column.to_numpy()
        return labels

    def _columns(self, name: str) -> Iterator[tuple[int, Any]]:
        start = 0
        for file in self.files:
            with pq.ParquetFile(file) as shard:
                for batch in shard.iter_batches(_BATCH_ROWS, columns=[name]):
                    if start + batch.num_rows > self.rows:
                        raise self._miscounted("more")
                    yield start, batch.column(0)
                    start += batch.num_rows
        if start < self.rows:
            raise self._miscounted("fewer")

    def _miscounted(self, found: str) -> InvalidData:
        reason = f"it promises {self.rows} rows of '{self.split}', the shards hold {found}"
        return InvalidData(file="dataset.json", reason=reason)

    def _decode_into(self, rows: Array, column: pa.Array) -> None:
        height, width, channels = self.feature.shape
        for index, data in enumerate(column):
            rows[index] = decode_image(data.as_py(), height=height, width=width, channels=channels)


@dataclass(frozen=True)
class OpenDataset:
    """A data set version that lies in `folder`."""

    folder: Path
    manifest: DatasetManifest

    def split(self, name: str) -> Rows:
        """The rows of a split (`train`, `test`); raises `NotFound`, or `WrongDataKind` for a table."""
        split = self.manifest.splits.get(name)
        if split is None:
            known = ", ".join(self.manifest.splits)
            raise NotFound(noun="split", name=name, remedy=f"The data set has: {known}.")
        feature_name = self.input_name
        target = self.manifest.target
        if target is not None and self.manifest.features[target].kind != "label":
            target = None
        names = self.manifest.features[target].labels if target else None
        return Rows(
            split=name,
            rows=split.rows,
            feature_name=feature_name,
            feature=self.manifest.features[feature_name],
            label_names=names or [],
            target=target,
            files=[self.folder / file for file in split.files],
        )

    def table(self, split: str, columns: Sequence[str]) -> Any:
        """Chosen columns of all rows of a split, a `pyarrow.Table`; raises `NotFound`."""
        known = self.manifest.splits.get(split)
        if known is None:
            names = ", ".join(self.manifest.splits)
            raise NotFound(noun="split", name=split, remedy=f"The data set has: {names}.")
        found = pa.concat_tables(
            pq.read_table(self.folder / file, columns=list(columns)) for file in known.files
        )
        if found.num_rows != known.rows:
            which = "more" if found.num_rows > known.rows else "fewer"
            reason = f"it promises {known.rows} rows of '{split}', the shards hold {which}"
            raise InvalidData(file="dataset.json", reason=reason)
        return found

    @property
    def input_name(self) -> str:
        """The one image or tensor feature; raises `WrongDataKind` where there is none."""
        for name, feature in self.manifest.features.items():
            if feature.kind in ("image", "tensor"):
                return name
        columns = ", ".join(self.manifest.features)
        others = {
            name: one.kind
            for name, one in self.manifest.features.items()
            if one.kind in ("sequence", "audio")
        }
        if others:
            held = ", ".join(f"{name} ({kind})" for name, kind in others.items())
            raise WrongDataKind(
                f"The data set holds {held}, and neither images nor tensors.",
                remedy="Choose a recipe that learns from them, or import images or arrays.",
            )
        raise WrongDataKind(
            f"The data set is a table ({columns}) and holds neither images nor tensors.",
            remedy="Choose a recipe that learns from tables, or import images or arrays.",
        )


def open_dataset(folder: Path) -> OpenDataset:
    """Opens a data set version; raises `FormatTooNew` for one written by a later version."""
    return OpenDataset(folder, read_dataset((folder / "dataset.json").read_bytes()))
