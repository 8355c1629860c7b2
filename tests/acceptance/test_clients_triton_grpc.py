"""`tritonclient[grpc]`, unmodified, blocking and beside a running loop, against a service of its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from modelry.artifacts import Artifacts
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec
from modelry.server.store import Store, models
from tests.acceptance.shelf import publish
from tests.api import Api
from tests.service import Service, running_service

CLIENT = Path(__file__).with_name("triton_grpc_client.py")
TYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)


def laws() -> list[str]:
    """What the client's program checks, read without running it."""
    for node in ast.parse(CLIENT.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LAWS":
            assert isinstance(node.value, ast.List)
            return [ast.unparse(element) for element in node.value.elts]
    raise AssertionError("the program has no laws")


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What Triton's clients say of a service over two web processes."""
    home = tmp_path_factory.mktemp("triton") / "home"
    with running_service(home, web="2") as service, Api(service) as api:
        publish_echo(service)
        publish(service, "answers")
        for name in ("echo", "answers"):
            api.post("/deployments", {"model": name, "name": name})
            api.wait_deployment(name, "ready")
        yield run_client(service)


@pytest.mark.parametrize("law", laws())
def test_triton_says(heard: dict[str, str], law: str) -> None:
    assert heard[law] == ""


def run_client(service: Service, certificate: str = "") -> dict[str, str]:
    """Law → what broke."""
    done = subprocess.run(
        [
            sys.executable,
            str(CLIENT),
            grpc_target_of(service),
            *([certificate] if certificate else []),
        ],
        env={**os.environ, "MODELRY_KEY": service.key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def grpc_target_of(service: Service) -> str:
    return str(json.loads((service.home / "service.json").read_text())["grpc_url"])


def publish_echo(service: Service) -> None:
    """A model that gives back what it gets, in every type that tensors have."""
    element_of = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in TYPES}
    element_of["string"] = TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in element_of],
        "echo",
        [helper.make_tensor_value_info(f"in_{n}", e, ["N", 3]) for n, e in element_of.items()],
        [helper.make_tensor_value_info(f"out_{n}", e, ["N", 3]) for n, e in element_of.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    manifest = ModelManifest(
        task="tensors",
        recipe=None,
        inputs=[TensorSpec(name=f"in_{name}", dtype=name, shape=[None, 3]) for name in element_of],
        outputs=[
            TensorSpec(name=f"out_{name}", dtype=name, shape=[None, 3]) for name in element_of
        ],
        labels=[],
        media=None,
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
        files={},
    )
    artifacts = Artifacts(str(service.home / "blobs"))
    files = [
        artifacts.put_bytes(msgspec.json.encode(manifest), "model.json"),
        artifacts.put_bytes(model.SerializeToString(), "model.onnx"),
    ]
    store = Store(f"sqlite:///{service.home / 'modelry.db'}")
    try:
        with store.write() as tx:
            models.ensure(tx, "default", "echo")
            models.add_version(
                tx, "default", "echo", msgspec.to_builtins(manifest), files, None, None
            )
    finally:
        store.close()
