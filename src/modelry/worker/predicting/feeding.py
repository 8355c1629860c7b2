"""Columns of a data set → rows of a model's inputs, as a feed (`core/feeding.py`) says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelry.core.feeding import Feed
from modelry.core.manifests import AudioInput, Feature, ImageInput, ModelManifest, TableInput
from modelry.core.tensors import Array
from modelry.worker.data.encoding import column_numbers
from modelry.worker.data.picturing import decode_image, encode_png
from modelry.worker.tasks import image_tensor


@dataclass(frozen=True, eq=False)
class Package:
    """A model's manifest, and the folder its other files lie in."""

    manifest: ModelManifest
    folder: Path


def to_inputs(
    feed: Feed, table: Any, features: dict[str, Feature], model: Package
) -> dict[str, Array]:
    """The model's inputs for the rows of an Arrow table; raises `InvalidMedia` for media that are none."""
    if feed.way == "text":
        # The library behind it is loaded for models of text alone.
        from modelry.worker.tasks.tokens import tokenizer_of

        tokens = tokenizer_of(model)
        texts = table.column(feed.columns[0]).to_pylist()
        return tokens.rows([tokens.encode(text or "")[0] for text in texts])
    if feed.way == "table":
        media = model.manifest.media
        assert isinstance(media, TableInput)
        return {media.input: column_numbers(table, media.columns)}
    if feed.way == "recordings":
        from modelry.worker.tasks.recordings import audio_tensors

        media = model.manifest.media
        assert isinstance(media, AudioInput)
        return {media.input: audio_tensors(table.column(feed.columns[0]).to_pylist(), media)}
    rows = _to_rows(feed, table, features[feed.columns[0]], model.manifest)
    return {model.manifest.inputs[0].name: rows}


def _to_rows(feed: Feed, table: Any, feature: Feature, model: ModelManifest) -> Array:
    spec = model.inputs[0]
    if feed.way == "columns":
        columns = [table.column(name).to_numpy() for name in feed.columns]
        with np.errstate(over="ignore"):
            return np.stack(columns, axis=1).astype(spec.dtype)
    column = table.column(feed.columns[0]).combine_chunks()
    if feed.way == "steps":
        return _padded(column, int(feature.shape[0]))
    if feed.way == "encoded":
        return _fitted([data.as_py() for data in column], model)
    if feed.way == "pixels":
        height, width, channels = feature.shape
        rows = np.stack(
            [
                decode_image(data.as_py(), height=height, width=width, channels=channels)
                for data in column
            ]
        )
    else:
        rows = column.flatten().to_numpy().reshape(len(column), *feature.shape)
    if feed.way == "picture":
        return _fitted([encode_png(row) for row in rows], model)
    return _scaled(rows, feature.scale, spec.dtype, spec.shape[1:])


def _padded(column: Any, step: int) -> Array:
    """rows × steps of the longest × numbers of a step; a shorter row ends with NaN."""
    lengths = [len(row) // step for row in column]
    rows = np.full((len(column), max(lengths), step), np.nan, np.float32)
    for index, (row, length) in enumerate(zip(column, lengths, strict=True)):
        rows[index, :length] = row.values.to_numpy().reshape(length, step)
    return rows


def _fitted(pictures: list[bytes], model: ModelManifest) -> Array:
    assert isinstance(model.media, ImageInput)
    return np.stack([image_tensor(picture, model.media) for picture in pictures])


def _scaled(rows: Array, scale: float, dtype: str, shape: list[int | None]) -> Array:
    """Stored numbers as a network sees them; whole numbers stay as they are for an input of whole numbers."""
    wanted = np.dtype(dtype)
    # What is too large becomes infinite, and the model's answer to it is then refused with its row.
    with np.errstate(over="ignore"):
        values = rows.astype(wanted)
    if scale != 1.0 and wanted.kind == "f":
        values *= wanted.type(scale)
    sides = [found if length is None else length for length, found in _paired(shape, rows)]
    return values.reshape(len(rows), *sides)


def _paired(shape: list[int | None], rows: Array) -> list[tuple[int | None, int]]:
    """Free lengths are those of the data; shapes without any may differ in their number of sides."""
    if None in shape:
        return list(zip(shape, rows.shape[1:], strict=True))
    return [(length, 0) for length in shape]
