"""Hugging Face folders of encoders → ONNX: safetensors only, no code but the library's, nothing fetched.

settings     what the folder says, looked at before the library sees it
loading      the original network
texts, pictures, sounds    what stands before it, as the manifest's media
export       the graph
converting   all of it, ending in a comparison with the original
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelry.core.errors import NotConvertible
from modelry.core.jobs import ImportModelParams
from modelry.core.manifests import ModelManifest
from modelry.worker.context import JobContext
from modelry.worker.models.importing.confined import Exceeded, Limits, run_confined
from modelry.worker.models.importing.huggingface.settings import read_settings
from modelry.worker.models.importing.trying import SAMPLES

#: What torch and the library take by themselves, and for each byte of the weights.
_MEMORY_BYTES, _MEMORY_PER_BYTE = 12 << 30, 12
_TIME_S = 1200.0


def convert(
    folder: Path, params: ImportModelParams, out: Path, context: JobContext
) -> ModelManifest:
    """The package of the folder's model; see `base.Convert`."""
    if params.preprocess is not None:
        raise NotConvertible(
            reason="its own files say how its inputs are prepared",
            remedy="Leave --preprocess away.",
        )
    settings = read_settings(folder, params.task)
    context.log(f"{settings.config['model_type']} for {settings.task}.")
    context.progress("converting and comparing with the original")
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    limits = Limits(memory_bytes=_MEMORY_BYTES + _MEMORY_PER_BYTE * size, time_s=_TIME_S)
    question = {
        "folder": str(folder),
        "out": str(out),
        "samples": str(context.work / SAMPLES),
        "task": params.task,
        "labels": params.labels,
    }
    try:
        draft = run_confined(
            "modelry.worker.models.importing.huggingface.converting:examine",
            question,
            limits,
            context.check_stop,
        )
    except Exceeded as error:
        raise NotConvertible(reason=str(error), remedy="Choose a smaller model.") from None
    return msgspec.convert(draft, ModelManifest)
