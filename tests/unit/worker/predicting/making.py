"""Small models as packages, and attempts of a batch prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelry.artifacts import Artifacts
from modelry.core.files import FileRef
from modelry.core.manifests import ImageInput, ModelManifest, RuntimeForm, TensorSpec
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder


def weights_of(inputs: int, outputs: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(inputs, outputs)).astype(np.float32)


def linear_onnx(shape: tuple[int, ...], outputs: int, *, batch: int | None = None) -> bytes:
    """Flatten and multiply; the batch is free unless it is given."""
    rows = batch or "N"
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, outputs])],
        [numpy_helper.from_array(weights_of(int(np.prod(shape)), outputs), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def manifest_of(
    shape: tuple[int, ...],
    labels: list[str],
    *,
    outputs: int | None = None,
    batch: int | None = None,
    media: ImageInput | None = None,
    columns: list[str] | None = None,
    activation: Any = "softmax",
) -> ModelManifest:
    return ModelManifest(
        task="image-classification",
        recipe=None,
        inputs=[TensorSpec(name="x", dtype="float32", shape=[batch, *shape], columns=columns)],
        outputs=[TensorSpec(name="y", dtype="float32", shape=[batch, outputs or len(labels)])],
        labels=labels,
        media=media,
        activation=activation,
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
        files={},
    )


def put_model(artifacts: Artifacts, manifest: ModelManifest) -> list[FileRef]:
    """The linear model of the manifest's shapes as a package in the artifacts."""
    batch, *shape = manifest.inputs[0].shape
    outputs = manifest.outputs[0].shape[1]
    assert outputs is not None
    onnx = linear_onnx(tuple(length or 0 for length in shape), outputs, batch=batch)
    content = {"model.json": msgspec.json.encode(manifest), "model.onnx": onnx}
    return [artifacts.put_bytes(data, path) for path, data in content.items()]


class Batches:
    """Attempts of one batch prediction over the same artifacts."""

    def __init__(self, root: Path, data: list[FileRef], model: list[FileRef]) -> None:
        self._root, self._data, self._model = root, data, model
        self.count = 0

    def start(self, checkpoint: list[FileRef] | None = None, **params: Any) -> JobContext:
        self.count += 1
        spec = JobSpec(
            worker_id=f"batch-{self.count}",
            job_id="batch",
            attempt=self.count,
            kind="predict-batch",
            params={"dataset": "out", **params},
            inputs={"data": self._data, "model": self._model},
            names={
                "data": {"name": "digits", "version": 2, "fingerprint": "f"},
                "model": {"name": "mnist", "version": 3},
            },
            artifacts=str(self._root / "blobs"),
            checkpoint=checkpoint,
        )
        folder = WorkerFolder(self._root / "run" / spec.worker_id)
        folder.create(spec)
        return JobContext(folder, spec)
