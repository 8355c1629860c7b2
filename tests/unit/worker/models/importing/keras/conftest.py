"""Keras on torch, chosen before anybody imports it; networks saved, converted and asked in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import pytest

from modelry.core.manifests import ModelManifest
from modelry.worker.models.importing.keras.converting import Question, convert_file
from modelry.worker.models.runtimes import Runtime, load_runtime

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Converted:
    """A network and its ONNX form."""

    manifest: ModelManifest
    runtime: Runtime
    folder: Path
    network: Any

    def differences(self, inputs: Arrays) -> list[float]:
        """The largest difference of each output from Keras' own, all rows in one batch."""
        import keras

        given = [inputs[spec.name] for spec in self.manifest.inputs]
        answer = self.network(given if len(given) > 1 else given[0], training=False)
        expected = [keras.ops.convert_to_numpy(value) for value in keras.tree.flatten(answer)]
        found = self.runtime.run(inputs)
        return [
            float(np.abs(found[spec.name] - value).max())
            if found[spec.name].shape == value.shape
            else np.inf
            for spec, value in zip(self.manifest.outputs, expected, strict=True)
        ]


Convert = Callable[..., Converted]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Gives the network random weights everywhere, saves it and converts the file."""

    def convert_one(network: Any, *, randomise: bool = True, **more: Any) -> Converted:
        if randomise:
            _randomise(network)
        file, out = tmp_path / "model.keras", tmp_path / "out"
        network.save(file)
        out.mkdir()
        manifest = convert_file(
            Question(
                file=str(file),
                out=str(out),
                scratch=str(tmp_path),
                samples=str(tmp_path / "samples.npz"),
                **more,
            )
        )
        return Converted(manifest, load_runtime(out, manifest, 1), out, network)

    return convert_one


def _randomise(network: Any) -> None:
    """Biases, means and slopes are zeros and ones in a fresh network, which would hide much."""
    random = np.random.default_rng(0)
    for variable in network.weights:
        if "seed" in variable.path:
            continue
        values = random.uniform(-0.6, 0.6, variable.shape)
        # A variance is positive; a count is whole.
        is_positive = "variance" in variable.path or "count" in variable.path
        variable.assign(np.abs(values) + 0.5 if is_positive else values)
