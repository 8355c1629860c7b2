"""Keras 3 files (`.keras`) → ONNX, layer by layer, with ONNX's own recurrent operators.

    allowed      which layers and parts a configuration may name, checked before Keras reads it
    weights      the HDF5 file inside, checked before anything opens it for reading
    graph        the ONNX graph under construction
    layers, convolutions, recurrent    what each kind of layer becomes
    walking      a network's layers in the order of its graph
    converting   all of it, ending in a comparison with Keras' own answers

Keras reads its backend once, at import, so the conversion has a process of its own.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelry.core.errors import NotConvertible
from modelry.core.jobs import ImportModelParams
from modelry.core.manifests import ModelManifest
from modelry.worker.context import JobContext
from modelry.worker.models.importing.confined import Exceeded, Limits, run_confined
from modelry.worker.models.importing.trying import SAMPLES

#: What torch and Keras take by themselves, and for each byte of the file.
_MEMORY_BYTES, _MEMORY_PER_BYTE = 12 << 30, 16
_TIME_S = 900.0


def convert(
    folder: Path, params: ImportModelParams, out: Path, context: JobContext
) -> ModelManifest:
    """The package of the folder's one `.keras` file; see `base.Convert`."""
    file = find_file(folder)
    context.progress("converting and comparing with Keras")
    limits = Limits(
        memory_bytes=_MEMORY_BYTES + _MEMORY_PER_BYTE * file.stat().st_size, time_s=_TIME_S
    )
    question = {
        "file": str(file),
        "out": str(out),
        "scratch": str(context.work),
        "samples": str(context.work / SAMPLES),
        "task": params.task,
        "labels": params.labels,
        "preprocess": params.preprocess,
    }
    try:
        draft = run_confined(
            "modelry.worker.models.importing.keras.converting:examine",
            question,
            limits,
            context.check_stop,
        )
    except Exceeded as error:
        raise NotConvertible(reason=str(error)) from None
    return msgspec.convert(draft, ModelManifest)


def find_file(folder: Path) -> Path:
    """The one model of the folder; raises `NotConvertible` for none and for several."""
    found = sorted(folder.rglob("*.keras"))
    if len(found) != 1:
        raise NotConvertible(
            reason=f"the source must hold one .keras file and holds {len(found)}",
            remedy="Import one file.",
        )
    return found[0]
