"""Packages made in a test and put straight into a running service's store: no job, no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelry.artifacts import Artifacts
from modelry.core.manifests import (
    AudioInput,
    ImageInput,
    MediaInput,
    ModelManifest,
    RuntimeForm,
    TensorSpec,
)
from modelry.server.store import Store, models
from tests.service import Service

#: The picture model's: its best class is the one whose column of the 4×3 picture is brightest.
COLOURS = ["left", "middle", "right"]
#: The sound model's: its second output is the sound's mean.
SOUNDS = ["silence", "push"]


def put(
    service: Service,
    name: str,
    manifest: ModelManifest,
    files: Mapping[str, bytes],
    project: str = "default",
) -> int:
    """The number of a new version of the model, with these files."""
    store = Store(f"sqlite:///{service.home / 'modelry.db'}")
    artifacts = Artifacts(str(service.home / "blobs"))
    content = {"model.json": msgspec.json.encode(manifest), **files}
    refs = [artifacts.put_bytes(data, path) for path, data in content.items()]
    plain = msgspec.to_builtins(manifest)
    try:
        with store.write() as tx:
            models.ensure(tx, project, name)
            return models.add_version(tx, project, name, plain, refs, None, None).version
    finally:
        store.close()


def put_folder(service: Service, name: str, manifest: ModelManifest, folder: Path) -> int:
    """The same with the files of a folder."""
    return put(service, name, manifest, {path.name: path.read_bytes() for path in folder.iterdir()})


def put_pictures(service: Service, name: str) -> None:
    """A model of 4×3 grey pictures, with the same kind of manifest as a trained one."""
    media = ImageInput(height=4, width=3, channels=1, scale=1 / 255, input="x", shape=[4, 3, 1])
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sums"], keepdims=0),
        helper.make_node("Softmax", ["sums"], ["scores"]),
    ]
    axes = numpy_helper.from_array(np.array([1, 3]), "axes")
    graph = helper.make_graph(nodes, name, [_floats("x", 4, 3, 1)], [_floats("scores", 3)], [axes])
    _put_graph(service, name, graph, media, "image-classification", COLOURS, [4, 3, 1])


def put_sounds(service: Service, name: str) -> None:
    """A model of recordings with 8000 samples a second."""
    media = AudioInput(sample_rate=8000, input="x", max_seconds=2.0)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Neg", ["mean"], ["less"]),
        helper.make_node("Concat", ["less", "mean"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, name, [_floats("x", "T")], [_floats("scores", 2)])
    _put_graph(service, name, graph, media, "audio-classification", SOUNDS, [None])


def _put_graph(
    service: Service,
    name: str,
    graph: object,
    media: MediaInput,
    task: str,
    labels: list[str],
    shape: list[int | None],
) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    manifest = ModelManifest(
        task=task,
        recipe=None,
        inputs=[TensorSpec(name="x", dtype="float32", shape=[None, *shape])],
        outputs=[TensorSpec(name="scores", dtype="float32", shape=[None, len(labels)])],
        labels=labels,
        media=media,
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
        files={},
    )
    put(service, name, manifest, {"model.onnx": model.SerializeToString()})


def _floats(name: str, *shape: int | str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
