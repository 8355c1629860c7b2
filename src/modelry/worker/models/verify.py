"""Believes a converted form only when measured: its outputs beside the original's, on real samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from modelry.core.errors import VerificationFailed
from modelry.core.manifests import ModelManifest, Verification
from modelry.core.tensors import Array
from modelry.worker.models.runtimes import Runtime
from modelry.worker.recipes.network import Network, Published

#: Largest allowed difference of a probability; of larger numbers, relative to the largest.
TOLERANCE = 1e-4
#: Rows compared, fewer only where the test split has fewer.
SAMPLES = 512
#: Alone, a number that fills no vector register, and the most rows a replica takes together.
BATCH_SIZES = (1, 3, 32)

Floats = NDArray[np.float32]
#: Rows → probabilities or other numbers.
Form = Callable[[Array], Floats]


def original(network: Network) -> Form:
    """The network itself, as it is published, on arrays."""
    model = Published(network).eval()

    def run(inputs: Array) -> Floats:
        with torch.inference_mode():
            return model(torch.from_numpy(inputs)).numpy()  # type: ignore[no-any-return]

    return run


def served(runtime: Runtime, manifest: ModelManifest) -> Form:
    """A loaded form with one input and one output, on arrays."""
    taken, given = manifest.inputs[0].name, manifest.outputs[0].name

    def run(inputs: Array) -> Floats:
        return runtime.run({taken: inputs})[given]

    return run


def spread_rows(rows: int, wanted: int = SAMPLES) -> NDArray[np.int64]:
    """Positions of `wanted` rows spread evenly over a split (all of a smaller one)."""
    return np.linspace(0, rows - 1, min(rows, wanted)).astype(np.int64)


def verify(
    form: Form,
    reference: Form,
    inputs: Array,
    *,
    name: str = "ONNX",
    tolerance: float = TOLERANCE,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> Verification:
    """Compares at every batch size; raises `VerificationFailed` beyond the tolerance."""
    difference, disagreements, speeds = 0.0, 0, (0.0, 0.0)
    allowed = tolerance
    for size in batch_sizes:
        found, form_speed = _run(form, inputs, size)
        expected, reference_speed = _run(reference, inputs, size)
        speeds = (form_speed, reference_speed)
        # A NaN on either side must not pass: it counts as the largest difference.
        distance = np.nan_to_num(np.abs(found - expected), nan=np.inf)
        difference = max(difference, float(distance.max()))
        allowed = tolerance * max(1.0, float(np.abs(expected).max()))
        disagreements = max(disagreements, _disagreements(found, expected, allowed))
    if not difference <= allowed:
        raise VerificationFailed(form=name, difference=difference, tolerance=allowed)
    if disagreements:
        raise VerificationFailed(
            f"The {name} form chooses another class than the original for {disagreements} of {len(inputs)} rows."
        )
    return Verification(
        max_difference=difference,
        tolerance=allowed,
        samples=len(inputs),
        batch_sizes=list(batch_sizes),
        disagreements=disagreements,
        rows_per_s=speeds[0],
        original_rows_per_s=speeds[1],
    )


def _run(form: Form, inputs: Array, size: int) -> tuple[Floats, float]:
    """All outputs in batches of `size`, and rows per second."""
    form(inputs[:size])
    began = time.perf_counter()
    outputs = [form(inputs[start : start + size]) for start in range(0, len(inputs), size)]
    seconds = max(time.perf_counter() - began, 1e-9)
    return np.concatenate(outputs), len(inputs) / seconds


def _disagreements(found: Floats, expected: Floats, tolerance: float) -> int:
    """Rows with another best class although the two best are further apart than the tolerance."""
    if expected.shape[1] < 2:
        return 0
    two_best = np.sort(expected, axis=1)[:, -2:]
    is_clear = two_best[:, 1] - two_best[:, 0] > tolerance
    differs = found.argmax(axis=1) != expected.argmax(axis=1)
    return int((is_clear & differs).sum())
