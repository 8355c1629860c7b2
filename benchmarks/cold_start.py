"""How long until the service answers, and until a deployed model does.

    python benchmarks/cold_start.py [--rounds 7] [--start-method fork|exec]

Each round starts a service in a fresh home, trains a tiny `cnn` once, then measures: process start → /health
answers; POST /deployments → the first right answer over HTTP, for the first and for a second deployment (the
first pays for warming the parent process). Prints medians with their spread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.api import Api
from tests.service import running_service


def first_answer_s(api: Api, name: str) -> float:
    """Seconds from the order to deploy until a prediction is answered; the request waits for the start."""
    picture = [[[0.0]] * 28] * 28
    began = time.perf_counter()
    api.post("/deployments", {"model": "tiny", "name": name})
    api.call("POST", f"/v1/models/{name}:predict", json={"instances": [picture]})
    return time.perf_counter() - began


def one_round(folder: Path, start_method: str) -> dict[str, float]:
    """One fresh service: seconds by measure."""
    began = time.perf_counter()
    with running_service(folder / "home", start_method=start_method) as service:
        ready_s = time.perf_counter() - began
        with Api(service) as api:
            api.add_digits()
            api.wait_job(api.train(model="tiny", params={"channels": [4], "hidden": [8]}))
            return {
                "up → ready": ready_s,
                "deploy → first answer (first)": first_answer_s(api, "one"),
                "deploy → first answer (next)": first_answer_s(api, "two"),
            }


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--start-method", default="auto", choices=("auto", "fork", "exec"))
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(one_round(Path(folder), options.start_method))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(f"{os.cpu_count()} cores, start method {options.start_method}, {options.rounds} rounds")
    print(f"{'measure':34}{'median':>10}{'lowest':>10}{'highest':>10}")
    for measure in rounds[0]:
        values = [one[measure] for one in rounds]
        print(
            f"{measure:34}{statistics.median(values):>9.3f}s{min(values):>9.3f}s{max(values):>9.3f}s"
        )


if __name__ == "__main__":
    main()
