"""The rows of a data set that no training has seen, fetched through the API and read from Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from modelry.client import Client
    from modelry.core.records import DatasetVersion


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The test split in the range of the model's tensor input."""

    images: NDArray[np.float32]
    labels: list[str]


def read_held_out(client: Client, version: DatasetVersion) -> HeldOut:
    """Reads the test split of a version with one tensor feature and one label."""
    import numpy as np
    import pyarrow.parquet as pq

    features: dict[str, Any] = version.manifest["features"]
    target = str(version.manifest["target"])
    source = next(name for name, feature in features.items() if feature["kind"] == "tensor")
    ref = f"{version.dataset}:{version.version}"
    images, labels = [], []
    for path in version.manifest["splits"]["test"]["files"]:
        table = pq.read_table(io.BytesIO(client.data.read_file(ref, path)))
        rows = table.column(source).combine_chunks().flatten()
        images.append(np.asarray(rows).reshape(table.num_rows, *features[source]["shape"]))
        labels += table.column(target).to_pylist()
    scaled = np.concatenate(images).astype(np.float32) * np.float32(features[source]["scale"])
    names = features[target]["labels"]
    return HeldOut(scaled, [names[index] for index in labels])


def read_pictures(
    client: Client, version: DatasetVersion, split: str, rows: Sequence[int]
) -> dict[int, Image]:
    """These rows of a split as pictures; empty where the data are none. Raises `KeyError` for an unknown split."""
    import pyarrow.parquet as pq

    features: dict[str, Any] = version.manifest["features"]
    source = next((name for name, one in features.items() if _is_picture(one)), None)
    if source is None:
        return {}
    ref = f"{version.dataset}:{version.version}"
    wanted, found, start = set(rows), {}, 0
    for path in version.manifest["splits"][split]["files"]:
        column = pq.read_table(
            io.BytesIO(client.data.read_file(ref, path)), columns=[source]
        ).column(source)
        for row in sorted(wanted.intersection(range(start, start + len(column)))):
            found[row] = _as_picture(column[row - start].as_py(), features[source])
        start += len(column)
    return found


def _is_picture(feature: dict[str, Any]) -> bool:
    shape = feature.get("shape") or []
    is_pixels = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    return feature["kind"] == "image" or (feature["kind"] == "tensor" and is_pixels)


def _as_picture(stored: Any, feature: dict[str, Any]) -> Image:
    import numpy as np
    from PIL import Image

    if feature["kind"] == "image":
        return Image.open(io.BytesIO(stored)).convert("RGB")
    pixels = np.asarray(stored, np.float32).reshape(feature["shape"])
    if feature["dtype"] != "uint8":
        lowest, highest = float(pixels.min()), float(pixels.max())
        pixels = (pixels - lowest) * (255 / max(highest - lowest, 1e-12))
    shaped = pixels.astype(np.uint8)
    return Image.fromarray(
        shaped.squeeze(2) if shaped.ndim == 3 and shaped.shape[2] == 1 else shaped
    )
