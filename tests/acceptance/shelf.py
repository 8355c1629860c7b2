"""Model versions made by hand and put straight into a running service's store: no training, and as slow as is asked."""

from __future__ import annotations

import msgspec
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from modelry.artifacts import Artifacts
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec
from modelry.server.store import Store, models
from tests.service import Service

#: What every model of the shelf takes: rows of so many numbers.
WIDTH = 8
ROW = [0.25] * WIDTH
LABELS = ["a", "b", "c"]
#: One turn of a slow model's loop is a product with a matrix of this size: some tens of microseconds.
_SIDE = 384


def publish(service: Service, name: str, *, turns: int = 0, content: bytes | None = None) -> int:
    """The number of a new version of the model, which answers differently from all others.

    `turns` of a loop make it slow; `content` takes the place of its graph.
    """
    store = Store(f"sqlite:///{service.home / 'modelry.db'}")
    artifacts = Artifacts(str(service.home / "blobs"))
    try:
        with store.write() as tx:
            known = models.ensure(tx, "default", name).latest_version
        graph = content or _graph(known + 1, turns).SerializeToString()
        manifest = _manifest()
        files = [
            artifacts.put_bytes(msgspec.json.encode(manifest), "model.json"),
            artifacts.put_bytes(graph, "model.onnx"),
        ]
        with store.write() as tx:
            plain = msgspec.to_builtins(manifest)
            return models.add_version(tx, "default", name, plain, files, None, None).version
    finally:
        store.close()


def _manifest() -> ModelManifest:
    return ModelManifest(
        task="tabular-classification",
        recipe=None,
        inputs=[TensorSpec(name="x", dtype="float32", shape=[None, WIDTH])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, len(LABELS)])],
        labels=LABELS,
        media=None,
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
        files={},
    )


def _graph(seed: int, turns: int) -> ModelProto:
    """softmax(x·w), after `turns` products with a large matrix whose result counts for nothing."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(WIDTH, len(LABELS))).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"])]
    if turns:
        constants += _large(rng) + [numpy_helper.from_array(np.array(turns), "turns")]
        nodes += _loop()
    last = "slowed" if turns else "logits"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "shelf",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(LABELS)])],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def _large(rng: np.random.Generator) -> list[TensorProto]:
    matrix = (rng.normal(size=(_SIDE, _SIDE)) / np.sqrt(_SIDE)).astype(np.float32)
    spread = rng.normal(size=(WIDTH, _SIDE)).astype(np.float32)
    nothing = np.zeros((_SIDE, len(LABELS)), np.float32)
    named = {"matrix": matrix, "spread": spread, "nothing": nothing}
    return [numpy_helper.from_array(value, name) for name, value in named.items()]


def _loop() -> list[NodeProto]:
    float_of = {"inner": ["N", _SIDE], "turned": ["N", _SIDE]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in float_of.items()
    }
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["inner", "matrix"], ["product"]),
            helper.make_node("Tanh", ["product"], ["turned"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            values["inner"],
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), values["turned"]],
    )
    return [
        helper.make_node("MatMul", ["x", "spread"], ["wide"]),
        helper.make_node("Loop", ["turns", "", "wide"], ["end"], body=body),
        helper.make_node("MatMul", ["end", "nothing"], ["naught"]),
        helper.make_node("Add", ["logits", "naught"], ["slowed"]),
    ]
