"""Model imports as the runner does them, in this process, and small good models to begin with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from modelry.artifacts import Artifacts
from modelry.core.manifests import ModelManifest
from modelry.core.results import MadeModel, made_model
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder
from modelry.worker.models.importing import job
from modelry.worker.models.runtimes import Runtime, load_runtime


@dataclass
class ModelImporter:
    """Runs import jobs in a folder of its own."""

    root: Path
    runs: int = 0
    #: Lines of all jobs' logs.
    said: list[str] = field(default_factory=list)

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(str(self.root / "blobs"))

    def path(self, location: Path, **params: Any) -> MadeModel:
        """Imports a folder or file of this machine."""
        return self._run([], source="path", location=str(location), **params)

    def hub(self, location: str, **params: Any) -> MadeModel:
        """Imports a hub's repository."""
        return self._run([], source="hub", location=location, **params)

    def upload(self, files: dict[str, bytes], **params: Any) -> MadeModel:
        """Imports uploaded files."""
        inputs = [self.artifacts.put_bytes(data, path) for path, data in files.items()]
        return self._run(inputs, source="upload", **params)

    def open(self, made: MadeModel) -> tuple[Runtime, ModelManifest, Path]:
        """The version as a replica has it."""
        self.runs += 1
        folder = self.root / f"version-{self.runs}"
        self.artifacts.fetch(made.files, folder)
        manifest = msgspec.json.decode((folder / "model.json").read_bytes(), type=ModelManifest)
        return load_runtime(folder, manifest, 1), manifest, folder

    def _run(self, inputs: list[Any], **params: Any) -> MadeModel:
        self.runs += 1
        spec = JobSpec(
            worker_id=f"job_test-{self.runs}",
            job_id="job_test",
            attempt=self.runs,
            kind="import-model",
            params={"model": "test", **params},
            inputs={"upload": inputs},
            artifacts=str(self.root / "blobs"),
        )
        folder = WorkerFolder(self.root / "run" / spec.worker_id)
        folder.path.mkdir(parents=True)
        context = JobContext(folder, spec)
        try:
            made = made_model(job.run(context))
        finally:
            context.close()
            lines = [msgspec.json.decode(line) for line in folder.events.read_text().splitlines()]
            self.said += [line["text"] for line in lines if line["type"] == "log"]
        assert made is not None
        return made


def onnx_model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    **more: Any,
) -> ModelProto:
    """A graph as an exporter would write it."""
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=initializers)
    opsets = more.pop("opset_imports", [helper.make_opsetid("", 17)])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def floats(name: str, *shape: int | str | None) -> onnx.ValueInfoProto:
    """A float32 input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def linear(rows: int | str = "N", classes: int = 3, ends: str = "Softmax") -> ModelProto:
    """`x` (rows × 4) to `y` (rows × classes)."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, classes)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node(ends, ["z"], ["y"])]
    return onnx_model(nodes, [floats("x", rows, 4)], [floats("y", rows, classes)], weights)


def onnx_bytes(model: ModelProto) -> bytes:
    """The file."""
    return bytes(model.SerializeToString())
