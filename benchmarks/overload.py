"""Goodput of a model that needs 20 ms for each request, asked up to ten times as often as it can answer.

    python benchmarks/overload.py [--rounds 5] [--seconds 5] [--web 1] [--deadline 0.5]

A whole service (keys, limits and metering on, one replica, one request at a time) serves a model that sleeps 20 ms.
Peak goodput is measured in a closed loop with four connections; then an open loop sends 1, 2, 5 and 10 times that, on
a fixed plan that waits for nobody: a request is late from the moment it was planned for, whatever held it up. Good is
what was answered with 200 before its deadline by the plan's clock, and before the plan's end: what is left in the queue
then counts for nobody. Rounds are interleaved; medians, and the ratio to the peak of the same round with its spread.
What the model really ran is read from its own record: work for nobody shows there.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.acceptance import pausing
from tests.api import Api

PAUSE_S = 0.02
TIMES = (1, 2, 5, 10)
CLOSED_CONNECTIONS = 4
#: Idle connections the generator opens before it begins; it opens more where they do not do.
OPENED_AHEAD = 64


@dataclass(frozen=True)
class Asked:
    """One request: seconds from its planned moment to its answer, and from the plan's beginning to it."""

    took_s: float
    answered_s: float
    status: int


class Generator:
    """Raw HTTP/1.1 over connections that are kept; cheap enough not to be the bottleneck."""

    def __init__(self, url: str, key: str, deadline_s: float) -> None:
        self._address = urlsplit(url)
        self._head = (
            f"POST {pausing.PATH} HTTP/1.1\r\nhost: {self._address.netloc}\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"x-request-timeout: {deadline_s:g}\r\ncontent-length: "
        )
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._began = 0.0
        self.asked: list[Asked] = []

    async def open_loop(self, rate: float, duration_s: float) -> None:
        """Sends at planned moments."""
        self._idle = [await self._connect() for _ in range(OPENED_AHEAD)]
        self._began = began = time.perf_counter() + 0.05
        tasks = []
        for number in range(int(rate * duration_s)):
            planned = began + number / rate
            if (delay_s := planned - time.perf_counter()) > 0:
                await asyncio.sleep(delay_s)
            tasks.append(asyncio.create_task(self._ask(number, planned)))
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()

    async def closed_loop(self, connections: int, duration_s: float) -> None:
        """Each connection asks again when it was answered."""
        self._began = time.perf_counter()
        until = self._began + duration_s

        async def ask_again(first: int) -> None:
            number = first
            while time.perf_counter() < until:
                await self._ask(number, time.perf_counter())
                number += connections

        await asyncio.gather(*(ask_again(first) for first in range(connections)))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    async def _ask(self, number: int, planned: float) -> None:
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        body = pausing.body_of(number)
        writer.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        size = next(
            int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")
        )
        await reader.readexactly(size)
        now = time.perf_counter()
        self.asked.append(Asked(now - planned, now - self._began, int(head[9:12])))
        self._idle.append((reader, writer))


@dataclass(frozen=True)
class Round:
    """One plan's outcome."""

    goodput: float
    shares: dict[int, float]
    refused_ms: tuple[float, float]
    answered_ms: tuple[float, float]
    #: Runs of the model for each answer.
    runs: float


def summed_up(asked: list[Asked], duration_s: float, deadline_s: float, runs: int) -> Round:
    good = [
        one
        for one in asked
        if one.status == 200 and one.took_s <= deadline_s and one.answered_s <= duration_s
    ]
    answered = sum(one.status == 200 for one in asked)
    statuses = sorted({one.status for one in asked})
    return Round(
        goodput=len(good) / duration_s,
        shares={s: sum(one.status == s for one in asked) / len(asked) for s in statuses},
        refused_ms=_quantiles([one.took_s for one in asked if one.status == 429]),
        answered_ms=_quantiles([one.took_s for one in asked if one.status == 200]),
        runs=runs / max(1, answered),
    )


def _quantiles(times_s: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    if len(times_s) < 2:
        return (0.0, 0.0)
    cuts = statistics.quantiles(times_s, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--web", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=0.5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        house = pausing.service_with_pausing(home, PAUSE_S, web=str(given.web))
        with house as (service, record), Api(service) as api:
            pausing.deploy(api)
            limits = {"requests_per_s": 1e6, "rows_per_s": 1e6, "requests_per_month": 10**12}
            key = api.post(
                "/keys",
                {"label": "load", "scopes": ["infer"], "project": "default", "limits": limits},
            )["text"]
            rounds = measure(service.url, key, record, given)
    report(rounds, given)


def measure(
    url: str, key: str, record: Path, given: argparse.Namespace
) -> dict[int, list[tuple[Round, Round]]]:
    """Times → rounds, each with the peak of its own round."""
    found: dict[int, list[tuple[Round, Round]]] = {times: [] for times in TIMES}

    def once(rate: float | None) -> Round:
        record.write_text("")
        generator = Generator(url, key, given.deadline)
        if rate is None:
            asyncio.run(generator.closed_loop(CLOSED_CONNECTIONS, given.seconds))
        else:
            asyncio.run(generator.open_loop(rate, given.seconds))
        runs = sum(map(len, pausing.run_at(record).values()))
        return summed_up(generator.asked, given.seconds, given.deadline, runs)

    once(None)
    for number in range(given.rounds):
        peak = once(None)
        for times in TIMES if number % 2 else reversed(TIMES):
            found[times].append((once(times * peak.goodput), peak))
    return found


def report(found: dict[int, list[tuple[Round, Round]]], given: argparse.Namespace) -> None:
    """One line for each load."""
    print(f"{platform.machine()}, {given.rounds} rounds of {given.seconds:g} s, --web {given.web},")
    print(f"{PAUSE_S * 1000:g} ms a request, deadline {given.deadline:g} s\n")
    print(
        "| load | good/s | of the peak | 200 / 429 / 504 | answered p50, p99 | refused p50, p99 | runs per answer |"
    )
    print("|---|---|---|---|---|---|---|")
    peaks = [peak.goodput for rounds in found.values() for _, peak in rounds]
    print(f"| peak, closed loop | {statistics.median(peaks):.1f} | 1 | | | | |")
    for times, rounds in found.items():
        ratios = sorted(one.goodput / peak.goodput for one, peak in rounds)
        ones = [one for one, _ in rounds]

        def median(of: list[float]) -> float:
            return statistics.median(of)

        shares = " / ".join(
            f"{median([one.shares.get(status, 0.0) for one in ones]):.1%}"
            for status in (200, 429, 504)
        )
        answered, refused = (
            ", ".join(f"{median([getattr(one, name)[i] for one in ones]):.0f} ms" for i in (0, 1))
            for name in ("answered_ms", "refused_ms")
        )
        others = {s for one in ones for s in one.shares} - {200, 429, 504}
        print(
            f"| {times} × | {median([one.goodput for one in ones]):.1f} "
            f"| {median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}) | {shares} | {answered} "
            f"| {refused} | {median([one.runs for one in ones]):.2f} |"
            + (f" also: {sorted(others)}" if others else "")
        )


if __name__ == "__main__":
    main()
