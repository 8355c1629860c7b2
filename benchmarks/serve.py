"""Predictions over HTTP beside the in-process limit of the same model.

    python benchmarks/serve.py [--rounds 5] [--seconds 3] [--web 1]

A whole service (keys, database, controller, agent, one forked replica with one compute thread) serves the reference
CNN (28×28×1, 121,930 parameters, trained for one epoch on the built-in digits). `wrk` asks it with 16 different
pictures as JSON at 1, 16 and 64 connections; in turns with it the exported `model.onnx` runs in this process at batch
1 and 32 with one thread. Prints medians and the ratio of HTTP to the in-process limit with its spread over the rounds.
Answers are compared first; an answer that is not 200 ends the run.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime

from tests.api import Api
from tests.service import running_service

CONNECTIONS = (1, 16, 64)
PICTURES = 16
SEED = 20


@contextmanager
def deployed(folder: Path, web: int) -> Iterator[tuple[Api, str, str, bytes]]:
    """A service with the reference network deployed: API, address of the call, key, `model.onnx`."""
    with running_service(folder / "home", web=str(web)) as service, Api(service) as api:
        api.add_digits()
        api.wait_job(api.train(model="digits"))
        api.deploy("digits", "digits")
        onnx = api.ask("GET", "/api/v1/models/digits/versions/1/files/model.onnx").content
        yield api, service.url + "/v1/models/digits:predict", service.key, onnx


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
        return np.asarray(self._session.run(None, {"x": x})[0])

    def rows_per_s(self, batch: int, seconds: float) -> float:
        """How many rows a second a loop of calls gets through."""
        x = np.random.default_rng(SEED).random((batch, 28, 28, 1)).astype(np.float32)
        calls, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            self.answer(x)
            calls += 1
        return calls * batch / passed


@dataclass
class Load:
    """wrk against the service, each request with the next picture."""

    url: str
    script: Path
    #: Connections → (requests/s, p50 ms, p99 ms) of each round.
    results: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)

    def run(self, connections: int, seconds: int) -> None:
        """One measurement; refuses to count a run with failures."""
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        done = subprocess.run(
            [*command, "-s", str(self.script), self.url], capture_output=True, text=True, check=True
        )
        assert "Non-2xx" not in done.stdout, done.stdout
        assert "Socket errors" not in done.stdout, done.stdout
        found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        assert found is not None
        latency = (_percentile(done.stdout, 50), _percentile(done.stdout, 99))
        self.results.setdefault(connections, []).append((float(found[1]), *latency))


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
    assert found is not None
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def write_script(file: Path, key: str, bodies: list[str]) -> None:
    """wrk's own language: a table of bodies, the next one with each request."""
    table = ",\n".join(f"[==[{body}]==]" for body in bodies)
    file.write_text(
        f"bodies = {{{table}}}\n"
        'wrk.method = "POST"\n'
        f'wrk.headers["authorization"] = "Bearer {key}"\n'
        'wrk.headers["content-type"] = "application/json"\n'
        "turn = 0\n"
        "function request()\n"
        "  turn = turn % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[turn])\n"
        "end\n"
    )


def report(load: Load, limits: dict[int, list[float]], web: int) -> None:
    """Prints the tables."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, ONNX Runtime {onnxruntime.__version__}, {web} web process(es)")
    for batch, rates in limits.items():
        print(f"in process, batch {batch:2}: {statistics.median(rates):8.0f} rows/s")
    for connections, runs in load.results.items():
        rate, p50, p99 = (statistics.median(column) for column in zip(*runs, strict=True))
        batch = 1 if connections == 1 else 32
        ratios = [run[0] / limit for run, limit in zip(runs, limits[batch], strict=True)]
        print(
            f"HTTP, {connections:2} connections: {rate:8.0f} requests/s, p50 {p50:.2f} ms, "
            f"p99 {p99:.2f} ms, {statistics.median(ratios):.2f} of the limit at batch {batch} "
            f"({min(ratios):.2f}–{max(ratios):.2f})"
        )


def measure(folder: Path, rounds: int, seconds: int, web: int) -> None:
    """One whole measurement in a fresh home."""
    pictures = np.random.default_rng(SEED).random((PICTURES, 1, 28, 28, 1)).round(6)
    bodies = [json.dumps({"instances": picture.tolist()}) for picture in pictures]
    with deployed(folder, web) as (api, url, key, onnx):
        model = InProcess(onnx)
        for picture, body in zip(pictures, bodies, strict=True):
            answer = api.call("POST", "/v1/models/digits:predict", content=body)["predictions"]
            np.testing.assert_allclose(answer, model.answer(picture.astype(np.float32)), atol=1e-5)
        write_script(folder / "post.lua", key, bodies)
        load, limits = Load(url, folder / "post.lua"), dict[int, list[float]]()
        for _ in range(rounds):
            for batch in (1, 32):
                limits.setdefault(batch, []).append(model.rows_per_s(batch, seconds))
            for connections in CONNECTIONS:
                load.run(connections, seconds)
    report(load, limits, web)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--web", type=int, default=1, help="web processes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given.rounds, given.seconds, given.web)


if __name__ == "__main__":
    main()
