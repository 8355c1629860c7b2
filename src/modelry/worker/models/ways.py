"""The ways to run a model that can be tried on this machine: runtimes with their options and threads."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import ModelManifest, RuntimeForm
from modelry.worker.models.runtimes import Runtime
from modelry.worker.models.runtimes.base import OWN, find_load

#: The weights of a recipe's network, which PyTorch can serve.
_WEIGHTS = "weights.safetensors"
#: Beside `all`, the usual one: how far ONNX Runtime rewrites a graph.
_OTHER_LEVELS = ("extended", "basic")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the model."""

    runtime: str
    #: The form's main file.
    file: str
    options: dict[str, Any]
    threads: int

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.options.items())
        return f"{self.runtime} ({settings + ', ' if settings else ''}{self.threads} threads)"


def list_ways(folder: Path, manifest: ModelManifest) -> Iterator[Way]:
    """In the order of preference: each runtime as it is with one thread, then with more, then with other options."""
    cores = os.cpu_count() or 1
    powers = (2**power for power in range(1, 8))
    for threads in sorted({1, cores, *(power for power in powers if power < cores)}):
        for runtime, file, options in _forms(folder, manifest):
            yield Way(runtime, file, options, threads)
    if (onnx := manifest.runtimes.get("onnxruntime")) is not None:
        for level in _OTHER_LEVELS:
            yield Way("onnxruntime", onnx.file, {"graph_optimization": level}, 1)


def _forms(folder: Path, manifest: ModelManifest) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Runtime, file and options of everything that could be loaded here."""
    onnx = manifest.runtimes.get("onnxruntime")
    if onnx is not None:
        yield "onnxruntime", onnx.file, {"graph_optimization": "all"}
        if importlib.util.find_spec("openvino") is not None:
            yield "openvino", onnx.file, {}
    if manifest.recipe and (folder / _WEIGHTS).is_file() and importlib.util.find_spec("torch"):
        yield "torch", _WEIGHTS, {}
    for name, form in manifest.runtimes.items():
        if name not in OWN:
            yield name, form.file, dict(form.options)


def load_way(folder: Path, manifest: ModelManifest, way: Way) -> Runtime:
    """The model, loaded in this way; raises `ModelUnloadable`."""
    form = RuntimeForm(file=way.file, options=way.options)
    tried = msgspec.structs.replace(manifest, runtimes={**manifest.runtimes, way.runtime: form})
    load = find_load(way.runtime)
    if load is None:
        raise ModelUnloadable(reason=f"{way.runtime} is not installed")
    return load(folder / way.file, tried, way.threads)
