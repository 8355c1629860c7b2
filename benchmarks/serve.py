"""Predictions over HTTP beside the in-process limit of the same model.

    python benchmarks/serve.py [--rounds 5] [--seconds 2] [--threads 1]

The reference CNN (28×28×1, 121,930 parameters, random weights) as ONNX, in two ways on the same machine, in turns:
`session.run` in a loop at batch 1 and 32, and `wrk` against a web process with the gateway and one replica process
(the guard, the key check and all headers as in the service) at 1, 16 and 64 connections. Prints medians, and the
ratio of HTTP to the in-process limit with its spread over the rounds. Answers are compared first; every answer that
is not 200 counts as a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import onnxruntime
import uvicorn
import uvloop
from fastapi import FastAPI
from onnx import TensorProto, helper, numpy_helper
from starlette.middleware import Middleware

from modelry.artifacts import Artifacts
from modelry.core.durable import take_lock
from modelry.core.home import Home
from modelry.core.keys import KeyText, key_hmac
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec, Verification
from modelry.core.records import Key, KeyRow, Route, Snapshot
from modelry.core.settings import Settings
from modelry.core.specs import ReplicaSpec
from modelry.core.states import DeploymentState
from modelry.server.api.envelope import Envelope
from modelry.server.api.errors import add_error_handlers
from modelry.server.api.hosts import HostGuard
from modelry.server.api.inference import inference_router
from modelry.server.gateway import Gateway
from modelry.worker.folder import WorkerFolder

CONNECTIONS = (1, 16, 64)
KEY = KeyText("benchmark000", "x" * 40)
PEPPER = bytes(32)
SEED = 20


def reference_cnn() -> bytes:
    """The network of the mission's example as an ONNX graph, channels last outside."""
    rng = np.random.default_rng(SEED)
    shapes = {
        "w1": (32, 1, 3, 3), "b1": (32,), "w2": (64, 32, 3, 3), "b2": (64,),
        "w3": (1600, 64), "b3": (64,), "w4": (64, 10), "b4": (10,),
    }  # fmt: skip
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **pool),
        helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["d1"]),
        helper.make_node("Relu", ["d1"], ["r3"]),
        helper.make_node("Gemm", ["r3", "w4", "b4"], ["d2"]),
        helper.make_node("Softmax", ["d2"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 28, 28, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    model: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return model


def manifest() -> ModelManifest:
    """The package's `model.json`."""
    unmeasured = Verification(
        max_difference=0, tolerance=0, samples=0, batch_sizes=[], disagreements=0,
        rows_per_s=0, original_rows_per_s=0,
    )  # fmt: skip
    return ModelManifest(
        task="image-classification",
        recipe=None,
        inputs=[TensorSpec(name="x", dtype="float32", shape=[None, 28, 28, 1])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, 10])],
        labels=[str(digit) for digit in range(10)],
        media=None,
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx", verification=unmeasured)},
        files={},
    )


def start_replica(root: Path, threads: int) -> tuple[subprocess.Popen[bytes], str]:
    """A replica process, ready, and its address."""
    home = Home(root)
    artifacts = Artifacts(str(home.blobs))
    content = {"model.json": msgspec.json.encode(manifest()), "model.onnx": reference_cnn()}
    folder = WorkerFolder.under(home.run, "rep_benchmark")
    folder.create(
        ReplicaSpec(
            worker_id="rep_benchmark",
            replica_id="rep_benchmark",
            deployment="digits",
            model="digits",
            version=1,
            files=[artifacts.put_bytes(data, path) for path, data in content.items()],
            artifacts=str(home.blobs),
            threads=threads,
        )
    )
    lock = folder.take_lock()
    assert lock is not None
    command = [
        sys.executable,
        "-m",
        "modelry.worker.replica",
        str(folder.path),
        str(root),
        str(lock),
    ]
    process = subprocess.Popen(command, pass_fds=[lock], stderr=subprocess.DEVNULL)
    os.close(lock)
    while (address := folder.read_address()) is None:
        assert process.poll() is None, folder.last_words()
        time.sleep(0.01)
    return process, address


async def serve_web(root: Path, address: str, listening: socket.socket) -> None:
    """The web process of the benchmark: the service's inference path without its database."""
    key = Key(id=KEY.id, label="", project="default", scopes=("infer",), created_at=0)
    route = Route(
        deployment_id="dep_benchmark", project="default", name="digits", state=DeploymentState.READY,
        model="digits", version=1, max_batch=32, failure=None,
        replicas=(("rep_benchmark", 1, address),), manifests={1: msgspec.to_builtins(manifest())},
    )  # fmt: skip
    snapshot = Snapshot(
        number=1,
        routes={("default", "digits"): route},
        keys={KEY.id: KeyRow(key=key, secret_hmac=key_hmac(PEPPER, KEY))},
    )
    settings = Settings(home=root)
    gateway = Gateway(lambda: snapshot, PEPPER, settings)
    await gateway.start()
    app = FastAPI(middleware=[Middleware(Envelope), Middleware(HostGuard, settings=settings)])
    app.state.service = _Parts(gateway)
    add_error_handlers(app)
    app.router.routes.extend(inference_router(gateway).routes)
    config = uvicorn.Config(
        app, http="httptools", log_config=None, access_log=False, lifespan="off"
    )
    await uvicorn.Server(config).serve(sockets=[listening])


@dataclass
class _Parts:
    gateway: Gateway

    async def catch_up(self) -> bool:
        """There is no store to catch up with."""
        return False


class InProcess:
    """The model alone."""

    def __init__(self, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            reference_cnn(), options, providers=["CPUExecutionProvider"]
        )

    def rows_per_s(self, batch: int, seconds: float) -> float:
        """How many rows a second a loop of calls gets through."""
        x = np.random.default_rng(SEED).random((batch, 28, 28, 1)).astype(np.float32)
        calls, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            self.session.run(None, {"x": x})
            calls += 1
        return calls * batch / passed


@dataclass
class Load:
    """wrk against the web process."""

    url: str
    script: Path
    results: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)

    def run(self, connections: int, seconds: int) -> float:
        """Requests a second; refuses to count a run with failures."""
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            str(self.script),
            self.url,
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in text, text
        assert "Socket errors" not in text, text
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
        self.results.setdefault(connections, []).append(
            (rate, _percentile(text, 50), _percentile(text, 99))
        )
        return rate


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
    assert found is not None
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def compare(url: str, model: InProcess, body: bytes) -> None:
    """The service must answer what the model says."""
    headers = {"authorization": f"Bearer {KEY.text}"}
    answer = httpx.post(url, content=body, headers=headers).raise_for_status()
    x = np.array(json.loads(body)["instances"], np.float32)
    expected = model.session.run(None, {"x": x})[0]
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-5)


def report(load: Load, limits: dict[int, list[float]]) -> None:
    """Prints the tables."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, ONNX Runtime {onnxruntime.__version__}")
    for batch, rates in limits.items():
        print(f"in process, batch {batch:2}: {statistics.median(rates):8.0f} rows/s")
    for connections, runs in load.results.items():
        rate, p50, p99 = (statistics.median(column) for column in zip(*runs, strict=True))
        batch = 1 if connections == 1 else 32
        ratios = [run[0] / limit for run, limit in zip(runs, limits[batch], strict=True)]
        print(
            f"HTTP, {connections:2} connections: {rate:8.0f} requests/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
            f"{statistics.median(ratios):.2f} of the limit at batch {batch} ({min(ratios):.2f}–{max(ratios):.2f})"
        )


def main() -> None:
    """Starts the processes, measures in turns, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of the model")
    parser.add_argument("--web", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.web:
        root, address, fd = given.web
        uvloop.run(serve_web(Path(root), address, socket.socket(fileno=int(fd))))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given)


def measure(root: Path, given: Any) -> None:
    """One whole measurement in a fresh home."""
    Home(root).run.mkdir()
    agent_lock = take_lock(Home(root).run / "agent.lock")
    replica, address = start_replica(root, given.threads)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listening.getsockname()[1]
    fd = listening.fileno()
    web = subprocess.Popen(
        [sys.executable, __file__, "--web", str(root), address, str(fd)], pass_fds=[fd]
    )
    url = f"http://127.0.0.1:{port}/v1/models/digits:predict"
    body = json.dumps(
        {"instances": np.random.default_rng(SEED).random((1, 28, 28, 1)).round(6).tolist()}
    ).encode()
    script = root / "post.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.body = [==[{body.decode()}]==]\n'
        f'wrk.headers["authorization"] = "Bearer {KEY.text}"\n'
        'wrk.headers["content-type"] = "application/json"\n'
    )
    try:
        model = InProcess(given.threads)
        compare(url, model, body)
        load, limits = Load(url, script), dict[int, list[float]]()
        for _ in range(given.rounds):
            for batch in (1, 32):
                limits.setdefault(batch, []).append(model.rows_per_s(batch, given.seconds))
            for connections in CONNECTIONS:
                load.run(connections, given.seconds)
        report(load, limits)
    finally:
        for process in (web, replica):
            process.kill()
            process.wait()
        if agent_lock is not None:
            os.close(agent_lock)


if __name__ == "__main__":
    main()
