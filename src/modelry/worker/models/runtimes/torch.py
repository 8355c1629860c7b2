"""PyTorch itself: a recipe's network with its weights, as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelry.core.errors import ModelryError, ModelUnloadable
from modelry.core.inputs import check_inputs
from modelry.core.manifests import ModelManifest
from modelry.worker.models.package import load_network
from modelry.worker.models.runtimes.base import Tensors
from modelry.worker.recipes.network import Published


class TorchModel:
    """The network as it is published."""

    def __init__(self, model: Published, manifest: ModelManifest, threads: int) -> None:
        self._model = model
        self._manifest = manifest
        self._threads = threads

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        check_inputs(inputs, self._manifest.inputs)
        # The number belongs to the process, and another model of it may have changed it.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        rows = np.require(inputs[self._manifest.inputs[0].name], requirements=["C", "W"])
        with torch.inference_mode():
            output = self._model(torch.from_numpy(rows))
        return {self._manifest.outputs[0].name: output.numpy()}


def load(file: Path, manifest: ModelManifest, threads: int) -> TorchModel:
    """The network of the package that `file` (its weights) lies in; raises `ModelUnloadable`."""
    try:
        network = load_network(file.parent, manifest)
    except ModelUnloadable:
        raise
    except (
        Exception
    ) as error:  # Weights that do not fit raise RuntimeError, broken ones their reader's own.
        reason = error.message if isinstance(error, ModelryError) else str(error)
        words = " ".join(reason.split()).rstrip(".") or type(error).__name__
        raise ModelUnloadable(reason=f"{file.name}: {words}") from error
    return TorchModel(Published(network).eval(), manifest, threads)
