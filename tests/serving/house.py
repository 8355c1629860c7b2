"""A small house for tests of the inference path: real replica processes, a real gateway, no store and no agent."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelry.artifacts import Artifacts
from modelry.core.durable import take_lock
from modelry.core.files import FileRef
from modelry.core.home import Home
from modelry.core.keys import key_hmac, new_key
from modelry.core.manifests import (
    ImageInput,
    ModelManifest,
    RuntimeForm,
    TensorSpec,
    Verification,
)
from modelry.core.records import Key, KeyRow, Route, Snapshot
from modelry.core.settings import Settings
from modelry.core.specs import ReplicaSpec
from modelry.core.states import DeploymentState
from modelry.core.tensors import Array, decode_payload, encode_payload
from modelry.server.gateway import Caller, Gateway, Reply
from modelry.server.gateway.dispatch import ReplicaLink
from modelry.worker.folder import WorkerFolder

PEPPER = b"p" * 32
HERE = Path(__file__).parent
VERIFICATION = Verification(
    max_difference=0.0,
    tolerance=1e-5,
    samples=256,
    batch_sizes=[1, 3, 32],
    disagreements=0,
    rows_per_s=1.0,
    original_rows_per_s=1.0,
)


@dataclass(frozen=True)
class Package:
    """A model version in the artifacts."""

    manifest: ModelManifest
    files: list[FileRef]
    version: int
    #: What the model must answer.
    expect: Callable[[Array], Array]


@dataclass
class Process:
    """One replica."""

    id: str
    version: int
    popen: subprocess.Popen[bytes]
    folder: WorkerFolder

    @property
    def address(self) -> str | None:
        return self.folder.read_address()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def drain(self) -> None:
        self.popen.send_signal(signal.SIGTERM)


@dataclass
class House:
    """Everything between a payload and a replica's answer."""

    root: Path
    state: DeploymentState = DeploymentState.READY
    wished: int = 1
    replicas: list[Process] = field(default_factory=list)
    packages: dict[int, Package] = field(default_factory=dict)
    max_batch: int = 32
    max_queue: int = 1024
    number: int = 0
    plugin: Path | None = None
    #: Nobody has a key any more.
    is_locked: bool = False
    #: Replicas that somebody else started: worker id → version.
    elsewhere: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = Home(self.root)
        self.home.run.mkdir(parents=True)
        self.agent_lock = take_lock(self.home.run / "agent.lock")
        self.artifacts = Artifacts(str(self.home.blobs))
        self.key = new_key()

    def linear(self, version: int = 1) -> Package:
        """A classifier of 4×2 grey pictures with weights of its own, as an ONNX graph."""
        rng = np.random.default_rng(version)
        weights = rng.normal(size=(8, 3)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("Flatten", ["x"], ["flat"]),
                helper.make_node("MatMul", ["flat", "w"], ["logits"]),
                helper.make_node("Softmax", ["logits"], ["probabilities"]),
            ],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 2, 1])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
            [numpy_helper.from_array(weights, "w")],
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)

        def expect(x: Array) -> Array:
            powers = np.exp(x.reshape(len(x), -1) @ weights)
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))

        content = {"model.onnx": model.SerializeToString()}
        return self._publish(version, "onnxruntime", content, (4, 2, 1), ["a", "b", "字"], expect)

    def hostile(self, version: int = 1) -> Package:
        """A model served by the runtime of `hostile_runtime.py`, which is installed as a plug-in."""
        self.plugin = self.root / "plugin"
        info = self.plugin / "hostile_runtime-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "hostile_runtime.py", self.plugin)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: hostile-runtime\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(
            "[modelry.runtimes]\nhostile = hostile_runtime:load\n"
        )
        content = {"model.txt": str(self.root).encode()}
        return self._publish(
            version, "hostile", content, (2,), ["yes", "no"], lambda x: np.stack([x[:, 0], 1 - x[:, 0]], 1)
        )  # fmt: skip

    def _publish(
        self,
        version: int,
        runtime: str,
        content: dict[str, bytes],
        shape: tuple[int, ...],
        labels: list[str],
        expect: Callable[[Array], Array],
    ) -> Package:
        picture = len(shape) == 3
        media = ImageInput(height=4, width=2, channels=1, scale=1 / 255, input="x", shape=[4, 2, 1])
        manifest = ModelManifest(
            task="image-classification",
            recipe=None,
            inputs=[TensorSpec(name="x", dtype="float32", shape=[None, *shape])],
            outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, len(labels)])],
            labels=labels,
            media=media if picture else None,
            metrics={},
            lineage={},
            runtimes={runtime: RuntimeForm(file=next(iter(content)), verification=VERIFICATION)},
            files={},
        )
        content = {"model.json": msgspec.json.encode(manifest), **content}
        files = [self.artifacts.put_bytes(data, path) for path, data in content.items()]
        self.packages[version] = Package(manifest, files, version, expect)
        return self.packages[version]

    def start(self, version: int = 1) -> Process:
        """One more replica process; it is ready a moment later."""
        replica_id = "rep_" + secrets.token_hex(8)
        folder = WorkerFolder.under(self.home.run, replica_id)
        folder.create(
            ReplicaSpec(
                worker_id=replica_id,
                replica_id=replica_id,
                deployment="digits",
                model="mnist",
                version=version,
                files=self.packages[version].files,
                artifacts=str(self.home.blobs),
                max_batch=self.max_batch,
                max_queue=self.max_queue,
            )
        )
        lock = folder.take_lock()
        assert lock is not None
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if self.plugin is not None:
            environment["PYTHONPATH"] = str(self.plugin)
        with folder.output.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "modelry.worker.replica", str(folder.path), str(self.root), str(lock)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock], env=environment,
            )  # fmt: skip
        os.close(lock)
        process = Process(replica_id, version, popen, folder)
        self.replicas.append(process)
        return process

    def started(self, version: int = 1) -> Process:
        """One more replica, ready."""
        process = self.start(version)
        wait_until(lambda: process.address is not None or process.popen.poll() is not None)
        assert process.address is not None, process.folder.last_words()
        return process

    def snapshot(self) -> Snapshot:
        """What the store would say: replicas that have an address and were not taken out."""
        self.number += 1
        known = [(p.id, p.version, p.folder) for p in self.replicas] + [
            (worker_id, version, WorkerFolder.under(self.home.run, worker_id))
            for worker_id, version in self.elsewhere.items()
        ]
        addresses = [(id, version, folder.read_address()) for id, version, folder in known]
        route = Route(
            deployment_id="dep_1",
            project="default",
            name="digits",
            state=self.state,
            model="mnist",
            version=self.wished,
            max_batch=self.max_batch,
            failure=None,
            replicas=tuple((id, version, at) for id, version, at in addresses if at is not None),
            manifests={n: msgspec.to_builtins(p.manifest) for n, p in self.packages.items()},
        )
        key = Key(id=self.key.id, label="t", project="default", scopes=("infer",), created_at=0.0)
        row = KeyRow(key=key, secret_hmac=key_hmac(PEPPER, self.key))
        return Snapshot(
            number=self.number,
            routes={("default", "digits"): route},
            keys={} if self.is_locked else {key.id: row},
        )

    def gateway(self, **settings: Any) -> Gateway:
        """A gateway that reads this house's snapshot."""
        return Gateway(self.snapshot, PEPPER, Settings(home=self.root, **settings))

    def close(self) -> None:
        """Ends every process."""
        for process in self.replicas:
            process.popen.kill()
            process.popen.wait(10)
        if self.agent_lock is not None:
            os.close(self.agent_lock)
        shutil.rmtree(self.home.sockets, ignore_errors=True)

    @property
    def seen(self) -> list[int]:
        """The batch sizes that hostile models were given, in order, the warm-ups' among them."""
        return [int(line) for line in (self.root / "seen").read_text().split()]

    def release(self) -> None:
        """Lets hanging runtime calls return."""
        (self.root / "release").touch()


def wait_until(is_true: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Looks again and again, until it is true."""
    deadline = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.005)


async def until(is_true: Callable[[], bool], patience_s: float = 20.0) -> None:
    """The same beside a running loop."""
    deadline = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.005)


def live(story: Coroutine[Any, Any, None], limit_s: float = 60.0) -> None:
    """Runs a story to its end, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(limit_s):
            await story

    asyncio.run(limited())


class Client:
    """Asks the gateway as a door would."""

    def __init__(self, house: House, gateway: Gateway) -> None:
        self.gateway = gateway
        self.house = house
        self.caller: Caller = gateway.authorize(house.key.text, None, "infer")

    async def ask(self, x: Array, **options: Any) -> tuple[Reply, Array]:
        """The reply, and the probabilities in it."""
        payload = encode_payload({"x": x.astype(np.float32)})
        reply = await self.gateway.infer(self.caller, "digits", payload, **options)
        return reply, decode_payload(reply.payload).tensors["probabilities"]

    async def check(self, x: Array, **options: Any) -> Reply:
        """Asks, and compares the answer with what the answering version must say."""
        reply, got = await self.ask(x, **options)
        np.testing.assert_allclose(got, self.house.packages[reply.version].expect(x), atol=1e-5)
        return reply


def count_lost(gateway: Gateway) -> list[int]:
    """How many requests each connection that ends takes with it, to be tried again; grows as they end."""
    lost: list[int] = []
    dispatch = gateway._dispatch
    note = dispatch.lost

    def counting(link: ReplicaLink) -> None:
        lost.append(len(link.requests))
        note(link)

    dispatch.lost = counting  # type: ignore[method-assign]
    return lost


def pictures(rows: int, seed: int = 0) -> Array:
    """Inputs of the linear model."""
    return np.random.default_rng(seed).random((rows, 4, 2, 1)).astype(np.float32)
