"""Rows to measure an imported model with: those its trial ran with, else random ones of its signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array
from modelry.worker.models.importing.trying import SAMPLES
from modelry.worker.models.measuring import random_samples


def sample_rows(manifest: ModelManifest, scratch: Path) -> dict[str, Array]:
    """As many rows of every input as were kept."""
    kept = scratch / SAMPLES
    if not kept.is_file():
        return random_samples(manifest)
    with np.load(kept, allow_pickle=False) as arrays:
        return {spec.name: arrays[f"i{number}"] for number, spec in enumerate(manifest.inputs)}
