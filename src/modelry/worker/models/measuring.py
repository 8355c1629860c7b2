"""Which runtime serves a model fastest, on this machine: every way to run it is tried on real rows.

A way is a runtime with its options and threads. All are timed in turns within a few seconds, rows together and rows
alone; one whose answers leave the tolerance is never kept. *Fastest* is the geometric mean of rows a second in a
batch and of calls a second with one row, with one thread, as deployments have it by default. ONNX Runtime stands
first in the list and starts in milliseconds: a later way takes its place only if it is a tenth faster.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from modelry.core.errors import ModelryError
from modelry.core.manifests import (
    ImageInput,
    Measurement,
    ModelManifest,
    RuntimeForm,
    TensorSpec,
    Verification,
)
from modelry.core.tensors import Array
from modelry.worker.context import JobContext
from modelry.worker.models.bench import COMPARED, TOLERANCE, Bench, Reference, Trial
from modelry.worker.models.runtimes.base import Tensors
from modelry.worker.models.ways import list_ways, load_way

#: Seconds that all ways may take together, about.
BUDGET_S = 4.0
#: Another way must be so much faster than one that stands before it.
MARGIN = 1.10


def measure(
    context: JobContext,
    folder: Path,
    manifest: ModelManifest,
    samples: Tensors,
    reference: Reference | None = None,
    *,
    budget_s: float = BUDGET_S,
) -> ModelManifest:
    """The manifest with its table of measurements and with the fastest faithful form first among `runtimes`.

    `samples` are rows of every input, as many as there are (64 are used). `reference` answers as the original does;
    without one the first way that loads is the original. Raises `Stopped` where the job is asked to end.
    """
    deadline = time.monotonic() + budget_s
    ways = list(list_ways(folder, manifest))
    taken = {name: array[:COMPARED] for name, array in samples.items()}
    trials: list[Trial] = []
    bench: Bench | None = None
    for step, way in enumerate(ways):
        context.check_stop()
        context.progress("measuring", step=step, total_steps=len(ways))
        if trials and time.monotonic() > deadline - budget_s / 3:
            context.log(f"{len(ways) - step} of {len(ways)} ways to run the model were not tried.")
            break
        try:
            runtime = load_way(folder, manifest, way)
            bench = bench or Bench(manifest, taken, reference or runtime.run, budget_s)
            trials.append(bench.examine(way, runtime))
        except Exception as error:  # Whatever a foreign runtime raises means the same here.
            context.log(f"{way} cannot run the model: {_first_line(error)}", level="warning")
    if bench is None or not any(trial.is_faithful for trial in trials):
        return manifest
    bench.time(trials, deadline, context.check_stop)
    return _described(context, manifest, bench, trials)


def random_samples(
    manifest: ModelManifest, rows: int = COMPARED, seed: int = 0
) -> dict[str, Array]:
    """Rows of plausible numbers for a model that came without any: 0 to 1, whole numbers 0 and 1.

    Free lengths beside the batch are those of the model's pictures, else 16.
    """
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for spec in manifest.inputs:
        dtype = np.dtype(spec.dtype)
        shape = (rows, *_lengths(spec, manifest))
        if dtype.kind == "f":
            found[spec.name] = random.random(shape).astype(dtype)
        else:
            found[spec.name] = random.integers(0, 2, shape).astype(dtype)
    return found


def choose(trials: list[Trial], rows: int) -> Trial:
    """The fastest faithful one with one thread; who stands earlier is replaced only by what is clearly faster."""
    candidates = [trial for trial in trials if trial.is_faithful and trial.way.threads == 1]
    candidates = candidates or [trial for trial in trials if trial.is_faithful]
    kept = candidates[0]
    for trial in candidates[1:]:
        if trial.figure(rows) > MARGIN * kept.figure(rows):
            kept = trial
    return kept


def _described(
    context: JobContext, manifest: ModelManifest, bench: Bench, trials: list[Trial]
) -> ModelManifest:
    kept = choose(trials, bench.batch)
    ordered = sorted(trials, key=lambda trial: -trial.figure(bench.batch))
    table = [
        Measurement(
            runtime=trial.way.runtime,
            options=trial.way.options,
            threads=trial.way.threads,
            rows_per_s=trial.rows_per_s(bench.batch),
            single_ms=statistics.median(trial.single_s) * 1000,
            # JSON knows no infinity.
            max_difference=min(trial.max_difference, sys.float_info.max),
            is_faithful=trial.is_faithful,
            is_kept=trial is kept,
        )
        for trial in ordered
    ]
    context.log(
        f"Fastest of {len(trials)} ways to run it: {kept.way}, {kept.rows_per_s(bench.batch):,.0f} rows/s together, "
        f"{statistics.median(kept.single_s) * 1000:.2f} ms alone."
    )
    name = kept.way.runtime
    known = manifest.runtimes.get(name)
    form = RuntimeForm(
        file=kept.way.file,
        verification=known.verification if known else _verification(bench, kept),
        options=kept.way.options,
    )
    others = {other: one for other, one in manifest.runtimes.items() if other != name}
    return msgspec.structs.replace(manifest, runtimes={name: form, **others}, measurements=table)


def _verification(bench: Bench, kept: Trial) -> Verification:
    return Verification(
        max_difference=kept.max_difference,
        tolerance=TOLERANCE,
        samples=bench.compared_rows,
        batch_sizes=sorted({bench.alone, bench.batch}),
        disagreements=0,
        rows_per_s=kept.rows_per_s(bench.batch),
        original_rows_per_s=bench.reference_rows_per_s,
    )


def _lengths(spec: TensorSpec, manifest: ModelManifest) -> list[int]:
    media = manifest.media
    if isinstance(media, ImageInput) and media.input == spec.name:
        return list(media.shape)
    return [16 if length is None else length for length in spec.shape[1:]]


def _first_line(error: Exception) -> str:
    said = error.message if isinstance(error, ModelryError) else str(error)
    return (said.strip().splitlines() or [type(error).__name__])[0]
