"""The rows of a data set that no training has seen, fetched through the API and read from Parquet."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
