"""What training costs beside the network itself: Modelry's loop against a bare PyTorch loop, and Keras.

    python benchmarks/train.py                                  both recipes, 7 rounds of 150 steps, 1 thread
    python benchmarks/train.py --recipe rnn --threads 2 --rounds 9
    python benchmarks/train.py --keras-python ~/tf/bin/python   the same networks in Keras on TensorFlow besides

Both loops train the same network from the same weights on the same batches of 32 random pictures of 28×28 bytes.
Modelry's loop is the whole of it: metrics, progress, stop checks, a checkpoint every ten seconds and the last one.
Per round each of ours, bare, bare again runs once, in changing order; a ratio compares runs of one round. CPU time is
that of the whole process, background threads included. `bare again ÷ bare` shows the noise of the machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modelry.core.recipes import get_recipe
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network
from modelry.worker.training.loop import Training
from modelry.worker.training.randomness import seed_everything
from modelry.worker.training.samples import TensorSamples, epoch_order

BATCH = 32
CLASSES = 10
SHAPE = (28, 28, 1)


@dataclass(frozen=True)
class Cost:
    """One run of one loop."""

    cpu_s: float
    wall_s: float
    #: A weight after the last step: both loops must end at the same place.
    mark: Tensor


def make_samples(rows: int, input_shape: tuple[int, ...]) -> TensorSamples:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (rows, *input_shape), generator=random, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (rows,), generator=random)
    return TensorSamples(inputs, labels, 1 / 255)


def make_network(recipe: str, params: dict[str, Any]) -> Network:
    seed_everything(0)
    return build_network(recipe, params, shape=SHAPE, classes=CLASSES)


def measure(work: Callable[[], None], network: Network) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(
        time.process_time() - cpu,
        time.perf_counter() - wall,
        network.get_parameter("classes.weight").detach().clone(),
    )


def run_bare(recipe: str, params: dict[str, Any], samples: TensorSamples) -> Cost:
    """The loop one writes by hand: nothing but the steps."""
    network = make_network(recipe, params)
    optimizer = torch.optim.Adam(network.parameters(), lr=params["learning_rate"], fused=True)

    def work() -> None:
        network.train()
        for index in torch.split(epoch_order(len(samples), 0, 0), BATCH):
            inputs = samples.inputs[index].float() * samples.scale
            loss = functional.cross_entropy(network(inputs), samples.labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return measure(work, network)


def run_ours(recipe: str, params: dict[str, Any], samples: TensorSamples, home: Path) -> Cost:
    """The same steps by the loop that the job runs."""
    spec = JobSpec(
        worker_id="job_bench-1",
        job_id="job_bench",
        attempt=1,
        kind="train",
        params={},
        artifacts=str(home / "blobs"),
    )
    folder = WorkerFolder(home / "run" / spec.worker_id)
    folder.create(spec)
    network = make_network(recipe, params)
    with closing(JobContext(folder, spec)) as context:
        training = Training(network, samples, params, context)
        return measure(training.run, network)


def run_rounds(recipe: str, rounds: int, steps: int) -> list[tuple[Cost, Cost, Cost]]:
    """(ours, bare, bare again) per round."""
    params = get_recipe(recipe).check({"epochs": 1, "batch_size": BATCH, "schedule": "constant"})
    samples = make_samples(steps * BATCH, make_network(recipe, params).input_shape)
    found = []
    for number in range(rounds + 1):
        costs: dict[int, Cost] = {}
        for turn in (number % 3, (number + 1) % 3, (number + 2) % 3):
            with tempfile.TemporaryDirectory() as home:
                costs[turn] = (
                    run_ours(recipe, params, samples, Path(home))
                    if turn == 0
                    else run_bare(recipe, params, samples)
                )
        if not torch.equal(costs[0].mark, costs[1].mark):
            raise SystemExit("the two loops do not train the same network")
        found.append((costs[0], costs[1], costs[2]))
    # The first round only warms up.
    return found[1:]


def summarise(recipe: str, rounds: list[tuple[Cost, Cost, Cost]], steps: int) -> dict[str, Any]:
    extra = [(ours.cpu_s / bare.cpu_s - 1) * 100 for ours, bare, _ in rounds]
    noise = [(again.cpu_s / bare.cpu_s - 1) * 100 for _, bare, again in rounds]
    rows = steps * BATCH
    return {
        "recipe": recipe,
        "rounds": len(rounds),
        "steps": steps,
        "extra_cpu_percent": median(extra),
        "extra_cpu_percent_range": [min(extra), max(extra)],
        "same_loop_twice_percent": median(noise),
        "same_loop_twice_percent_range": [min(noise), max(noise)],
        "cpu_ms_per_step_bare": median(bare.cpu_s for _, bare, _ in rounds) / steps * 1e3,
        "rows_per_s": median(rows / ours.wall_s for ours, _, _ in rounds),
        "rows_per_s_bare": median(rows / bare.wall_s for _, bare, _ in rounds),
    }


KERAS = """
import json, sys, time
recipe, steps, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
import numpy as np, tensorflow as tf
from tensorflow.keras import Sequential, layers
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(1)
random = np.random.default_rng(0)
shape = (28, 28, 1) if recipe == "cnn" else (28, 28)
x = random.random((steps * 32, *shape), dtype=np.float32)
y = random.integers(0, 10, steps * 32)
if recipe == "cnn":
    body = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Flatten(), layers.Dense(64, activation="relu")]
else:
    body = [layers.LSTM(128, return_sequences=True), layers.LSTM(128, return_sequences=True), layers.LSTM(128)]
model = Sequential([layers.Input(shape), *body, layers.Dense(10, activation="softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=1, verbose=0)
speeds = []
for _ in range(int(sys.argv[4])):
    began = time.perf_counter()
    model.fit(x, y, batch_size=32, epochs=1, verbose=0)
    speeds.append(len(x) / (time.perf_counter() - began))
print(json.dumps({"version": tf.__version__, "rows_per_s": sorted(speeds)[len(speeds) // 2]}))
"""


def run_keras(python: str, recipe: str, steps: int, threads: int, rounds: int) -> dict[str, Any]:
    """The same network in Keras on TensorFlow, in a process of its own."""
    command = [python, "-c", KERAS, recipe, str(steps), str(threads), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise SystemExit(f"{python} cannot run Keras on TensorFlow: {last[0]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def show(result: dict[str, Any]) -> None:
    low, high = result["extra_cpu_percent_range"]
    noise_low, noise_high = result["same_loop_twice_percent_range"]
    print(
        f"{result['recipe']}: extra CPU time per step {result['extra_cpu_percent']:+.2f} % "
        f"({low:+.2f} … {high:+.2f}); bare again ÷ bare {result['same_loop_twice_percent']:+.2f} % "
        f"({noise_low:+.2f} … {noise_high:+.2f})"
    )
    print(
        f"     {result['rows_per_s']:.0f} rows/s, bare {result['rows_per_s_bare']:.0f} rows/s, "
        f"{result['cpu_ms_per_step_bare']:.2f} ms of CPU per bare step"
    )
    if "keras" in result:
        keras = result["keras"]
        print(f"     Keras on TensorFlow {keras['version']}: {keras['rows_per_s']:.0f} rows/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", choices=("cnn", "rnn", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keras-python", help="an interpreter that has tensorflow")
    parser.add_argument("--json", action="store_true", help="print one JSON object per recipe")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {platform.platform()}")
    for recipe in ("cnn", "rnn") if options.recipe == "both" else (options.recipe,):
        rounds = run_rounds(recipe, options.rounds, options.steps)
        result = summarise(recipe, rounds, options.steps)
        if options.keras_python:
            result["keras"] = run_keras(
                options.keras_python, recipe, options.steps, options.threads, options.rounds
            )
        print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
