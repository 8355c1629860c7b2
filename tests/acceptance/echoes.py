"""Models that give back what they get, in every type of tensor and as texts, put straight into a running service."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec
from tests.acceptance.packages import put
from tests.service import Service

#: numpy's names of all element types that travel.
TYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
WIDTH = 3


def publish_echoes(service: Service, project: str = "default") -> None:
    """`echo` has an input and an output for each type, `texts` one of strings whose output ends with `_bytes` too."""
    numbers = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in TYPES}
    _publish(service, project, "echo", {f"in_{n}": (n, e, f"out_{n}") for n, e in numbers.items()})
    _publish(service, project, "texts", {"in": ("string", TensorProto.STRING, "out_bytes")})


def _publish(
    service: Service, project: str, name: str, ports: dict[str, tuple[str, int, str]]
) -> None:
    """`ports`: input → (our type, ONNX's type, output)."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [taken], [given]) for taken, (_, _, given) in ports.items()],
        name,
        [helper.make_tensor_value_info(i, e, ["N", WIDTH]) for i, (_, e, _) in ports.items()],
        [helper.make_tensor_value_info(o, e, ["N", WIDTH]) for _, e, o in ports.values()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shape: list[int | None] = [None, WIDTH]
    manifest = ModelManifest(
        task="tensors",
        recipe=None,
        inputs=[TensorSpec(name=i, dtype=d, shape=shape) for i, (d, _, _) in ports.items()],
        outputs=[TensorSpec(name=o, dtype=d, shape=shape) for d, _, o in ports.values()],
        labels=[],
        media=None,
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
        files={},
    )
    put(service, name, manifest, {"model.onnx": model.SerializeToString()}, project)
