"""Predictions over HTTP: the fast path, the same through ASGI, binary tensors, and the in-process limit of the model.

    python benchmarks/serve.py [--rounds 5] [--seconds 3] [--web 1] [--recipe cnn|rnn]

Two whole services (keys, limits, metering, database, controller, agent, one forked replica with one compute thread)
serve the same network, trained for one epoch on the built-in digits: one as it is, one with `MODELRY_FAST=false`.
`wrk` (one thread, on the same cores) asks them in turns with 16 different pictures: as JSON at 1, 16 and 64
connections, as binary tensors (Open Inference Protocol) with 1 picture at 64 connections and with 32 at 4. Beside
them the exported `model.onnx` runs in this process at batch 1 and 32 with one thread. Each round takes all of them,
every other round in reverse. Prints medians, the lowest and highest ratio of the rounds, and the CPU time that web
process and replica spent on each request. Answers are compared first; an answer that is not 200 ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime
import psutil

from tests.api import Api
from tests.service import Service, running_service

PICTURES = 16
SEED = 20
SHAPES = {"cnn": (28, 28, 1), "rnn": (28, 28)}
INPUT, OUTPUT = "x", "probabilities"


class InProcess:
    """The model alone, with one thread."""

    def __init__(self, onnx: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Probabilities, N×10."""
        return np.asarray(self._session.run(None, {INPUT: x})[0])

    def rows_per_s(self, x: np.ndarray, seconds: float) -> float:
        """How many rows a second a loop of calls gets through."""
        calls, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            self.answer(x)
            calls += 1
        return calls * len(x) / passed


@dataclass
class Front:
    """One running service with the network deployed."""

    service: Service
    api: Api
    onnx: bytes

    @property
    def processes(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """Web processes and replicas."""
        assert self.service.process is not None
        children = psutil.Process(self.service.process.pid).children(recursive=True)
        named = [(process, " ".join(process.cmdline())) for process in children]
        web = [process for process, line in named if "server.api.serve" in line]
        agents = [process for process, line in named if "worker.agent" in line]
        return web, [replica for agent in agents for replica in agent.children()]

    def cpu_s(self) -> tuple[float, float]:
        """What web processes and replicas have used so far."""
        web, replicas = self.processes
        return _cpu_s(web), _cpu_s(replicas)


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in {p.pid: p for p in processes}.values()]
    return sum(one.user + one.system for one in times)


@contextmanager
def deployed(folder: Path, recipe: str, **settings: str) -> Iterator[Front]:
    """A service with the network trained and deployed."""
    with running_service(folder / "home", **settings) as service, Api(service) as api:
        api.add_digits()
        api.wait_job(api.train(model="digits", recipe=recipe))
        api.deploy("digits", "digits")
        onnx = api.ask("GET", "/api/v1/models/digits/versions/1/files/model.onnx").content
        yield Front(service, api, onnx)


@dataclass(frozen=True)
class Call:
    """What `wrk` sends: one of several bodies with each request."""

    path: str
    bodies: list[bytes]
    headers: dict[str, str]
    rows: int
    #: The body of an answer → probabilities.
    read: Callable[[bytes], np.ndarray]


def json_call(x: np.ndarray) -> Call:
    """Each picture by itself, in TensorFlow Serving's words."""
    bodies = [json.dumps({"instances": row[None].tolist()}).encode() for row in x]
    headers = {"content-type": "application/json"}
    return Call(
        "/v1/models/digits:predict",
        bodies,
        headers,
        1,
        lambda answer: np.array(json.loads(answer)["predictions"], np.float32),
    )


def binary_call(x: np.ndarray, rows: int) -> Call:
    """So many pictures together, as the binary extension of the Open Inference Protocol."""
    raw = [np.roll(x, -at, 0)[:rows].astype("<f4") for at in range(PICTURES)]
    about = {
        "inputs": [
            {
                "name": INPUT,
                "shape": list(raw[0].shape),
                "datatype": "FP32",
                "parameters": {"binary_data_size": raw[0].nbytes},
            }
        ],
        "outputs": [{"name": OUTPUT, "parameters": {"binary_data": True}}],
    }
    head = json.dumps(about).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    bodies = [head + picture.tobytes() for picture in raw]
    return Call(
        "/v2/models/digits/infer",
        bodies,
        headers,
        rows,
        lambda answer: np.frombuffer(answer[-rows * 40 :], "<f4").reshape(rows, 10),
    )


@dataclass
class Load:
    """wrk with one call at so many connections; what it measured in each round."""

    name: str
    front: Front
    call: Call
    connections: int
    script: Path
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    web_us: list[float] = field(default_factory=list)
    replica_us: list[float] = field(default_factory=list)

    def check(self, model: InProcess, inputs: list[np.ndarray]) -> None:
        """Every body's answer must be the model's."""
        for body, x in zip(self.call.bodies, inputs, strict=True):
            answer = self.front.api.ask(
                "POST", self.call.path, content=body, headers=self.call.headers
            ).raise_for_status()
            np.testing.assert_allclose(self.call.read(answer.content), model.answer(x), atol=1e-5)

    def prepare(self) -> None:
        """Bodies as files, and wrk's own language to send them in turn."""
        files = [self.script.with_suffix(f".{at}") for at in range(len(self.call.bodies))]
        for file, body in zip(files, self.call.bodies, strict=True):
            file.write_bytes(body)
        headers = {"authorization": f"Bearer {self.front.service.key}", **self.call.headers}
        self.script.write_text(
            "bodies, turn = {}, 0\n"
            # An open file would take a descriptor that wrk counts on for its connections.
            "function add(name)\n"
            '  local file = io.open(name, "rb")\n'
            '  table.insert(bodies, file:read("*all"))\n'
            "  file:close()\n"
            "end\n"
            + "".join(f'add("{file}")\n' for file in files)
            + 'wrk.method = "POST"\n'
            + "".join(f'wrk.headers["{name}"] = "{text}"\n' for name, text in headers.items())
            + "function request()\n"
            + "  turn = turn % #bodies + 1\n"
            + "  return wrk.format(nil, nil, nil, bodies[turn])\n"
            + "end\n"
        )

    def run(self, seconds: int) -> None:
        """One measurement; refuses to count a run with failures."""
        before = self.front.cpu_s()
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--latency"]
        url = self.front.service.url + self.call.path
        done = subprocess.run(
            [*command, "-s", str(self.script), url], capture_output=True, text=True, check=True
        )
        assert "Non-2xx" not in done.stdout, done.stdout
        assert "Socket errors" not in done.stdout, done.stdout
        requests = int(_found(r"(\d+) requests in", done.stdout))
        web, replica = (
            (now - then) / requests * 1e6
            for now, then in zip(self.front.cpu_s(), before, strict=True)
        )
        self.web_us.append(web)
        self.replica_us.append(replica)
        self.rates.append(float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout)))
        self.p50_ms.append(_percentile(done.stdout, 50))
        self.p99_ms.append(_percentile(done.stdout, 99))


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
    assert found is not None
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def report(loads: list[Load], limits: dict[int, list[float]], web: int, recipe: str) -> None:
    """Prints the tables."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, ONNX Runtime {onnxruntime.__version__}, {web} web process(es), {recipe}")
    for batch, rates in limits.items():
        print(f"in process, batch {batch:2}: {statistics.median(rates):8.0f} rows/s")
    print(f"{'':34}{'requests/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'web µs':>8}{'replica µs':>12}")
    for load in loads:
        print(
            f"{load.name:34}{statistics.median(load.rates):11.0f}"
            f"{statistics.median(load.p50_ms):9.2f}{statistics.median(load.p99_ms):9.2f}"
            f"{statistics.median(load.web_us):8.0f}{statistics.median(load.replica_us):12.0f}"
        )
    named = {load.name: load for load in loads}
    for connections in (1, 16, 64):
        name = f"JSON, {connections} connections"
        _ratio(f"fast / ASGI, {connections} connections", named[name], named[f"{name}, ASGI"])
    _ratio("binary / JSON, 64 connections", named["binary, 64"], named["JSON, 64 connections"])
    rows = [32 * rate for rate in named["binary × 32, 4"].rates]
    _print_ratio("binary × 32, rows / in process", rows, limits[32])


def _ratio(name: str, one: Load, other: Load) -> None:
    _print_ratio(name, one.rates, other.rates)


def _print_ratio(name: str, ones: list[float], others: list[float]) -> None:
    ratios = [one / other for one, other in zip(ones, others, strict=True)]
    print(f"{name:34}{statistics.median(ratios):11.2f}  ({min(ratios):.2f}–{max(ratios):.2f})")


def measure(folder: Path, rounds: int, seconds: int, web: int, recipe: str) -> None:
    """One whole measurement in fresh homes."""
    rng = np.random.default_rng(SEED)
    x = rng.random((PICTURES, *SHAPES[recipe])).round(6)
    many = np.concatenate([x] * (1 + 32 // PICTURES)).astype(np.float32)
    with ExitStack() as stack:
        fronts = []
        for name, fast in (("fast", "true"), ("asgi", "false")):
            (folder / name).mkdir()
            there = deployed(folder / name, recipe, web=str(web), fast=fast)
            fronts.append(stack.enter_context(there))
        fast_front, asgi = fronts
        single = json_call(x)
        loads = [
            Load(f"JSON, {n} connections{mark}", front, single, n, folder / f"{n}{mark}.lua")
            for n in (1, 16, 64)
            for front, mark in ((fast_front, ""), (asgi, ", ASGI"))
        ]
        one, batch = binary_call(many, 1), binary_call(many, 32)
        loads.append(Load("binary, 64", fast_front, one, 64, folder / "one.lua"))
        loads.append(Load("binary × 32, 4", fast_front, batch, 4, folder / "batch.lua"))
        models = {id(front): InProcess(front.onnx) for front in fronts}
        for load in loads:
            inputs = [np.roll(many, -at, 0)[: load.call.rows] for at in range(PICTURES)]
            load.check(models[id(load.front)], inputs)
            load.prepare()
        limits: dict[int, list[float]] = {1: [], 32: []}
        for turn in range(rounds):
            for rows in limits:
                limits[rows].append(models[id(fast_front)].rows_per_s(many[:rows], seconds))
            for load in loads if turn % 2 == 0 else reversed(loads):
                load.run(seconds)
    report(loads, limits, web, recipe)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--web", type=int, default=1, help="web processes of each service")
    parser.add_argument("--recipe", choices=sorted(SHAPES), default="cnn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given.rounds, given.seconds, given.web, given.recipe)


if __name__ == "__main__":
    main()
