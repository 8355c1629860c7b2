"""How long until the service answers, until a deployed model does, and until one that sleeps does.

    python benchmarks/cold_start.py [--rounds 5] [--asleep 0 5000] [--wakes 20] [--start-method fork|exec]

Each round starts a service in a fresh home, trains the reference `cnn` for one epoch, and then measures over HTTP, from
the first byte sent to the last byte received: process start → /health; POST /deployments → the first right answer, for
the first and for a second deployment (the first pays for warming the parent process); and `--wakes` times the first
request to a deployment that sleeps, while `--asleep` others sleep in the same database. Prints medians with spread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from modelry.core.ids import new_id
from modelry.core.states import DeploymentState
from modelry.server.store import Store, deployments, models
from tests.api import Api
from tests.service import Service, running_service, wait_until

PICTURE = {"instances": [[[[0.0]] * 28] * 28]}


def ask(api: Api, name: str) -> float:
    """Seconds until one prediction is answered; the request waits for a start."""
    began = time.perf_counter()
    answer = api.ask("POST", f"/v1/models/{name}:predict", json=PICTURE, patience_s=0.0)
    taken = time.perf_counter() - began
    assert answer.is_success, answer.text
    return taken


def deploy_and_ask(api: Api, name: str, **serving: object) -> float:
    """Seconds from the order to deploy until a prediction is answered."""
    began = time.perf_counter()
    api.post("/deployments", {"model": "cnn", "name": name, **serving})
    ask(api, name)
    return time.perf_counter() - began


def add_sleepers(service: Service, number: int) -> None:
    """Deployments that were used once and sleep now; written as the service itself would have left them."""
    store = Store(f"sqlite:///{service.home / 'modelry.db'}")
    with store.write() as tx:
        version = models.get_version(tx, "default", "cnn").id
        for _ in range(number):
            made = deployments.create(
                tx,
                project="default",
                name=new_id("asleep"),
                model_version_id=version,
                replicas=1,
                max_batch=32,
                threads=1,
                idle_s=600.0,
            )
            deployments.set_replicas(tx, made, 0)
            deployments.set_state(tx, made.id, DeploymentState.IDLE)
    store.close()


def wake(api: Api, times: int) -> list[float]:
    """The first request to a deployment that has just gone to sleep, again and again."""
    deploy_and_ask(api, "sleeper", idle_s=0.2)
    taken = []
    for _ in range(times):
        wait_until(lambda: api.get("/deployments/sleeper")["state"] == "idle", 30, "it sleeps")
        wait_until(lambda: not _lives(api), 30, "its replica is gone")
        taken.append(ask(api, "sleeper"))
    return taken


def _lives(api: Api) -> bool:
    replicas = api.get("/deployments/sleeper")["replicas_list"]
    return any(one["state"] not in ("stopped", "failed") for one in replicas)


def one_round(folder: Path, start_method: str, asleep: list[int], wakes: int) -> dict[str, float]:
    """One fresh service: seconds by measure."""
    began = time.perf_counter()
    with running_service(folder / "home", start_method=start_method) as service:
        found = {"up → ready": time.perf_counter() - began}
        with Api(service) as api:
            api.add_digits()
            api.wait_job(api.train(model="cnn"))
            found["deploy → first answer (first)"] = deploy_and_ask(api, "one")
            found["deploy → first answer (next)"] = deploy_and_ask(api, "two")
            before = 0
            for number in asleep:
                add_sleepers(service, number - before)
                before = number
                time.sleep(3.0)
                taken = wake(api, wakes)
                api.delete("/deployments/sleeper")
                wait_until(lambda: _is_gone(api), 30, "it is deleted")
                found[f"asleep → answer, {number} others"] = statistics.median(taken)
                found[f"  the slowest of {wakes}, {number} others"] = max(taken)
    return found


def _is_gone(api: Api) -> bool:
    return api.ask("GET", "/api/v1/deployments/sleeper").status_code == 404


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--asleep", type=int, nargs="*", default=[0, 5000])
    parser.add_argument("--wakes", type=int, default=20)
    parser.add_argument("--start-method", default="auto", choices=("auto", "fork", "exec"))
    given = parser.parse_args()
    rounds: dict[str, list[float]] = defaultdict(list)
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            found = one_round(Path(folder), given.start_method, given.asleep, given.wakes)
        for measure, value in found.items():
            rounds[measure].append(value)
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
    print(f"{os.cpu_count()} cores, start method {given.start_method}, {given.rounds} rounds")
    print(f"{'measure':34}{'median':>10}{'lowest':>10}{'highest':>10}")
    for measure, values in rounds.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{measure:34}{middle:>9.3f}s{low:>9.3f}s{high:>9.3f}s")


if __name__ == "__main__":
    main()
