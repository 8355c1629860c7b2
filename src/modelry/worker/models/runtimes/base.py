"""What serves a model: a runtime loads one form of a package and runs batches. One of the extension points.

A package adds one with the entry-point group `modelry.runtimes`: a callable that is a `Load`. Modelry's own are
found without looking through the installed packages, so that a replica starts quickly.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import ModelManifest

GROUP = "modelry.runtimes"
#: Name → `module:callable`.
OWN = {
    name: f"modelry.worker.models.runtimes.{name}:load"
    for name in ("onnxruntime", "openvino", "torch")
}

Tensors = Mapping[str, NDArray[Any]]


class Runtime(Protocol):
    """A loaded model."""

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """The outputs for a batch, by name; row i of each output belongs to row i of each input.

        Called by one thread at a time. Raises `InvalidInput` where the values are to blame, and anything else
        where the model is; a raise leaves the runtime usable.
        """


class Load(Protocol):
    """Loads one form of a package."""

    def __call__(self, file: Path, manifest: ModelManifest, threads: int) -> Runtime:
        """The model in `file`, to be run with so many threads; raises `ModelUnloadable`."""


def load_runtime(folder: Path, manifest: ModelManifest, threads: int) -> Runtime:
    """The first of the package's forms whose runtime is here, loaded; raises `ModelUnloadable`."""
    for name, form in manifest.runtimes.items():
        load = find_load(name)
        if load is not None:
            return load(folder / form.file, manifest, threads)
    forms = ", ".join(manifest.runtimes) or "none"
    raise ModelUnloadable(reason=f"no runtime here can serve its forms ({forms})")


def find_load(name: str) -> Load | None:
    """What loads forms of this name; None where the runtime, or the library behind it, is not installed."""
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        try:
            own: Load = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] == "modelry":
                raise
            return None
        return own
    for point in entry_points(group=GROUP, name=name):
        found: Load = point.load()
        return found
    return None
