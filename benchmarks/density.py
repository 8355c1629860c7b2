"""How many deployed models fit: memory of each replica's process, and what the service costs while nobody asks.

    python benchmarks/density.py [--models 500] [--asleep 5000] [--watch 30]

Trains the reference `cnn` once, deploys it `--models` times (each in a process of its own), asks every deployment once,
and then measures for `--watch` seconds without a request: the proportional memory (PSS) of each replica, and the CPU
time of agent, controller, web process and all replicas, in percent of one core. At last `--asleep` sleeping
deployments are added, and one request is sent to each of ten deployments as before: what that takes is told, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cold_start import add_sleepers, ask, deploy_and_ask

from tests.api import Api
from tests.service import Service, running_service

#: Who is who, by a word of its command line.
PARTS = {
    "web": "modelry.server.api.serve",
    "controller": "modelry.server.control.controller",
    "agent": "modelry.worker.agent",
    "supervisor": "modelry.server.supervisor",
}


def deploy_all(api: Api, number: int) -> list[float]:
    """Seconds of each deployment from its order to its first answer; four at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda one: deploy_and_ask(api, f"cnn-{one}"), range(number)))


def replicas_of(service: Service) -> list[psutil.Process]:
    """The processes that hold a model: the agent's children."""
    [agent] = [one for one in service.find(PARTS["agent"]) if not _is_child(one)]
    return agent.children()


def _is_child(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and PARTS["agent"] in " ".join(parent.cmdline())


def cpu_s(processes: list[psutil.Process]) -> float:
    """User and system time of all, seconds."""
    return sum(sum(one.cpu_times()[:2]) for one in processes)


def idle_percent(service: Service, watch_s: float) -> dict[str, float]:
    """What each part costs while nobody asks, in percent of one core."""
    replicas = replicas_of(service)
    parts = {
        name: [one for one in service.find(word) if one not in replicas]
        for name, word in PARTS.items()
    }
    parts["all replicas"] = replicas
    before = {name: cpu_s(found) for name, found in parts.items()}
    time.sleep(watch_s)
    return {name: 100 * (cpu_s(found) - before[name]) / watch_s for name, found in parts.items()}


def tell(measure: str, value: float, unit: str) -> None:
    """One line of the table."""
    print(f"{measure:44}{value:>10.2f} {unit}", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--asleep", type=int, default=5000)
    parser.add_argument("--watch", type=float, default=30.0)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, {psutil.virtual_memory().total >> 20} MiB of memory")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_service(Path(folder) / "home") as service,
        Api(service) as api,
    ):
        api.add_digits()
        api.wait_job(api.train(model="cnn"))
        taken = deploy_all(api, given.models)
        tell("deployed and answered", len(taken), "models")
        tell("deploy → first answer, median (4 at a time)", statistics.median(taken) * 1e3, "ms")
        tell("deploy → first answer, slowest", max(taken) * 1e3, "ms")
        time.sleep(10.0)
        infos = [one.memory_full_info() for one in replicas_of(service)]
        memory = [info.pss / 1e6 for info in infos]
        tell("replica processes", len(memory), "")
        tell("memory of its own (USS), median", statistics.median(i.uss / 1e6 for i in infos), "MB")
        tell("memory of a replica (PSS), median", statistics.median(memory), "MB")
        tell("memory of a replica (PSS), largest", max(memory), "MB")
        for name, percent in idle_percent(service, given.watch).items():
            tell(f"idle: {name}", percent, "% of a core")
        add_sleepers(service, given.asleep)
        time.sleep(5.0)
        again = [ask(api, f"cnn-{number}") for number in range(min(10, given.models))]
        tell(f"a request, with {given.asleep} asleep beside", statistics.median(again) * 1e3, "ms")
        for name, percent in idle_percent(service, given.watch).items():
            tell(f"idle, {given.asleep} asleep: {name}", percent, "% of a core")


if __name__ == "__main__":
    main()
