"""OpenVINO on the processor, from a package's ONNX file; it computes in float32 as the others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
from numpy.typing import NDArray

from modelry.core.errors import ModelUnloadable
from modelry.core.inputs import check_inputs
from modelry.core.manifests import ModelManifest
from modelry.worker.models.runtimes.base import Tensors


class OpenVinoModel:
    """One compiled model and the one request that runs it."""

    def __init__(self, compiled: Any, manifest: ModelManifest) -> None:
        self._request = compiled.create_infer_request()
        self._manifest = manifest
        self._outputs = {spec.name: compiled.output(spec.name) for spec in manifest.outputs}

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        # OpenVINO would take another shape for a wish to compile the model anew.
        check_inputs(inputs, self._manifest.inputs)
        # Answers that share memory with the request would change under their owner with the next run.
        results = self._request.infer(dict(inputs), share_inputs=False, share_outputs=False)
        return {name: results[port] for name, port in self._outputs.items()}


def load(file: Path, manifest: ModelManifest, threads: int) -> OpenVinoModel:
    """The compiled model; raises `ModelUnloadable` where OpenVINO cannot read or run the file."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(file)), "CPU", settings)
        for spec in manifest.inputs:
            compiled.input(spec.name)
        return OpenVinoModel(compiled, manifest)
    except Exception as error:  # OpenVINO raises RuntimeError for everything.
        lines = str(error).strip().splitlines()
        reason = " ".join(lines[-1].split()) if lines else type(error).__name__
        raise ModelUnloadable(reason=f"{file.name}: {reason}") from None
