"""Modelry beside other servers of the same model, on this machine, in one interleaved run.

    benchmarks/peer_servers/setup FOLDER
    python benchmarks/peers.py --environments FOLDER [--rounds 5] [--seconds 4] [--model cnn|rnn] [--web 1]

Every server gets the same `model.onnx` (made by a training on the built-in digits), ONNX Runtime with one thread,
batches of at most 32 rows, and the same 16 pictures of 784 random numbers as JSON, one after the other. `wrk` (one
thread) asks at 1, 16 and 64 connections. Modelry runs as a whole service with keys, limits and metering on. A peer
that is not asked just now is paused (SIGSTOP), so that it takes no time from the one that is; Triton, whose watchdog
does not survive that, and BentoML, whose batching would learn from the pause, go on idling. A sample of the answers
is compared with the model run in this process. Only good answers count; an answer of Modelry that is not 200 ends the
run, those of a peer are told beside its line.

Printed: medians over the rounds, and for each peer the ratio of Modelry's rate to its own with the spread of single
rounds; the line `A/A` compares Modelry with itself and shows the noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime
import psutil

from tests.api import Api
from tests.service import running_service

HERE = Path(__file__).resolve().parent
SERVERS = HERE / "peer_servers"
CONNECTIONS = (1, 16, 64)
PICTURES = 16
SEED = 20
START_S = 90.0
#: Triton takes a paused Python model for dead; BentoML takes the pause for the time that a batch needs.
UNPAUSABLE = {"pytriton", "bentoml"}
#: Each server may take a batch of 32 and wait for it no longer than its own pages advise.
MLSERVER_BATCH = {"max_batch_size": 32, "max_batch_time": 0.001}


@dataclass
class Contender:
    """One server, ready to be asked."""

    name: str
    url: str
    bodies: list[str]
    read: Callable[[Any], Any]
    headers: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    may_pause: bool = True
    may_fail: bool = True
    failures: int = 0
    #: Connections → (requests/s, p50 ms, p99 ms) of each round.
    results: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)

    def signal(self, number: int) -> None:
        """To the server with all its processes; Modelry needs no pause, it sleeps when nobody asks."""
        is_pause = number in (signal.SIGSTOP, signal.SIGCONT)
        if self.process is None or (is_pause and not self.may_pause):
            return
        # Some put their workers into sessions of their own.
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.process.pid)
            for one in (*server.children(recursive=True), server):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)

    def ask(self, body: str) -> Any:
        """One answer's numbers."""
        headers = {"content-type": "application/json", **self.headers}
        request = urllib.request.Request(self.url, body.encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return self.read(json.load(answer))

    def load(self, script: Path, connections: int, seconds: int) -> tuple[float, float, float]:
        """One measurement with wrk, of which the good answers count."""
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "--timeout",
            "20s",
        ]
        done = subprocess.run(
            [*command, "-s", str(script), self.url], capture_output=True, text=True, check=True
        )
        failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
        if not self.may_fail and (failed is not None or "Socket errors" in done.stdout):
            raise SystemExit(f"{self.name} failed under load:\n{done.stdout}")
        if "Socket errors" in done.stdout:
            print(f"{self.name}: {done.stdout}", flush=True)
        refused = int(failed[1]) if failed is not None else 0
        self.failures += refused
        found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        total = re.search(r"(\d+) requests in", done.stdout)
        assert found is not None
        assert total is not None
        good = 1 - refused / max(1, int(total[1]))
        return float(found[1]) * good, _percentile(done.stdout, 50), _percentile(done.stdout, 99)


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
    assert found is not None
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def free_port(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    for port in range(21000, 29000, 10):
        with contextlib.ExitStack() as taken:
            try:
                for offset in range(count):
                    one = taken.enter_context(socket.socket())
                    one.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
    raise SystemExit("no free ports")


def peers(environments: Path, model: Path, work: Path, pictures: np.ndarray) -> Iterator[Contender]:
    """Every peer whose environment is there, started and answering."""
    v2 = [json.dumps({"inputs": [_v2_input(picture)]}) for picture in pictures]
    rows = [json.dumps({"x": picture.tolist()}) for picture in pictures]
    single = [json.dumps({"x": picture[0].tolist()}) for picture in pictures]
    starts: dict[
        str, Callable[[int], tuple[list[str], Path, str, list[str], Callable[[Any], Any]]]
    ] = {
        "pytriton": lambda port: (
            ["python", str(SERVERS / "pytriton_server.py"), str(model), str(port)],
            work,
            "/v2/models/cnn/infer",
            v2,
            _read_v2,
        ),
        "mlserver": lambda port: (
            ["mlserver", "start", str(_mlserver_folder(work, port))],
            work,
            "/v2/models/cnn/infer",
            v2,
            _read_v2,
        ),
        "litserve": lambda port: (
            ["python", str(SERVERS / "litserve_server.py"), str(model), str(port)],
            work,
            "/predict",
            single,
            lambda answer: [answer["predictions"]],
        ),
        "bentoml": lambda port: (
            ["bentoml", "serve", "bentoml_service:Cnn", "--host", "127.0.0.1", "--port", str(port)],
            SERVERS,
            "/predict",
            rows,
            lambda answer: answer,
        ),
    }
    for name, start in starts.items():
        bin_ = environments / name / "bin"
        if not bin_.exists():
            print(f"{name}: no environment, left out", flush=True)
            continue
        port = free_port(3)
        command, folder, path, bodies, read = start(port)
        yield _started(
            name, bin_, command, folder, model, work, f"http://127.0.0.1:{port}{path}", bodies, read
        )


def _started(
    name: str,
    bin_: Path,
    command: list[str],
    folder: Path,
    model: Path,
    work: Path,
    url: str,
    bodies: list[str],
    read: Callable[[Any], Any],
) -> Contender:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MODELRY_")},
        "MODEL": str(model),
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "BENTOML_DO_NOT_TRACK": "1",
        "PYTHONPATH": str(SERVERS),
    }
    with (work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(bin_ / command[0]), *command[1:]],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    contender = Contender(
        name, url, bodies, read, process=process, may_pause=name not in UNPAUSABLE
    )
    deadline = time.monotonic() + START_S
    while True:
        try:
            contender.ask(bodies[0])
            return contender
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                contender.signal(signal.SIGKILL)
                text = (work / f"{name}.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{name} does not answer ({error}):\n{text}") from None
            time.sleep(0.3)


def _v2_input(picture: np.ndarray) -> dict[str, Any]:
    return {
        "name": "x",
        "datatype": "FP32",
        "shape": list(picture.shape),
        "data": picture.ravel().tolist(),
    }


def _read_v2(answer: Any) -> Any:
    output = answer["outputs"][0]
    return np.asarray(output["data"]).reshape(output["shape"]).tolist()


def _mlserver_folder(work: Path, port: int) -> Path:
    folder = work / "mlserver"
    folder.mkdir()
    shutil.copy(SERVERS / "mlserver_model.py", folder)
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
        "access_log": False,
    }
    model = {"name": "cnn", "implementation": "mlserver_model.Cnn", **MLSERVER_BATCH}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return folder


def write_script(file: Path, contender: Contender) -> None:
    """wrk's own language: a table of bodies, the next one with each request."""
    table = ",\n".join(f"[==[{body}]==]" for body in contender.bodies)
    headers = {"content-type": "application/json", **contender.headers}
    file.write_text(
        f"bodies = {{{table}}}\n"
        'wrk.method = "POST"\n'
        + "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in headers.items())
        + "turn = 0\n"
        "function request()\n"
        "  turn = turn % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[turn])\n"
        "end\n"
    )


def compare_answers(contenders: list[Contender], model: Path, pictures: np.ndarray) -> None:
    """Every server's answers to all pictures beside the model's own."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for contender in contenders:
        contender.signal(signal.SIGCONT)
        for picture, body in zip(pictures, contender.bodies, strict=True):
            expected = session.run(None, {"x": picture.astype(np.float32)})[0]
            np.testing.assert_allclose(contender.ask(body), expected, atol=1e-5)
        if contender.process is not None:
            contender.signal(signal.SIGSTOP)


def measure(contenders: list[Contender], work: Path, rounds: int, seconds: int) -> None:
    """All contenders at all connection counts, in turns; every second round backwards."""
    for contender in contenders:
        write_script(work / f"{contender.name}.lua".replace("/", "-"), contender)
    for turn in range(rounds):
        for connections in CONNECTIONS:
            for contender in contenders if turn % 2 == 0 else contenders[::-1]:
                script = work / f"{contender.name}.lua".replace("/", "-")
                contender.signal(signal.SIGCONT)
                contender.load(script, connections, 1)
                result = contender.load(script, connections, seconds)
                contender.results.setdefault(connections, []).append(result)
                contender.signal(signal.SIGSTOP)
                print(
                    f"round {turn + 1} {contender.name:12} {connections:3}: {result[0]:8.0f}/s",
                    flush=True,
                )


def report(contenders: list[Contender]) -> None:
    """The tables."""
    ours = contenders[0]
    for connections in CONNECTIONS:
        print(f"\n{connections} connection(s)")
        print(
            f"{'':12} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8}   Modelry's rate ÷ theirs (spread)"
        )
        for contender in contenders:
            runs = contender.results[connections]
            rate, p50, p99 = (statistics.median(column) for column in zip(*runs, strict=True))
            ratios = [
                mine[0] / theirs[0]
                for mine, theirs in zip(ours.results[connections], runs, strict=True)
            ]
            print(
                f"{contender.name:12} {rate:8.0f} {p50:8.2f} {p99:8.2f}   "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            )
    for contender in contenders:
        if contender.failures:
            print(f"{contender.name} refused {contender.failures} requests in all")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(os.environ.get("MODELRY_PEERS", "/nonexistent")),
        help="the folder that peer_servers/setup filled; also MODELRY_PEERS",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--model", choices=("cnn", "rnn"), default="cnn")
    parser.add_argument("--web", type=int, default=1, help="Modelry's web processes")
    given = parser.parse_args()
    shape = (1, 28, 28, 1) if given.model == "cnn" else (1, 28, 28)
    pictures = np.random.default_rng(SEED).random((PICTURES, *shape)).round(6)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        work = Path(folder)
        service = ends.enter_context(running_service(work / "home", web=str(given.web)))
        api = ends.enter_context(Api(service))
        api.add_digits()
        api.wait_job(api.train(model="digits", recipe=given.model))
        api.deploy("digits", "digits")
        model = work / "model.onnx"
        model.write_bytes(
            api.ask("GET", "/api/v1/models/digits/versions/1/files/model.onnx").content
        )
        bodies = [json.dumps({"instances": picture.tolist()}) for picture in pictures]
        contenders = [
            Contender(
                name,
                f"{service.url}/v1/models/digits:predict",
                bodies,
                lambda answer: answer["predictions"],
                {"authorization": f"Bearer {service.key}"},
                may_fail=False,
            )
            for name in ("modelry", "modelry A/A")
        ]
        for peer in peers(given.environments, model, work, pictures):
            ends.callback(peer.signal, signal.SIGKILL)
            ends.callback(peer.signal, signal.SIGCONT)
            contenders.append(peer)
            peer.signal(signal.SIGSTOP)
        compare_answers(contenders, model, pictures)
        measure(contenders, work, given.rounds, given.seconds)
        report(contenders)


if __name__ == "__main__":
    main()
