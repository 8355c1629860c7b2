"""Everything goes wrong while 64 clients ask: no wrong answer, none missing, nothing left behind.

    python benchmarks/faults.py [--minutes 10] [--clients 64] [--pause 0.02]

A whole service serves two versions of a small model, which answer differently. Three quarters of the clients ask the
deployment `answers` (two replicas), the others `come-and-go`; each keeps one connection, waits `--pause` seconds after
an answer and asks something else. Meanwhile a ready replica of `answers` is killed (SIGKILL) every 4 s, `answers`
changes its version every 20 s in one of four ways, `come-and-go` is deleted and made again 50 times with the versions
in turn, and the controller is killed twice in the first fifth.

Every answer is compared with what ONNX Runtime says in this process for the version that `x-model-version` names.
Memory, descriptors, sockets and threads of the service's own processes are read every 5 s; trends are least-squares
lines through what was read after the first fifth, ± two standard errors (for residuals that follow each other). At the
end both deployments are deleted and what is left is compared with what was there before the first of them. Prints a
report; the exit status is 1, and the last lines say why, where something was not as it has to be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.synchronize
import os
import platform
import random
import re
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import onnxruntime
import psutil

from modelry.core.home import Home
from tests.acceptance.shelf import WIDTH, publish
from tests.api import Api
from tests.service import Service, kill_hard, running_service

Table = npt.NDArray[np.float64]

ANSWERS, COMES = "answers", "come-and-go"
NAMES = (ANSWERS, COMES)
MODEL = "shelf"
VERSIONS = (1, 2)
SEED = 11
QUESTIONS = 1024
#: Answers of two versions to one question are further apart than this, answers of one version closer together.
TOLERANCE = 1e-5

KILL_EVERY_S = 4.0
CHANGE_EVERY_S = 20.0
CANARY_PERCENT = 30
REMADE = 50
CONTROLLER_KILLS_AT = (0.05, 0.15)
SAMPLE_EVERY_S = 5.0
#: Share of the run whose samples do not count for trends.
WARM_UP = 0.2
#: A client that has heard nothing for so long calls its request lost; the service's own deadline is half of it.
LOST_AFTER_S = 60.0
#: Web processes look at what changed at least so often, and once more.
NEWS_S = 2.0
SETTLE_S = 30.0
#: Until another controller may lead and has caught up: its start, and the lease of the dead one.
LEADERLESS_S = 8.0
#: Growth of memory that is no leak, in MiB per ten minutes.
ALLOWED_GROWTH = 5.0
#: Sockets, threads and other descriptors more than at the beginning that are no leak: pools keep a few.
FEW = 4
#: The same for all descriptors: five connections to SQLite with two each, ten doublings of the table of counters.
BOUNDED = 20

#: What a first request leaves for good: the journal that its web process writes on, and a lock.
FIRST_REQUEST_S = Counter(["usage/web*-*.*.jsonl", "counters/.lock"])

ROLES = {
    "web": "modelry.server.api.serve",
    "controller": "modelry.server.control.controller",
    "agent": "modelry.worker.agent",
}
QUANTITIES = (
    "MiB RSS",
    "MiB PSS",
    # What no other process maps: the heap, above all.
    "MiB private",
    "descriptors",
    "other descriptors",
    "sockets",
    "threads",
)
#: Descriptors that do not count as others: a pool and the doublings of a table bound their number.
BOUNDED_TARGETS = ("/modelry.db", "/run/counters/")


@dataclass(frozen=True)
class Question:
    """A request's body, and the right answer of each version."""

    body: bytes
    answers: dict[int, list[float]]

    def is_answered(self, text: bytes, version: int) -> bool:
        """Whether this is what the version answers."""
        (answer,) = json.loads(text)["predictions"]
        expected = self.answers[version]
        pairs = zip(answer, expected, strict=True)
        return all(abs(one - other) <= TOLERANCE for one, other in pairs)


def make_questions(api: Api) -> list[Question]:
    """Such that their answers tell the versions apart."""
    rows = np.random.default_rng(SEED).normal(size=(2 * QUESTIONS, WIDTH)).round(4)
    found = []
    for version in VERSIONS:
        path = f"/api/v1/models/{MODEL}/versions/{version}/files/model.onnx"
        session = onnxruntime.InferenceSession(api.ask("GET", path).content)
        found.append(np.asarray(session.run(None, {"x": rows.astype(np.float32)})[0]))
    differ = np.abs(found[0] - found[1]).max(axis=1) > 1e3 * TOLERANCE
    return [
        Question(
            json.dumps({"instances": [rows[at].tolist()]}).encode(),
            {version: found[i][at].tolist() for i, version in enumerate(VERSIONS)},
        )
        for at in np.flatnonzero(differ)[:QUESTIONS]
    ]


class Clients:
    """Connections that are kept, each with one request at a time; all in one process of their own."""

    def __init__(self, url: str, key: str, questions: list[Question], pause_s: float) -> None:
        self._address = urlsplit(url)
        self._key = key
        self._questions = questions
        self._pause_s = pause_s
        self._is_over = False
        #: Of each request: deployment, when it was sent and answered, status (0: none), version, whether it was right.
        self.asked = array("d")
        #: Of the first few of each kind that were not answered rightly: what came instead.
        self.odd: dict[str, list[str]] = {}

    async def run(self, clients: int, is_over: Callable[[], bool]) -> None:
        """Asks until it is over."""
        tasks = [asyncio.create_task(self._ask_on(number)) for number in range(clients)]
        while not is_over():
            await asyncio.sleep(0.05)
        self._is_over = True
        await asyncio.gather(*tasks)

    async def _ask_on(self, number: int) -> None:
        """One client's life. A connection that broke is replaced; its request stays without an answer."""
        which = number % 4 == 3
        address = f"POST /v1/models/{NAMES[which]}:predict HTTP/1.1\r\nhost: {self._address.netloc}"
        head = (
            f"{address}\r\nauthorization: Bearer {self._key}\r\n"
            "content-type: application/json\r\ncontent-length: "
        )
        dice = random.Random(number)
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._is_over:
            question = dice.choice(self._questions)
            sent_at = time.monotonic()
            status, version, is_right = 0, 0, False
            try:
                async with asyncio.timeout(LOST_AFTER_S):
                    if streams is None:
                        host, port = self._address.hostname, self._address.port
                        streams = await asyncio.open_connection(host, port)
                    status, version, text = await _exchange(*streams, head, question.body)
                is_right = status != 200 or question.is_answered(text, version)
                if status != 200 or not is_right:
                    self._note(f"{NAMES[which]} {status}", f"v{version} {text.decode()}")
            except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
                self._note(f"{NAMES[which]} {status or 'none'}", f"{type(error).__name__}: {error}")
                if streams is not None:
                    streams[1].close()
                streams = None
            answered_at = time.monotonic()
            self.asked.extend((which, sent_at, answered_at, status, version, is_right))
            await asyncio.sleep(self._pause_s)
        if streams is not None:
            streams[1].close()

    def _note(self, kind: str, text: str) -> None:
        seen = self.odd.setdefault(kind, [])
        if len(seen) < 3:
            seen.append(text)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes
) -> tuple[int, int, bytes]:
    """Status, the version that answered (0: none says so) and the body of the answer."""
    writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines if line)
    text = await reader.readexactly(int(fields[b"content-length"]))
    return int(first.split()[1]), int(fields.get(b"x-model-version", 0)), text


def run_clients(
    clients: Clients, number: int, over: multiprocessing.synchronize.Event, folder: Path
) -> None:
    """The life of the clients' process; leaves what it saw in two files."""
    asyncio.run(clients.run(number, over.is_set))
    (folder / "asked").write_bytes(clients.asked.tobytes())
    (folder / "odd").write_text(json.dumps(clients.odd))


@dataclass
class Era:
    """One life of `come-and-go`; moments on the monotonic clock, which all processes share."""

    version: int
    asked_at: float
    answered_at: float
    delete_asked_at: float = float("inf")
    deleted_at: float = float("inf")


@dataclass(frozen=True)
class Sample:
    """What one of the service's own processes takes."""

    at: float
    pid: int
    values: tuple[float, ...]


@dataclass
class Story:
    """What was done to the service, and how it looked."""

    began: float = field(default_factory=time.monotonic)
    kills: int = 0
    leaderless_at: list[float] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    #: Changes of version after which no replica of the wished one answered when the next change was due.
    late: int = 0
    eras: list[Era] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {role: [] for role in ROLES})


class Trouble:
    """All that goes wrong, each kind in a thread of its own until the time is over."""

    def __init__(self, service: Service, duration_s: float) -> None:
        self.story = Story()
        self._service = service
        self._duration_s = duration_s
        self._over = threading.Event()
        self._wished = VERSIONS[0]
        with Api(service) as api:
            body = {"model": f"{MODEL}:{self._wished}", "name": ANSWERS, "replicas": 2}
            api.post("/deployments", body)
            self._make(api, VERSIONS[0])
            for name in NAMES:
                api.wait_deployment(name, "ready")

    def run(self) -> list[str]:
        """Makes it, and takes the samples; returns what broke."""
        self.story.began = time.monotonic()
        kinds = [self._kill_replicas, self._change_versions, self._remake, self._kill_controller]
        with ThreadPoolExecutor(len(kinds) + 1) as pool:
            futures: list[Future[None]] = [pool.submit(kind) for kind in [*kinds, self._sample]]
            while time.monotonic() < self.story.began + self._duration_s:
                time.sleep(0.2)
            self._over.set()
        errors = [future.exception() for future in futures]
        return [f"{type(error).__name__}: {error}" for error in errors if error]

    def _wait(self, until: float) -> bool:
        """False when the time is over before."""
        return not self._over.wait(max(0.0, until - time.monotonic()))

    def _turns(self, every_s: float) -> Iterator[int]:
        number = 0
        while self._wait(self.story.began + (number + 1) * every_s):
            yield number
            number += 1

    def _kill_replicas(self) -> None:
        dice = random.Random(SEED)
        (agent,) = self._service.find(ROLES["agent"])[:1]
        with Api(self._service) as api:
            for _ in self._turns(KILL_EVERY_S):
                ready = [one for one in _replicas(api) if one["state"] == "ready"]
                if not ready:
                    continue
                pid = self._service.worker_pid(str(dice.choice(ready)["worker_id"]))
                if pid in {child.pid for child in agent.children(recursive=True)}:
                    kill_hard(pid)
                    self.story.kills += 1

    def _kill_controller(self) -> None:
        for share in CONTROLLER_KILLS_AT:
            if self._wait(self.story.began + share * self._duration_s):
                self._service.kill(ROLES["controller"])
                self.story.leaderless_at.append(time.monotonic())

    def _change_versions(self) -> None:
        ways = cycle((self._update, self._try_and_promote, self._roll_back, self._try_in_vain))
        with Api(self._service) as api:
            for number, way in zip(self._turns(CHANGE_EVERY_S), ways, strict=False):
                if number and not self._is_wished_ready(api):
                    self.story.late += 1
                way(api)

    def _is_wished_ready(self, api: Api) -> bool:
        return any(
            one["state"] == "ready" and one["version"] == self._wished for one in _replicas(api)
        )

    @property
    def _other(self) -> int:
        return sum(VERSIONS) - self._wished

    def _changed(self, how: str, *, is_rolled: bool = True) -> None:
        self.story.changes[how] += 1
        if is_rolled:
            self._wished = self._other

    def _update(self, api: Api) -> None:
        _change(api, model=f"{MODEL}:{self._other}")
        self._changed("updated")

    def _try_and_promote(self, api: Api) -> None:
        self._try(api)
        api.post(f"/deployments/{ANSWERS}/promote")
        self._changed("canary promoted")

    def _roll_back(self, api: Api) -> None:
        api.post(f"/deployments/{ANSWERS}/rollback")
        self._changed("rolled back")

    def _try_in_vain(self, api: Api) -> None:
        self._try(api)
        api.post(f"/deployments/{ANSWERS}/rollback")
        self._changed("canary taken back", is_rolled=False)

    def _try(self, api: Api) -> None:
        canary = {"model": f"{MODEL}:{self._other}", "percent": CANARY_PERCENT}
        _change(api, canary=canary)
        self._wait(time.monotonic() + CHANGE_EVERY_S / 3)

    def _remake(self) -> None:
        with Api(self._service) as api:
            for number in self._turns(self._duration_s / (REMADE + 1)):
                if number < REMADE:
                    self.delete_comer(api)
                    self._make(api, VERSIONS[(number + 1) % 2])

    def delete_comer(self, api: Api) -> None:
        """Deletes `come-and-go`."""
        era = self.story.eras[-1]
        era.delete_asked_at = time.monotonic()
        api.delete(f"/deployments/{COMES}")
        era.deleted_at = time.monotonic()

    def _make(self, api: Api, version: int) -> None:
        """`come-and-go`, as soon as its name is free."""
        body = {"model": f"{MODEL}:{version}", "name": COMES}
        until = time.monotonic() + SETTLE_S
        while True:
            asked_at = time.monotonic()
            answer = api.ask("POST", "/api/v1/deployments", json=body, patience_s=0.0)
            if answer.is_success:
                self.story.eras.append(Era(version, asked_at, time.monotonic()))
                return
            if answer.status_code != 409 or asked_at > until:
                raise AssertionError(f"{COMES} not made: {answer.status_code} {answer.text}")
            time.sleep(0.02)

    def _sample(self) -> None:
        for number in self._turns(SAMPLE_EVERY_S):
            for role, sample in look(self._service).items():
                self.story.samples[role].append(sample)
            if number % 6 == 5:
                sizes = (
                    f"{role} {them[-1].values[0]:.1f}" for role, them in self.story.samples.items()
                )
                minutes = (number + 1) * SAMPLE_EVERY_S / 60
                _say(f"{minutes:g} min, {self.story.kills} kills, RSS in MiB: {', '.join(sizes)}")


def _replicas(api: Api) -> list[dict[str, object]]:
    return list(api.get(f"/deployments/{ANSWERS}")["replicas_list"])


def _change(api: Api, **wished: object) -> None:
    api.call("PATCH", f"/api/v1/deployments/{ANSWERS}", json=wished)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def look(service: Service) -> dict[str, Sample]:
    """What each of the service's own processes takes now; one that is just being started is missing."""
    assert service.process is not None
    found = {}
    for process in psutil.Process(service.process.pid).children():
        try:
            line = process.cmdline()
            for role in (role for role, module in ROLES.items() if module in line):
                values = _values(process)
                found[role] = Sample(time.monotonic(), process.pid, values)
        except (psutil.Error, OSError):
            continue
    return found


def _values(process: psutil.Process) -> tuple[float, ...]:
    """In the order of `QUANTITIES`."""
    folder = Path(f"/proc/{process.pid}")
    lines = (folder / "smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    opened = [os.readlink(one) for one in (folder / "fd").iterdir()]
    sockets = sum(target.startswith("socket:") for target in opened)
    kib = {name: int(size) for name, size in sizes.items()}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    mib = (one / 1024 for one in (kib["Rss"], kib["Pss"], private))
    others = sum(all(part not in target for part in BOUNDED_TARGETS) for target in opened)
    return (*mib, len(opened), others, sockets, process.num_threads())


@dataclass(frozen=True)
class Scene:
    """What is there while nothing is deployed."""

    #: By command line: the service's processes, and those below its supervisor; zombies have none.
    processes: Counter[str]
    #: Below the run folder and the sockets' folder; numbers in names, which each process has its own, are left out.
    paths: Counter[str]
    own: dict[str, Sample]


def survey(service: Service) -> Scene:
    assert service.process is not None
    below = psutil.Process(service.process.pid).children(recursive=True)
    processes = {process.pid: process for process in [*service.processes(), *below]}
    lines: Counter[str] = Counter()
    for process in processes.values():
        try:
            lines[" ".join(process.cmdline()) or process.status()] += 1
        except psutil.NoSuchProcess:
            continue
    home = Home(service.home)
    folders = {home.run, home.sockets}
    paths = Counter(
        _plain(path.relative_to(folder)) for folder in folders for path in folder.rglob("*")
    )
    return Scene(lines, paths, look(service))


def _plain(path: Path) -> str:
    return re.sub(r"[0-9a-f]{6,}|[0-9]+", "*", str(path))


def what_is_left(before: Scene, after: Scene) -> list[str]:
    """What was not there before the first deployment."""
    found = [f"a process: {line}" for line in (after.processes - before.processes).elements()]
    found += [f"no process: {line}" for line in (before.processes - after.processes).elements()]
    return found + sorted((after.paths - before.paths - FIRST_REQUEST_S).elements())


def settled(service: Service, before: Scene) -> Scene:
    """How it looks when nothing is left any more, or when the patience is over."""
    until = time.monotonic() + SETTLE_S
    while True:
        scene = survey(service)
        if time.monotonic() > until or (
            not what_is_left(before, scene) and not grown(before, scene)
        ):
            return scene
        time.sleep(0.5)


def grown(before: Scene, after: Scene) -> list[str]:
    """Whose descriptors, sockets or threads are more than before, beyond a few."""
    return [
        f"{role}: {one.values[at]:g} → {after.own[role].values[at]:g} {name}"
        for role, one in before.own.items()
        for at, name in enumerate(QUANTITIES)
        if "MiB" not in name
        and after.own[role].values[at]
        > one.values[at] + (BOUNDED if name == "descriptors" else FEW)
    ]


@dataclass(frozen=True)
class Trend:
    """A line through samples: its ends as they were read, its slope per ten minutes and that one's uncertainty."""

    first: float
    last: float
    slope: float
    noise: float


def trend(samples: list[Sample], at: int) -> Trend:
    """Of one quantity. Residuals that follow each other count as fewer."""
    x = np.array([sample.at for sample in samples])
    y = np.array([sample.values[at] for sample in samples])
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    rest = y - y.mean() - slope * away
    spread = float(rest @ rest)
    follows = min(0.9, max(0.0, float(rest[1:] @ rest[:-1]) / spread)) if spread else 0.0
    error = (spread / (len(y) - 2) / float(away @ away)) ** 0.5
    error *= ((1 + follows) / (1 - follows)) ** 0.5
    return Trend(float(y[0]), float(y[-1]), slope * 600, 2 * error * 600)


def trends(story: Story, duration_s: float) -> dict[tuple[str, str], Trend]:
    """Of each role and quantity, after the warm-up and of the process that lived then."""
    found = {}
    for role, samples in story.samples.items():
        last = samples[-1].pid
        since = story.began + WARM_UP * duration_s
        counted = [one for one in samples if one.pid == last and one.at >= since]
        for at, name in enumerate(QUANTITIES):
            found[role, name] = trend(counted, at)
    return found


@dataclass(frozen=True)
class Comings:
    """How `come-and-go` looked to its clients."""

    #: Answers of a life that was over for whoever sent the request.
    stale: int
    #: Fewest answers in one life that had a controller, and seconds from the beginning of each to its first.
    fewest: int
    first_s: list[float]
    #: Seconds after a creation, or a deletion, had been answered in which a request was sent that did not know yet.
    late_404_s: float
    late_200_s: float
    lives: int


def comings(asked: Table, story: Story) -> Comings:
    """Compares what was answered with what was there."""
    eras = story.eras
    mine = asked[asked[:, 0] == 1]
    sent, came, status, version = mine[:, 1], mine[:, 2], mine[:, 3], mine[:, 4]
    is_200, is_404 = status == 200, status == 404
    allowed = np.zeros(len(mine), bool)
    answers, firsts, late_404, late_200 = [], [], 0.0, 0.0
    ends = [era.answered_at for era in eras[1:]] + [float("inf")]
    for era, replaced_at in zip(eras, ends, strict=True):
        allowed |= (version == era.version) & (came >= era.asked_at) & (sent < replaced_at)
        its = is_200 & (sent >= era.answered_at) & (came < era.delete_asked_at)
        leaderless = any(
            era.asked_at - LEADERLESS_S < at < era.delete_asked_at for at in story.leaderless_at
        )
        answers += [] if leaderless else [int(its.sum())]
        firsts += [float((came[its] - era.answered_at).min())] if its.any() else []
        no = is_404 & (sent >= era.answered_at) & (came < era.delete_asked_at)
        late_404 = max(late_404, float((sent[no] - era.answered_at).max(initial=0.0)))
        old = is_200 & (sent > era.deleted_at) & (came < replaced_at) & (version == era.version)
        late_200 = max(late_200, float((sent[old] - era.deleted_at).max(initial=0.0)))
    stale = int((is_200 & ~allowed).sum())
    return Comings(stale, min(answers), firsts, late_404, late_200, len(eras))


def report_requests(asked: Table, odd: dict[str, list[str]]) -> list[str]:
    """One line for each deployment; returns what broke."""
    broke = []
    print("| deployment | requests | by status | wrong | without an answer | p50, p99, longest |")
    print("|---|---|---|---|---|---|")
    for which, name in enumerate(NAMES):
        mine = asked[asked[:, 0] == which]
        statuses = Counter(int(one) for one in mine[:, 3])
        lost = statuses.pop(0, 0)
        wrong = int(((mine[:, 3] != 0) & (mine[:, 5] == 0)).sum())
        p50, p99, longest = np.quantile((mine[:, 2] - mine[:, 1]) * 1000, (0.5, 0.99, 1))
        shown = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
        print(
            f"| `{name}` | {len(mine):,} | {shown} | {wrong} | {lost} "
            f"| {p50:.0f}, {p99:.0f}, {longest:.0f} ms |"
        )
        broke += [f"{wrong} wrong answers of {name}"] if wrong else []
        broke += [f"{lost} requests to {name} without an answer"] if lost else []
        for status in statuses.keys() - ({200} if name == ANSWERS else {200, 404}):
            broke.append(f"{statuses[status]} × {status} of {name}")
    for kind, texts in odd.items():
        if kind != f"{COMES} 404":
            print("".join(f"\n{kind}: {text}" for text in texts))
    return broke


def report_story(story: Story, seen: Comings) -> list[str]:
    """What was done; returns what broke."""
    changes = ", ".join(f"{count} × {how}" for how, count in story.changes.items())
    print(f"\n{story.kills} replicas killed, {len(story.leaderless_at)} controllers.")
    print(f"`{ANSWERS}`: {changes}; {story.late} not yet answering at the next change.")
    print(
        f"`{COMES}`: {seen.lives} lives, at least {seen.fewest} answers in each that had a controller; "
        f"first answer after {np.median(seen.first_s):.2f} s (median), {max(seen.first_s):.2f} s (longest); "
        f"{seen.stale} answers of a life before. Not yet known: a creation for {seen.late_404_s * 1000:.0f} ms, "
        f"a deletion for {seen.late_200_s * 1000:.0f} ms.\n"
    )
    broke = [f"{seen.stale} answers of a deleted deployment"] if seen.stale else []
    broke += ["a life of come-and-go without an answer"] if not seen.fewest else []
    broke += ["come-and-go was made too seldom"] if seen.lives != REMADE + 1 else []
    if max(seen.late_404_s, seen.late_200_s) > NEWS_S:
        broke.append(f"news needed more than {NEWS_S:g} s")
    return broke


def report_trends(found: dict[tuple[str, str], Trend]) -> list[str]:
    """Each quantity of each process; returns what broke."""
    broke = []
    print("| process | | after the warm-up | at the end | per 10 minutes |")
    print("|---|---|---|---|---|")
    for (role, name), line in found.items():
        print(
            f"| {role} | {name} | {line.first:.1f} | {line.last:.1f} "
            f"| {line.slope:+.2f} ± {line.noise:.2f} |"
        )
        if "MiB" in name and line.slope - line.noise > ALLOWED_GROWTH:
            broke.append(f"{role}: {line.slope:+.1f} ± {line.noise:.1f} {name} in 10 minutes")
    return broke


def report_rest(before: Scene, after: Scene) -> list[str]:
    """What is left when nothing is deployed any more; returns what broke."""
    print("\n| process | before the first deployment | after the last |\n|---|---|---|")
    for role, one in before.own.items():
        then, now = (
            ", ".join(f"{v:.0f} {name}" for v, name in zip(sample.values, QUANTITIES, strict=True))
            for sample in (one, after.own[role])
        )
        print(f"| {role} | {then} | {now} |")
    broke = [f"left behind: {what}" for what in what_is_left(before, after)]
    for role in ("web", "agent"):
        if before.own[role].pid != after.own[role].pid:
            broke.append(f"the {role} process is another one")
    return broke + grown(before, after)


@contextmanager
def asking(clients: Clients, number: int, folder: Path) -> Iterator[None]:
    """The clients at work."""
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    process = context.Process(target=run_clients, args=(clients, number, over, folder))
    process.start()
    try:
        time.sleep(3.0)  # it imports its libraries meanwhile
        yield
    finally:
        over.set()
        process.join(2 * LOST_AFTER_S)
        process.kill()


def run(folder: Path, given: argparse.Namespace) -> list[str]:
    """The whole run; returns what broke."""
    duration_s = given.minutes * 60
    with running_service(folder / "home") as service, Api(service) as api:
        for _ in VERSIONS:
            publish(service, MODEL)
        clients = Clients(service.url, service.key, make_questions(api), given.pause)
        before = survey(service)
        trouble = Trouble(service, duration_s)
        with asking(clients, given.clients, folder):
            broke = trouble.run()
        try:
            api.wait_deployment(ANSWERS, "ready")
        except AssertionError as error:
            broke.append(str(error))
        trouble.delete_comer(api)
        api.delete(f"/deployments/{ANSWERS}")
        after = settled(service, before)
        if given.logs:
            _say(service.said)
    asked = np.frombuffer((folder / "asked").read_bytes()).reshape(-1, 6)
    story = trouble.story
    print(f"{platform.machine()}, {os.cpu_count()} cores, {given.minutes:g} minutes,", end=" ")
    print(f"{given.clients} clients, {len(asked) / duration_s:.0f} requests/s\n")
    broke += report_requests(asked, json.loads((folder / "odd").read_text()))
    broke += report_story(story, comings(asked, story))
    broke += report_trends(trends(story, duration_s))
    return broke + report_rest(before, after)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0.02, help="between answer and question")
    parser.add_argument("--logs", action="store_true", help="print what the service said")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broke = run(Path(folder), given)
    for what in broke:
        print(f"\nbroke: {what}")
    print("\nNothing broke." if not broke else "")
    sys.exit(bool(broke))


if __name__ == "__main__":
    main()
