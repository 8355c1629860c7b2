"""How good each recipe gets on real data, and how long that takes: trained through a real service, three seeds a row.

    python benchmarks/acceptance.py [--rows cnn,mlp] [--seeds 0,1,2] [--results FILE]

Resumable: each training's result is kept in the file as it comes, and a row that is there is not trained again. The
last column says whether the median of the seeds reaches the goal within the minutes allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_data import LAYOUTS

import modelry

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared" / "data"
_START_S = 60.0


@dataclass(frozen=True)
class Goal:
    """One figure of a model's metrics."""

    name: str
    read: Callable[[dict[str, Any]], float]
    at_least: float


@dataclass(frozen=True)
class Row:
    """A recipe on a data set, and what it must reach."""

    name: str
    recipe: str
    data: str
    goals: tuple[Goal, ...]
    minutes: float
    preset: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


def accuracy(at_least: float) -> Goal:
    return Goal("accuracy", lambda metrics: float(metrics["accuracy"]), at_least)


def f1(label: str, at_least: float) -> Goal:
    return Goal(
        f"F1 of {label}",
        lambda metrics: next(
            float(one["f1"]) for one in metrics["classes"] if one["label"] == label
        ),
        at_least,
    )


def figure(name: str, at_least: float) -> Goal:
    return Goal(name, lambda metrics: float(metrics[name]), at_least)


ROWS = (
    Row("cnn", "cnn", "mnist", (accuracy(0.992),), 3, preset="fast"),
    Row("rnn-gru", "rnn", "japanese-vowels", (accuracy(0.97),), 1),
    Row("rnn-lstm", "rnn", "japanese-vowels", (accuracy(0.95),), 1, params={"cell": "lstm"}),
    Row("rnn-spam", "rnn", "sms-spam", (f1("spam", 0.93),), 2),
    Row("rnn-intents", "rnn", "banking77", (accuracy(0.87),), 4),
    Row("transformer", "transformer-classifier", "banking77", (accuracy(0.84),), 4),
    Row("mlp", "mlp", "adult", (accuracy(0.85), figure("auc", 0.905)), 3),
    Row("mlp-credit", "mlp", "credit-default", (accuracy(0.80),), 3),
    Row("forecast", "forecast", "beijing-pm25", (figure("gain", 0.10),), 3),
    Row("speech", "speech-commands", "spoken-digits", (accuracy(0.97),), 5),
)


@contextmanager
def running(home: Path) -> Iterator[modelry.Client]:
    """A service of its own in this folder."""
    said = home.parent / "up.log"
    command = [sys.executable, "-m", "modelry.cli.main", "up", "--home", str(home), "--port", "0"]
    with said.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _START_S
        while not (home / "service.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The service did not start:\n{said.read_text()}")
            time.sleep(0.1)
        os.environ["MODELRY_HOME"] = str(home)
        with modelry.Client() as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


def train(client: modelry.Client, row: Row, seed: int) -> dict[str, Any]:
    """One training: the goals' figures, minutes, parameters."""
    options: dict[str, Any] = {"preset": row.preset} if row.preset else {}
    job = client.train(
        row.recipe, data=row.data, model=row.name, seed=seed, **options, **row.params
    )
    record = job.wait()
    version = client.models.version(f"{row.name}:{record.notes['version']}")
    metrics = version.manifest["metrics"]
    return {
        "figures": [goal.read(metrics) for goal in row.goals],
        "training_s": record.notes["training_s"],
        "parameters": record.notes["parameters"],
    }


def bring(client: modelry.Client, data: str, folder: Path) -> None:
    """Imports the data set, unless it is there."""
    if any(known.name == data for known in client.data.list()):
        return
    place = folder / data
    place.mkdir(parents=True, exist_ok=True)
    path, options = LAYOUTS[data](SHARED, place)
    client.data.add(data, path, **options)


def show(results: dict[str, dict[str, Any]], rows: tuple[Row, ...]) -> bool:
    """The table; whether every row that was run reaches its goals."""
    print("\n| row | data | figure | goal | seeds | median | minutes | allowed | parameters | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    is_reached = True
    for row in rows:
        runs = [results[key] for key in sorted(results) if key.rpartition("/")[0] == row.name]
        if not runs:
            continue
        minutes = statistics.median(run["training_s"] for run in runs) / 60
        for place, goal in enumerate(row.goals):
            found = [run["figures"][place] for run in runs]
            median = statistics.median(found)
            is_good = median >= goal.at_least and minutes <= row.minutes
            is_reached &= is_good
            seeds = " ".join(f"{value:.4f}" for value in found)
            print(
                f"| {row.name} | {row.data} | {goal.name} | {goal.at_least} | {seeds} | {median:.4f} | "
                f"{minutes:.2f} | {row.minutes:g} | {runs[0]['parameters']:,} | {'yes' if is_good else 'NO'} |"
            )
    return is_reached


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", help="Names of rows, with commas; all if not given.")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", type=Path, default=HERE.parent / "build" / "acceptance.json")
    given = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit(f"The real data sets are not beside the repository ({SHARED}).")
    wanted = given.rows.split(",") if given.rows else [row.name for row in ROWS]
    rows = tuple(row for row in ROWS if row.name in wanted)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(given.results.read_text()) if given.results.exists() else {}
    with tempfile.TemporaryDirectory() as scratch, running(Path(scratch) / "home") as client:
        for row in rows:
            for seed in given.seeds.split(","):
                key = f"{row.name}/{seed}"
                if key in known:
                    continue
                bring(client, row.data, Path(scratch))
                known[key] = train(client, row, int(seed))
                given.results.write_text(json.dumps(known, indent=1))
                print(key, known[key], flush=True)
    return 0 if show(known, rows) else 1


if __name__ == "__main__":
    sys.exit(main())
